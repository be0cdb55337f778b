"""The loop: it waits for a whole view, comes to rest, and lets no pair hinder another."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta, tzinfo
from types import SimpleNamespace
from typing import Any

import pytest
from storagepair_operator import moments, reconcile
from storagepair_operator.cluster import ApiError
from storagepair_operator.kinds import KINDS, LUNS, PAIRS, SWITCHOVERS, PairKey
from storagepair_operator.plan.switchovers import GRACE
from storagepair_operator.plan.teardown import ABANDON
from storagepair_operator.reconcile import Reconciler
from storagepair_operator.settings import Settings
from storagepair_operator.store import Store
from storagepair_operator.writer import Writer
from unit.operator.builders import KEY, lun, pair, pair_spec, switchover
from unit.operator.fakes import STRANGER, FakeCluster, as_document
from unit.operator.looprun import run_in_loop_time

SECOND = PairKey("default", "second")
NODES = "POST /apis/storagepair.dev/v1alpha1/storagenodes"


class World:
    def __init__(self) -> None:
        self.cluster = FakeCluster()
        self.store = Store(lambda kind, keys: self.reconciler.changed(kind, keys))
        settings = Settings(debounce_seconds=0.001, backoff_seconds=0.01, workers=2)
        self.leading = asyncio.Event()
        self.leading.set()
        self.writer = Writer(self.cluster, self.store, "test", self.store.whole.is_set)
        self.reconciler = Reconciler(self.cluster, self.store, self.writer, self.leading, settings)

    def add(
        self, key: PairKey, nodes: tuple[str, str], vip: str = "10.0.0.1/24", iqn: str = "a", created: str = "1"
    ) -> None:
        spec = pair_spec(nodes, vip=vip, iqns={"t": f"iqn.2020-01.x:{iqn}"})
        self.store.put(PAIRS, as_document(PAIRS, pair(key, spec, created=f"2026-01-0{created}T00:00:00Z")))

    def asked(self, word: str) -> int:
        return sum(word in request for request in self.cluster.requests)


def run(scenario: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        world = World()
        task = asyncio.create_task(world.reconciler.run())
        try:
            async with asyncio.timeout(60):
                await scenario(world)
        finally:
            task.cancel()

    run_in_loop_time(main())


async def soon(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.002)


def test_nothing_is_done_before_the_view_is_whole() -> None:
    async def scenario(world: World) -> None:
        world.add(KEY, ("node1", "node2"))
        await asyncio.sleep(0.1)
        assert world.cluster.asked == []
        world.store.whole.set()
        await soon(lambda: world.asked(NODES) > 0)

    run(scenario)


def test_whoever_does_not_lead_does_nothing() -> None:
    async def scenario(world: World) -> None:
        world.leading.clear()
        world.store.whole.set()
        world.add(KEY, ("node1", "node2"))
        world.store.put(LUNS, as_document(LUNS, lun(deleted=True)))
        await asyncio.sleep(0.1)
        assert world.cluster.asked == []
        world.leading.set()
        await soon(lambda: world.asked(NODES) > 0)

    run(scenario)


def test_forgetting_needs_no_whole_view() -> None:
    """`kubectl delete crd` for all kinds: the first one that is gone makes every list incomplete for ever."""

    async def scenario(world: World) -> None:
        world.store.put(LUNS, as_document(LUNS, lun(deleted=True)))
        await soon(lambda: world.asked("PATCH") > 0)
        await asyncio.sleep(0.05)
        writes = {request for request in world.cluster.requests if not request.startswith("GET")}
        assert writes == {f"PATCH {LUNS.path('default', 'datastore1')}"}

    run(scenario)


def test_a_view_that_breaks_while_a_deletion_is_judged_forgets_no_deletion() -> None:
    """Nothing else would ever come for that object: its kind is going, and no list becomes whole again."""

    async def scenario(world: World) -> None:
        read = world.cluster.read

        async def breaking(path: str) -> dict[str, Any]:
            world.store.whole.clear()
            return await read(path)

        world.store.whole.set()
        world.cluster.read = breaking  # type: ignore[method-assign]
        world.store.put(LUNS, as_document(LUNS, lun(deleted=True)))
        await soon(lambda: world.asked("PATCH") > 0)

    run(scenario)


def test_nothing_is_removed_without_a_whole_view() -> None:
    async def scenario(world: World) -> None:
        alive = {"kind": "any", "metadata": {"name": "x", "creationTimestamp": "2020-01-01T00:00:00Z"}}
        crds = "GET /apis/apiextensions.k8s.io/v1/customresourcedefinitions/"
        for path in ("GET /api/v1/namespaces/default", crds + PAIRS.crd, crds + LUNS.crd):
            world.cluster.answers[path] = alive
        world.cluster.answers[f"GET {PAIRS.path('default', 'vmstore')}"] = alive
        world.store.put(LUNS, as_document(LUNS, lun(deleted=True)))
        await soon(lambda: world.asked("GET") > 3)
        await asyncio.sleep(0.05)
        assert [request for request in world.cluster.requests if not request.startswith("GET")] == []

    run(scenario)


def test_what_a_person_gave_up_needs_no_whole_view() -> None:
    """It may be that the view never becomes whole again: a kind is gone, and its objects hold up everything else."""

    async def scenario(world: World) -> None:
        alive = {"kind": "any", "metadata": {"name": "x", "creationTimestamp": "2020-01-01T00:00:00Z"}}
        crds = "GET /apis/apiextensions.k8s.io/v1/customresourcedefinitions/"
        for path in ("GET /api/v1/namespaces/default", crds + PAIRS.crd, crds + LUNS.crd):
            world.cluster.answers[path] = alive
        world.cluster.answers[f"GET {PAIRS.path('default', 'vmstore')}"] = alive
        world.store.put(LUNS, as_document(LUNS, lun(deleted=True), annotations={ABANDON: "true"}))
        await soon(lambda: world.asked("PATCH") > 0)

    run(scenario)


def test_what_fails_is_tried_again_until_it_works() -> None:
    async def scenario(world: World) -> None:
        world.cluster.answers[NODES] = ApiError(500, "InternalError", "broken")
        world.store.whole.set()
        world.add(KEY, ("node1", "node2"))
        await soon(lambda: world.asked(NODES) > 6)

    run(scenario)


def test_a_busy_api_server_is_left_alone_for_as_long_as_it_says() -> None:
    async def scenario(world: World) -> None:
        world.cluster.answers[NODES] = ApiError(429, "TooManyRequests", "busy", retry_after_seconds=0.4)
        world.store.whole.set()
        began = asyncio.get_running_loop().time()
        world.add(KEY, ("node1", "node2"))
        await soon(lambda: world.asked(NODES) > 2)
        assert asyncio.get_running_loop().time() - began >= 0.4, "two tries of the two hosts"

    run(scenario)


def test_a_defect_in_one_pair_does_not_stop_another(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    whole = Store.snapshot

    def snapshot(store: Store, key: PairKey) -> object:
        if key == KEY:
            raise RuntimeError("a defect")
        return whole(store, key)

    monkeypatch.setattr(Store, "snapshot", snapshot)

    async def scenario(world: World) -> None:
        world.store.whole.set()
        world.add(KEY, ("node1", "node2"))
        world.add(SECOND, ("node3", "node4"), vip="10.0.0.2/24", iqn="b")
        await soon(lambda: world.asked("second/status") + world.asked(NODES) > 0)

    run(scenario)


def test_a_refused_pair_gets_its_turn_when_the_other_one_goes() -> None:
    async def scenario(world: World) -> None:
        world.store.whole.set()
        world.add(KEY, ("node1", "node2"))
        world.add(SECOND, ("node2", "node3"), vip="10.0.0.2/24", iqn="b", created="2")
        await soon(lambda: world.asked(NODES) > 1)
        await asyncio.sleep(0.05)
        names = {body["metadata"]["name"] for request, body in world.cluster.asked if request == NODES}
        assert names == {"node1", "node2"}
        world.store.deleted(PAIRS, pair(KEY).metadata.uid)
        await soon(lambda: any(b["metadata"]["name"] == "node3" for r, b in world.cluster.asked if r == NODES))

    run(scenario)


def test_a_request_that_nobody_answers_is_looked_at_again_although_nothing_happens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It waits for reports for a moment, and nothing else would wake the pair when that is over."""
    began = datetime.now(UTC)

    def time_of_day(zone: tzinfo) -> datetime:
        return (began + timedelta(seconds=asyncio.get_running_loop().time())).astimezone(zone)

    monkeypatch.setattr(reconcile, "datetime", SimpleNamespace(now=time_of_day))

    async def scenario(world: World) -> None:
        created = moments.seconds(began - GRACE + timedelta(seconds=3))
        request = switchover(of=SECOND.name, to="node4", created=created)
        path = SWITCHOVERS.path("default", "move", "status")
        world.store.put(SWITCHOVERS, as_document(SWITCHOVERS, request))
        world.add(SECOND, ("node3", "node4"))
        world.cluster.writable = True
        for kind in KINDS:
            world.store.deleted(kind, STRANGER)
        world.store.whole.set()

        def phases() -> list[str]:
            return [body[2]["value"].get("phase", "Pending") for asked, body in world.cluster.asked if path in asked]

        await soon(lambda: "Refused" in phases())
        assert phases()[0] == "Pending"

    run(scenario)
