"""A wait ends with what it waits for, and looks less and less often for what does not come."""

from __future__ import annotations

import itertools
import time

import pytest
from lab.waiting import FIRST_PAUSE, LONGEST_PAUSE, WaitTimeout, wait_for


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What was slept, in a time of its own."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setattr(time, "monotonic", lambda: sum(slept))
    return slept


def test_what_is_there_is_returned_without_a_pause(pauses: list[float]) -> None:
    assert wait_for(lambda: "found", "it", 10) == "found"
    assert pauses == []


def test_what_does_not_come_is_looked_for_less_and_less_often_and_not_for_longer(pauses: list[float]) -> None:
    with pytest.raises(WaitTimeout, match="waited 10 s for it"):
        wait_for(lambda: False, "it", 10)
    assert (pauses[0], pauses[-1]) == (FIRST_PAUSE, LONGEST_PAUSE)
    assert all(earlier <= later for earlier, later in itertools.pairwise(pauses))
    assert 10 <= sum(pauses) < 10 + LONGEST_PAUSE


def test_who_names_an_interval_gets_it(pauses: list[float]) -> None:
    looks = iter([False] * 5 + [True])
    assert wait_for(lambda: next(looks), "it", 10, interval=0.01)
    assert pauses == [0.01] * 5
