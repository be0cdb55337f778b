"""The scenario table promises nothing that no test shows, and every drill is in it."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
TABLE = (ROOT / "docs" / "failover.md").read_text()
E2E = "\n".join(path.read_text() for path in (ROOT / "tests" / "e2e").glob("test_*.py"))


def test_every_row_names_a_test_that_exists():
    rows = [line for line in TABLE.splitlines() if line.startswith("|") and "`test_" in line]
    assert len(rows) > 10
    for row in rows:
        (name,) = re.findall(r"`(test_\w+)`", row)
        assert f"def {name}(" in E2E, name


def test_every_failover_drill_has_a_row():
    for file in ("test_failover.py", "test_durability.py", "test_procedures.py"):
        drills = re.findall(r"^def (test_\w+)\(", (ROOT / "tests/e2e" / file).read_text(), flags=re.MULTILINE)
        assert [name for name in drills if f"`{name}`" not in TABLE] == []


def test_no_figure_is_missing():
    assert re.findall(r"PAUSE_\w+", TABLE) == []
