"""Planned moves on a host: once for each request, whatever happens to the agent, and in nobody's way."""

from __future__ import annotations

import json
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from storagepair_crds import schema, views
from storagepair_node_agent.actions import RunAndKeep, StepFailed, apply
from storagepair_node_agent.cycle import SUBSYSTEMS, Cycle
from storagepair_node_agent.host import Host, Result
from storagepair_node_agent.snapshot import SwitchoverFacts
from storagepair_node_agent.subsystems import switchover
from unit.agent import agentbuilders as a

ASKED = views.NodeSwitchover(name="default/to-node2", uid="u1", to="node2", not_after="2026-11-22T20:33:00Z")
NOW = 1_795_379_500.0
MOVE = "run /usr/lib/storagepair/move node2 default/to-node2 u1 1795379580, once, and keep what came of it in "
MOVE += "/var/lib/storagepair/switchover.json"


def desired(asked=ASKED):
    return a.desired(service="Run", switchover=asked)


def facts(uid="", exit_code=None, said="", since=NOW - 10, **more):
    known = {"name": "default/to-node2", "to": "node2"} if uid else {}
    return SwitchoverFacts(**{**known, **more}, uid=uid, exit_code=exit_code, said=said, since=int(since), now=NOW)


def host(serves=True, record=None, role="", peer_role="Secondary", transition=False, **more):
    """What the agent sees: a host that serves, or one that does not."""
    role = role or ("Primary" if serves else "Secondary")
    known = {
        "drbd": a.drbd(up=True, metadata="Initialized", role=role, peer_role=peer_role, connection="Connected"),
        "filesystem": a.filesystem(mounted_at="/storage" if serves else ""),
        "service": a.service(virtual_ip=serves, port_open=serves, started=serves, transition=transition),
        "switchover": record or facts(),
    }
    return a.snapshot(**{**known, **more})


def plan(snapshot, asked=ASKED):
    return switchover.plan(desired(asked), snapshot)


# ---------------------------------------------------------------------------- what is done


def test_the_host_that_serves_hands_over():
    (action,) = plan(host()).actions
    assert action.name == "switchover.move"
    assert a.steps(action) == [MOVE]
    assert action.steps[0].timeout_seconds == 150


def test_without_a_limit_none_is_given():
    (action,) = plan(host(), msgspec.structs.replace(ASKED, not_after="")).actions
    assert action.steps[0].argv == ("/usr/lib/storagepair/move", "node2", "default/to-node2", "u1")


@pytest.mark.parametrize(
    ("moment", "seconds"),
    [
        ("1970-01-01T00:01:00Z", 60),
        ("1970-01-01T00:01:00.999999999Z", 60),
        ("1970-01-01T01:01:00+01:00", 60),
        ("2026-13-01T00:00:00Z", 0),
        ("0001-01-01T00:00:00+23:59", 0),
    ],
)
def test_a_limit_in_whole_seconds_and_never_later_than_said(moment, seconds):
    (action,) = plan(host(), msgspec.structs.replace(ASKED, not_after=moment)).actions
    assert int(action.steps[0].argv[-1]) <= max(0, seconds)
    assert seconds == 0 or int(action.steps[0].argv[-1]) == seconds


@pytest.mark.parametrize("code", [0, 75, 1, 127])
def test_what_was_carried_out_is_not_carried_out_again(code):
    assert plan(host(record=facts("u1", code, "Moved"))).actions == ()
    assert plan(host(record=facts("another", code, "Moved"))).actions != ()


def test_nobody_asks_nothing_is_done():
    outcome = plan(host(), None)
    assert (outcome.verdict.ready, outcome.actions) == (True, ())


def test_a_host_that_does_not_serve_refuses_and_keeps_that():
    (action,) = plan(host(serves=False)).actions
    assert action.name == "switchover.refuse"
    kept = json.loads(action.steps[0].content)
    assert (kept["uid"], kept["exitCode"], kept["said"].split()[0]) == ("u1", 75, "NotActive")


@pytest.mark.parametrize(
    "snapshot",
    [
        host(transition=True),
        host(serves=False, transition=True),
        host(serves=False, role="Primary"),
        host(drbd=None),
        host(service=None),
        host(filesystem=None),
        replace(host(), switchover=None),
    ],
    ids=["starting", "stopping", "half", "no drbd", "no service", "no file system", "no record"],
)
def test_what_is_not_clear_is_waited_for(snapshot):
    outcome = plan(snapshot)
    assert (outcome.actions, outcome.verdict.waiting) == ((), True)


# ---------------------------------------------------------------------------- once, whatever happens to the agent


def test_one_that_was_begun_is_not_begun_again():
    begun = facts("u1", since=NOW - 5)
    assert plan(host(record=begun)).actions == ()
    assert plan(host(serves=False, record=begun)).actions == ()
    assert plan(host(record=begun), None).actions == ()


@pytest.mark.parametrize(
    ("snapshot", "since", "code", "word"),
    [
        (host(serves=False, peer_role="Primary"), 40, 0, "Moved"),
        (host(serves=False, peer_role="Primary"), 5, None, ""),  # it may still fail to bring the service up
        (host(), 149, None, ""),  # the script may still be about to release it
        (host(), 150, 1, "NotReleased"),
        (host(), -3600, 1, "NotReleased"),  # the clock went back
        (host(serves=False), 150, 1, "NotTakenOver"),
        (host(serves=False, peer_role="Unknown"), 100, None, ""),
        (host(transition=True), 200, None, ""),
        (host(drbd=None), 200, None, ""),
    ],
)
def test_who_serves_tells_how_it_ended_that_nobody_saw(snapshot, since, code, word):
    actions = plan(replace(snapshot, switchover=facts("u1", since=NOW - since))).actions
    if code is None:
        assert actions == ()
        return
    kept = json.loads(actions[0].steps[0].content)
    assert (actions[0].name, kept["exitCode"], kept["said"].split()[0]) == ("switchover.conclude", code, word)
    assert kept["since"] == int(NOW - since)


