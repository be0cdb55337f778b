"""A person who does what a page of the documentation says: with kubectl for the lab, and as root on its machines."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from docgen.commands import Block

from lab.binaries import binary
from lab.drill import NAMESPACE
from lab.guest import Guest
from lab.stack import Stack

_SECONDS = 900
"""For a block: longer than any `--timeout` of a command in it, so that it is kubectl that says what it waited for."""


class Reader:
    """Runs blocks as they are written."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self._folder = folder
        self._environment = _in_the_pairs_namespace(stack, folder)

    def do(self, block: Block) -> None:
        """In a shell whose kubectl is set to the lab's cluster and to the pair's namespace."""
        run_as_written(block, self._folder, self._environment)

    @staticmethod
    def do_on(machine: Guest, block: Block) -> None:
        """As root on a machine."""
        done = machine.ssh(["bash", "-s"], stdin=block.script.encode(), check=False, timeout=_SECONDS)
        assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"


def run_as_written(block: Block, folder: Path, shell: dict[str, str]) -> None:
    """A block in a shell; its first command that fails is its end, and the test's."""
    done = subprocess.run(
        ["bash", "-c", block.script],
        cwd=folder,
        env=shell,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"


def environment(kubeconfig: Path, cache: Path) -> dict[str, str]:
    """Of the shell of a person whose kubectl is set to a cluster, with our programs on its path."""
    return {
        **{name: value for name, value in os.environ.items() if name in ("HOME", "LANG")},
        "PATH": f"{Path(sys.executable).parent}:{binary('kubectl').parent}:{os.environ['PATH']}",
        "KUBECONFIG": str(kubeconfig),
        "KUBECACHEDIR": str(cache),
    }


def _in_the_pairs_namespace(stack: Stack, folder: Path) -> dict[str, str]:
    kubeconfig = folder / "kubeconfig"
    shutil.copy(stack.plane.admin_kubeconfig, kubeconfig)
    shell = environment(kubeconfig, folder / "cache")
    set_namespace = ["kubectl", "config", "set-context", "--current", f"--namespace={NAMESPACE}"]
    subprocess.run(set_namespace, env=shell, check=True, capture_output=True)
    return shell
