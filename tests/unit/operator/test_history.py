"""The history of moves is bounded, and nothing that is still needed goes."""

from __future__ import annotations

from typing import Any

import msgspec
from storagepair_crds.views import NodeStatus
from storagepair_operator import moments
from unit.operator.builders import (
    NOW,
    failover,
    incident,
    pair,
    pair_spec,
    snapshot,
    status,
    written,
)
from unit.operator.switchoverworld import told


def history(*records: Any, limit: int = 2, told_: tuple[str, ...] = (), silent: bool = False) -> list[str]:
    """The names of the records that would be deleted."""
    mine = pair(spec=msgspec.structs.replace(pair_spec(), failover_history_limit=limit))
    active = status("Active", incidents=tuple(incident(id_) for id_ in told_))
    nodes = written(snapshot(of=mine), (active, NodeStatus() if silent else status()))
    view = snapshot(of=mine, nodes=nodes, failovers=records)
    return [each.metadata.name.removeprefix("vmstore-") for each in told(view).trim]


def test_the_oldest_records_go() -> None:
    records = [failover(f"f{day}", days=day) for day in (3, 0, 4, 1, 2)]
    assert history(*records) == ["f4", "f3", "f2"]
    assert history(*records, limit=5) == []


def test_the_newest_and_the_unresolved_stay() -> None:
    records = [failover(f"f{day}", days=day, cause="Unknown") for day in (1, 2, 3, 8)]
    assert history(*records, limit=1) == ["f8"]
    assert history(failover("f0"), *records, limit=1) == ["f8"]
    assert history(failover("f9", days=9), limit=1) == []


def test_what_a_host_still_tells_of_stays_or_it_would_come_back() -> None:
    records = [failover(f"f{day}", days=day) for day in (1, 2, 3, 4)]
    assert history(*records, told_=("f4",)) == ["f3", "f2"]
    assert history(*records, silent=True) == [], "nobody knows what a host tells that has not reported yet"


def test_one_that_is_going_already_is_not_deleted_again() -> None:
    going = failover("f5", days=5, deletion_timestamp=moments.seconds(NOW))
    assert history(going, *(failover(f"f{day}", days=day) for day in (1, 2, 3))) == ["f3"]
