"""The failover bench's report: what it tells follows from the runs alone."""

from __future__ import annotations

import json

import pytest
from bench import failover, failover_report
from bench.failover_model import (
    DETECTED,
    FIRST_WRITE,
    POWER_CUT,
    SCENARIOS,
    SWITCHOVER,
    TAKEOVER,
    VIP,
    Row,
    Run,
    missed,
    steps,
)


def run(gap: float, *, lost: int = 0) -> Run:
    marks = {FIRST_WRITE: gap + 0.5, DETECTED: 0.6, VIP: gap, TAKEOVER: 0.7}
    return Run(gap, 0.5, marks, acknowledged=100, lost=lost, errors=0, load=1.5)


def row(name: str, switchover: list[float], power_cut: list[float], *, lost: int = 0) -> Row:
    return Row(name, {SWITCHOVER: [run(gap, lost=lost) for gap in switchover], POWER_CUT: [run(g) for g in power_cut]})


OURS = row("storagepair", [3.0, 2.0, 4.0], [9.0, 8.0, 10.0])
CLASSIC = row("classic", [20.0, 9.0, 21.0], [16.0, 18.0, 17.0])


def test_the_report_has_each_gap_in_its_order_and_counts_what_was_lost():
    told = failover_report.document([OURS, row("classic", [9.0, 8.0], [7.0, 6.0], lost=3)], repeat=3)
    assert told["deadtimeSeconds"] == 5
    assert told["repeat"] == 3
    assert told["stacks"]["storagepair"]["switchover"]["gapSeconds"] == [3.0, 2.0, 4.0]
    assert told["stacks"]["storagepair"]["powerCut"]["medianSeconds"] == 9.0
    assert told["stacks"]["storagepair"]["lostWrites"] == 0
    assert told["stacks"]["classic"]["lostWrites"] == 6


def test_a_report_that_was_written_is_read_back_whole(tmp_path):
    failover_report.write(tmp_path, [OURS, CLASSIC], repeat=3)
    assert failover_report.earlier(tmp_path) == [OURS, CLASSIC]
    assert set(json.loads((tmp_path / "failover.json").read_text())["stacks"]) == {"storagepair", "classic"}
    assert (tmp_path / "failover.png").read_bytes().startswith(b"\x89PNG")


def test_a_stack_without_a_run_yet_breaks_neither_report_nor_table(tmp_path):
    failover_report.write(tmp_path, [Row("pacemaker"), OURS], repeat=1)
    assert "pacemaker" not in failover_report.table([Row("pacemaker"), OURS], "storagepair")


def test_the_table_sets_each_median_beside_ours():
    lines = failover_report.table([OURS, CLASSIC], "storagepair").splitlines()
    planned = next(line for line in lines if line.startswith("classic") and "planned" in line)
    assert "20.00" in planned  # the median, not the mean
    assert "6.67 x" in planned
    assert "0 of 300" in planned


def test_the_marks_of_a_run_are_told_in_the_order_in_which_they_happened():
    assert [name for name, _ in steps(run(9.0))] == [DETECTED, TAKEOVER, VIP, FIRST_WRITE]


def test_nothing_is_missed_when_ours_is_ahead_and_three_times_in_the_planned_move():
    assert missed([OURS, CLASSIC], "storagepair", "classic") == []


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (row("classic", [8.9], [30.0]), "planned switchover: classic"),  # ahead, but not three times
        (row("classic", [30.0], [8.9]), "power cut of the active node: classic"),
        (row("pacemaker", [2.9], [30.0]), "planned switchover: pacemaker"),
        (row("pacemaker", [30.0], [9.0]), "power cut of the active node: pacemaker"),  # equal is not ahead
        (row("pacemaker", [30.0], [30.0], lost=1), "pacemaker: 1 acknowledged writes lost"),
    ],
)
def test_what_must_hold_and_does_not_is_said(other, words):
    found = missed([OURS, other], "storagepair", "classic")
    assert len(found) == 1
    assert words in found[0]


def test_our_second_row_is_no_rival_of_our_first():
    assert missed([OURS, row("storagepair-time2wait0", [1.0], [1.0])], "storagepair", "classic") == []


def test_the_picture_has_a_bar_for_every_run():
    figure = failover_report.picture([OURS, CLASSIC])
    labels = [[text.get_text() for text in axes.get_yticklabels()] for axes in figure.axes]
    assert labels == [[f"{name} {n}" for name in ("storagepair", "classic") for n in (1, 2, 3)]] * len(SCENARIOS)


def test_an_unknown_stack_is_refused_before_anything_is_built(capsys):
    with pytest.raises(SystemExit):
        failover.main(["--stacks=storagepair,windows"])
    assert "windows" in capsys.readouterr().err
