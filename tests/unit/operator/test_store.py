"""The snapshot store and its audit: what is in view, and when that counts as the whole truth."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import msgspec
import pytest
from storagepair_operator.audit import Auditor
from storagepair_operator.cluster import ApiError
from storagepair_operator.kinds import FAILOVERS, KINDS, LUNS, NODES, PAIRS, Kind, PairKey
from storagepair_operator.settings import Settings
from storagepair_operator.store import Store
from unit.operator.builders import KEY, failover, lun, node, pair, pair_spec, planned, snapshot
from unit.operator.fakes import FakeCluster, as_document, listing
from unit.operator.looprun import run_in_loop_time


def put_lun(store: Store, name: str = "datastore1", version: int = 10, **more: object) -> bool:
    return store.put(LUNS, as_document(LUNS, lun(name), version, **more))


# ---------------------------------------------------------------------------------------- the store


def test_a_snapshot_has_what_concerns_the_pair_in_the_order_of_age() -> None:
    store = Store()
    store.put(PAIRS, as_document(PAIRS, pair()))
    store.put(PAIRS, as_document(PAIRS, pair(PairKey("elsewhere", "vmstore"))))
    for name, created in (
        ("young", "2026-02-02T00:00:00Z"),
        ("b", "2026-01-01T00:00:00Z"),
        ("a", "2026-01-01T00:00:00Z"),
    ):
        store.put(LUNS, as_document(LUNS, lun(name, created=created)))
    elsewhere = lun("elsewhere")
    moved = msgspec.structs.replace(elsewhere.metadata, namespace="elsewhere")
    store.put(LUNS, as_document(LUNS, msgspec.structs.replace(elsewhere, metadata=moved)))
    store.put(FAILOVERS, as_document(FAILOVERS, failover()))
    view = store.snapshot(KEY)
    assert view.pair is not None
    assert [each.metadata.name for each in view.luns] == ["a", "b", "young"]
    assert len(view.failovers) == 1
    assert set(view.pairs) == {KEY, PairKey("elsewhere", "vmstore")}


def test_only_news_count() -> None:
    told: list[object] = []
    store = Store(lambda kind, keys: told.append((kind, set(keys))))
    assert put_lun(store, version=10)
    assert not put_lun(store, version=10)
    assert not put_lun(store, version=9)
    assert put_lun(store, version=11)
    assert told == [(LUNS, {KEY})] * 2


def test_versions_are_numbers() -> None:
    store = Store()
    put_lun(store, version=9)
    assert put_lun(store, version=10)


def test_the_dead_are_not_raised_by_a_late_answer() -> None:
    store = Store()
    put_lun(store, version=10)
    store.deleted(LUNS, lun().metadata.uid)
    assert not put_lun(store, version=11)
    assert store.snapshot(KEY).luns == ()


def test_a_successor_of_the_same_name_is_another_object() -> None:
    store = Store()
    put_lun(store)
    store.deleted(LUNS, lun().metadata.uid)
    assert put_lun(store, version=12, uid="another")
    assert [each.metadata.uid for each in store.snapshot(KEY).luns] == ["another"]


def test_of_two_pairs_of_one_name_the_newer_is_meant() -> None:
    store = Store()
    store.put(PAIRS, as_document(PAIRS, pair(), 20, uid="new"))
    store.put(PAIRS, as_document(PAIRS, pair(), 10, uid="old"))
    view = store.snapshot(KEY)
    assert view.pair is not None
    assert view.pair.metadata.uid == "new"


def test_an_object_that_moves_to_another_pair_concerns_both() -> None:
    told: list[object] = []
    store = Store(lambda kind, keys: told.append(set(keys)))
    put_lun(store)
    document = as_document(LUNS, lun(), 11)
    document["spec"]["pairRef"]["name"] = "second"
    store.put(LUNS, document)
    assert told[-1] == {KEY, PairKey("default", "second")}
    assert store.snapshot(KEY).luns == ()


def test_what_cannot_be_read_is_present_and_nothing_more() -> None:
    store = Store()
    document = as_document(LUNS, lun())
    document["spec"]["number"] = "three"
    store.put(LUNS, document)
    view = store.snapshot(KEY)
    assert (view.luns, view.unreadable) == ((), ("LUN datastore1",))
    assert store.missing(LUNS, {lun().metadata.uid: 10}) == []
    put_lun(store, version=11)
    assert (len(store.snapshot(KEY).luns), store.snapshot(KEY).unreadable) == (1, ())


def test_when_an_agent_reported_last_is_the_api_servers_word() -> None:
    spec = planned(snapshot()).nodes["node1"]
    fields = [
        {"manager": "agent", "subresource": "status", "time": "2026-03-01T10:00:00Z"},
        {"manager": "agent", "subresource": "status", "time": "2026-03-01T11:00:00Z"},
        {"manager": "operator", "time": "2026-03-01T12:00:00Z"},
    ]
    store = Store()
    store.put(NODES, as_document(NODES, node("node1", spec).node, managedFields=fields))
    assert store.snapshot(KEY).nodes["node1"].reported == "2026-03-01T11:00:00Z"


# ---------------------------------------------------------------------------------------- the audit


class World:
    """A store, an auditor and an API server whose lists can be set."""

    def __init__(self, **settings: float) -> None:
        self.cluster = FakeCluster()
        self.store = Store()
        self.renewals = 0
        self.auditor = Auditor(
            self.cluster,
            self.store,
            Settings(**{"audit_seconds": 0.05, "catch_up_seconds": 0.2, **settings}),
            self._renew,
        )
        for kind in KINDS:
            self.lists(kind)

    def _renew(self) -> None:
        self.renewals += 1

    def lists(self, kind: object, *uids: tuple[str, int], version: int = 100) -> None:
        self.cluster.answers[f"GET {kind.path()}"] = listing(*uids, version=version)

    def fails(self, kind: object, status: int = 500) -> None:
        self.cluster.answers[f"GET {kind.path()}"] = ApiError(status, "InternalError", "broken")


def audited(scenario: Callable[[World], Awaitable[None]], **settings: float) -> None:
    async def run() -> None:
        world = World(**settings)
        task = asyncio.create_task(world.auditor.run())
        try:
            async with asyncio.timeout(10):
                await scenario(world)
        finally:
            task.cancel()

    run_in_loop_time(run())


async def soon(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def test_an_empty_cluster_is_whole() -> None:
    async def scenario(world: World) -> None:
        await world.store.whole.wait()

    audited(scenario)


def test_a_listed_object_that_was_not_delivered_is_waited_for() -> None:
    async def scenario(world: World) -> None:
        world.lists(LUNS, (lun().metadata.uid, 10))
        await asyncio.sleep(0.1)
        assert not world.store.whole.is_set()
        put_lun(world.store)
        await world.store.whole.wait()

    audited(scenario)


def test_a_listed_version_that_was_not_delivered_is_waited_for() -> None:
    async def scenario(world: World) -> None:
        put_lun(world.store, version=10)
        world.lists(LUNS, (lun().metadata.uid, 12))
        await asyncio.sleep(0.1)
        assert not world.store.whole.is_set()
        put_lun(world.store, version=13)
        await world.store.whole.wait()

    audited(scenario)


def test_an_object_that_went_while_it_was_waited_for_is_not_missed() -> None:
    async def scenario(world: World) -> None:
        world.lists(LUNS, (lun().metadata.uid, 10))
        await asyncio.sleep(0.02)
        world.store.deleted(LUNS, lun().metadata.uid)
        put_lun(world.store, "other", version=120)
        await world.store.whole.wait()

    audited(scenario)


def test_a_flood_of_events_is_compared_in_gulps() -> None:
    """What a start costs grows with the number of objects, and not with its square."""
    names = [f"lun{number}" for number in range(300)]

    async def scenario(world: World) -> None:
        world.lists(LUNS, *((lun(name).metadata.uid, 10) for name in names))
        await soon(lambda: not world.store.whole.is_set())
        compared = 0
        missing = world.store.missing

        def counted(kind: Kind, listed: Mapping[str, int]) -> list[str]:
            nonlocal compared
            compared += len(listed)
            return missing(kind, listed)

        world.store.missing = counted  # type: ignore[method-assign]
        for name in names:
            put_lun(world.store, name)
            await asyncio.sleep(0)
        await world.store.whole.wait()
        assert compared < 50 * len(names)

    audited(scenario)


def test_what_went_unseen_is_dropped_and_what_came_since_is_kept() -> None:
    async def scenario(world: World) -> None:
        put_lun(world.store, "vanished", version=90)
        put_lun(world.store, "newer", version=101)
        await world.store.whole.wait()
        assert [each.metadata.name for each in world.store.snapshot(KEY).luns] == ["newer"]

    audited(scenario)


@pytest.mark.parametrize("status", [0, 403, 404, 500])
def test_a_list_that_fails_stops_the_writing_and_not_the_process(status: int) -> None:
    async def scenario(world: World) -> None:
        await world.store.whole.wait()
        world.fails(PAIRS, status)
        await soon(lambda: not world.store.whole.is_set())
        assert world.auditor.alive
        world.lists(PAIRS)
        await world.store.whole.wait()

    audited(scenario, stall_seconds=0)


def test_a_kind_that_comes_has_the_watches_begin_anew() -> None:
    async def scenario(world: World) -> None:
        world.fails(LUNS, 404)
        await asyncio.sleep(0.1)
        assert world.renewals == 0
        world.lists(LUNS)
        await world.store.whole.wait()
        assert world.renewals == 1

    audited(scenario)


def test_a_relist_has_to_be_proven_anew() -> None:
    async def scenario(world: World) -> None:
        await world.store.whole.wait()
        world.store.relist()
        assert not world.store.whole.is_set()
        await world.store.whole.wait()

    audited(scenario, audit_seconds=3600)


def test_watches_that_never_deliver_are_not_alive() -> None:
    async def scenario(world: World) -> None:
        world.lists(LUNS, ("never", 10))
        await soon(lambda: not world.auditor.alive)
        assert world.renewals > 0
        world.lists(LUNS)
        await world.store.whole.wait()
        assert world.auditor.alive

    audited(scenario, stall_seconds=0)


def test_other_pairs_are_in_view_with_what_they_claim() -> None:
    store = Store()
    store.put(PAIRS, as_document(PAIRS, pair()))
    store.put(PAIRS, as_document(PAIRS, pair(PairKey("default", "other"), pair_spec(("node2", "node3")))))
    other = store.snapshot(KEY).pairs[PairKey("default", "other")]
    assert other is not None
    assert [each.name for each in other.spec.nodes] == ["node2", "node3"]
