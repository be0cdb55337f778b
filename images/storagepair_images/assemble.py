"""What our code adds to an image, byte for byte the same wherever and whenever it is made.

    assemble.py place IMAGE REPOSITORY TREE     copy code, version and entry point below TREE
    assemble.py compile TREE                    compile every module below TREE (by the image's own Python)

The standard library only: it runs within the Containerfiles' build stage, and in the lab's.
"""

from __future__ import annotations

import argparse
import compileall
import py_compile
import shutil
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SITE = "usr/local/lib/python3.13/dist-packages"
PROGRAMS = "usr/local/bin"

# the kubernetes package's second client, for asyncio: half of the package, and nothing that we have imports it
UNUSED = ("kubernetes/aio",)

_ENTRY = """\
#!/usr/bin/python3
import sys

from {module} import main

sys.exit(main())
"""


@dataclass(frozen=True)
class Content:
    """What an image has of the repository: packages, and the function `main` of which module runs."""

    packages: tuple[str, ...]
    module: str


IMAGES = {
    "storagepair-operator": Content(
        ("crds/storagepair_crds", "operator/storagepair_operator"), "storagepair_operator.main"
    ),
    "storagepair-node-agent": Content(
        ("crds/storagepair_crds", "node-agent/storagepair_node_agent"), "storagepair_node_agent.main"
    ),
}


def place(image: str, repository: Path, tree: Path) -> None:
    """Copy the image's packages, what `importlib.metadata` needs to tell their version, and the program."""
    content, site = IMAGES[image], tree / SITE
    for package in content.packages:
        source = repository / package
        shutil.copytree(source, site / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    information = site / f"{project['name']}-{project['version']}.dist-info"
    information.mkdir()
    lines = ("Metadata-Version: 2.1", f"Name: {project['name']}", f"Version: {project['version']}")
    (information / "METADATA").write_text("\n".join(lines) + "\n")
    program = tree / PROGRAMS / image
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(_ENTRY.format(module=content.module))
    program.chmod(0o755)


def tidy(tree: Path) -> None:
    """Remove what depends on who installed the packages below `tree`, and when; and what nobody uses.

    The former are pip's start scripts, which name the Python that pip ran with, its records of what it installed,
    and modules compiled earlier.
    """
    for folder in ("bin", *UNUSED):
        shutil.rmtree(tree / SITE / folder, ignore_errors=True)
    for record in (tree / SITE).glob("*.dist-info/RECORD"):
        record.unlink()
    for compiled in list((tree / "usr").rglob("__pycache__")):
        shutil.rmtree(compiled)


def compile_all(tree: Path) -> bool:
    """Compile every module below `tree`, as if `tree` were the root; whether all of them could be.

    A module is recognised by its content, not by its time, and nothing is checked at a start: a root file system
    that nobody can write to would have it compiled again at every start.
    """
    return bool(
        compileall.compile_dir(
            tree / "usr",
            maxlevels=32,
            quiet=1,
            force=True,
            stripdir=str(tree),
            prependdir="/",
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="assemble.py", description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    placing = commands.add_parser("place", help="copy code, version and entry point below TREE")
    placing.add_argument("image", choices=sorted(IMAGES))
    placing.add_argument("repository", type=Path)
    placing.add_argument("tree", type=Path)
    compiling = commands.add_parser("compile", help="compile every module below TREE")
    compiling.add_argument("tree", type=Path)
    options = parser.parse_args(arguments)
    if options.command == "compile":
        tidy(options.tree)
        return 0 if compile_all(options.tree) else 1
    place(options.image, options.repository, options.tree)
    return 0


if __name__ == "__main__":
    sys.exit(main())
