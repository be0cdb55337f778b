"""The figures of the failover bench: JSON for programs, a table for people, a picture of every run's phases."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.failover_model import (
    DEADTIME_SECONDS,
    DETECTED,
    FIRST_WRITE,
    SCENARIOS,
    STOP,
    TAKEOVER,
    TITLES,
    VIP,
    Row,
    Run,
    ratio,
    steps,
)

JSON_NAME, PICTURE_NAME = "failover.json", "failover.png"
# what happens until the mark is reached
_SEGMENTS = {
    STOP: ("until the active node begins to stop", "#9ecae1"),
    DETECTED: ("until the dead peer is noticed", "#9ecae1"),
    TAKEOVER: ("until the taker begins", "#4292c6"),
    VIP: ("until the virtual IP is up", "#fdae6b"),
    FIRST_WRITE: ("until the first write is acknowledged", "#e6550d"),
}


def document(rows: Sequence[Row], repeat: int) -> dict[str, Any]:
    """The report's JSON."""
    return {
        "deadtimeSeconds": DEADTIME_SECONDS,
        "repeat": repeat,
        "machine": {"cores": os.cpu_count(), "python": platform.python_version()},
        "stacks": {
            row.name: {
                **{
                    scenario: {
                        "gapSeconds": row.gaps(scenario),
                        "medianSeconds": row.median(scenario),
                        "runs": [asdict(run) for run in row.runs[scenario]],
                    }
                    for scenario in SCENARIOS
                },
                "lostWrites": row.lost,
            }
            for row in rows
        },
    }


def rows_of(found: dict[str, Any]) -> list[Row]:
    """The rows of a report's JSON."""
    rows = []
    for name, stack in found["stacks"].items():
        row = Row(name)
        for scenario in SCENARIOS:
            row.runs[scenario] = [Run(**run) for run in stack[scenario]["runs"]]
        rows.append(row)
    return rows


def earlier(folder: Path) -> list[Row]:
    """The rows of the report in `folder`; none when there is no report."""
    file = folder / JSON_NAME
    return rows_of(json.loads(file.read_text())) if file.exists() else []


def write(folder: Path, rows: Sequence[Row], repeat: int) -> None:
    """failover.json and failover.png, whole."""
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f"{JSON_NAME}.new"
    unfinished.write_text(json.dumps(document(rows, repeat), indent=2) + "\n")
    unfinished.rename(folder / JSON_NAME)
    picture(rows).savefig(folder / PICTURE_NAME, dpi=110)


def table(rows: Sequence[Row], ours: str) -> str:
    """A line for each row and scenario: the initiator's gap, and how it compares with the row `ours`."""
    head = ["stack", "scenario", "runs", "gap: median s", "least", "most", "beside ours", "lost of acknowledged"]
    lines = [head]
    mine = next((row for row in rows if row.name == ours), None)
    for scenario in SCENARIOS:
        for row in (each for each in rows if each.gaps(scenario)):
            gaps, factor = row.gaps(scenario), ratio(mine, row, scenario) if mine else None
            runs = row.runs[scenario]
            lines.append(
                [
                    row.name,
                    TITLES[scenario],
                    str(len(gaps)),
                    f"{row.median(scenario):.2f}",
                    f"{min(gaps):.2f}",
                    f"{max(gaps):.2f}",
                    f"{factor:.2f} x" if factor is not None else "-",
                    f"{sum(run.lost for run in runs)} of {sum(run.acknowledged for run in runs)}",
                ]
            )
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def picture(rows: Sequence[Row]) -> Figure:
    """Every run as a bar from the fault to the first write; the gap that the initiator felt is the black line."""
    height = 2.5 + 0.3 * sum(max(1, len(row.runs[scenario])) for row in rows for scenario in SCENARIOS)
    figure = Figure(figsize=(11, height), layout="constrained")
    figure.suptitle(f"What the initiator waits for, run by run (deadtime {DEADTIME_SECONDS} s, the same machines)")
    for axes, scenario in zip(figure.subplots(len(SCENARIOS), 1, sharex=True), SCENARIOS, strict=True):
        _bars(axes, rows, scenario)
    return figure


def _bars(axes: Axes, rows: Sequence[Row], scenario: str) -> None:
    names: list[str] = []
    for row in rows:
        for number, run in enumerate(row.runs[scenario], start=1):
            place, left = len(names), 0.0
            names.append(f"{row.name} {number}")
            for mark, at in steps(run):
                label, colour = _SEGMENTS[mark]
                axes.barh(place, max(0.0, at - left), left=left, color=colour, label=label, height=0.7)
                left = max(left, at)
            axes.hlines(place, run.lastWrite, run.lastWrite + run.gapSeconds, color="black", linewidth=2)
    axes.set_title(TITLES[scenario])
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("seconds after the fault or the request; black: no write acknowledged")
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    if unique:
        axes.legend(unique.values(), unique.keys(), fontsize="small", loc="upper left", bbox_to_anchor=(1.01, 1))
