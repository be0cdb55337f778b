"""The bench of the operator's scale (`make bench-operator`) measures what it says: run small, lest it rots."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest
from bench.operator_report import Size, missed, table
from bench.operator_scale import main

PROMISED = {
    *("pairs", "luns", "rssMegabytes", "cpuSecondsPerChange", "changeSettledSeconds", "idleWritesPerMinute"),
    "startSeconds",
}


def test_a_small_bench_writes_nothing_for_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--pairs=6", "--luns=13", "--only", "--changes=3", "--idle-seconds=5", f"--reports={tmp_path}"]
    main(arguments)  # the exit code judges budgets of time, which is for a quiet machine
    (size,) = (Size(**each) for each in json.loads((tmp_path / "operator.json").read_text())["sizes"])
    assert {field.name for field in fields(Size)} >= PROMISED
    assert (size.pairs, size.luns) == (6, 13)
    assert (size.idleWritesPerMinute, size.restartWrites) == (0, 0)
    # both hosts' documents, and the LUN's own status
    assert size.writesPerChange == 3
    assert 20 < size.rssMegabytes < 300
    assert 0 < size.lunToNodeSeconds < 60
    assert table([size]) in capsys.readouterr().out
    assert (tmp_path / "operator.svg").read_text().startswith("<?xml")


def test_a_missed_budget_is_said() -> None:
    good = Size(**dict.fromkeys((field.name for field in fields(Size)), 0))
    assert missed([good]) == []
    bad = Size(**dict.fromkeys((field.name for field in fields(Size)), 1000))
    assert len(missed([good, bad])) == 4
