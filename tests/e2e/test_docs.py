"""The documentation's commands for a running pair, as written, in the order of the pages, on the lab."""

from __future__ import annotations

from pathlib import Path

from docgen.commands import LAB, MACHINES, commands
from lab.drill import NAMESPACE
from lab.pair import Pair
from lab.reader import Reader
from lab.stack import Stack


def test_every_command_for_a_running_pair_runs_as_written(ready: Stack, tmp_path: Path) -> None:
    found = commands(LAB, *MACHINES)
    assert {block.place for block in found} == {LAB, *MACHINES}
    reader = Reader(ready, tmp_path)
    for block in found:
        if block.place == LAB:
            reader.do(block)
        else:
            reader.do_on(ready.lab.machines[block.place], block)
    assert Pair(ready, namespace=NAMESPACE).condition("Serving")["status"] == "True"
