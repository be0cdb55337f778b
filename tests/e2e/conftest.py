"""Labs for the end-to-end tests: brought up once, and back in their first state before each test.

A test that fails tells what the lab looked like then; one during which a kernel crashed fails, whatever it saw.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Generator, Iterator

import pytest
from lab import lastwords
from lab.drill import NAMESPACE
from lab.image import DEFAULT_SUITE
from lab.initiator import Initiator
from lab.lab import Lab
from lab.pair import Pair
from lab.stack import Stack
from lab.waiting import SOON, wait_for

FRESH = "fresh"
BARE = "bare"
READY = "ready"

_LABS = pytest.StashKey[list[Lab]]()
_STACK = pytest.StashKey[Stack]()
_AT = pytest.StashKey[str]()
"""The snapshot that the stack is still at; "" once something may have changed it."""


def pytest_configure(config: pytest.Config) -> None:
    """Where the labs that are up are found by what is no test."""
    config.stash[_LABS] = []
    config.stash[_AT] = ""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What the pair's objects and hosts say, beside what the test says: the next test restores all of it."""
    report = yield
    stack = item.config.stash.get(_STACK, None)
    if report.failed:  # whatever it was to leave as it is
        item.config.stash[_AT] = ""
    if report.failed and stack is not None and "stack_session" in getattr(item, "fixturenames", ()):
        report.sections.append(("the lab", lastwords.of_pair(stack.kubectl, stack.lab.nodes)))
    return report


@pytest.fixture(autouse=True)
def no_kernel_crashes(request: pytest.FixtureRequest) -> Iterator[None]:
    """An emulator's fault, or a driver's: what a test makes of it is no answer to what it asks."""

    def crashes() -> Counter[str]:
        machines = [machine for lab in request.config.stash[_LABS] for machine in lab.machines.values()]
        return Counter(f"{machine.name}: {word}" for machine in machines for word in lastwords.crashes(machine))

    before = crashes()
    yield
    assert not crashes() - before, "a kernel crashed"


# its tests come first by their name, and it ends before the whole stack is up: two labs at once are slow on two cores.
# Then those of the bare stack, before a pair is on it: they need no restore
@pytest.fixture(scope="module")
def bare_lab_session(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A lab of bare machines, with the snapshot `fresh`. It ends with this process, however that ends."""
    # the first run on a machine builds for minutes, which must be seen while it happens
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        lab = Lab.up(f"e2e-{os.getpid()}", suite=os.environ.get("SUITE", DEFAULT_SUITE), owner_pid=os.getpid())
    try:
        lab.snapshot(FRESH)
        request.config.stash[_LABS].append(lab)
        yield lab
    finally:
        lab.down()


@pytest.fixture()
def bare_lab(bare_lab_session: Lab) -> Lab:
    """Bare machines, booted: no bond, no address, no configuration, everything plugged in."""
    bare_lab_session.restore(FRESH)
    return bare_lab_session


@pytest.fixture()
def initiator(bare_lab: Lab) -> Initiator:
    """The initiator of the bare lab."""
    return Initiator(bare_lab.initiator)


@pytest.fixture(scope="session")
def stack_session(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """The whole stack with bare hosts, whose disks lose what was not flushed: agents, operator; snapshot `bare`."""
    # the first run on a machine builds for minutes, which must be seen while it happens
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        suite = os.environ.get("SUITE", DEFAULT_SUITE)
        stack = Stack.up(f"stack-{os.getpid()}", suite=suite, owner_pid=os.getpid(), volatile_disks=True)
    try:
        stack.kubectl("create", "namespace", NAMESPACE)
        stack.snapshot(BARE)
        request.config.stash[_AT] = BARE
        request.config.stash[_LABS].append(stack.lab)
        request.config.stash[_STACK] = stack
        yield stack
    finally:
        stack.down(keep_logs=request.session.testsfailed > 0)


@pytest.fixture(scope="session")
def ready_session(request: pytest.FixtureRequest, stack_session: Stack) -> Stack:
    """The sample pair applied and Ready, once, from bare hosts; with kubelets that stand still, snapshot `ready`."""
    pair = Pair(stack_session, namespace=NAMESPACE)
    _bring(request, stack_session, BARE)
    pair.apply()
    pair.wait_ready()
    # they take a quarter of an emulated processor, and more when they are restored and catch up
    stack_session.freeze_kubelets()
    stack_session.snapshot(READY)
    request.config.stash[_AT] = READY
    return stack_session


@pytest.fixture()
def bare(request: pytest.FixtureRequest, stack_session: Stack) -> Stack:
    """The stack with bare hosts and no pair."""
    _bring(request, stack_session, BARE)
    return stack_session


@pytest.fixture()
def frozen(request: pytest.FixtureRequest, ready_session: Stack) -> Stack:
    """The stack with the sample pair Ready, and with kubelets and containerd that stand still; the agents go on."""
    _bring(request, ready_session, READY)
    pair = Pair(ready_session, namespace=NAMESPACE)
    # the machines go on one after the other, so that the mirror may break for a moment; the pair's own status is still
    # the snapshot's until the operator has looked
    for node in ready_session.lab.nodes:
        wait_for(lambda node=node: "cs:Connected" in node.read("/proc/drbd"), f"the mirror on {node.name}", SOON)
    judged = lambda: ready_session.judgement(f"{NAMESPACE}/{pair.name}").startswith("Ready: ")  # noqa: E731
    wait_for(judged, "the operator to call the pair Ready", 180, interval=0.2)
    pair.wait_ready(seconds=180)
    return ready_session


@pytest.fixture()
def ready(request: pytest.FixtureRequest, frozen: Stack) -> Stack:
    """The stack with the sample pair Ready, kubelets and all."""
    frozen.thaw_kubelets()
    request.config.stash[_AT] = ""
    return frozen


def _bring(request: pytest.FixtureRequest, stack: Stack, tag: str) -> None:
    """The stack as it was when the snapshot was made; a third of a minute, saved where nothing has happened since."""
    stash = request.config.stash
    if stash[_AT] != tag:
        stack.restore(tag)
    stash[_AT] = tag if request.node.get_closest_marker("looks_only") else ""
