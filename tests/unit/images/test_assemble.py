"""What our code adds to an image: it runs from there, and is the same bytes wherever it was made."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from lab import containerfile
from storagepair_images import assemble

REPOSITORY = Path(__file__).parents[3]


def digest(tree: Path) -> dict[str, str]:
    files = sorted(each for each in tree.rglob("*") if each.is_file())
    return {str(each.relative_to(tree)): hashlib.sha256(each.read_bytes()).hexdigest() for each in files}


@pytest.mark.parametrize("image", sorted(assemble.IMAGES))
def test_the_program_runs_from_the_tree_alone(image: str, tmp_path: Path) -> None:
    assemble.place(image, REPOSITORY, tmp_path)
    other = {"storagepair-operator": "storagepair_node_agent", "storagepair-node-agent": "storagepair_operator"}[image]
    assert not (tmp_path / assemble.SITE / other).exists()
    program = tmp_path / assemble.PROGRAMS / image
    assert os.access(program, os.X_OK)
    # -P: not what lies beside the program; the libraries are this environment's
    done = subprocess.run(
        [sys.executable, "-P", str(program), "--help"],
        env={**os.environ, "PYTHONPATH": str(tmp_path / assemble.SITE)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert (done.returncode, done.stdout.split()[:2]) == (0, ["usage:", image])


def test_two_trees_made_at_different_times_and_places_are_the_same(tmp_path: Path) -> None:
    for name, moment in (("one", 10**9), ("two", 2 * 10**9)):
        tree = tmp_path / name
        assemble.place("storagepair-operator", REPOSITORY, tree)
        site = tree / assemble.SITE
        # what pip leaves names the machine
        (site / "bin").mkdir()
        (site / "bin" / "tool").write_text(f"#!{tree}/python\n")
        (site / "x.dist-info").mkdir()
        (site / "x.dist-info" / "RECORD").write_text(f"{tree}\n")
        for each in tree.rglob("*"):
            os.utime(each, (moment, moment))
        # a process each, as two builds are; with one seed, as both ways of building set it
        subprocess.run(
            [sys.executable, "-B", assemble.__file__, "compile", str(tree)],
            env={**os.environ, "PYTHONHASHSEED": "0"},
            check=True,
            timeout=300,
        )
    one, two = digest(tmp_path / "one"), digest(tmp_path / "two")
    assert one == two
    assert any(name.endswith(".pyc") for name in one)
    assert not [name for name in one if "/bin/tool" in name or name.endswith("RECORD")]


@pytest.mark.parametrize("image", sorted(assemble.IMAGES))
def test_the_containerfile_copies_what_is_placed_and_runs_it(image: str) -> None:
    folder = image.removeprefix("storagepair-")
    said = containerfile.parse((REPOSITORY / folder / "Containerfile").read_text())
    assert set(said.sources) >= {*assemble.IMAGES[image].packages, "pyproject.toml", f"requirements/{folder}.txt"}
    assert all((REPOSITORY / source).exists() for source in said.sources)
    assert said.entrypoint == (f"/{assemble.PROGRAMS}/{image}",)
    text = (REPOSITORY / folder / "Containerfile").read_text()
    assert f"--target=/tree/{assemble.SITE} " in text
    assert "--require-hashes" in text
