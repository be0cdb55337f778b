"""The entries of LUNs and initiators: what appears, what stays, and the only way in which something goes."""

from __future__ import annotations

import msgspec
import pytest
from storagepair_crds.views import LUN, InitiatorACL, NodeLUN, NodeStatus, NodeTarget
from storagepair_operator import reasons
from storagepair_operator.snapshot import Intent, Observed, Snapshot
from unit.operator.builders import (
    MIB,
    acl,
    entry,
    lone,
    lun,
    pair,
    pair_spec,
    planned,
    ready,
    running,
    served,
    snapshot,
    status,
    with_spec,
)

TWO_TARGETS = {"default": "iqn.2011-03.org.weithenn:iscsi.storage", "backup": "iqn.2011-03.org.weithenn:backup"}


def luns(view: Snapshot, *meant: LUN) -> tuple[NodeLUN, ...]:
    specs = planned(view, removing(*meant)).nodes
    assert specs["node1"].luns == specs["node2"].luns
    return specs["node1"].luns


def initiators(view: Snapshot, *meant: InitiatorACL, target: int = 0) -> list[tuple[str, tuple[str, ...], str]]:
    targets: tuple[NodeTarget, ...] = planned(view, removing(*meant)).nodes["node1"].targets
    return [(e.acl, e.addresses, e.state) for e in targets[target].initiators]


def removing(*things: LUN | InitiatorACL) -> dict[str, Intent]:
    return {thing.metadata.uid: Intent.REMOVE for thing in things}


def forgetting(*things: LUN | InitiatorACL) -> dict[str, Intent]:
    return {thing.metadata.uid: Intent.FORGET for thing in things}


def nodes_with(state: NodeStatus, *entries: NodeLUN) -> dict[str, Observed]:
    """node1 serves in `state`; both documents have these LUNs."""
    return with_spec(running(active=state).nodes, luns=entries)


# ---------------------------------------------------------------------------------------- absence is no instruction


def test_what_is_gone_from_view_is_carried_over_unchanged() -> None:
    before = running(lun(), lun("other", number=7), acl(), acl("backup", addresses=("10.10.25.9",)))
    nothing = snapshot(nodes=before.nodes)
    plan = planned(nothing)
    assert plan.nodes == {name: seen.node.spec for name, seen in before.nodes.items()}
    assert plan.kept == ("LUN datastore1", "LUN other", "InitiatorACL backup", "InitiatorACL esx")


def test_a_refused_lun_keeps_the_entry_it_has() -> None:
    before = running(lun())
    renamed = snapshot(lun(target="gone"), nodes=before.nodes)
    assert not planned(renamed).luns["datastore1"].accepted
    assert luns(renamed) == (entry(),)


def test_an_entry_that_one_document_has_lost_is_restored_from_the_other() -> None:
    before = running(lun())
    nodes = {**before.nodes, "node2": with_spec(before.nodes, luns=())["node2"]}
    assert luns(snapshot(nodes=nodes)) == (entry(),)


# ---------------------------------------------------------------------------------------- deletion


def test_a_deletion_alone_changes_nothing() -> None:
    gone = lun(deleted=True)
    plan = planned(snapshot(gone, nodes=running(lun()).nodes))
    assert plan.nodes["node1"].luns == (entry(),)
    assert plan.release == ()


def test_a_forgotten_lun_stays_on_the_hosts_and_is_released() -> None:
    gone = lun(deleted=True)
    plan = planned(snapshot(gone, nodes=running(lun()).nodes), forgetting(gone))
    assert plan.nodes["node1"].luns == (entry(),)
    assert plan.release == (gone,)


def test_a_meant_deletion_takes_the_lun_away_and_holds_the_object_until_then() -> None:
    gone = lun(deleted=True)
    plan = planned(snapshot(gone, nodes=running(lun()).nodes), removing(gone))
    assert plan.nodes["node1"].luns == plan.nodes["node2"].luns == (entry(state="Absent"),)
    assert plan.release == ()


def test_the_policy_is_the_one_at_the_time_of_the_deletion() -> None:
    gone = lun(deleted=True)
    gone = msgspec.structs.replace(gone, spec=msgspec.structs.replace(gone.spec, deletion_policy="Delete"))
    assert luns(snapshot(gone, nodes=running(lun()).nodes), gone) == (entry(state="Absent", deletion_policy="Delete"),)


ABSENT = entry(state="Absent")
TOLD = status("Active", luns=(served(state="Absent"),))


