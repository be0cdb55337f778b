"""The commands in the documentation, found to be run as they are written.

A block of commands is fenced as ```console and has a tag in the line above it, which no reader sees:

    <!-- run: api -->          in a checkout, with kubectl for a cluster of two nodes; pages and blocks in their order
    <!-- run: checkout -->     in a checkout, with nothing else
    <!-- run: engine -->       in a checkout, with podman (e2e/test_containerfiles.py)
    <!-- run: host -->         as root on a Debian machine with a mirror (e2e/test_install.py)
    <!-- run: operator -->     anywhere, with the operator's kubeconfig; it runs until interrupted (e2e/test_install.py)
    <!-- run: lab -->          anywhere, with kubectl for the lab, where the pair `vmstore` was Ready at first
    <!-- run: node1 -->        as root on that machine of the lab; also node2, initiator
    <!-- run: victim -->       as root on a machine of a broken pair (e2e/test_procedures.py); also survivor, repaired
    <!-- run: ending -->       anywhere, with kubectl for a pair that ends by it; `ended`: as root on its nodes
    <!-- not-run: because -->  not run, and why

A block is one shell script: its first command that fails is its end, and the test's. Output and examples of files have
blocks of their own (```text, ```yaml, ```ini), which nobody runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
API, LAB, CHECKOUT, ENGINE = "api", "lab", "checkout", "engine"
HOST, OPERATOR = "host", "operator"
MACHINES = ("node1", "node2", "initiator")
PARTS = VICTIM, SURVIVOR, REPAIRED, ENDING, ENDED = ("victim", "survivor", "repaired", "ending", "ended")
PLACES = (API, LAB, CHECKOUT, ENGINE, HOST, OPERATOR, *MACHINES, *PARTS)
COMMANDS = "console"
SAMPLES = ("text", "yaml", "ini")

_TAG = re.compile(r"<!-- (run|not-run): (.+?) -->")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page. Neither `place` nor `reason`: it has no tag."""

    page: str
    line: int
    language: str
    text: str
    place: str = ""
    reason: str = ""  # why it is not run

    @property
    def script(self) -> str:
        """What a shell is given: it ends at the first command that fails."""
        return f"set -euo pipefail\n{self.text}"

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """The pages in the order in which the site shows them."""
    navigation = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    return [DOCS / name for name in _files(navigation)]


def blocks(path: Path) -> list[Block]:
    """All fenced blocks of a page."""
    lines, found, number = path.read_text().splitlines(), [], 0
    while number < len(lines):
        fence = re.match(r"( *)```(\w*)$", lines[number])
        if fence:
            end = lines.index(f"{fence[1]}```", number + 1)
            body = [line.removeprefix(fence[1]) for line in lines[number + 1 : end]]
            above = lines[number - 1].strip() if number else ""
            name = path.relative_to(DOCS).as_posix()
            found.append(Block(name, number + 1, fence[2], "\n".join(body) + "\n", **_tag(above)))
            number = end
        number += 1
    return found


def commands(*places: str) -> list[Block]:
    """The blocks that are run at these places, page after page."""
    found = [block for page in pages() for block in blocks(page)]
    return [block for block in found if block.language == COMMANDS and block.place in places]


def steps(page: str, *places: str) -> list[Block]:
    """A page's blocks for a pair in trouble or at its end. `places` is what they have to be: none is done elsewhere."""
    found = [block for block in commands(*PARTS) if block.page == page]
    assert tuple(block.place for block in found) == places, f"{page}: {[block.place for block in found]}"
    return found


def _tag(line: str) -> dict[str, str]:
    tag = _TAG.fullmatch(line)
    return {{"run": "place", "not-run": "reason"}[tag[1]]: tag[2]} if tag else {}


def _files(entry: Any) -> Iterator[str]:
    match entry:
        case str():
            yield entry
        case dict():
            for value in entry.values():
                yield from _files(value)
        case list():
            for value in entry:
                yield from _files(value)
