"""Every command in the documentation is run, or says why not."""

from __future__ import annotations

import re
import subprocess

import pytest
from docgen.commands import COMMANDS, DOCS, PLACES, SAMPLES, blocks, commands, pages
from storagepair_node_agent.subsystems import preflight

RECORDS = DOCS / "decisions"  # what was decided then, not what to type now
PAGES = [path for path in sorted(DOCS.rglob("*.md")) if RECORDS not in path.parents]
BLOCKS = [block for path in PAGES for block in blocks(path)]


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_is_tagged_or_no_command(block):
    assert block.language in (COMMANDS, *SAMPLES)
    if block.language == COMMANDS:
        assert bool(block.place) != bool(block.reason), f"{block}: one tag above the fence"
        assert block.reason or block.place in PLACES
    else:
        assert not block.place and not block.reason


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == COMMANDS], ids=str)
def test_a_block_of_commands_is_a_shell_script_without_prompts(block):
    subprocess.run(["bash", "-n"], input=block.script, text=True, check=True)
    assert not re.search(r"^[$#] ", block.text, flags=re.MULTILINE)
    assert not re.search(r"<[a-z-]+>", block.text), "a placeholder can't be run"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_no_command_hides_outside_of_a_fence(path):
    indented = re.findall(
        r"^(?: {4}|\t)(?:kubectl|make|storagepair|drbdadm|apt-get|iscsiadm|systemctl) .*", path.read_text(), flags=re.M
    )
    fenced = "".join(block.text for block in blocks(path))
    assert [line for line in indented if line.strip() not in fenced] == []


def test_commands_are_run_in_every_place():
    assert {block.place for block in commands(*PLACES)} == set(PLACES)


def test_every_page_is_in_the_navigation():
    assert set(PAGES) <= set(pages())


def test_the_packages_to_install_are_those_that_preflight_asks_for():
    text = (DOCS / "how-to" / "install.md").read_text()
    (line,) = re.findall(r"^apt-get install .*$", text, flags=re.M)
    wanted = set(preflight.PROGRAMS.values()) - {"systemd", "util-linux", "mount", "kmod"}  # every Debian has them
    assert wanted <= set(line.split()[2:])
