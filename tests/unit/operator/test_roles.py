"""Who serves, by reports of which one may be a dead machine's last."""

from __future__ import annotations

import msgspec
import pytest
from storagepair_crds.views import NodeStatus
from storagepair_operator.plan import plan
from storagepair_operator.roles import leftover, roles, unseen
from storagepair_operator.snapshot import Observed
from unit.operator.builders import NOW, lone, node, snapshot, status

T1, T2 = "2026-03-01T11:00:01Z", "2026-03-01T11:00:02Z"
SPECS = plan(snapshot(), {}, "s", NOW).nodes

ACTIVE, STANDBY = status("Active"), status()
NOBODY = msgspec.structs.replace(ACTIVE, service=STANDBY.service)  # primary, not everything is up yet
CONNECTED_PRIMARIES = msgspec.structs.replace(
    ACTIVE, replication=msgspec.structs.replace(ACTIVE.replication, peer_role="Primary")
)


def host(name: str, state: NodeStatus, reported: str = T1, version: str = "10") -> Observed:
    seen = node(name, SPECS[name], state, reported=reported)
    about = msgspec.structs.replace(seen.node.metadata, resource_version=version)
    return Observed(msgspec.structs.replace(seen.node, metadata=about), reported)


@pytest.mark.parametrize(
    ("one", "two", "expected"),
    [
        pytest.param((ACTIVE, T1), (STANDBY, T1), "node1", id="normal"),
        pytest.param((STANDBY, T1), (ACTIVE, T1), "node2", id="the other way round"),
        pytest.param((STANDBY, T1), (STANDBY, T1), "nobody", id="nobody"),
        pytest.param((NOBODY, T1), (STANDBY, T1), "nobody", id="on the way"),
        pytest.param((ACTIVE, T1), (lone(STANDBY), T2), "node1?", id="active lost, not taken over yet"),
        pytest.param(
            (lone(ACTIVE), T2), (lone(STANDBY), T2), "node1", id="cut from each other, the active still talks"
        ),
        pytest.param((ACTIVE, T1), (lone(NOBODY), T2), "nobody", id="taking over"),
        pytest.param((ACTIVE, T1), (lone(ACTIVE), T2), "node2", id="taken over"),
        pytest.param((lone(ACTIVE), T2), (STANDBY, T1), "node1", id="standby lost"),
        pytest.param((ACTIVE, T1), (ACTIVE, T2), "node2", id="switched over, the old one's word still to come"),
        pytest.param((ACTIVE, T2), (ACTIVE, T1), "node1", id="and back"),
        pytest.param((lone(ACTIVE), T1), (lone(ACTIVE), T2), "both", id="split brain"),
        pytest.param((CONNECTED_PRIMARIES, T1), (CONNECTED_PRIMARIES, T1), "both", id="two primaries, connected"),
        pytest.param((CONNECTED_PRIMARIES, T1), (STANDBY, T2), "node1", id="a peer's role is hearsay"),
    ],
)
def test_who_serves(one: tuple[NodeStatus, str], two: tuple[NodeStatus, str], expected: str) -> None:
    who = roles((host("node1", *one), host("node2", *two)))
    found = {
        "node": who.active and who.active.node.metadata.name,
        "?": who.unconfirmed and f"{who.unconfirmed.node.metadata.name}?",
        "both": "both" if who.both else None,
    }
    assert [word for word in found.values() if word] == ([] if expected == "nobody" else [expected])


def test_within_a_second_the_order_of_writes_decides() -> None:
    who = roles((host("node1", ACTIVE, T1, "11"), host("node2", ACTIVE, T1, "12")))
    assert who.active is not None
    assert who.active.node.metadata.name == "node2"


def test_one_machine_alone() -> None:
    assert roles((host("node1", ACTIVE),)).active is not None
    assert roles(()) == roles((host("node1", STANDBY),))


def test_a_lost_machine_is_unseen_and_its_report_a_leftover() -> None:
    dead, alive = host("node1", ACTIVE, T1), host("node2", lone(STANDBY), T2)
    assert unseen(dead, alive)
    assert leftover(dead, alive)
    assert not unseen(alive, dead)
    assert not leftover(alive, dead)


def test_two_machines_that_lost_each_other_are_both_unseen_and_both_believed() -> None:
    one, two = host("node1", lone(ACTIVE), T2), host("node2", lone(STANDBY), T2)
    assert unseen(one, two)
    assert unseen(two, one)
    assert not leftover(one, two)
    assert not leftover(two, one)
