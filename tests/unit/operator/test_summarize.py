"""summarize(): statuses and conditions."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import msgspec
import pytest
from storagepair_crds.views import (
    Condition,
    InitiatorACLStatus,
    LUNStatus,
    NodeStatus,
    PairStatus,
    SessionStatus,
    TargetStatus,
)
from storagepair_crds.words import NOTHING
from storagepair_operator import reasons
from storagepair_operator.kinds import PairKey
from storagepair_operator.reasons import WORDS
from storagepair_operator.snapshot import Intent, Snapshot
from storagepair_operator.summarize import Summary, summarize
from storagepair_operator.summarize.conditions import find
from unit.operator.builders import (
    MIB,
    NOW,
    acl,
    failover,
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
    written,
)

SERVES = status("Active", luns=(served(),))


def summary(view: Snapshot, intents: dict[str, Intent] | None = None) -> Summary:
    return summarize(view, planned(view, intents), NOW)


def condition(states: PairStatus | LUNStatus | InitiatorACLStatus | None, type_: str) -> Condition:
    assert states is not None
    found = find(states.conditions, type_)
    assert found is not None
    return found


def says(states: PairStatus | LUNStatus | InitiatorACLStatus | None, type_: str) -> tuple[str, str]:
    found = condition(states, type_)
    return found.status, found.reason


def test_a_healthy_pair_is_ready() -> None:
    view = running(lun(), acl(), active=SERVES)
    told = summary(view)
    assert told.pair is not None
    assert {c.type: c.status for c in told.pair.conditions} == dict.fromkeys(
        ("Ready", "Accepted", "Serving", "Replicated", "NodesReady"), "True"
    )
    assert told.pair.conditions[0].type == "Ready"
    assert (told.pair.active, told.pair.standby, told.pair.replication) == ("node1", "node2", "UpToDate")
    assert (told.pair.luns, told.pair.failovers, told.pair.observed_generation) == (1, 0, 1)
    assert [(n.name, n.ready, n.role, n.disk_state) for n in told.pair.nodes] == [
        ("node1", "True", "Active", "UpToDate"),
        ("node2", "True", "Standby", "UpToDate"),
    ]
    assert condition(told.pair, "Ready").message == "node1 serves, node2 can take over, both copies are up to date"
    assert told.sentence == (
        "default/vmstore: Ready: node1 serves, node2 can take over, both copies are up to date; 1 of 1 LUNs served"
    )


@pytest.mark.parametrize(
    ("active", "standby", "reason", "replication", "words"),
    [
        pytest.param(
            lone(SERVES), status(), reasons.DEGRADED, "Disconnected", "not seen by Heartbeat on node1", id="lost"
        ),
        pytest.param(
            status("Active", conditions=(ready("False"), ready("False", "Bonds", "eth1 of bond0 has no link"))),
            status(),
            reasons.DEGRADED,
            "UpToDate",
            "node1: Bonds: eth1 of bond0 has no link",
            id="bond",
        ),
        pytest.param(
            status(
                "Active",
                replication=msgspec.structs.replace(
                    SERVES.replication, connection="SyncSource", peer_disk_state="Inconsistent", synced_percent=42
                ),
            ),
            status(),
            reasons.DEGRADED,
            "Resyncing 42%",
            "42 % are done",
            id="resync",
        ),
        pytest.param(
            status("Active", replication=msgspec.structs.replace(SERVES.replication, connection="StandAlone")),
            status(),
            reasons.DEGRADED,
            "StandAlone",
            "stands alone",
            id="standalone",
        ),
        pytest.param(
            status("Active", replication=msgspec.structs.replace(SERVES.replication, peer_disk_state="Diskless")),
            status(),
            reasons.DEGRADED,
            "UpToDate/Diskless",
            "UpToDate/Diskless",
            id="disk",
        ),
        pytest.param(status(), status(), reasons.NOT_SERVING, "UpToDate", "no machine serves", id="nobody"),
        pytest.param(lone(SERVES), lone(SERVES), reasons.DUAL_PRIMARY, "Disconnected", "diverges", id="split brain"),
    ],
)
def test_what_is_wrong_is_the_reason_and_a_sentence(
    active: NodeStatus, standby: NodeStatus, reason: str, replication: str, words: str
) -> None:
    told = summary(running(active=active, standby=standby)).pair
    assert told is not None
    assert says(told, "Ready") == ("False", reason)
    assert words in condition(told, "Ready").message
    assert told.replication == replication


def test_during_a_takeover_nobody_is_called_active() -> None:
    view = running(active=SERVES, standby=lone(status()))
    told = summary(view).pair
    assert told is not None
    assert says(told, "Serving") == ("Unknown", reasons.UNCONFIRMED)
    assert says(told, "NodesReady") == ("False", reasons.NODE_NOT_SEEN)
    assert (told.active, told.replication) == ("", "Disconnected")


def test_after_a_takeover_the_survivor_is_active_and_the_dead_one_is_not_ready() -> None:
    told = summary(running(active=SERVES, standby=lone(SERVES))).pair
    assert told is not None
    assert (told.active, told.standby) == ("node2", "")
    assert [(n.name, n.ready, n.role, n.disk_state) for n in told.nodes] == [
        ("node1", "False", "Unknown", "DUnknown"),
        ("node2", "True", "Active", "UpToDate"),
    ]
    assert says(told, "Serving") == ("True", reasons.SERVING)
    assert says(told, "Ready") == ("False", reasons.DEGRADED)


def test_a_new_pair_waits_for_its_agents() -> None:
    told = summary(snapshot(lun(), nodes=written(snapshot(lun())))).pair
    assert told is not None
    assert says(told, "Ready") == ("False", reasons.PREPARING)
    assert says(told, "NodesReady") == ("False", reasons.WAITING_FOR_AGENT)
    assert says(told, "Replicated") == ("Unknown", reasons.NOT_REPORTED)
    assert "node1 and node2: the node agent has not reported yet" in condition(told, "Ready").message


def test_preflights_complaint_reaches_the_pair() -> None:
    missing = ready("False", "Preflight", "heartbeat is not installed; apt-get install heartbeat")
    broken = status(conditions=(ready("False"), missing))
    told = summary(snapshot(nodes=written(snapshot(), (status(), broken)))).pair
    assert "node2: Preflight: heartbeat is not installed" in condition(told, "Ready").message
    assert says(told, "NodesReady") == ("False", reasons.NODE_NOT_READY)


def test_a_machine_on_its_way_does_not_complain() -> None:
    """The agent's summary is False while a part is Unknown; that needs nobody."""
    waits = msgspec.structs.replace(ready("Unknown", "Filesystem", "waits for the first sync"), reason="WaitingForSync")
    summed_up = msgspec.structs.replace(ready("False", message="waits for the first sync"), reason="WaitingForSync")
    view = snapshot(nodes=written(snapshot(), (status(), status(conditions=(summed_up, waits)))))
    told = summary(view)
    assert says(told.pair, "NodesReady") == ("False", reasons.APPLYING)
    assert "node2: waits for the first sync" in condition(told.pair, "Ready").message
    assert told.events == ()


