"""One cycle: observe everything, plan, apply the first subsystem's actions, look again, until nothing is left to do.

No knowledge of Kubernetes here: `apply FILE` and the loop run the same cycle.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from storagepair_node_agent.actions import Action, Outcome, StepFailed, Verdict, apply
from storagepair_node_agent.host import Host
from storagepair_node_agent.snapshot import Desired, HostSnapshot
from storagepair_node_agent.subsystems import (
    bonds,
    drbd,
    filesystem,
    heartbeat,
    preflight,
    switchover,
    targets,
    teardown,
)

# from bare to serving takes about a dozen; more is two subsystems undoing each other's work
_MAX_ROUNDS = 25
_RETRY_SECONDS = 5.0
_RETRY_LIMIT_SECONDS = 300.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Subsystem:
    """`condition`: its condition type on the StorageNode; `part`: its field of the HostSnapshot.

    One that stands `apart` is no state of the host but a request: the node's readiness does not depend on it.
    """

    condition: str
    part: str
    observe: Callable[[Host, Desired | None], object]
    plan: Callable[[Desired, HostSnapshot], Outcome]
    apart: bool = False


# in the order in which they build on each other; a request to move waits for none of them
SUBSYSTEMS = (
    Subsystem("Switchover", "switchover", switchover.observe, switchover.plan, apart=True),
    Subsystem("Preflight", "preflight", preflight.observe, preflight.plan),
    Subsystem("Network", "network", bonds.observe, bonds.plan),
    Subsystem("Replication", "drbd", drbd.observe, drbd.plan),
    Subsystem("Filesystem", "filesystem", filesystem.observe, filesystem.plan),
    Subsystem("Heartbeat", "heartbeat", heartbeat.observe, heartbeat.plan),
    Subsystem("Targets", "service", targets.observe, targets.plan),
)


@dataclass(frozen=True)
class Pass:
    """What a cycle saw at its end, and did. `verdicts` by condition type, in the subsystems' order, without those that
    stand apart."""

    snapshot: HostSnapshot
    verdicts: Mapping[str, Verdict]
    done: tuple[str, ...] = ()  # names of the actions carried out

    @property
    def ready(self) -> bool:
        """Every subsystem is as desired."""
        return all(verdict.ready for verdict in self.verdicts.values())

    def sentence(self, node: str) -> str:
        """What there is to say, in one line for people."""
        role = "active" if self.snapshot.active else "not active"
        did = f"did {', '.join(self.done)}; " if self.done else ""
        open_ = [(name, verdict) for name, verdict in self.verdicts.items() if not verdict.ready]
        if not open_:
            return f"{did}{node} is {role}, all is as desired: nothing to do"
        # what needs a person first, then what the others wait for
        name, verdict = next((pair for pair in open_ if not pair[1].waiting), open_[0])
        return f"{did}{node} is {role}; {name} {verdict.reason}: {verdict.message}"


@dataclass
class _Failure:
    """A subsystem whose action failed; it is left alone until `again` (monotonic)."""

    generation: int
    message: str
    again: float
    pause: float


@dataclass
class Cycle:
    """Runs cycles on one host; between them it remembers only what failed and when to try again."""

    host: Host
    subsystems: Sequence[Subsystem] = SUBSYSTEMS
    clock: Callable[[], float] = time.monotonic
    _failures: dict[str, _Failure] = field(default_factory=dict)
    _complaints: dict[str, str] = field(default_factory=dict)

    def run(
        self,
        desired: Desired,
        clock_offset_seconds: float | None = None,
        go_on: Callable[[Pass], bool] = lambda so_far: True,
    ) -> Pass:
        """Converge as far as it goes now. Never raises for the host's faults.

        `go_on` is asked before each group of actions, with what is known by then; False ends the cycle there.
        """
        done: list[str] = []
        for _ in range(_MAX_ROUNDS):
            snapshot = self.observe(desired, clock_offset_seconds)
            outcomes = self.plan(desired, snapshot)
            so_far = Pass(snapshot, self._verdicts(outcomes), tuple(done))
            chosen = next((name for name, outcome in outcomes.items() if outcome.actions), None)
            if chosen is None or not go_on(so_far):
                return so_far
            done += self._carry_out(chosen, outcomes[chosen].actions, desired.generation)
        _log.warning("still something to do after %d rounds, going on in the next cycle", _MAX_ROUNDS)
        return replace(so_far, done=tuple(done))

    def _verdicts(self, outcomes: Mapping[str, Outcome]) -> dict[str, Verdict]:
        apart = {subsystem.condition for subsystem in self.subsystems if subsystem.apart}
        return {name: outcome.verdict for name, outcome in outcomes.items() if name not in apart}

    def observe(self, desired: Desired | None, clock_offset_seconds: float | None = None) -> HostSnapshot:
        """One look at everything; a part that can't be seen is None."""
        parts = {subsystem.part: self._look(subsystem, desired) for subsystem in self.subsystems}
        snapshot = HostSnapshot(**parts)  # type: ignore[arg-type]  # each observe() returns its part's type
        if snapshot.preflight is None:
            return snapshot
        return replace(snapshot, preflight=replace(snapshot.preflight, clock_offset_seconds=clock_offset_seconds))

    def plan(self, desired: Desired, snapshot: HostSnapshot) -> dict[str, Outcome]:
        """Every subsystem's outcome by condition type; without actions where they may not be carried out now.

        A document that ends the pair is one matter, in one order, for all of the host.
        """
        if teardown.asked(desired):
            outcome = self._guarded(lambda: teardown.plan(desired, snapshot), teardown.CONDITION, desired)
            return {teardown.CONDITION: self._after_failure(teardown.CONDITION, outcome, desired.generation)}
        may_change = preflight.may_change(desired, snapshot)
        outcomes = {}
        for subsystem in self.subsystems:
            outcome = self._guarded(partial(subsystem.plan, desired, snapshot), subsystem.condition, desired)
            if outcome.actions and not may_change:
                text = f"Nothing is changed on {desired.node} before what is wrong there is put right."
                outcome = Outcome(Verdict(False, "HeldBack", text, waiting=True))
            outcomes[subsystem.condition] = self._after_failure(subsystem.condition, outcome, desired.generation)
        return outcomes

    def _look(self, subsystem: Subsystem, desired: Desired | None) -> object:
        try:
            seen = subsystem.observe(self.host, desired)
        except Exception as error:  # noqa: BLE001 - whatever one part does, the others are still seen
            complaint = f"{type(error).__name__}: {error}"
            if self._complaints.get(subsystem.part) != complaint:
                _log.warning("can't observe %s: %s", subsystem.part, complaint, exc_info=not isinstance(error, OSError))
            self._complaints[subsystem.part] = complaint
            return None
        self._complaints.pop(subsystem.part, None)
        return seen

    def _guarded(self, plan: Callable[[], Outcome], condition: str, desired: Desired) -> Outcome:
        try:
            return plan()
        except Exception as error:  # noqa: BLE001 - a defect in one plan must not stop the others
            _log.exception("the plan of %s is broken", condition)
            text = f"A defect in the agent on {desired.node}: {type(error).__name__}: {error}. See its log."
            return Outcome(Verdict(False, "Defect", text))

    def _after_failure(self, name: str, outcome: Outcome, generation: int) -> Outcome:
        """A failed subsystem waits for its next try, and says what failed meanwhile."""
        failure = self._failures.get(name)
        if failure is None:
            return outcome
        if not outcome.actions or failure.generation != generation:
            del self._failures[name]
            return outcome
        if self.clock() >= failure.again:
            return outcome
        return Outcome(Verdict(False, "ActionFailed", failure.message))

    def _carry_out(self, name: str, actions: Sequence[Action], generation: int) -> list[str]:
        done: list[str] = []
        for action in actions:
            _log.info("%s: %s", action.name, action.summary)
            try:
                apply(self.host, action)
            except StepFailed as error:
                before = self._failures.get(name)
                pause = min(before.pause * 2, _RETRY_LIMIT_SECONDS) if before else _RETRY_SECONDS
                self._failures[name] = _Failure(generation, str(error), self.clock() + pause, pause)
                _log.warning("%s; next try in %.0f s", error, pause)
                return done
            done.append(action.name)
        self._failures.pop(name, None)
        return done
