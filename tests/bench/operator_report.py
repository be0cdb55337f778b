"""The figures of the operator's bench: JSON for programs, a table for people, a plot for both."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

from matplotlib.figure import Figure

RSS_MEGABYTES, SETTLED_SECONDS = 300, 1.0
"""Budgets of design.md, section 6, for 500 pairs with 2,500 LUNs; and nothing is written while nothing changes."""


@dataclass(frozen=True, slots=True)
class Size:
    """What was measured with so many pairs. Names as in the report's JSON."""

    pairs: int
    luns: int
    rssMegabytes: float  # the most it ever had
    rssSteadyMegabytes: float
    cpuSecondsPerChange: float  # of the operator, beyond what it takes at rest
    changeSettledSeconds: float  # the slowest: from the request to the last event that it causes
    changeSettledSecondsMedian: float
    lunToNodeSeconds: float  # median: from a LUN's change to both StorageNodes
    nodeToPairSeconds: float  # median: from a StorageNode's status to the pair's
    nodeToPairSecondsMax: float
    writesPerChange: float  # the operator's, for a LUN's change
    idleWritesPerMinute: float  # leases aside
    idleCpuSecondsPerMinute: float
    startSeconds: float  # a restart, until the view is whole
    restartSettledSeconds: float  # a restart, until the process rests
    restartWrites: int
    firstSettledSeconds: float  # from nothing to every pair and LUN ready


COLUMNS = {
    "pairs": "pairs",
    "luns": "LUNs",
    "rssMegabytes": "RSS MB",
    "cpuSecondsPerChange": "CPU s/change",
    "changeSettledSecondsMedian": "settled s",
    "changeSettledSeconds": "slowest s",
    "lunToNodeSeconds": "LUN->node s",
    "nodeToPairSeconds": "node->pair s",
    "writesPerChange": "writes/change",
    "idleWritesPerMinute": "writes/idle min",
    "idleCpuSecondsPerMinute": "CPU s/idle min",
    "startSeconds": "start s",
    "restartSettledSeconds": "restart rest s",
    "restartWrites": "restart writes",
    "firstSettledSeconds": "first s",
}


def table(sizes: list[Size]) -> str:
    """One line a size."""
    rows = [list(COLUMNS.values()), *([str(getattr(size, name)) for name in COLUMNS] for size in sizes)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def missed(sizes: list[Size]) -> list[str]:
    """The budgets that a size misses, in words."""
    found = []
    for size in sizes:
        at = f"missed with {size.pairs} pairs:"
        if size.rssMegabytes >= RSS_MEGABYTES:
            found.append(f"{at} {size.rssMegabytes} MB of memory, not under {RSS_MEGABYTES}")
        if size.changeSettledSeconds >= SETTLED_SECONDS:
            found.append(f"{at} a change settled in {size.changeSettledSeconds} s, not under {SETTLED_SECONDS:g}")
        if size.idleWritesPerMinute:
            found.append(f"{at} {size.idleWritesPerMinute} writes a minute while nothing changes, not 0")
        if size.restartWrites:
            found.append(f"{at} {size.restartWrites} writes by a restart, not 0")
    return found


def earlier(folder: Path, measured: list[Size]) -> list[Size]:
    """The sizes of an earlier report, but for those that were measured now."""
    file = folder / "operator.json"
    found = json.loads(file.read_text())["sizes"] if file.exists() else []
    return [Size(**each) for each in found if each["pairs"] not in {size.pairs for size in measured}]


def write(folder: Path, sizes: list[Size]) -> None:
    """operator.json and operator.svg."""
    folder.mkdir(parents=True, exist_ok=True)
    machine = {"cores": os.cpu_count(), "load": os.getloadavg()[0], "python": platform.python_version()}
    whole = {"sizes": [asdict(size) for size in sizes], "machine": machine}
    (folder / "operator.json").write_text(json.dumps(whole, indent=2) + "\n")
    plot(sizes).savefig(folder / "operator.svg", metadata={"Date": None})


def plot(sizes: list[Size]) -> Figure:
    """Four small plots over the number of pairs, with the budgets as dashed lines."""
    figure = Figure(figsize=(10, 6), layout="constrained")
    figure.suptitle("storagepair-operator: what it costs as the number of pairs grows (5 LUNs a pair)")
    pairs = [size.pairs for size in sizes]
    plots = (
        ("peak memory, MB", ("rssMegabytes",), RSS_MEGABYTES),
        ("CPU seconds per change", ("cpuSecondsPerChange",), None),
        (
            "seconds per change (settled: median, slowest)",
            ("changeSettledSecondsMedian", "changeSettledSeconds", "lunToNodeSeconds", "nodeToPairSeconds"),
            SETTLED_SECONDS,
        ),
        ("seconds of a restart", ("startSeconds", "restartSettledSeconds"), None),
    )
    for axes, (title, names, budget) in zip(figure.subplots(2, 2).flat, plots, strict=True):
        for name in names:
            axes.plot(pairs, [getattr(size, name) for size in sizes], marker="o", label=COLUMNS.get(name, name))
        if budget is not None:
            axes.axhline(budget, linestyle="--", color="grey", label="budget")
        axes.set_title(title)
        axes.set_xlabel("pairs")
        axes.set_ylim(bottom=0)
        axes.legend(fontsize="small")
    return figure
