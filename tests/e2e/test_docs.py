"""The documentation's commands for a running pair, as written, in the order of the pages, on the lab."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from docgen.commands import LAB, MACHINES, Block, commands
from lab.drill import NAMESPACE
from lab.pair import Pair
from lab.stack import Stack

_SECONDS = 300


def test_every_command_for_a_running_pair_runs_as_written(ready: Stack, tmp_path: Path) -> None:
    found = commands(LAB, *MACHINES)
    assert {block.place for block in found} == {LAB, *MACHINES}
    environment = _shell(ready, tmp_path)
    for block in found:
        if block.place == LAB:
            _run(["bash", "-c", block.script], block, environment, tmp_path)
        else:
            done = ready.lab.machines[block.place].ssh(
                ["bash", "-s"], stdin=block.script.encode(), check=False, timeout=_SECONDS
            )
            assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
    assert Pair(ready, namespace=NAMESPACE).condition("Serving")["status"] == "True"


def _shell(stack: Stack, folder: Path) -> dict[str, str]:
    """The environment of a person whose kubectl is set to the lab's cluster and to the pair's namespace."""
    kubeconfig = folder / "kubeconfig"
    shutil.copy(stack.plane.admin_kubeconfig, kubeconfig)
    environment = {
        **{name: value for name, value in os.environ.items() if name in ("HOME", "LANG")},
        "PATH": f"{Path(sys.executable).parent}:{stack.kubectl_path.parent}:{os.environ['PATH']}",
        "KUBECONFIG": str(kubeconfig),
        "KUBECACHEDIR": str(folder / "cache"),
    }
    set_namespace = ["kubectl", "config", "set-context", "--current", f"--namespace={NAMESPACE}"]
    subprocess.run(set_namespace, env=environment, check=True, capture_output=True)
    return environment


def _run(argv: list[str], block: Block, environment: dict[str, str], folder: Path) -> None:
    done = subprocess.run(
        argv, cwd=folder, env=environment, capture_output=True, text=True, timeout=_SECONDS, check=False
    )
    assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
