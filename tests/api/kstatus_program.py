"""The real kstatus library, as a small Go program (tests/api/kstatus) that is built once like the control plane."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from typing import Any

from lab.binaries import binary


def compute(documents: Sequence[Any]) -> list[tuple[str, str]]:
    """Status and message of each object, as Flux and other users of the library see it."""
    done = subprocess.run([binary("kstatus")], input=json.dumps(documents), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [(each["status"], each["message"]) for each in json.loads(done.stdout)]
