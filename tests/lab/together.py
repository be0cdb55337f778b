"""The same thing done with several machines at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def together(action: Callable[[T], object], things: Iterable[T]) -> None:
    """Call `action` with each of them at the same time; the first error is raised when all are done."""
    chosen = list(things)
    with ThreadPoolExecutor(max_workers=len(chosen) or 1) as pool:
        for future in [pool.submit(action, each) for each in chosen]:
            future.result()
