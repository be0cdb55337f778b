"""Failover objects and events: each exactly once, and none when nothing happened."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest
from storagepair_operator import reasons
from storagepair_operator.kinds import LUNS, PAIRS
from storagepair_operator.snapshot import Snapshot
from storagepair_operator.summarize import Event, Summary, summarize
from unit.operator.builders import (
    NOW,
    acl,
    failover,
    incident,
    lone,
    lun,
    planned,
    ready,
    running,
    served,
    snapshot,
    status,
    written,
)

SERVES = status("Active", luns=(served(),))


def summary(view: Snapshot) -> Summary:
    return summarize(view, planned(view), NOW)


def after(view: Snapshot, then: Snapshot) -> list[Event]:
    """The events when the statuses of `view` are on record and `then` is seen."""
    told = summary(view)
    assert then.pair is not None
    assert told.pair is not None
    pair = msgspec.structs.replace(then.pair, status=told.pair)
    luns = tuple(
        msgspec.structs.replace(each, status=told.luns.get(each.metadata.name, each.status)) for each in then.luns
    )
    acls = tuple(
        msgspec.structs.replace(each, status=told.acls.get(each.metadata.name, each.status)) for each in then.acls
    )
    seen = Snapshot(
        key=then.key,
        pair=pair,
        luns=luns,
        acls=acls,
        nodes=then.nodes,
        pairs={then.key: pair},
        failovers=then.failovers,
    )
    return list(summary(seen).events)


def test_an_incident_becomes_a_failover_and_an_event_of_one_name() -> None:
    told = summary(running(active=lone(status()), standby=status("Active", incidents=(incident(),))))
    (record,) = told.failovers
    assert (record.metadata.namespace, record.metadata.name) == ("default", "vmstore-node2-1")
    assert record.metadata.labels == {"storagepair.dev/pair": "vmstore"}
    assert (record.spec.cause, record.spec.from_, record.spec.to, record.spec.milliseconds) == (
        "NodeLost",
        "node1",
        "node2",
        11200,
    )
    (event,) = (event for event in told.events if event.action == "Move")
    assert (event.name, event.reason, event.type) == ("vmstore-node2-1", reasons.FAILOVER, "Warning")
    assert event.note == (
        "the service moved from node1 to node2 in 11.2 s (node1 was lost), "
        "2026-03-01T11:59:00.000000Z to 2026-03-01T11:59:11.200000Z; look at the power, console and links of node1"
    )
    assert event.time == "2026-03-01T11:59:11.200000Z", "the hosts' time, however late it is told"


def test_a_planned_move_is_a_switchover() -> None:
    told = summary(running(standby=status("Active", incidents=(incident(cause="Planned"),))))
    (event,) = (event for event in told.events if event.action == "Move")
    assert (event.reason, event.type) == (reasons.SWITCHOVER, "Normal")
    assert "as asked" in event.note


def test_recorded_incidents_are_neither_recorded_nor_told_again() -> None:
    view = running(active=lone(status()), standby=status("Active", incidents=(incident(),)))
    told = summary(snapshot(nodes=view.nodes, failovers=[failover()]))
    assert told.failovers == ()
    assert [event for event in told.events if event.action == "Move"] == []


def test_an_incident_that_both_machines_tell_is_one() -> None:
    both = (status(incidents=(incident(),)), status("Active", incidents=(incident(),)))
    assert len(summary(running(active=both[1], standby=both[0])).failovers) == 1


@pytest.mark.parametrize(
    ("id_", "name"),
    [("node2-1", "vmstore-node2-1"), ("Node2_1", "vmstore-node2-1-"), ("a" * 253, "vmstore-" + "a" * 200)],
)
def test_names_are_what_the_api_server_takes(id_: str, name: str) -> None:
    told = summary(running(active=status("Active", incidents=(incident(id_),))))
    assert told.failovers[0].metadata.name.startswith(name)
    assert len(told.failovers[0].metadata.name) <= 253


def test_nothing_happened_nothing_is_told() -> None:
    view = running(lun(), acl(), active=SERVES)
    assert after(view, view) == []


def test_turns_of_the_pair_are_told() -> None:
    healthy, degraded = running(active=SERVES), running(active=lone(SERVES))
    (event,) = after(healthy, degraded)
    assert (event.kind, event.reason, event.type) == (PAIRS, reasons.DEGRADED, "Warning")
    assert event.note.startswith("node1 serves, but node2: not seen")
    (event,) = after(degraded, healthy)
    assert (event.reason, event.type) == (reasons.READY, "Normal")
    stopped = running(active=status(), standby=status())
    (event,) = after(healthy, stopped)
    assert (event.reason, event.type) == (reasons.NOT_SERVING, "Warning")
    assert {event.reason for event in after(stopped, healthy)} == {reasons.READY, reasons.SERVING}


def test_preparing_is_no_news() -> None:
    fresh = snapshot(nodes=written(snapshot()))
    assert list(summary(fresh).events) == []
    assert [event.reason for event in after(fresh, running(active=SERVES))] == [reasons.READY, reasons.SERVING]


def test_a_turn_has_one_name_however_often_it_is_tried() -> None:
    healthy, degraded = running(active=SERVES), running(active=lone(SERVES))
    names = {event.name for _ in range(3) for event in after(healthy, degraded)}
    assert len(names) == 1


def test_a_refusal_is_told_on_the_refused() -> None:
    (event,) = summary(running(lun("lost", target="gone"), active=SERVES)).events[-1:]
    assert (event.kind, event.about.name, event.reason) == (LUNS, "lost", reasons.TARGET_NOT_FOUND)
    assert event.type == "Warning"


@pytest.mark.parametrize(("minutes", "told"), [(1, True), (49, True), (51, False)])
def test_an_agents_complaint_is_told_while_it_is_news(minutes: int, told: bool) -> None:
    """Older ones may have been told before a restart; the API server has forgotten the event."""
    since = (NOW - timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")
    complaint = ready("False", "Preflight", "heartbeat is not installed; apt-get install heartbeat", since)
    view = running(active=SERVES, standby=status(conditions=(ready("False"), complaint)))
    events = after(view, view)
    assert [event.note for event in events] == (
        ["node2: Preflight: heartbeat is not installed; apt-get install heartbeat"] if told else []
    )
    again = [event.name for event in after(view, view)]
    assert again == [event.name for event in events]


def test_a_complaint_without_a_date_is_not_told_for_ever() -> None:
    view = running(standby=status(conditions=(ready("False", "Preflight", "broken", since=""),)))
    assert after(view, view) == []
