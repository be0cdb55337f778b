"""The nodes' identities: made once, mended by the audit's rhythm, and never touched while all is well."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from storagepair_operator import identities
from storagepair_operator.cluster import ApiError
from storagepair_operator.identities import (
    ACCOUNT,
    CLUSTER_BINDING,
    CLUSTER_ROLE,
    LEASE,
    PARTS,
    ROLE,
    ROLE_BINDING,
    SECRET,
    NodeKey,
    Part,
)
from storagepair_operator.kinds import NODES, PairKey
from storagepair_operator.registrar import Registrar
from storagepair_operator.settings import Settings
from storagepair_operator.store import Store
from unit.operator.builders import KEY, SECRETS, planned, snapshot, written
from unit.operator.fakes import FakeCluster, as_document
from unit.operator.looprun import run_in_loop_time

NODE1 = NodeKey("node1", "uid-of--node1")
SOURCE = f"GET {SECRET.path(SECRETS, 'default.vmstore.heartbeat')}"
EXISTS = ApiError(409, "AlreadyExists", "there is one")
HUSH = {"authkey": "aHVzaA=="}


class World:
    """One StorageNode, a registrar, and an API server that has nothing until it is told."""

    def __init__(self, audit_seconds: float) -> None:
        self.cluster = FakeCluster(writable=True)
        self.leading = asyncio.Event()
        self.leading.set()
        self.store = Store(lambda kind, keys: self.registrar.changed(kind))
        settings = Settings(audit_seconds=audit_seconds, debounce_seconds=0.001, backoff_seconds=0.01)
        self.registrar = Registrar(self.cluster, self.store, self.leading, settings)  # type: ignore[arg-type]
        for part in (*PARTS, SECRET):
            self.lists(part)
        self.store.whole.set()

    def lists(self, part: Part, *items: dict[str, Any]) -> None:
        self.cluster.answers[f"GET {part.path(SECRETS)}"] = {"items": list(items) or None}

    def adds(self) -> None:
        node = written(snapshot())["node1"].node
        self.store.put(NODES, as_document(NODES, node))

    def keys(self) -> None:
        self.cluster.answers[SOURCE] = {"data": HUSH}
        self.registrar.keyed(KEY)

    def exists(self) -> None:
        """All is there already, as it shall be."""
        for part in PARTS:
            self.lists(part, wanted(part))
        self.lists(SECRET, identities.secret(NODE1, SECRETS, KEY, {}))

    def writes(self) -> list[str]:
        return [request for request in self.cluster.requests if not request.startswith("GET")]

    def body(self, request: str) -> Any:
        return next(body for asked, body in self.cluster.asked if asked == request)


def wanted(part: Part) -> dict[str, Any]:
    return identities.wanted(part, NODE1, SECRETS)


def created(part: Part) -> str:
    return f"POST {part.path(SECRETS)}"


def run(scenario: Callable[[World], Awaitable[None]], audit_seconds: float = 3600) -> None:
    async def main() -> None:
        world = World(audit_seconds)
        task = asyncio.create_task(world.registrar.run())
        try:
            async with asyncio.timeout(10):
                await scenario(world)
        finally:
            task.cancel()

    run_in_loop_time(main())


async def soon(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.002)


def test_a_node_gets_its_rights_before_its_account_and_its_key_when_there_is_one() -> None:
    async def scenario(world: World) -> None:
        world.adds()
        await soon(lambda: created(ACCOUNT) in world.writes())
        assert world.writes() == [
            created(each) for each in (ROLE, ROLE_BINDING, CLUSTER_ROLE, CLUSTER_BINDING, LEASE, ACCOUNT)
        ]
        assert world.body(created(ACCOUNT))["metadata"]["name"] == "storagenode-node1"
        owner = {"apiVersion": "storagepair.dev/v1alpha1", "kind": "StorageNode", "name": "node1", "uid": NODE1.uid}
        assert world.body(created(CLUSTER_ROLE))["metadata"]["ownerReferences"] == [owner]
        world.keys()
        await soon(lambda: created(SECRET) in world.writes())
        made = world.body(created(SECRET))
        assert (made["metadata"]["name"], made["data"]) == ("storagenode-node1", HUSH)

    run(scenario)


def test_at_rest_nothing_is_asked() -> None:
    async def scenario(world: World) -> None:
        world.exists()
        world.adds()
        await soon(lambda: len(world.cluster.asked) >= len(PARTS) + 1)
        await asyncio.sleep(0.05)
        before = len(world.cluster.asked)
        for version in range(11, 15):  # reports come, and are nothing new
            node = written(snapshot())["node1"].node
            world.store.put(NODES, as_document(NODES, node, version))
        await asyncio.sleep(0.05)
        assert world.writes() == []
        assert len(world.cluster.asked) == before

    run(scenario)


def test_a_node_without_a_key_is_not_asked_for_again_and_again() -> None:
    async def scenario(world: World) -> None:
        world.exists()
        world.lists(SECRET)
        world.adds()
        await soon(lambda: SOURCE in world.cluster.requests)
        world.adds()
        world.registrar.changed(NODES)
        await asyncio.sleep(0.05)
        assert world.cluster.requests.count(SOURCE) == 1
        assert world.writes() == []

    run(scenario)


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.kind)
def test_what_was_changed_is_mended_and_what_others_added_stays(part: Part) -> None:
    async def scenario(world: World) -> None:
        world.exists()
        bad = copy.deepcopy(wanted(part))
        bad["metadata"] |= {"ownerReferences": [], "annotations": {"theirs": "x"}, "resourceVersion": "7"}
        bad["secrets"] = [{"name": "theirs"}]
        world.lists(part, bad)
        path = part.path(SECRETS, "storagenode-node1")
        world.cluster.answers[f"GET {path}"] = bad
        world.adds()
        await soon(lambda: world.writes() != [])
        assert world.writes() == [f"PUT {path}"]
        body = world.body(f"PUT {path}")
        assert identities.same(part, body, wanted(part))
        assert (body["metadata"]["annotations"], body["metadata"]["resourceVersion"]) == ({"theirs": "x"}, "7")
        assert body["secrets"] == [{"name": "theirs"}]

    run(scenario)


def test_what_is_there_without_a_label_is_adopted() -> None:
    async def scenario(world: World) -> None:
        world.exists()
        world.lists(ACCOUNT)
        bare = {"metadata": {"name": "storagenode-node1", "resourceVersion": "3"}}
        path = ACCOUNT.path(SECRETS, "storagenode-node1")
        world.cluster.answers |= {created(ACCOUNT): EXISTS, f"GET {path}": bare}
        world.adds()
        await soon(lambda: f"PUT {path}" in world.writes())
        assert identities.same(ACCOUNT, world.body(f"PUT {path}"), wanted(ACCOUNT))

    run(scenario)


def test_a_successor_of_the_same_name_gets_it_all_anew() -> None:
    """The garbage collector takes what belonged to the StorageNode that is gone."""

    async def scenario(world: World) -> None:
        world.exists()
        world.adds()
        await asyncio.sleep(0.05)
        world.store.deleted(NODES, NODE1.uid)
        node = as_document(NODES, written(snapshot())["node1"].node, 20)
        node["metadata"]["uid"] = "another"
        world.store.put(NODES, node)
        await soon(lambda: created(ACCOUNT) in world.writes())
        assert world.body(created(ACCOUNT))["metadata"]["ownerReferences"][0]["uid"] == "another"

    run(scenario)


def test_a_key_of_another_pair_is_replaced() -> None:
    async def scenario(world: World) -> None:
        world.exists()
        path = SECRET.path(SECRETS, "storagenode-node1")
        old = identities.secret(NODE1, SECRETS, PairKey("default", "old"), HUSH)
        old["metadata"]["resourceVersion"] = "5"
        world.lists(SECRET, old)
        world.cluster.answers |= {f"GET {path}": old, SOURCE: {"data": {"authkey": "bmV3"}}}
        world.adds()
        await soon(lambda: f"PUT {path}" in world.writes())
        assert world.body(f"PUT {path}")["data"] == {"authkey": "bmV3"}

    run(scenario)


def test_a_refusal_is_tried_again_and_whoever_does_not_lead_writes_nothing() -> None:
    async def scenario(world: World) -> None:
        world.cluster.answers[created(ROLE)] = ApiError(403, "Forbidden", "no")
        world.adds()
        await soon(lambda: world.writes().count(created(ROLE)) > 2)
        world.leading.clear()
        await asyncio.sleep(0.1)
        before = len(world.cluster.asked)
        del world.cluster.answers[created(ROLE)]
        await asyncio.sleep(0.1)
        assert len(world.cluster.asked) == before
        world.leading.set()
        await soon(lambda: created(ACCOUNT) in world.writes())

    run(scenario)


def test_no_key_is_in_anything_that_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")

    async def scenario(world: World) -> None:
        world.adds()
        world.keys()
        await soon(lambda: created(SECRET) in world.writes())

    run(scenario)
    assert HUSH["authkey"] not in caplog.text


def test_both_hosts_read_their_own_secret() -> None:
    names = [spec.heartbeat.authkeys_secret_ref.name for spec in planned(snapshot()).nodes.values()]
    assert names == ["storagenode-node1", "storagenode-node2"]