@pytest.mark.parametrize(
    ("state", "released"),
    [
        (TOLD, True),
        (status("Active", luns=(served(),)), False),
        (status("Active"), False),
        (msgspec.structs.replace(TOLD, observed_generation=0), False),  # told of an earlier document
        (status("Standby", luns=(served(state="Absent"),)), False),  # told by a machine that doesn't serve
    ],
)
def test_the_object_is_released_when_the_serving_host_has_confirmed(state: NodeStatus, released: bool) -> None:
    gone = lun(deleted=True)
    plan = planned(snapshot(gone, nodes=nodes_with(state, ABSENT)))
    assert plan.release == ((gone,) if released else ())
    assert plan.nodes["node1"].luns == (ABSENT,), "the entry outlives the object, or it would come and go"


def test_no_confirmation_by_a_document_that_does_not_ask_yet() -> None:
    """Written on the standby, not yet on the serving host: its Absent is about an earlier LUN of the name."""
    nodes = nodes_with(TOLD, ABSENT)
    nodes["node1"] = with_spec(nodes, luns=(entry(),))["node1"]
    gone = lun(deleted=True)
    plan = planned(snapshot(gone, nodes=nodes))
    assert plan.release == ()
    assert plan.nodes["node1"].luns == (ABSENT,)


def test_the_entry_goes_after_the_object() -> None:
    assert luns(snapshot(nodes=nodes_with(TOLD, ABSENT))) == ()
    assert luns(snapshot(nodes=nodes_with(status("Active"), ABSENT))) == (ABSENT,)


def test_a_new_lun_of_the_name_takes_the_place_of_an_absent_entry() -> None:
    assert luns(snapshot(lun(uid="new"), nodes=nodes_with(TOLD, ABSENT))) == (entry(),)


def test_a_dead_machines_last_report_does_not_hold_up_a_deletion() -> None:
    gone = lun(deleted=True)
    taken_over = lone(status("Active", luns=(served(state="Absent"),)))
    before = running(lun(), active=status("Active"), standby=taken_over)
    nodes = with_spec(before.nodes, luns=(ABSENT,))
    assert planned(snapshot(gone, nodes=nodes)).release == (gone,)


def test_a_lun_that_never_reached_a_host_is_taken_away_all_the_same() -> None:
    """A host may have what its document does not say."""
    gone = lun(deleted=True)
    assert luns(snapshot(gone, nodes=running().nodes), gone) == (entry(state="Absent"),)


def test_a_refused_lun_without_an_entry_is_released_at_once() -> None:
    gone = lun(deleted=True, target="gone")
    plan = planned(snapshot(gone, nodes=running().nodes), removing(gone))
    assert (plan.release, plan.nodes["node1"].luns) == ((gone,), ())


def test_what_is_not_held_is_not_released() -> None:
    gone = lun(deleted=True, held=False)
    assert planned(snapshot(gone, nodes=running(lun()).nodes), forgetting(gone)).release == ()


# ---------------------------------------------------------------------------------------- initiators


def test_an_acl_goes_like_a_lun() -> None:
    gone = acl(deleted=True)
    nodes = running(acl()).nodes
    undecided = snapshot(gone, nodes=nodes)
    assert initiators(undecided) == [("esx", ("10.10.25.0/24",), "Present")]
    assert initiators(undecided, gone) == [("esx", ("10.10.25.0/24",), "Absent")]
    targets = planned(undecided, removing(gone)).nodes["node1"].targets
    asked = snapshot(gone, nodes=with_spec(nodes, targets=targets))
    assert planned(asked).release == (gone,), "node1 reports that its targets are as the document says"
    assert initiators(asked) == [("esx", ("10.10.25.0/24",), "Absent")]
    assert initiators(snapshot(nodes=asked.nodes)) == []


@pytest.mark.parametrize(
    ("conditions", "released"),
    [
        ((ready(),), True),
        ((ready("False"),), False),
        ((ready("False"), ready(type_="Targets")), True),  # something else is wrong with the machine
        ((ready("False"), ready(type_="Targets", generation=0)), False),
        ((ready(), ready("False", "Targets")), False),
        ((), False),
    ],
)
def test_an_acl_is_gone_when_the_targets_are_as_the_document_says(
    conditions: tuple[object, ...], released: bool
) -> None:
    gone = acl(deleted=True)
    nodes = running(acl(), active=status("Active", conditions=conditions)).nodes
    targets = planned(snapshot(gone, nodes=nodes), removing(gone)).nodes["node1"].targets
    plan = planned(snapshot(gone, nodes=with_spec(nodes, targets=targets)))
    assert plan.release == ((gone,) if released else ())