class Script(Host):
    """A host whose move script answers as told, or takes the agent with it."""

    def __init__(self, root, result=None):
        super().__init__(root)
        self.result = result
        self.ran = []

    def run(self, argv, *, timeout_seconds=10, stdin=None):
        self.ran.append(tuple(argv))
        if self.result is None:
            raise KeyboardInterrupt
        return self.result


def carried_out(tmp_path, result):
    script = Script(tmp_path, result)
    (action,) = plan(host()).actions
    apply(script, action)
    return switchover.observe(script, desired())


@pytest.mark.parametrize(
    ("result", "phase", "reason", "message"),
    [
        (Result(0, "a\nMoved node2 serves\n", ""), "Succeeded", "Moved", "node2 serves"),
        (Result(75, "NotUpToDate wait for the resync\n", ""), "Refused", "NotUpToDate", "wait for the resync"),
        (Result(1, "NotTakenOver node2 is silent", ""), "Failed", "NotTakenOver", "node2 is silent"),
        (Result(2, "", "sh: oops\n"), "Failed", "Failed", "sh: oops"),
        (Result(0, "", ""), "Succeeded", "Succeeded", "it said nothing"),
        (
            Result(127, "", "not found"),
            "Failed",
            "NotInstalled",
            "/usr/lib/storagepair/move is not on the host: not found",
        ),
        (Result(1, "no word that we know", ""), "Failed", "Failed", "no word that we know"),
        (Result(1, "NotReleased " + "x" * 5000, ""), "Failed", "NotReleased", "x" * 988),
    ],
)
def test_what_the_script_says_is_told(tmp_path, result, phase, reason, message):
    seen = carried_out(tmp_path, result)
    assert switchover.outcome(seen) == views.SwitchoverOutcome(
        name="default/to-node2", uid="u1", phase=phase, reason=reason, message=message
    )


def test_a_script_that_was_given_up_on_is_judged_by_who_serves(tmp_path):
    seen = carried_out(tmp_path, Result(124, "", "no answer"))
    assert switchover.outcome(seen).phase == "Running"
    late = replace(seen, now=seen.now + 150)
    assert a.names(plan(host(record=late))) == ["switchover.conclude"]


def test_an_agent_that_ends_in_the_middle_leaves_the_note(tmp_path):
    script = Script(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        apply(script, plan(host()).actions[0])
    script.result = Result(0, "Moved twice", "")
    seen = switchover.observe(script, desired())
    assert (seen.uid, seen.exit_code) == ("u1", None)
    assert plan(host(record=replace(seen, now=NOW + 1))).actions == ()
    assert len(script.ran) == 1


def test_where_nothing_can_be_noted_nothing_is_moved(tmp_path):
    (tmp_path / "var/log").mkdir(parents=True)
    (tmp_path / "var/lib").write_text("not a folder")
    script = Script(tmp_path, Result(0, "Moved", ""))
    with pytest.raises(StepFailed, match=r"switchover\.move"):
        apply(script, plan(host()).actions[0])
    assert script.ran == []


def test_a_damaged_record_moves_nothing(tmp_path):
    kept = tmp_path / switchover.RECORD.lstrip("/")
    kept.parent.mkdir(parents=True)
    kept.write_text('{"name": "defau')
    with pytest.raises(switchover.RecordDamaged, match="remove the file"):
        switchover.observe(Host(tmp_path), desired())


def test_without_a_record_there_was_none(tmp_path):
    assert switchover.outcome(switchover.observe(Host(tmp_path), None)) is None


@given(st.integers(-(2**31), 2**31), st.text())
def test_any_outcome_fits_into_the_status(code, said):
    told = switchover.outcome(facts("u1", code, said[:1000]))
    document = a.document()
    document["status"] = views.document(views.NodeStatus(switchover=told))
    assert schema.validate(document) == ()


# ---------------------------------------------------------------------------- in nobody's way, and nobody in its way


def test_it_waits_for_no_other_subsystem():
    first, *others = SUBSYSTEMS
    assert (first.condition, first.apart) == ("Switchover", True)
    assert not any(other.apart for other in others)
    unwell = replace(host(), preflight=a.preflight(**a.SET_UP, missing_programs=("mkfs.ext4",)), heartbeat=None)
    outcomes = Cycle(Host()).plan(desired(), unwell)
    assert not outcomes["Preflight"].verdict.ready
    assert a.names(next(outcome for outcome in outcomes.values() if outcome.actions)) == ["switchover.move"]


def test_a_document_of_another_pair_moves_nothing():
    other = replace(host(), preflight=a.preflight(recorded_pair="default/other", recorded_disk="/dev/vdb"))
    outcome = Cycle(Host()).plan(desired(), other)["Switchover"]
    assert (outcome.actions, outcome.verdict.reason) == ((), "HeldBack")


def test_its_step_is_data_like_every_other():
    (action,) = plan(host()).actions
    assert isinstance(action.steps[0], RunAndKeep)
    assert action.describe().startswith(
        "switchover.move: hand the service over to node2 for Switchover default/to-node2"
    )
