"""A real API server for the tests in this folder: one for all of them, and a namespace for each."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab.binaries import binaries
from lab.controlplane import ControlPlane
from lab.keeper import Keeper, KeeperGone
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

RUN_DIR_PREFIX = "storagepair-api-"
# younger ones may belong to a run that is just starting its keeper
SWEPT_AFTER_SECONDS = 600
# a group is one worker's, with an API server of its own. That is a file, or a part of one: the last group to end is who
# everybody waits for
_REFUSAL = "test_switchover.py::test_a_refusal_names_what_is_in_the_way_and_changes_nothing"
PARTS = {
    f"{_REFUSAL}[NotServing]": "refused while nobody serves",
    _REFUSAL: "refused",
    "test_silent_agents.py::test_an_operator_that_starts_anew": "silent, and a new operator",
    "test_silent_agents.py::test_an_api_server_that_was_away": "never called silent",
    "test_silent_agents.py::test_agents_of_an_earlier_version": "never called silent",
    "test_weather.py::test_slow_answers": "slow answers",
}
# xdist gives each worker two groups before it gives anybody a third. So for ten: first what takes longer, the shortest
# of it first, then what takes less than a minute, the longest of it first
ORDER = (
    *("slow answers", "refused while nobody serves", "never called silent", "silent, and a new operator", "refused"),
    *("test_silent_agents.py", "test_weather.py", "test_agent_weather.py"),
    *("test_operator_guards.py", "test_switchover.py"),
    *("test_control_plane.py", "test_agent_client.py", "test_operator_scale.py"),
    *("test_operator.py", "test_lifecycle.py", "test_generated_documents.py"),
)


def group(nodeid: str) -> str:
    """Which group a test belongs to."""
    return next((PARTS[part] for part in PARTS if part in nodeid), nodeid.partition("::")[0].rpartition("/")[2])


class Groups(LoadScopeScheduling):
    """A group goes to one worker. (xdist's own `loadgroup` finds no group with pytest 9.2.)"""

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Groups:
    return Groups(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {name: number for number, name in enumerate(ORDER)}
    items.sort(key=lambda item: rank.get(group(item.nodeid), len(rank)))


@pytest.fixture(scope="session")
def keeper(request: pytest.FixtureRequest) -> Iterator[Keeper]:
    """Owns the processes of the tests' control planes, and ends them with this process however it ends."""
    # the first run on a machine builds for minutes, which must be seen while it happens
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        binaries("etcd", "kube-apiserver", "kubectl")
    _sweep()
    # not pytest's folder: unix sockets want short paths
    run_dir = Path(tempfile.mkdtemp(prefix=RUN_DIR_PREFIX))
    keeper = Keeper.start(run_dir, owner_pid=os.getpid())
    try:
        yield keeper
    finally:
        keeper.shutdown()
        shutil.rmtree(run_dir)


@pytest.fixture(scope="session")
def control_plane(keeper: Keeper) -> ControlPlane:
    """etcd and kube-apiserver, without controllers: what is deleted with a finalizer or an owner stays."""
    return ControlPlane.start(keeper, keeper.run_dir / "session", controllers=False)


@pytest.fixture
def namespace(control_plane: ControlPlane, request: pytest.FixtureRequest) -> str:
    """A namespace of the test's own. It is left behind: the control plane is thrown away with it."""
    slug = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:40].rstrip("-")
    name = f"{slug}-{secrets.token_hex(3)}"
    control_plane.client().post("/api/v1/namespaces", {"metadata": {"name": name}})
    return name


def _sweep() -> None:
    """Remove the files of earlier runs that were killed; their processes went with them."""
    for folder in Path(tempfile.gettempdir()).glob(f"{RUN_DIR_PREFIX}*"):
        # another process of this run may be sweeping too
        with contextlib.suppress(FileNotFoundError):
            if time.time() - folder.stat().st_mtime > SWEPT_AFTER_SECONDS:
                try:
                    Keeper.connect(folder)
                except KeeperGone:
                    shutil.rmtree(folder, ignore_errors=True)
