"""Whose agent is silent: looks at Leases, one after the other, by nobody's clock but the operator's own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from storagepair_operator import leases
from storagepair_operator.cluster import ApiError
from storagepair_operator.identities import LABEL, LEASE
from storagepair_operator.kinds import NODES, PairKey
from storagepair_operator.settings import Settings
from storagepair_operator.silence import Lease, Watch
from storagepair_operator.store import Store
from unit.operator.builders import KEY, SECRETS, running
from unit.operator.fakes import FakeCluster, as_document
from unit.operator.looprun import run_in_loop_time

LIMIT = 90.0
NEVER = ""


def watched(*looks: tuple[float, str | Lease | None]) -> str | None:
    """What is known of node1 after looks at these moments; None for a look at which its Lease is not there."""
    watch = Watch()
    for now, seen in looks:
        lease = Lease("uid", seen) if isinstance(seen, str) else seen
        watch = watch.look({} if lease is None else {"node1": lease}, now, LIMIT)
    return watch.since().get("node1")


def still(first: float, last: float, renewed: str = "t1", step: float = 22.5) -> list[tuple[float, str]]:
    """Looks at a Lease that does not change."""
    count = int((last - first) / step)
    return [(first + step * number, renewed) for number in range(count + 1)]


@pytest.mark.parametrize(
    ("looks", "known"),
    [
        pytest.param([], None, id="no look"),
        pytest.param([(0, None)], None, id="no Lease"),
        pytest.param([(0, NEVER)], "", id="never renewed"),
        pytest.param(still(0, 900, NEVER), "", id="never renewed, for long: an agent of an earlier version, or none"),
        pytest.param([(0, "t1")], None, id="restart: it may be old or new"),
        pytest.param(still(0, 67.5), None, id="restart, within the term"),
        pytest.param(still(0, 90), "t1", id="restart, a whole term without a move"),
        pytest.param([(0, "t1"), (22, "t2")], "", id="moves"),
        pytest.param([(0, NEVER), (22, "t1")], "", id="its first renewal"),
        pytest.param([(0, NEVER), *still(22.5, 112.4)], "", id="moved once, within the term"),
        pytest.param([(0, NEVER), *still(22.5, 112.5)], "t1", id="moved once, and a term is over"),
        pytest.param([*still(0, 90), (112, "t2")], "", id="is back"),
        pytest.param([*still(0, 90), (112, "t0")], "", id="is back with a clock that was set back"),
        pytest.param([*still(0, 90), (900, "t1")], "t1", id="silent before an outage, silent after it"),
        pytest.param([*still(0, 67.5), (112.6, "t1")], None, id="an outage: it could not be heard"),
        pytest.param([*still(0, 67.5), *still(112.6, 180)], None, id="after an outage, within a term"),
        pytest.param([*still(0, 67.5), *still(112.6, 203)], "t1", id="after an outage, a term later"),
        pytest.param([*still(0, 67.5), (112.5, "t1")], "t1", id="one look that failed counts"),
        pytest.param([*still(0, 90), (91, None)], None, id="the Lease is gone"),
        pytest.param([*still(0, 90), (91, Lease("new", NEVER))], "", id="made anew"),
        pytest.param([*still(0, 90), (91, Lease("new", "t1"))], None, id="another node of the name"),
    ],
)
def test_what_is_known(looks: list[tuple[float, str | None]], known: str | None) -> None:
    assert watched(*looks) == known


GAPS = st.lists(st.floats(0.1, 300), min_size=1, max_size=40)


@given(GAPS, st.floats(0, 25))
@settings(max_examples=300)
def test_who_renews_while_looks_are_good_is_never_called_silent(gaps: list[float], every: float) -> None:
    """Whatever outages there are: renewals fail just when looks do, and come a period after each of them at last."""
    watch, now, renewed = Watch(), 0.0, 0.0
    for gap in gaps:
        # an outage of the whole gap but for its ends: the next renewal is due a period later at most
        now += gap
        if gap <= LIMIT / 4 and now - renewed >= every:
            renewed = now
        watch = watch.look({"node1": Lease("uid", f"{renewed}")}, now, LIMIT)
        if gap > LIMIT / 2:
            assert watch.tracks["node1"].still_seconds == 0
        if watch.since().get("node1"):
            assert now - renewed >= LIMIT


@given(GAPS)
@settings(max_examples=200)
def test_who_never_moves_is_silent_after_a_term_of_good_looks_and_stays_so(gaps: list[float]) -> None:
    watch, now, counted = Watch().look({"node1": Lease("uid", "t")}, 0, LIMIT), 0.0, 0.0
    was = False
    for gap in gaps:
        now += gap
        counted = counted + gap if gap <= LIMIT / 2 else 0.0
        watch = watch.look({"node1": Lease("uid", "t")}, now, LIMIT)
        was = was or counted >= LIMIT
        assert bool(watch.since().get("node1")) == was


# ------------------------------------------------------------------------------------------- the rim


class World:
    """A listener, an API server that has the Leases which it is told to, and a store with the sample's two nodes."""

    def __init__(self) -> None:
        self.cluster = FakeCluster()
        self.turned: list[set[PairKey]] = []
        self.store = Store(lambda kind, keys: self.turned.append(set(keys)))
        for seen in running().nodes.values():
            self.store.put(NODES, as_document(NODES, seen.node))
        self.turned.clear()
        self.renewals = 0

    def has(self, *names: str, renewed: str) -> None:
        spec = {"holderIdentity": "it", "renewTime": renewed} if renewed else {}
        items = [{"metadata": {"uid": name, "labels": {LABEL: name}}, "spec": spec} for name in names]
        self.cluster.answers[f"GET {LEASE.path(SECRETS)}"] = {"items": items or None}

    def since(self, node: str = "node1") -> str | None:
        return self.store.snapshot(KEY).nodes[node].silent_since


