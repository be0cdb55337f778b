"""What a pair says of a machine whose agent is silent."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from storagepair_operator import reasons
from storagepair_operator.snapshot import Snapshot
from storagepair_operator.summarize import Summary
from unit.operator.builders import (
    EARLIER,
    lone,
    lun,
    ready,
    running,
    silent,
    snapshot,
    status,
    written,
)
from unit.operator.test_summarize import SERVES, condition, says, summary

SINCE = "2026-03-01T11:50:00.123456Z"
HEARD = "2026-03-01T11:50:00Z"


def after(view: Snapshot, told: Summary) -> Snapshot:
    """The same, with the pair's status as it was told."""
    assert view.pair is not None
    assert told.pair is not None
    before = msgspec.structs.replace(view.pair, status=told.pair)
    return replace(view, pair=before, pairs={**view.pairs, view.key: before})


def test_a_silent_agent_leaves_nobody_ready_and_everything_else_as_last_told() -> None:
    view = running(lun(), active=SERVES)
    view = after(view, summary(view))
    told = summary(silent(view, node2=SINCE))
    assert told.pair is not None
    assert says(told.pair, "Ready") == says(told.pair, "NodesReady") == ("Unknown", reasons.AGENT_SILENT)
    message = condition(told.pair, "Ready").message
    assert f"node1 serves, but node2: its node agent is silent since {HEARD}" in message
    assert "get pods -o wide --field-selector spec.nodeName=node2" in message
    assert (says(told.pair, "Serving")[0], says(told.pair, "Replicated")[0]) == ("True", "True")
    assert (told.pair.active, told.pair.standby, told.pair.replication) == ("node1", "node2", "UpToDate")
    assert [(n.ready, n.role, n.agent_silent_since) for n in told.pair.nodes] == [
        ("True", "Active", ""),
        ("Unknown", "Standby", HEARD),
    ]
    assert says(told.luns["datastore1"], "Ready")[0] == "True"
    (event,) = told.events
    assert (event.type, event.reason, event.kind.name) == ("Warning", reasons.AGENT_SILENT, "StoragePair")
    assert event.note.startswith(f"node2: its node agent is silent since {HEARD}")


def test_that_the_active_one_serves_is_told_with_its_date() -> None:
    told = summary(silent(running(active=SERVES), node1=SINCE)).pair
    assert condition(told, "Serving").message == f"node1 serves, as of {HEARD}"
    assert says(told, "Ready") == ("Unknown", reasons.AGENT_SILENT)


def test_a_silence_is_told_once_and_so_is_its_end() -> None:
    view = running(active=SERVES)
    view = after(view, summary(view))
    first = summary(silent(view, node2=SINCE))
    view = after(view, first)
    assert summary(silent(view, node2=SINCE)).events == ()
    assert summary(silent(view, node2=SINCE)).pair == first.pair
    back = summary(silent(view, node2=""))
    assert says(back.pair, "Ready") == ("True", reasons.READY)
    assert [(e.type, e.reason) for e in back.events] == [("Normal", reasons.READY), ("Normal", reasons.AGENT_REPORTS)]
    assert summary(silent(after(view, back), node2="")).events == ()


@pytest.mark.parametrize("known", [None, SINCE], ids=["not known yet", "known again"])
def test_an_operator_that_starts_anew_goes_on_with_what_was_told(known: str | None) -> None:
    view = running(active=SERVES)
    view = after(view, summary(view))
    quiet = after(view, summary(silent(view, node2=SINCE)))
    for before in (view, quiet) if known is None else (quiet,):
        told = summary(silent(before, node1=known and "", node2=known))
        assert (told.pair, told.events) == (before.pair and before.pair.status, ())


def test_a_machine_that_is_gone_is_that_and_not_a_silent_agent() -> None:
    """Its agent is silent too; that says less than what the other machine tells, and is no event of its own."""
    view = running(active=lone(SERVES))
    lost = summary(view)
    told = summary(silent(after(view, lost), node2=SINCE))
    assert says(told.pair, "Ready") == ("False", reasons.DEGRADED)
    assert says(told.pair, "NodesReady") == ("False", reasons.NODE_NOT_SEEN)
    assert condition(told.pair, "Ready") == condition(lost.pair, "Ready")
    assert told.events == ()
    # up again, and its agent is not
    seen = silent(after(running(active=SERVES), told), node2=SINCE)
    assert says(summary(seen).pair, "Ready") == ("Unknown", reasons.AGENT_SILENT)
    assert [event.reason for event in summary(seen).events] == [reasons.AGENT_SILENT]


def test_what_a_silent_agent_complained_of_comes_first() -> None:
    broken = status(conditions=(ready("False"), ready("False", "Bonds", "eth1 of bond0 has no link")))
    told = summary(silent(running(active=SERVES, standby=broken), node2=SINCE)).pair
    assert says(told, "Ready") == ("False", reasons.DEGRADED)
    assert says(told, "NodesReady") == ("False", reasons.NODE_NOT_READY)
    message = condition(told, "NodesReady").message
    assert message.index("eth1 of bond0 has no link") < message.index("is silent since")


def test_two_silent_agents_are_both_named() -> None:
    told = summary(silent(running(active=SERVES), node1=SINCE, node2=EARLIER))
    message = condition(told.pair, "Ready").message
    assert f"node1: its node agent is silent since {HEARD}" in message
    assert f"node2: its node agent is silent since {EARLIER}" in message
    assert [event.reason for event in told.events if event.action == "Listen"] == [reasons.AGENT_SILENT] * 2


def test_an_agent_that_never_reported_is_waited_for_as_ever() -> None:
    told = summary(silent(snapshot(lun(), nodes=written(snapshot(lun()))), node1="", node2=SINCE)).pair
    assert says(told, "NodesReady") == ("False", reasons.WAITING_FOR_AGENT)
    assert "silent" not in condition(told, "NodesReady").message
