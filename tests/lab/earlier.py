"""The version before this one, for tests of an upgrade: its whole source tree, out of this clone's history."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_REPOSITORY = Path(__file__).resolve().parents[2]
REVISION = os.environ.get("UPGRADE_FROM", "HEAD^")
_AGENT_IMAGE = "import sys; from lab.images import AGENT, built; sys.stdout.buffer.write(built(AGENT).update())"


def known() -> bool:
    """Whether this clone holds it: a shallow one does not."""
    git = ["git", "-C", str(_REPOSITORY), "rev-parse", "--quiet", "--verify", REVISION]
    return subprocess.run(git, capture_output=True, check=False).returncode == 0


def tree(folder: Path) -> Path:
    """Its files, in a new folder within `folder`."""
    found = folder / "before"
    found.mkdir()
    archive = folder / "before.tar"
    subprocess.run(["git", "-C", str(_REPOSITORY), "archive", f"--output={archive}", REVISION], check=True, timeout=60)
    subprocess.run(["tar", "-xf", str(archive), "-C", str(found)], check=True)
    return found


def agent_image(before: Path) -> bytes:
    """Its agent's image, made by its own code, as an archive for nodes that have the lower layers."""
    environment = {**os.environ, "PYTHONPATH": str(before / "tests")}
    command = [sys.executable, "-B", "-c", _AGENT_IMAGE]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, timeout=900)
    return done.stdout
