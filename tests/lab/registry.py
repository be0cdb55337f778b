"""All labs of this machine: which there are, which still run, and how what is left of one is removed."""

from __future__ import annotations

import contextlib
import shutil

from lab import state
from lab.keeper import Keeper, KeeperGone


def known() -> list[str]:
    """The names of all labs that left something, running or not."""
    return sorted(file.parent.name for file in state.runs_root().glob("*/state.json"))


def is_up(name: str) -> bool:
    """Does the lab run?"""
    try:
        Keeper.connect(state.run_dir(name))
    except KeeperGone:
        return False
    return True


def remove(name: str) -> None:
    """End the lab, if it runs, and remove all that it left."""
    Keeper(state.run_dir(name)).shutdown()
    remove_files(name)


def remove_files(name: str, *, keep_logs: bool = False) -> None:
    """Remove what a lab that has ended left on the disk."""
    shutil.rmtree(state.disks_dir(name), ignore_errors=True)
    if not keep_logs:
        shutil.rmtree(state.run_dir(name), ignore_errors=True)


def remove_dead() -> None:
    """Remove the files of labs whose owner was killed: their processes ended with it, their disks did not."""
    for name in known():
        # a state that can't be read is of another version: whoever made it removes it
        with contextlib.suppress(state.LabError, ValueError):
            if state.load(state.run_dir(name)).owned and not is_up(name):
                remove_files(name)


def taken_loopbacks() -> set[int]:
    """The parts of the loopback network that labs have."""
    taken = set()
    for name in known():
        with contextlib.suppress(state.LabError, ValueError):
            taken.add(state.load(state.run_dir(name)).loopback)
    return taken
