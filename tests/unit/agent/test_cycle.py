"""The cycle: order, rounds, failures, and the sentence. Subsystems here are toys on a host that is a folder."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import pytest
from storagepair_node_agent.actions import Action, Outcome, Run, Verdict, WriteFile
from storagepair_node_agent.cycle import SUBSYSTEMS, Cycle, Pass, Subsystem
from storagepair_node_agent.host import ACTION_LOG, Host
from unit.agent import agentbuilders as a

OK = Outcome(Verdict(True, "Good", "is good"))


@dataclass
class Toy:
    """A subsystem that wants one file; `fails` makes its step fail."""

    name: str
    fails: bool = False
    needs: str = ""
    looks: list = field(default_factory=list)

    def subsystem(self, part):
        facts = {"preflight": a.preflight(), "network": a.network(), "drbd": a.drbd(), "filesystem": a.filesystem()}
        facts |= {"heartbeat": a.heartbeat(), "service": a.service()}

        def observe(host, desired):
            self.host = host
            return facts[part]

        return Subsystem(self.name, part, observe, self.plan)

    def plan(self, desired, snapshot):
        if self.host.exists(f"/{self.name}"):
            return OK
        if self.needs and not self.host.exists(f"/{self.needs}"):
            return Outcome(Verdict(False, "Waiting", f"for {self.needs}", waiting=True))
        step = Run(("false",)) if self.fails else WriteFile(f"/{self.name}", "x")
        return Outcome(Verdict(False, "Doing", "is done now", waiting=True), (Action(self.name, "do it", (step,)),))


PARTS = ("preflight", "network", "drbd", "filesystem", "heartbeat", "service")


def cycle(tmp_path, *toys, clock=lambda: 0.0):
    """Toys in the snapshot's order; the parts that have none are just fine."""
    toys = [*toys, *(Toy(f"Fine{n}") for n in range(len(PARTS) - len(toys)))]
    subsystems = []
    for toy, part in zip(toys, PARTS, strict=True):
        subsystems.append(toy.subsystem(part))
        if toy.name.startswith("Fine"):
            (tmp_path / toy.name).write_text("")
    return Cycle(Host(tmp_path), tuple(subsystems), clock)


def log_lines(tmp_path):
    path = tmp_path / ACTION_LOG.lstrip("/")
    return path.read_text().splitlines() if path.exists() else []


def test_goes_on_until_nothing_is_left_and_a_second_cycle_does_nothing(tmp_path):
    this = cycle(tmp_path, Toy("B", needs="C"), Toy("C", needs="D"), Toy("D"))
    first = this.run(a.desired())
    assert (first.done, first.ready) == (("D", "C", "B"), True)
    assert [json.loads(line.split(" ", 1)[1])["action"] for line in log_lines(tmp_path)] == ["D", "C", "B"]
    second = this.run(a.desired())
    assert (second.done, second.ready) == ((), True)
    assert len(log_lines(tmp_path)) == 3


def test_the_earlier_subsystem_goes_first(tmp_path):
    assert cycle(tmp_path, Toy("B"), Toy("C")).run(a.desired()).done == ("B", "C")


def test_a_failed_action_is_told_and_tried_again_later_and_later_and_the_others_go_on(tmp_path):
    now = [0.0]
    this = cycle(tmp_path, Toy("B", fails=True), Toy("C"), clock=lambda: now[0])
    first = this.run(a.desired())
    assert first.done == ("C",)
    assert first.verdicts["B"].reason == "ActionFailed"
    assert "run false: exit code 1" in first.verdicts["B"].message
    tries = []
    for second in range(1, 60):
        now[0] = float(second)
        before = len(log_lines(tmp_path))
        this.run(a.desired())
        if len(log_lines(tmp_path)) > before:
            tries.append(second)
    assert tries == [5, 15, 35]


def test_a_new_document_is_tried_at_once(tmp_path):
    this = cycle(tmp_path, Toy("B", fails=True))
    this.run(a.desired())
    before = len(log_lines(tmp_path))
    this.run(a.desired(generation=2))
    assert len(log_lines(tmp_path)) == before + 1


def test_the_rollback_of_a_failed_action_runs_whole(tmp_path):
    class Undoing(Toy):
        def plan(self, desired, snapshot):
            steps = (WriteFile("/made", "x"), Run(("false",)), WriteFile("/never", "x"))
            undo = (Run(("false",)), WriteFile("/undone", "x"))
            return Outcome(Verdict(False, "Doing", ""), (Action("B", "do it", steps, rollback=undo),))

    cycle(tmp_path, Undoing("B")).run(a.desired())
    assert (tmp_path / "undone").exists()
    assert not (tmp_path / "never").exists()


