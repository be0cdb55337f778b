"""A control plane for the tests of a module."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from lab.controlplane import ControlPlane
from lab.keeper import Keeper


@contextlib.contextmanager
def own_plane(keeper: Keeper, name: str, *, controllers: bool = False) -> Iterator[ControlPlane]:
    """For the length of a block, in a new folder: a worker that has two groups of a module begins anew for each."""
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=keeper.run_dir))
    plane = ControlPlane.start(keeper, folder, controllers=controllers)
    try:
        yield plane
    finally:
        plane.stop()
