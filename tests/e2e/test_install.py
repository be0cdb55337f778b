"""docs/how-to/install.md, as written, where the lab can't show it: no mirror there, and an operator already."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from docgen.commands import HOST, OPERATOR, ROOT, commands
from lab import debian
from lab.controlplane import ControlPlane
from lab.keeper import Keeper
from lab.reader import environment
from lab.waiting import SOON, wait_for
from storagepair_node_agent.subsystems import preflight

pytestmark = pytest.mark.drill

NAMESPACE, NAME = "storagepair-system", "storagepair-operator"
# what every Debian that boots has
_BARE = ("ca-certificates", "kmod", "mount", "systemd-sysv", "util-linux")
_READY_URL = "http://127.0.0.1:8080/readyz"  # where it is when nothing else was asked for
_SECONDS = 900
_YES = "y\n"


@pytest.mark.parametrize("suite", debian.SUITES)
def test_after_the_pages_packages_a_bare_debian_misses_nothing_that_the_agent_asks_for(
    suite: str, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    debian.build_rootfs(suite, root, tmp_path / "mmdebstrap.log", _BARE)
    # nothing is started: this is a folder on somebody's machine
    rule = root / "usr" / "sbin" / "policy-rc.d"
    rule.write_text("#!/bin/sh\nexit 101\n")
    rule.chmod(0o755)
    _in(root, "apt-get update")
    assert _missing(root), "a bare Debian has all of it, and this test shows nothing"
    for block in commands(HOST):
        print(f"{block}\n{_in(root, block.script, answers=_YES)}")
    assert _missing(root) == []


def _in(root: Path, script: str, *, answers: str = "") -> str:
    """Run a script as root in a root file system, with this machine's network and nothing else of it."""
    private = 'mount -t proc proc "$1/proc" && mount -t tmpfs tmpfs "$1/tmp" && exec chroot "$1" bash -c "$2"'
    done = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "/bin/sh", "-ec", private, "host", str(root), script],
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C", "DEBIAN_FRONTEND": "noninteractive"},
        input=answers,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


def _missing(root: Path) -> list[str]:
    """The programs of the agent's own list that are in none of the places where it looks."""
    looks = "; ".join(
        f"{' || '.join(f'command -v {each} >/dev/null' for each in program.split('|'))} || echo '{program}'"
        for program in preflight.PROGRAMS
    )
    return _in(root, looks).splitlines()


@pytest.fixture
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A cluster with our manifests in it. What was deployed by them does not run: it has no node."""
    folder = tmp_path_factory.mktemp("p")
    keeper = Keeper.start(folder, owner_pid=os.getpid())
    try:
        plane = ControlPlane.start(keeper, folder / "plane", controllers=False)
        apply = ["kubectl", "apply", "--server-side", "-k", "manifests/"]
        shell = environment(plane.admin_kubeconfig, folder / "cache")
        subprocess.run(apply, cwd=ROOT, env=shell, check=True, timeout=120, capture_output=True)
        yield plane
    finally:
        keeper.shutdown()


def test_the_operator_runs_outside_of_the_cluster_until_it_is_interrupted(plane: ControlPlane, tmp_path: Path) -> None:
    (block,) = commands(OPERATOR)
    plane.service_account_kubeconfig(NAMESPACE, NAME, tmp_path / "operator.kubeconfig")
    with (tmp_path / "log").open("wb") as log:
        started = subprocess.Popen(
            ["bash", "-c", block.script],
            cwd=tmp_path,
            env=environment(plane.admin_kubeconfig, tmp_path / "cache"),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_for(lambda: started.poll() is not None or _ready(), "the operator to be ready", SOON)
        assert started.poll() is None, (tmp_path / "log").read_text()
        wait_for(lambda: _holder(plane), "its Lease", SOON)
    finally:
        os.killpg(started.pid, signal.SIGINT)  # as Ctrl-C does: to the shell and to what runs in it
        started.wait(60)
    assert "Traceback" not in (tmp_path / "log").read_text()
    assert not _holder(plane), "the Lease is given back, so that a successor need not wait"


def _ready() -> bool:
    try:
        with urllib.request.urlopen(_READY_URL, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError):
        return False


def _holder(plane: ControlPlane) -> str:
    """Which operator leads; "" if none."""
    leases = plane.client().get(f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases")["items"]
    holders = [each["spec"].get("holderIdentity") or "" for each in leases if each["metadata"]["name"] == NAME]
    assert len(holders) <= 1, json.dumps(leases)
    return "".join(holders)
