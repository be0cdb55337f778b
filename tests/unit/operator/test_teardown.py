"""The end of a pair with deletionPolicy Teardown: the order, what it waits for, and how a person ends the waiting."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from storagepair_crds.views import Condition, NodeStatus, StoragePair
from storagepair_operator.plan import Plan
from storagepair_operator.plan.teardown import ABANDON
from storagepair_operator.snapshot import FINALIZER, Intent, Observed, Snapshot
from storagepair_operator.summarize import summarize
from unit.operator.builders import (
    EARLIER,
    NOW,
    lone,
    lun,
    pair,
    pair_spec,
    planned,
    running,
    snapshot,
    status,
    with_spec,
)

REMOVE = {"uid-of-default-vmstore": Intent.REMOVE}
FORGET = {"uid-of-default-vmstore": Intent.FORGET}


def ending(policy: str = "Teardown", abandon: str = "", *, held: bool = True, deleted: bool = True) -> StoragePair:
    spec = msgspec.structs.replace(pair_spec(), deletion_policy=policy)
    return pair(
        spec=spec,
        deletion_timestamp=EARLIER if deleted else "",
        finalizers=(FINALIZER,) if held else (),
        annotations={ABANDON: abandon} if abandon else {},
    )


def world(of: StoragePair, view: Snapshot | None = None) -> Snapshot:
    """The hosts of `view` (a pair that serves on node1, unless given) with this pair."""
    before = view or running(lun())
    return replace(before, pair=of, pairs={before.key: of})


def services(plan: Plan) -> dict[str, str]:
    return {name: spec.service for name, spec in plan.nodes.items()}


def written(view: Snapshot, plan: Plan) -> Snapshot:
    """The documents are written, and no host has said anything to them yet."""
    nodes = dict(view.nodes)
    for name, spec in plan.nodes.items():
        seen = nodes[name]
        if seen.node.spec != spec:
            about = msgspec.structs.replace(seen.node.metadata, generation=seen.node.metadata.generation + 1)
            nodes[name] = Observed(msgspec.structs.replace(seen.node, spec=spec, metadata=about), seen.reported)
    return replace(view, nodes=nodes)


def told(view: Snapshot, name: str, state: str = "True", message: str = "", **more: object) -> Snapshot:
    """A host says how far it is with its document: stopped, it stands by."""
    seen = view.nodes[name]
    generation = seen.node.metadata.generation
    said = Condition(type="Teardown", status=state, reason="Stopped", message=message, observed_generation=generation)
    new = msgspec.structs.replace(status(**more), observed_generation=generation, conditions=(said,))
    nodes = {**view.nodes, name: Observed(msgspec.structs.replace(seen.node, status=new), seen.reported)}
    return replace(view, nodes=nodes)


def test_a_pair_is_held_only_where_its_hosts_have_something_to_do() -> None:
    assert planned(world(ending("Retain", held=False, deleted=False))).hold == ()
    wanted = ending(held=False, deleted=False)
    assert planned(world(wanted)).hold == (wanted,)
    assert planned(world(ending(deleted=False))).release == ()
    back = ending("Retain", deleted=False)
    plan = planned(world(back))
    assert plan.release == (back,)
    assert services(plan) == {"node1": "Run", "node2": "Run"}


@pytest.mark.parametrize(
    ("of", "intents"),
    [(ending("Retain"), REMOVE), (ending(), FORGET), (ending(abandon="true"), REMOVE)],
    ids=["Retain", "its namespace goes", "given up"],
)
def test_a_pair_that_is_forgotten_leaves_its_hosts_as_they_are(of: StoragePair, intents: dict[str, Intent]) -> None:
    plan = planned(world(of), intents)
    assert (plan.nodes, plan.release) == ({}, (of,))
    assert [event.reason for event in summarize(world(of), plan, NOW).events if event.action == "Delete"] == [
        "Forgotten"
    ]


def test_a_deletion_that_nobody_has_judged_waits() -> None:
    plan = planned(world(ending()))
    assert (plan.nodes, plan.release) == ({}, ())


def test_standby_first_then_the_one_that_serves_then_the_mirror_and_then_the_object() -> None:
    view = world(ending())
    plan = planned(view, REMOVE)
    assert services(plan) == {"node2": "Stopped"}
    view = written(view, plan)
    assert services(planned(view)) == {"node2": "Stopped"}, "decided: asked for again without a judgement"
    view = told(view, "node2")
    view = written(view, planned(view))
    assert {name: seen.node.spec.service for name, seen in view.nodes.items()} == {
        "node1": "Stopped",
        "node2": "Stopped",
    }
    view = told(view, "node1")
    plan = planned(view)
    assert services(plan) == {"node1": "Removed", "node2": "Removed"}
    assert plan.release == ()
    view = told(told(written(view, plan), "node1"), "node2")
    plan = planned(view)
    assert plan.release == (view.pair,)
    assert plan.authkeys is None
    assert [event.reason for event in summarize(view, plan, NOW).events if event.action == "Delete"] == ["TornDown"]


def test_entries_of_luns_stay_in_the_documents_to_the_end() -> None:
    """No Absent on the way: the export table keeps what it has for the pair that adopts the data."""
    view = world(ending())
    before = {name: seen.node.spec.luns for name, seen in view.nodes.items()}
    assert {name: spec.luns for name, spec in planned(view, REMOVE).nodes.items()} == {"node2": before["node2"]}


def test_the_mirror_stays_up_until_both_copies_are_equal() -> None:
    view = world(ending())
    view = told(written(view, planned(view, REMOVE)), "node2")
    view = told(written(view, planned(view)), "node1")
    syncing = msgspec.structs.replace(status().replication, disk_state="Inconsistent", connection="SyncTarget")
    behind = told(view, "node2", replication=syncing)
    plan = planned(behind)
    assert services(plan) == {"node1": "Stopped", "node2": "Stopped"}
    assert "node2: its copy is Inconsistent" in plan.ending


def test_a_silent_host_is_waited_for_until_somebody_says_not_to() -> None:
    dark = world(ending(), running(active=lone(status("Active"))))
    view = written(dark, planned(dark, REMOVE))
    plan = planned(view)
    assert services(plan) == {"node2": "Stopped"}, "node1 serves on: node2 may come back with an old copy"
    assert "waits for node2: its agent has not confirmed that it is stopped" in plan.ending
    assert f"{ABANDON}=NAME" in plan.ending
    condition = summarize(view, plan, NOW).pair.conditions[0]  # type: ignore[union-attr]
    assert (condition.status, condition.reason, condition.message) == ("False", "TearingDown", plan.ending)
    view = world(ending(abandon="node2"), view)
    assert services(planned(view)) == {"node1": "Stopped", "node2": "Stopped"}
    view = told(written(view, planned(view)), "node1")
    assert services(planned(view)) == {"node1": "Removed", "node2": "Removed"}
    view = told(written(view, planned(view)), "node1")
    assert planned(view).release == (view.pair,)


def test_what_a_host_refuses_is_said_on_the_pair() -> None:
    view = world(ending())
    view = told(written(view, planned(view, REMOVE)), "node2", "False", "node2 belongs to another")
    assert "waits for node2: node2 belongs to another" in planned(view).ending


def test_a_pair_that_never_served_is_removed_at_once() -> None:
    view = world(ending())
    view = replace(view, nodes=with_spec(view.nodes, service="Prepare"))
    assert services(planned(view, REMOVE)) == {"node1": "Removed", "node2": "Removed"}


@pytest.mark.parametrize("nodes", [{}, with_spec(running().nodes, pair_ref=None)])
def test_without_documents_of_its_own_there_is_nothing_to_wait_for(nodes: dict[str, Observed]) -> None:
    if nodes:  # an earlier pair object of the name wrote them, and this one was never accepted
        old = running().nodes["node1"].node.spec.pair_ref
        nodes = with_spec(running().nodes, pair_ref=msgspec.structs.replace(old, uid="earlier"))
    of = ending()
    plan = planned(replace(world(of), nodes=nodes), REMOVE)
    assert (plan.nodes, plan.release) == ({}, (of,))


def test_a_new_pair_begins_where_an_earlier_one_of_its_name_was_torn_down() -> None:
    """The data is there, so it serves again without a preparation."""
    ended = with_spec(running(lun()).nodes, service="Removed")
    new = pair(uid="new")
    view = snapshot(of=new, nodes=ended)
    plan = planned(view)
    assert services(plan) == {"node1": "Run", "node2": "Run"}
    assert {spec.pair_ref.uid for spec in plan.nodes.values()} == {"new"}


STATES = st.sampled_from(["silent", "False", "True"])
MOVES = st.lists(st.tuples(st.sampled_from(["node1", "node2"]), STATES, st.sampled_from(["Active", "Standby"])))


@given(MOVES, st.sampled_from(["", "node1", "node2"]))
@settings(max_examples=200, deadline=None)
def test_who_serves_stops_last_and_no_mirror_comes_down_before_both_have_stopped(
    moves: list[tuple[str, str, str]], abandon: str
) -> None:
    view = world(ending(abandon=abandon))
    for name, state, role in moves:
        before = {each: seen.node.spec.service for each, seen in view.nodes.items()}
        plan = planned(view, REMOVE)
        for host, service in services(plan).items():
            other = next(each for each in view.nodes if each != host)
            if before[host] == "Run" and _serves(view.nodes[host].node.status) and service == "Stopped":
                assert other == abandon or _confirmed(view.nodes[other], "Stopped") or _serves(_status(view, other))
            if before[host] == "Stopped" and service == "Removed" and before[other] != "Removed":
                assert abandon in (host, other) or all(_confirmed(seen, "Stopped") for seen in view.nodes.values())
            assert (before[host], service) not in {("Removed", "Stopped"), ("Stopped", "Run")}
        assert plan.release in ((), (view.pair,))
        if plan.release:
            assert all(each == abandon or _confirmed(seen, "Removed") for each, seen in view.nodes.items())
            return
        view = written(view, plan)
        if state != "silent":
            view = told(view, name, state, role="Standby" if state == "True" else role)


def _status(view: Snapshot, name: str) -> NodeStatus:
    return view.nodes[name].node.status


def _serves(told: NodeStatus) -> bool:
    return told.service.active


def _confirmed(seen: Observed, service: str) -> bool:
    conditions = [c for c in seen.node.status.conditions if c.type == "Teardown"]
    current = [c for c in conditions if c.observed_generation == seen.node.metadata.generation]
    return seen.node.spec.service == service and any(c.status == "True" for c in current)
