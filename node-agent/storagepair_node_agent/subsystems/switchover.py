"""Planned moves: the service is handed over when the document asks for it, once for each Switchover.

What was begun here, and what came of it, is kept on the host: a document stays the same for as long as its Switchover
is Running, and an agent may end at any moment. The host's own script checks all that a safe move needs and makes it;
nothing of it is decided here.
"""

from __future__ import annotations

import json
import time
from datetime import datetime

import msgspec
from storagepair_crds import views

from storagepair_node_agent.actions import Action, Outcome, RunAndKeep, Verdict, WriteFile
from storagepair_node_agent.host import Host
from storagepair_node_agent.hostfiles import MOVE, STATE
from storagepair_node_agent.reasons import MOVE_REASONS, Reason
from storagepair_node_agent.snapshot import Desired, HostSnapshot, SwitchoverFacts

RECORD = f"{STATE}/switchover.json"
MOVE_SECONDS = 150  # the script's own limit; it says what came of the move before that
_TAKEN_OVER_SECONDS = 30  # a peer that has promoted has by then brought the service up, or given the storage back

MOVED, NOTHING_CHANGED, WENT_WRONG = 0, 75, 1
_NO_ANSWER = 124  # Host.run's word for a program that was killed at its limit
_NOT_THERE = 127
_PHASES = {MOVED: "Succeeded", NOTHING_CHANGED: "Refused"}
_SHOWN = 1000


class RecordDamaged(Exception):
    """The record can't be read. Nothing is moved without it: it may be of the very Switchover that is asked for."""


class _Record(msgspec.Struct, frozen=True, rename="camel"):
    name: str
    uid: str
    to: str
    since: int
    exit_code: int | None = None
    said: str = ""


def observe(host: Host, desired: Desired | None) -> SwitchoverFacts:
    """What the host keeps. Raises RecordDamaged."""
    text = host.read(RECORD)
    if text is None:
        return SwitchoverFacts(now=time.time())
    try:
        found = msgspec.json.decode(text, type=_Record)
    except msgspec.DecodeError as error:
        raise RecordDamaged(
            f"{RECORD} is damaged: {error}; see which node serves, then remove the file to let it be moved again"
        ) from error
    return SwitchoverFacts(
        found.name,
        found.uid,
        found.to,
        found.since,
        # ended without a word: as if nobody had seen its end
        exit_code=None if found.exit_code == _NO_ANSWER else found.exit_code,
        said=found.said,
        now=time.time(),
    )


def plan(desired: Desired, snapshot: HostSnapshot) -> Outcome:
    """Begin what is asked for and was not begun yet; say how that ended whose end nobody saw."""
    facts, wanted, node = snapshot.switchover, desired.spec.switchover, desired.node
    if facts is None:
        return _waiting("Unobserved", f"{RECORD} on {node} can't be read; see the agent's log.")
    if facts.uid and facts.exit_code is None:
        return _unseen_end(desired, snapshot, facts)
    if wanted is None:
        return Outcome(Verdict(True, "NotAsked", f"Nobody asks {node} to hand the service over."))
    if wanted.uid == facts.uid:
        return Outcome(Verdict(True, "Done", f"Switchover {facts.name} was carried out: {facts.said}"))
    if snapshot.service is None or snapshot.drbd is None or snapshot.filesystem is None:
        return _waiting("Unobserved", f"What {node} serves could not be examined; see the agent's log.")
    if snapshot.service.transition:
        return _waiting("Transition", f"The service is being started or stopped on {node}.")
    if snapshot.active:
        moving = Verdict(False, "Moving", f"The service is being handed over to {wanted.to}.", waiting=True)
        return Outcome(moving, (_move(wanted, facts.now),))
    if snapshot.drbd.role == "Secondary" and not snapshot.service.virtual_ip:
        said = f"NotActive {node} does not serve, so there is nothing to hand over"
        refused = SwitchoverFacts(wanted.name, wanted.uid, wanted.to, int(facts.now), NOTHING_CHANGED, said)
        summary = f"note that Switchover {wanted.name} is refused: {node} does not serve"
        return Outcome(Verdict(True, "NotActive", said), (_note("switchover.refuse", summary, refused),))
    return _waiting("NotComplete", f"The service is not complete on {node}.")


