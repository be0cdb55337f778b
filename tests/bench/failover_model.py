"""What the failover bench measures: a run, and what of it is told. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

DEADTIME_SECONDS = 5
"""How long every stack waits for its peer before it takes over."""

SWITCHOVER, POWER_CUT = SCENARIOS = ("switchover", "powerCut")
TITLES = {SWITCHOVER: "planned switchover", POWER_CUT: "power cut of the active node"}

STOP, DETECTED, TAKEOVER, VIP, FIRST_WRITE = MARKS = (
    "stopBegins",
    "detected",
    "takeoverBegins",
    "vipUp",
    "firstWrite",
)
"""The moments of a run, in their order; a stack tells of those that it logs."""


@dataclass(frozen=True)
class Run:
    """One fault under the writer. Seconds; `marks` and `lastWrite` are counted from the fault or the request."""

    gapSeconds: float  # between the last write acknowledged before and the first one after, by the writer's clock
    lastWrite: float
    marks: dict[str, float]
    acknowledged: int
    lost: int
    errors: int  # I/O errors that the initiator gave the writer
    load: float  # of the machine, when the run began


@dataclass
class Row:
    """All runs of one stack, by scenario."""

    name: str
    runs: dict[str, list[Run]] = field(default_factory=lambda: {scenario: [] for scenario in SCENARIOS})

    def gaps(self, scenario: str) -> list[float]:
        """The initiator's gaps, in the runs' order."""
        return [run.gapSeconds for run in self.runs[scenario]]

    def median(self, scenario: str) -> float | None:
        """The gaps' median; None before the first run."""
        gaps = self.gaps(scenario)
        return statistics.median(gaps) if gaps else None

    @property
    def lost(self) -> int:
        """Acknowledged writes that were not there afterwards, over all runs."""
        return sum(run.lost for runs in self.runs.values() for run in runs)


def steps(run: Run) -> list[tuple[str, float]]:
    """A run's marks in the order in which they happened."""
    return sorted(run.marks.items(), key=lambda mark: (mark[1], MARKS.index(mark[0])))


def words(run: Run) -> str:
    """A run in one line."""
    marks = ", ".join(f"{name} {at:+.2f}" for name, at in steps(run))
    felt = f"gap {run.gapSeconds:.2f} s from {run.lastWrite:+.2f} ({marks})"
    return f"{felt}; {run.lost} lost of {run.acknowledged}; load {run.load}"


def ratio(row: Row, other: Row, scenario: str) -> float | None:
    """How many times longer the other's median gap is; None while one of them has no run."""
    mine, theirs = row.median(scenario), other.median(scenario)
    return theirs / mine if mine and theirs else None


def missed(rows: Sequence[Row], ours: str, classic: str) -> list[str]:
    """What must hold and does not, in words: nothing lost; ours ahead of each other stack in both scenarios, and three
    times ahead of the classic one in a planned switchover. `ours` and `classic` are names of rows."""
    found = [f"{row.name}: {row.lost} acknowledged writes lost" for row in rows if row.lost]
    mine = next((row for row in rows if row.name == ours), None)
    for other in (row for row in rows if mine and not row.name.startswith(ours)):
        for scenario in SCENARIOS:
            assert mine is not None
            factor = ratio(mine, other, scenario)
            wanted = 3.0 if (other.name, scenario) == (classic, SWITCHOVER) else 1.0
            if factor is not None and (factor < wanted or factor == 1.0):
                found.append(f"{TITLES[scenario]}: {other.name} takes {factor:.2f} times as long, not over {wanted:g}")
    return found