def test_an_acl_that_turns_to_another_target_leaves_the_first_one() -> None:
    of = pair(spec=pair_spec(iqns=TWO_TARGETS))
    first = snapshot(acl(), of=of)
    nodes = {name: Observed(seen.node) for name, seen in running(acl()).nodes.items()}
    nodes = with_spec(nodes, targets=planned(first).nodes["node1"].targets)
    moved = snapshot(acl(target="backup"), of=of, nodes=nodes)
    assert initiators(moved) == [("esx", ("10.10.25.0/24",), "Absent")]
    assert initiators(moved, target=1) == [("esx", ("10.10.25.0/24",), "Present")]


# ---------------------------------------------------------------------------------------- verdicts


def test_an_unknown_target_is_refused_with_the_known_ones() -> None:
    plan = planned(snapshot(lun(target="gold"), acl(target="gold")))
    for verdict in (plan.luns["datastore1"], plan.acls["esx"]):
        assert verdict.reason == reasons.TARGET_NOT_FOUND
        assert "no target gold; it has default" in verdict.message


def test_of_two_new_luns_with_one_number_the_older_gets_it() -> None:
    older = lun("older", number=3, created="2026-01-01T00:00:00Z")
    younger = lun("a-younger", number=3, created="2026-01-02T00:00:00Z")
    plan = planned(snapshot(older, younger))
    assert plan.luns["older"].accepted
    assert plan.luns["a-younger"].reason == reasons.NUMBER_IN_USE
    assert "LUN older" in plan.luns["a-younger"].message


def test_numbers_count_per_target() -> None:
    of = pair(spec=pair_spec(iqns=TWO_TARGETS))
    plan = planned(snapshot(lun("one", number=3), lun("two", number=3, target="backup"), of=of))
    assert all(verdict.accepted for verdict in plan.luns.values())


@pytest.mark.parametrize("seen", [True, False])
def test_a_number_that_serves_wins_over_an_older_newcomer(seen: bool) -> None:
    """Minted on the host; its object may even be gone from view."""
    nodes = running(lun("minted"), active=status("Active", luns=(served("minted", 1),))).nodes
    wants = lun("wants", number=1, created="2020-01-01T00:00:00Z")
    plan = planned(snapshot(*[lun("minted")] * seen, wants, nodes=nodes))
    assert plan.luns["wants"].reason == reasons.NUMBER_IN_USE
    assert "LUN minted" in plan.luns["wants"].message
    assert [each.name for each in plan.nodes["node1"].luns] == ["minted"]


def test_a_minted_number_may_be_declared_and_no_other() -> None:
    nodes = running(lun(), active=status("Active", luns=(served(number=4),))).nodes
    assert planned(snapshot(lun(number=4), nodes=nodes)).luns["datastore1"].accepted
    refused = planned(snapshot(lun(number=5), nodes=nodes)).luns["datastore1"]
    assert refused.reason == reasons.NUMBER_DIFFERS
    assert "number 4" in refused.message


@pytest.mark.parametrize("reported", [True, False])
def test_nothing_shrinks(reported: bool) -> None:
    before = running(lun(size="128Mi"))
    nodes = before.nodes
    if reported:
        told = (served(size=128 * MIB),)
        nodes = with_spec(running(active=status("Active", luns=told)).nodes, luns=())
    plan = planned(snapshot(lun(size="64Mi"), nodes=nodes))
    assert plan.luns["datastore1"].reason == reasons.SIZE_SHRINKS
    assert str(128 * MIB) in plan.luns["datastore1"].message
    assert [each.size_bytes for each in plan.nodes["node1"].luns] == ([] if reported else [128 * MIB])


def test_an_absent_entry_does_not_hinder_a_smaller_successor() -> None:
    nodes = nodes_with(TOLD, entry(state="Absent", size_bytes=128 * MIB))
    assert planned(snapshot(lun(size="64Mi"), nodes=nodes)).luns["datastore1"].accepted


def test_luns_of_a_refused_pair_say_why() -> None:
    older = pair(created="2020-01-01T00:00:00Z")
    key = pair(spec=pair_spec()).metadata.name
    other = msgspec.structs.replace(older, metadata=msgspec.structs.replace(older.metadata, name="first"))
    plan = planned(snapshot(lun(), acl(), others=[other]))
    assert plan.luns["datastore1"].reason == plan.acls["esx"].reason == reasons.PAIR_NOT_ACCEPTED
    assert key in plan.luns["datastore1"].message
    assert "first" in plan.luns["datastore1"].message