def test_a_summary_that_says_what_no_part_does_is_a_complaint() -> None:
    refuses = msgspec.structs.replace(ready("False", message="spec.bonds: nonsense"), reason="InvalidDocument")
    view = running(active=SERVES, standby=status(conditions=(refuses, ready(type_="Bonds"))))
    told = summary(view).pair
    assert says(told, "NodesReady") == ("False", reasons.NODE_NOT_READY)
    assert "node2: Ready: spec.bonds: nonsense" in condition(told, "Ready").message


def test_a_new_document_is_applied_before_the_pair_is_ready() -> None:
    """But an agent's lag behind a document about something else is routine once the pair was ready."""
    view = running(active=SERVES, standby=status(observed_generation=0))
    told = summary(view).pair
    assert says(told, "Ready") == ("False", reasons.APPLYING)
    was_ready = summary(running(active=SERVES)).pair
    assert was_ready is not None
    before = msgspec.structs.replace(pair(), status=was_ready)
    settled = msgspec.structs.replace
    again = Snapshot(key=view.key, pair=before, pairs={view.key: before}, nodes=view.nodes)
    assert says(summary(again).pair, "Ready") == ("True", reasons.READY)
    edited = settled(before, metadata=settled(before.metadata, generation=2))
    renewed = Snapshot(key=view.key, pair=edited, pairs={view.key: edited}, nodes=view.nodes)
    assert says(summary(renewed).pair, "Ready") == ("False", reasons.APPLYING)


