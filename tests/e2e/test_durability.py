"""Promise 1 down to the disks: what was acknowledged is on them, on both, when the power goes.

The data disks of these machines have a cache that a power cut empties: only what was flushed is left. The writers do
not ask for durability themselves (no O_DSYNC, no flush): a WriteThrough LUN has to give it unasked.
"""

from __future__ import annotations

import json

import pytest
from lab import drill
from lab.drill import NAMESPACE
from lab.initiator import Initiator, Writer
from lab.lab import LabGuest
from lab.pair import Pair
from lab.stack import Stack
from lab.waiting import wait_for

WRITES = 40
# both machines boot, beside each other, on two emulated processors
SERVICE_SECONDS = 400


def without_kubernetes(stack: Stack) -> None:
    """What stands still does not come back with the power either: what follows is the hosts' own doing, and quicker."""
    for node in stack.lab.nodes:
        node.ssh("systemctl disable --quiet kubelet containerd && sync")


def start_writers(stack: Stack, *names: str) -> list[Writer]:
    """A writer for each of these LUNs, all of them at work."""
    pair, initiator = Pair(stack, namespace=NAMESPACE), Initiator(stack.lab.initiator)
    numbers = [pair.get("lun", name)["status"]["number"] for name in names]
    devices = [drill.log_in(initiator, number) for number in numbers]
    writers = [initiator.start_writer(d, name=n, dsync=False) for d, n in zip(devices, names, strict=True)]
    for writer in writers:
        writer.wait_acked(WRITES, timeout=SERVICE_SECONDS)
    return writers


def wait_served(writer: Writer, *nodes: LabGuest) -> None:
    """Wait until one of these nodes serves, and has acknowledged some writes."""
    served = lambda: any(drill.serves(node) for node in nodes)  # noqa: E731
    wait_for(served, "the service to be up", SERVICE_SECONDS, interval=0.5)
    writer.wait_acked(WRITES, timeout=SERVICE_SECONDS)


def power_back(stack: Stack, *nodes: LabGuest) -> None:
    for node in nodes:
        node.power_up()
    stack.lab.wait_ssh()


def make_write_back_lun(pair: Pair, name: str) -> None:
    document = {
        "apiVersion": "storagepair.dev/v1alpha1",
        "kind": "LUN",
        "metadata": {"name": name},
        "spec": {"pairRef": {"name": pair.name}, "size": "32Mi", "writePolicy": "WriteBack"},
    }
    pair.cluster.kubectl("apply", "-n", NAMESPACE, "-f", "-", stdin=json.dumps(document))
    ready = lambda: pair.condition("Ready", "lun", name).get("status") == "True"  # noqa: E731
    wait_for(ready, f"LUN {name}", 90, interval=0.5)


@pytest.mark.drill
def test_each_copy_holds_every_acknowledged_write_when_one_node_after_the_other_loses_its_power(frozen: Stack) -> None:
    first, second = sorted(frozen.lab.nodes, key=drill.serves, reverse=True)
    without_kubernetes(frozen)
    (writer,) = start_writers(frozen, "datastore1")
    first.power_cut()
    wait_served(writer, second)
    power_back(frozen, first)
    drill.wait_mirrored(second)
    assert drill.serves(second), "no automatic failback"
    second.power_cut()
    wait_served(writer, first)
    result = writer.result()
    print(f"{result.acked} acknowledged, {result.lost} lost, gaps {[gap.seconds for gap in result.gaps]}")
    assert (result.lost, result.errors) == (0, 0), result.document


def test_a_blackout_of_both_nodes_loses_no_acknowledged_write_and_the_service_comes_up_by_itself(frozen: Stack) -> None:
    pair = Pair(frozen, namespace=NAMESPACE)
    # the control: what a LUN acknowledges from memory must be seen to go, or the writer's verdict means nothing
    make_write_back_lun(pair, "from-memory")
    without_kubernetes(frozen)
    durable, control = start_writers(frozen, "datastore1", "from-memory")
    frozen.lab.blackout()
    power_back(frozen, *frozen.lab.nodes)
    wait_served(durable, *frozen.lab.nodes)
    kept, gone = durable.result(), control.result()
    print(f"{kept.acked} acknowledged, {kept.lost} lost, gap {kept.longest_gap} s; control: {gone.lost}/{gone.acked}")
    assert kept.lost == 0, kept.document
    assert gone.lost > 0, "the control lost nothing"
    assert sum(drill.serves(node) for node in frozen.lab.nodes) == 1


@pytest.mark.drill
def test_a_blackout_on_disks_that_never_get_a_flush_loses_acknowledged_writes(frozen: Stack) -> None:
    """The control of the disks: what the tests above keep is kept by the flushes of all layers, and by nothing else."""
    without_kubernetes(frozen)
    for node in frozen.lab.nodes:
        node.ssh(["tee", "/sys/block/vdb/queue/write_cache"], stdin=b"write through")
    (writer,) = start_writers(frozen, "datastore1")
    frozen.lab.blackout()
    power_back(frozen, *frozen.lab.nodes)
    wait_served(writer, *frozen.lab.nodes)
    result = writer.result()
    print(f"{result.acked} acknowledged, {result.lost} lost")
    assert result.lost > 0
