"""The queue of pairs' keys."""

from __future__ import annotations

import asyncio

from storagepair_operator.kinds import PairKey
from storagepair_operator.queue import KeyQueue
from unit.operator.looprun import run_in_loop_time

A, B = PairKey("default", "a"), PairKey("default", "b")


async def take(queue: KeyQueue) -> PairKey:
    async with asyncio.timeout(2), queue.next() as key:
        return key


async def is_empty(queue: KeyQueue) -> bool:
    try:
        async with asyncio.timeout(0.1), queue.next():
            return False
    except TimeoutError:
        return True


def test_a_burst_is_one() -> None:
    async def scenario() -> None:
        queue = KeyQueue(0.01)
        for _ in range(100):
            queue.add(A)
        assert await take(queue) == A
        assert await is_empty(queue)

    run_in_loop_time(scenario())


def test_what_comes_while_it_runs_runs_after_it_and_never_beside_it() -> None:
    async def scenario() -> None:
        queue = KeyQueue(0)
        queue.add(A)
        async with queue.next() as key:
            assert key == A
            queue.add(A)
            queue.add(B)
            async with asyncio.timeout(2), queue.next() as other:
                assert other == B
            assert await is_empty(queue)
        assert await take(queue) == A

    run_in_loop_time(scenario())


def test_news_do_not_wait_for_a_retry() -> None:
    async def scenario() -> None:
        queue = KeyQueue(0.01)
        queue.add(A, 3600)
        queue.add(A)
        assert await take(queue) == A
        assert await is_empty(queue)

    run_in_loop_time(scenario())


def test_a_retry_does_not_put_off_what_is_due() -> None:
    async def scenario() -> None:
        queue = KeyQueue(0.01)
        queue.add(A)
        queue.add(A, 3600)
        assert await take(queue) == A

    run_in_loop_time(scenario())


def test_a_cancelled_taker_loses_nothing() -> None:
    async def scenario() -> None:
        queue = KeyQueue(0)
        assert await is_empty(queue)
        queue.add(A)
        assert await take(queue) == A

    run_in_loop_time(scenario())
