"""Labs for the end-to-end tests: brought up once, and back in their first state before each test."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from lab.image import DEFAULT_SUITE
from lab.initiator import Initiator
from lab.lab import Lab

FRESH = "fresh"


@pytest.fixture(scope="session")
def bare_lab_session() -> Iterator[Lab]:
    """A lab of bare machines, with the snapshot `fresh`. It ends with this process, however that ends."""
    lab = Lab.up(f"e2e-{os.getpid()}", suite=os.environ.get("SUITE", DEFAULT_SUITE), owner_pid=os.getpid())
    try:
        lab.snapshot(FRESH)
        yield lab
    finally:
        lab.down()


@pytest.fixture()
def bare_lab(bare_lab_session: Lab) -> Lab:
    """Bare machines, booted: no bond, no address, no configuration, everything plugged in."""
    bare_lab_session.restore(FRESH)
    return bare_lab_session


@pytest.fixture()
def initiator(bare_lab: Lab) -> Initiator:
    """The initiator of the bare lab."""
    return Initiator(bare_lab.initiator)