def outcome(facts: SwitchoverFacts) -> views.SwitchoverOutcome | None:
    """What the status tells of the last Switchover, None when there was none."""
    if not facts.uid:
        return None
    if facts.exit_code is None:
        return views.SwitchoverOutcome(name=facts.name, uid=facts.uid, phase="Running", reason="Running")
    word, _, message = facts.said.partition(" ")
    phase = _PHASES.get(facts.exit_code, "Failed")
    if facts.exit_code == _NOT_THERE:
        word, message = "NotInstalled", f"{MOVE} is not on the host: {facts.said}"
    elif word not in MOVE_REASONS:
        word, message = phase, facts.said
    return views.SwitchoverOutcome(name=facts.name, uid=facts.uid, phase=phase, reason=word, message=message[:_SHOWN])


def _move(wanted: views.NodeSwitchover, now: float) -> Action:
    limit = (str(_epoch(wanted.not_after)),) if wanted.not_after else ()
    step = RunAndKeep(
        (MOVE, wanted.to, wanted.name, wanted.uid, *limit),
        RECORD,
        (("name", wanted.name), ("uid", wanted.uid), ("to", wanted.to), ("since", int(now))),
        timeout_seconds=MOVE_SECONDS,
    )
    return Action("switchover.move", f"hand the service over to {wanted.to} for Switchover {wanted.name}", (step,))


def _epoch(moment: str) -> int:
    """Seconds since 1970 of a moment that the schema has let through; one that is none is over already."""
    try:
        return int(datetime.fromisoformat(moment).timestamp())
    except (ValueError, OverflowError):
        return 0


def _unseen_end(desired: Desired, snapshot: HostSnapshot, facts: SwitchoverFacts) -> Outcome:
    """An agent before this one began it: it is not begun again, who serves now tells how it ended."""
    said = _told_by_who_serves(desired, snapshot, facts)
    if not said:
        return _waiting(
            "Moving", f"Switchover {facts.name} was begun on {desired.node}; who serves then tells its end."
        )
    code = MOVED if said.startswith("Moved ") else WENT_WRONG
    ended = SwitchoverFacts(facts.name, facts.uid, facts.to, facts.since, code, said)
    summary = f"note how Switchover {facts.name} ended: {said}"
    return Outcome(Verdict(True, "Ended", said), (_note("switchover.conclude", summary, ended),))


def _told_by_who_serves(desired: Desired, snapshot: HostSnapshot, facts: SwitchoverFacts) -> str:
    if snapshot.service is None or snapshot.drbd is None or snapshot.filesystem is None:
        return ""
    node, passed = desired.node, facts.now - facts.since
    late = not 0 <= passed < MOVE_SECONDS  # a clock that went back must not make it wait for long
    why = f"the agent on {node} ended while it was carried out"
    if snapshot.drbd.role == "Secondary" and snapshot.drbd.peer_role == "Primary":
        return f"Moved {facts.to} has the storage; {why}" if late or passed >= _TAKEN_OVER_SECONDS else ""
    if not late or snapshot.service.transition:
        return ""
    if snapshot.active:
        return f"NotReleased {node} still serves; {why}; look at /var/log/ha-log there, then create another Switchover"
    return (
        f"NotTakenOver {node} released the service, {facts.to} did not take it over; {why}; look at both hosts' ha-log"
    )


def _note(name: str, summary: str, facts: SwitchoverFacts) -> Action:
    record = _Record(facts.name, facts.uid, facts.to, facts.since, facts.exit_code, facts.said)
    return Action(name, summary, (WriteFile(RECORD, json.dumps(msgspec.to_builtins(record)) + "\n", 0o600),))


def _waiting(reason: Reason, message: str) -> Outcome:
    return Outcome(Verdict(False, reason, message, waiting=True))
