"""The documentation's commands for a checkout, as written: the demo, what is broken in it, its end, the images."""

from __future__ import annotations

import subprocess

import pytest
from docgen.commands import CHECKOUT, ROOT, commands
from lab import demo, registry

pytestmark = pytest.mark.drill

_SECONDS = 1800  # from a cold cache it builds


def test_every_command_for_a_checkout_runs_as_written() -> None:
    assert not registry.is_up(demo.NAME), "a demo runs on this machine, which this would end: `make down`"
    try:
        for block in commands(CHECKOUT):
            done = subprocess.run(
                ["bash", "-c", block.script], cwd=ROOT, capture_output=True, text=True, timeout=_SECONDS, check=False
            )
            print(f"{block}\n{done.stdout}")
            assert done.returncode == 0, f"{block}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
        assert not registry.is_up(demo.NAME), "the tutorial's last command stops it"
    finally:
        registry.remove(demo.NAME)