def test_a_refused_edit_says_that_the_pair_still_serves() -> None:
    nodes = running(active=SERVES).nodes
    address = nodes["node1"].node.spec.virtual_ip
    nodes = with_spec(nodes, virtual_ip=msgspec.structs.replace(address, address="10.10.25.9/24"))
    iqns = {"default": "iqn.2020-01.net.example:rival"}
    rival = pair(PairKey("default", "rival"), pair_spec(("node3", "node4"), iqns=iqns), created="2020-01-01T00:00:00Z")
    told = summary(snapshot(of=pair(), nodes=nodes, others=[rival])).pair
    assert says(told, "Accepted")[0] == "False"
    assert condition(told, "Ready").message.endswith("node1 serves by the document before it")


def test_transition_times_move_with_the_status_alone() -> None:
    first = summary(running(active=SERVES)).pair
    assert first is not None
    degraded = running(active=lone(SERVES))
    with_status = msgspec.structs.replace(pair(), status=first)
    later = NOW + timedelta(hours=1)
    view = Snapshot(key=degraded.key, pair=with_status, pairs=degraded.pairs, nodes=degraded.nodes)
    second = summarize(view, planned(view), later).pair
    assert second is not None
    assert condition(second, "Serving").last_transition_time == "2026-03-01T12:00:00Z"
    assert condition(second, "Ready").last_transition_time == "2026-03-01T13:00:00Z"


def test_kept_entries_are_told() -> None:
    told = summary(snapshot(nodes=running(lun()).nodes)).pair
    assert "kept though its object is gone: LUN datastore1" in condition(told, "Accepted").message


def test_a_message_is_no_longer_than_the_schema_takes() -> None:
    """Hundreds of LUNs whose objects are gone: a status with all their names in it would be refused for ever."""
    many = [lun(f"{number:04}-" + "x" * 58) for number in range(600)]
    told = condition(summary(snapshot(nodes=running(*many).nodes)).pair, "Accepted").message
    assert len(told) == 32768
    assert told.endswith("…")


def test_a_machine_that_came_back_stands_by_before_its_agent_says_so() -> None:
    """Its last report is from before the power cut, and says that it serves; the one that serves sees it again."""
    view = running(active=SERVES, standby=SERVES)
    late = dict(view.nodes)
    late["node2"] = replace(late["node2"], reported="2026-03-01T11:59:00Z")
    told = summary(replace(view, nodes=late)).pair
    assert told is not None
    assert (told.active, told.standby) == ("node2", "node1")
    late["node2"] = replace(late["node2"], node=msgspec.structs.replace(late["node2"].node, status=lone(SERVES)))
    told = summary(replace(view, nodes=late)).pair
    assert told is not None
    assert (told.active, told.standby) == ("node2", "")


def test_failovers_are_counted() -> None:
    view = running(active=SERVES)
    told = summary(snapshot(nodes=view.nodes, failovers=[failover("a"), failover("b")])).pair
    assert told is not None
    assert told.failovers == 2


# ---------------------------------------------------------------------------------------- LUNs


@pytest.mark.parametrize(
    ("state", "expected", "words"),
    [
        ((served(),), ("True", reasons.SERVING), "node1 serves it as number 1 of target default"),
        ((), ("False", reasons.WAITING), "node1 has not made it yet"),
        ((served(state="Ready"),), ("False", reasons.WAITING), "not exported yet"),
        ((served(size=32 * MIB),), ("False", reasons.WAITING), "not exported yet"),
        (
            (msgspec.structs.replace(served(state="Failed"), message="no space left; add disks"),),
            ("False", reasons.FAILED),
            "node1: no space left; add disks",
        ),
    ],
)
def test_a_lun_is_ready_when_the_active_machine_serves_it(
    state: tuple[object, ...], expected: tuple[str, str], words: str
) -> None:
    told = summary(running(lun(), active=status("Active", luns=state))).luns["datastore1"]
    assert says(told, "Ready") == expected
    assert words in condition(told, "Ready").message
    assert says(told, "Accepted") == ("True", reasons.ACCEPTED)
    assert told.observed_generation == 1