def run(scenario: Callable[[World], Awaitable[None]], seconds: float = 0.2) -> None:
    async def main() -> None:
        world = World()
        listener = leases.Listener(world.cluster, world.store, Settings(agent_silent_seconds=seconds))  # type: ignore[arg-type]
        task = asyncio.create_task(listener.run())
        try:
            async with asyncio.timeout(10):
                await scenario(world)
        finally:
            task.cancel()

    run_in_loop_time(main())


async def soon(condition: Callable[[], Any]) -> None:
    while not condition():
        await asyncio.sleep(0.002)


async def renewing(world: World, seconds: float = 0.6) -> None:
    for _ in range(int(seconds / 0.02)):
        world.renewals += 1
        world.has("node1", "node2", renewed=f"t{world.renewals}")
        await asyncio.sleep(0.02)


def test_pairs_hear_of_a_turn_and_of_no_renewal() -> None:
    async def scenario(world: World) -> None:
        await renewing(world)
        assert (world.since(), world.turned) == ("", [{KEY}]), "not known, then known"
        await soon(world.since)
        assert (world.since(), world.store.silent_agents) == (f"t{world.renewals}", 2)
        await renewing(world)
        assert (world.since(), world.store.silent_agents) == ("", 0)
        assert world.turned == [{KEY}] * 3

    run(scenario)


def test_an_api_server_that_is_away_silences_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(world: World) -> None:
        await renewing(world)
        path = f"GET {LEASE.path(SECRETS)}"
        there = world.cluster.answers[path]
        for _ in range(3):
            world.cluster.answers[path] = ApiError(0, "Unreachable", "away")
            await asyncio.sleep(0.3)
            world.cluster.answers[path] = there
            await asyncio.sleep(0.1)
            assert world.since() == ""
        assert len(world.turned) == 1

    run(scenario)
    assert "can't be read: away" in caplog.text


def test_an_answer_that_is_none_is_said_and_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(world: World) -> None:
        world.cluster.answers[f"GET {LEASE.path(SECRETS)}"] = {"items": 7}
        await soon(lambda: "can't be read" in caplog.text)
        world.has("node1", renewed="")
        await soon(lambda: world.since() == "")

    run(scenario)