def test_two_that_undo_each_other_do_not_hang_it(tmp_path):
    class Restless(Toy):
        def plan(self, desired, snapshot):
            return Outcome(Verdict(False, "Doing", "again"), (Action("B", "again", (WriteFile("/b", "x"),)),))

    result = cycle(tmp_path, Restless("B")).run(a.desired())
    assert not result.ready
    assert 1 < len(result.done) < 100


def test_what_can_t_be_seen_is_none_and_a_broken_plan_is_a_condition(tmp_path):
    class Broken(Toy):
        def plan(self, desired, snapshot):
            raise ZeroDivisionError("oops")

    def blind(host, desired):
        raise OSError("gone")

    this = cycle(tmp_path, Toy("Fine"), Broken("B"))
    this.subsystems = (*this.subsystems[:2], Subsystem("X", "drbd", blind, lambda d, s: OK), *this.subsystems[3:])
    result = this.run(a.desired())
    assert result.snapshot.drbd is None
    assert result.verdicts["B"].reason == "Defect"
    assert "oops" in result.verdicts["B"].message


def test_nothing_is_changed_while_preflight_fails(tmp_path):
    this = cycle(tmp_path, Toy("Fine"), Toy("B"))
    first = this.subsystems[0]
    facts = a.preflight(missing_programs=("drbdadm",))
    this.subsystems = (Subsystem("Preflight", "preflight", lambda h, d: facts, first.plan), *this.subsystems[1:])
    result = this.run(a.desired())
    assert result.done == ()
    assert (result.verdicts["B"].reason, result.verdicts["B"].waiting) == ("HeldBack", True)
    assert log_lines(tmp_path) == []


def test_what_is_known_is_told_before_each_step_and_whoever_hears_it_may_stop(tmp_path):
    heard = []
    this = cycle(tmp_path, Toy("B"), Toy("C"))
    result = this.run(a.desired(), go_on=lambda so_far: heard.append(so_far.done) or len(heard) < 2)
    assert heard == [(), ("B",)]
    assert (result.done, result.verdicts["B"].ready, result.verdicts["C"].ready) == (("B",), True, False)
    this.run(a.desired(), go_on=lambda so_far: heard.append(so_far.done) or True)
    this.run(a.desired(), go_on=lambda so_far: heard.append("at rest") or True)
    assert heard == [(), ("B",), ()], "at rest nobody is asked"


def test_a_request_goes_first_and_no_readiness_depends_on_it(tmp_path):
    this = cycle(tmp_path, Toy("B"))
    wish = Toy("Wish")
    wish.host = this.host
    apart = Subsystem("Wish", "switchover", lambda host, desired: None, wish.plan, apart=True)
    this.subsystems = (apart, *this.subsystems)
    assert this.run(a.desired()).done == ("Wish", "B")
    (tmp_path / "Wish").unlink()
    wish.fails = True
    result = this.run(a.desired())
    assert (result.ready, "Wish" in result.verdicts, result.done) == (True, False, ())


def test_the_clock_offset_reaches_preflight(tmp_path):
    result = cycle(tmp_path).run(a.desired(), clock_offset_seconds=61.0)
    assert result.snapshot.preflight.clock_offset_seconds == 61.0


def test_secrets_are_in_no_log(tmp_path):
    class Secret(Toy):
        def plan(self, desired, snapshot):
            if self.host.exists("/key"):
                return OK
            steps = (WriteFile("/key", "hush", 0o600, secret=True), Run(("cat",), stdin="hush"), Run(("false",)))
            return Outcome(Verdict(False, "Doing", ""), (Action("B", "write the key", steps),))

    result = cycle(tmp_path, Secret("B")).run(a.desired())
    assert "hush" not in "".join(log_lines(tmp_path)) + str(result.verdicts)
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("verdicts", "sentence"),
    [
        ({"A": Verdict(True, "", "")}, "did x; n1 is not active, all is as desired: nothing to do"),
        (
            {"A": Verdict(False, "Late", "waits", waiting=True), "B": Verdict(False, "Broken", "needs you")},
            "did x; n1 is not active; B Broken: needs you",
        ),
        ({"A": Verdict(False, "Late", "waits", waiting=True)}, "did x; n1 is not active; A Late: waits"),
    ],
)
def test_sentences(verdicts, sentence):
    assert Pass(a.snapshot(), verdicts, ("x",)).sentence("n1") == sentence


def test_the_real_subsystems_fill_the_snapshot_in_their_order():
    assert tuple(subsystem.part for subsystem in SUBSYSTEMS) == ("switchover", *PARTS)
