"""The lease: one holder, who knows when to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from storagepair_operator.cluster import ApiError
from storagepair_operator.election import Election
from storagepair_operator.settings import Settings
from unit.operator.looprun import run_in_loop_time

QUICK = Settings(lease_seconds=1, lease_renew_limit_seconds=0.6, lease_retry_seconds=0.05)


class Leases:
    """An API server that has at most one lease, with its compare-and-swap."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.version = 0
        self.cut = False

    async def read(self, path: str) -> dict[str, Any]:
        self._reach()
        if self.lease is None:
            raise ApiError(404, "NotFound", path)
        result: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self.lease))
        return result

    async def call(self, method: str, path: str, body: Any = None, **_: object) -> bytes:
        self._reach()
        if method == "POST" and self.lease is not None:
            raise ApiError(409, "AlreadyExists", path)
        if method == "PUT" and body["metadata"]["resourceVersion"] != str(self.version):
            raise ApiError(409, "Conflict", path)
        self.version += 1
        self.lease = {**body, "metadata": {"name": "x", "resourceVersion": str(self.version)}}
        return b"{}"

    def _reach(self) -> None:
        if self.cut:
            raise ApiError(0, "Unreachable", "cut")

    @property
    def holder(self) -> str:
        return str((self.lease or {}).get("spec", {}).get("holderIdentity", ""))


def run(scenario: Callable[[Leases], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(20):
            await scenario(Leases())

    run_in_loop_time(main())


async def stopped(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_the_first_leads_and_the_second_waits_until_it_is_given_back() -> None:
    async def scenario(leases: Leases) -> None:
        first, second = Election(leases, QUICK), Election(leases, QUICK)
        one = asyncio.create_task(first.run())
        await first.leading.wait()
        two = asyncio.create_task(second.run())
        # longer than the lease: it is renewed
        await asyncio.sleep(1.5)
        assert (first.leading.is_set(), second.leading.is_set()) == (True, False)
        await stopped(one)
        assert not first.leading.is_set()
        await asyncio.wait_for(second.leading.wait(), 0.5)
        await stopped(two)
        assert leases.holder == ""

    run(scenario)


def test_a_dead_holders_lease_is_taken_after_its_time_and_not_before() -> None:
    async def scenario(leases: Leases) -> None:
        leases.lease = {
            "metadata": {"resourceVersion": "7"},
            "spec": {"holderIdentity": "dead", "leaseDurationSeconds": 1, "renewTime": "long ago"},
        }
        leases.version = 7
        election = Election(leases, QUICK)
        task = asyncio.create_task(election.run())
        await asyncio.sleep(0.7)
        assert not election.leading.is_set()
        await asyncio.wait_for(election.leading.wait(), 2)
        assert leases.lease is not None
        assert leases.lease["spec"]["leaseTransitions"] == 1
        await stopped(task)

    run(scenario)


def test_a_holder_that_is_cut_off_stops_before_another_may_begin() -> None:
    async def scenario(leases: Leases) -> None:
        election = Election(leases, QUICK)
        task = asyncio.create_task(election.run())
        await election.leading.wait()
        leases.cut = True
        await asyncio.sleep(0.3)
        assert election.leading.is_set(), "a hiccup is no reason"
        await asyncio.sleep(0.6)
        assert not election.leading.is_set()
        leases.cut = False
        await asyncio.wait_for(election.leading.wait(), 1)
        await stopped(task)

    run(scenario)


def test_whoever_is_slower_does_not_lead() -> None:
    async def scenario(leases: Leases) -> None:
        elections = [Election(leases, QUICK) for _ in range(5)]
        tasks = [asyncio.create_task(election.run()) for election in elections]
        await asyncio.sleep(0.5)
        assert sum(election.leading.is_set() for election in elections) == 1
        await asyncio.gather(*(stopped(task) for task in tasks))

    run(scenario)


def test_the_limits_leave_room() -> None:
    settings = Settings()
    assert settings.lease_retry_seconds < settings.lease_renew_limit_seconds < settings.lease_seconds