def test_a_luns_identity_is_told_and_never_forgotten() -> None:
    told = summary(running(lun(), active=SERVES)).luns["datastore1"]
    assert (told.number, told.serial, told.size_bytes) == (1, "beaf1", 64 * MIB)
    known = msgspec.structs.replace(lun(), status=told)
    silent = summary(running(known, active=status("Active"))).luns["datastore1"]
    assert (silent.number, silent.serial, silent.size_bytes) == (1, "beaf1", 64 * MIB)


def test_a_lun_without_a_serving_machine_is_not_ready() -> None:
    told = summary(running(lun(), active=status())).luns["datastore1"]
    assert says(told, "Ready") == ("False", reasons.NOT_SERVING)


def test_refused_and_deleted_luns_say_so() -> None:
    told = summary(running(lun("lost", target="gone"), lun("leaving", deleted=True), active=SERVES)).luns
    assert says(told["lost"], "Ready") == says(told["lost"], "Accepted") == ("False", reasons.TARGET_NOT_FOUND)
    assert says(told["leaving"], "Ready") == ("False", reasons.DELETING)


def test_luns_of_no_pair_say_so() -> None:
    told = summary(snapshot(lun(), acl(), of=None))
    assert told.pair is None
    assert says(told.luns["datastore1"], "Ready") == ("False", reasons.PAIR_NOT_FOUND)
    assert says(told.acls["esx"], "Accepted") == ("False", reasons.PAIR_NOT_FOUND)


# ---------------------------------------------------------------------------------------- InitiatorACLs


def test_an_acl_is_ready_when_applied_and_counts_its_sessions() -> None:
    sessions = tuple(
        SessionStatus(initiator_name=f"iqn.1998-01.com.vmware:esx{n}", address=address)
        for n, address in enumerate(("10.10.25.140", "10.10.25.141", "192.0.2.1", "not an address"))
    )
    target = TargetStatus(name="default", iqn="iqn.2011-03.org.weithenn:iscsi.storage", sessions=sessions)
    view = running(acl(), acl("one", addresses=("192.0.2.1",)), active=status("Active", targets=(target,)))
    told = summary(view).acls
    assert says(told["esx"], "Ready") == ("True", reasons.SERVING)
    assert (told["esx"].sessions, told["one"].sessions) == (2, 1)


def test_an_acl_waits_for_the_agent_and_then_stays_applied() -> None:
    busy = status("Active", conditions=(ready(generation=0),))
    first = summary(running(acl(), active=busy)).acls["esx"]
    assert says(first, "Ready") == ("False", reasons.WAITING)
    applied = summary(running(acl())).acls["esx"]
    again = summary(running(msgspec.structs.replace(acl(), status=applied), active=busy)).acls["esx"]
    assert says(again, "Ready") == ("True", reasons.SERVING)


def test_an_acl_that_changed_waits_again() -> None:
    applied = summary(running(acl())).acls["esx"]
    edited = msgspec.structs.replace(acl(addresses=("10.0.0.1",)), status=applied)
    edited = msgspec.structs.replace(edited, metadata=msgspec.structs.replace(edited.metadata, generation=2))
    told = summary(snapshot(edited, nodes=running(acl()).nodes)).acls["esx"]
    assert says(told, "Ready") == ("False", reasons.WAITING)


# ---------------------------------------------------------------------------------------- all


def test_every_reason_has_a_meaning_and_a_remedy() -> None:
    names = {value for name, value in vars(reasons).items() if name.isupper() and isinstance(value, str)} - {NOTHING}
    assert names == set(WORDS)
    assert all(name.isalnum() for name in WORDS)
    assert [name for name, word in WORDS.items() if not (word.meaning.endswith(".") and word.remedy)] == []
