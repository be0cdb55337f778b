"""`make bench-failover`: our stack beside the classic hand-built one and beside Pacemaker, on the same lab.

Each run starts from a restored snapshot and ends with the verification of every acknowledged write. One stack has the
machine for itself at a time. The report is written after each run, so what is there after an interruption counts;
`--keep` adds to it.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from lab.image import DEFAULT_SUITE

from bench import failover_model as model
from bench import failover_report as report
from bench import failover_run as run
from bench.failover_classic import Classic
from bench.failover_contender import Contender
from bench.failover_pacemaker import Pacemaker
from bench.failover_storagepair import Storagepair

# the order in which they are measured: what breaks soonest, first
STACKS: dict[str, Callable[[str], Contender]] = {
    Classic.name: Classic,
    Pacemaker.name: Pacemaker,
    Storagepair.name: Storagepair,
}
# our users' initiators may ask for this; the same for the others would change nothing, their targets ask for 2 s
NO_WAIT_ROW = f"{Storagepair.name}-time2wait0"
NO_WAIT = (("node.session.iscsi.DefaultTime2Wait", "0"),)
_STARTED = time.monotonic()


def say(words: str) -> None:
    """A line with the time since the bench began."""
    print(f"[{time.monotonic() - _STARTED:6.0f} s] {words}", flush=True)


def measure(
    stack: str, plan: Sequence[tuple[model.Row, run.Settings]], options: argparse.Namespace, done: Callable[[], None]
) -> None:
    """Bring a stack up, measure its rows, end it; `done` is called after each run."""
    say(f"{stack}: building it on bare machines")
    contender = STACKS[stack](options.suite)
    try:
        for number in range(1, options.repeat + 1):
            for row, settings in plan:
                for scenario in model.SCENARIOS:
                    told = _measured(contender, scenario, settings)
                    row.runs[scenario].append(told)
                    say(f"{row.name}, {model.TITLES[scenario]}, {number} of {options.repeat}: {model.words(told)}")
                    done()
    finally:
        contender.down()


def _measured(contender: Contender, scenario: str, settings: run.Settings) -> model.Run:
    """One run. A failed measurement is said and repeated once: half an hour of other runs hangs on it."""
    try:
        return run.measure(contender, scenario, settings)
    except run.RunError as error:
        say(f"{contender.name}, {model.TITLES[scenario]}: not measured, once more: {error}")
        return run.measure(contender, scenario, settings)


def main(arguments: list[str] | None = None) -> int:
    """Measure and report; 1 when something that must hold does not."""
    options = _options(arguments)
    chosen = [name for name in STACKS if name in options.stacks]
    fresh = {name: model.Row(name) for name in chosen}
    plans: dict[str, list[tuple[model.Row, run.Settings]]] = {name: [(row, ())] for name, row in fresh.items()}
    if options.time2wait0 and Storagepair.name in plans:
        fresh[NO_WAIT_ROW] = model.Row(NO_WAIT_ROW)
        plans[Storagepair.name].append((fresh[NO_WAIT_ROW], NO_WAIT))
    old = report.earlier(options.reports) if options.keep else []
    rows = [*(row for row in old if row.name not in fresh), *fresh.values()]
    rows.sort(key=lambda row: row.name, reverse=True)  # ours first
    for name in chosen:
        measure(name, plans[name], options, lambda: report.write(options.reports, rows, options.repeat))
    print(report.table(rows, Storagepair.name))
    print(f"report: {options.reports / report.JSON_NAME}, picture: {options.reports / report.PICTURE_NAME}")
    missed = model.missed(rows, Storagepair.name, Classic.name)
    print("\n".join(missed) or "nothing lost, and ahead of the others where both were measured")
    return 1 if missed else 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.failover", description=__doc__)
    parser.add_argument("--repeat", type=int, default=5, help="runs of each scenario")
    parser.add_argument("--stacks", type=_stacks, default=list(STACKS), help=f"some of {','.join(STACKS)}")
    parser.add_argument(
        "--time2wait0", action="store_true", help="ours once more, with DefaultTime2Wait=0 at the initiator"
    )
    parser.add_argument("--keep", action="store_true", help="stacks that are not measured now stay in the report")
    parser.add_argument("--suite", default=DEFAULT_SUITE, help="the machines' Debian")
    parser.add_argument("--reports", type=Path, default=Path("build/reports"))
    return parser.parse_args(arguments)


def _stacks(text: str) -> list[str]:
    names = [name for name in text.split(",") if name]
    unknown = [name for name in names if name not in STACKS]
    if unknown or not names:
        raise argparse.ArgumentTypeError(f"choose from {', '.join(STACKS)}, not {text!r}")
    return names


if __name__ == "__main__":
    sys.exit(main())
