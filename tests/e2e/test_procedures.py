"""What a person does by hand in an emergency, as the documentation has it, on a pair that is in that trouble."""

from __future__ import annotations

import pytest
from docgen.commands import REPAIRED, SURVIVOR, VICTIM, steps
from lab import drill
from lab.drill import NAMESPACE
from lab.initiator import Initiator, Writer
from lab.lab import LabGuest
from lab.pair import Pair
from lab.reader import Reader
from lab.stack import Stack
from lab.waiting import SOON, wait_for

pytestmark = pytest.mark.drill

CABLES = ("eth0", "eth1", "eth2", "eth3")
SPLIT_SECONDS = 90
SYNC_SECONDS = 300
# an emulated machine's first boot, its kubelet, the agent's pod, and the mirror's whole content
READY_SECONDS = 900


def test_a_split_brain_is_resolved_as_the_page_says_and_the_survivor_keeps_every_acknowledged_write(
    ready: Stack,
) -> None:
    stop, resolve, connect, start = steps("how-to/split-brain.md", VICTIM, VICTIM, SURVIVOR, VICTIM)
    pair, initiator = Pair(ready, namespace=NAMESPACE), Initiator(ready.lab.initiator)
    victim = ready.lab.machines[pair.active]
    survivor = ready.lab.machines[drill.other(pair, victim.name)]

    def cut_off() -> None:
        for cable in CABLES:
            victim.unplug(cable)

    outcome = drill.run(initiator, cut_off, survivor, name="split")
    assert (outcome.result.lost, outcome.result.errors) == (0, 0)
    assert drill.serves(victim), "it can't know: both serve now, each for itself"
    victim.ssh("date > /storage/written-after-the-split && sync")
    Reader.do_on(victim, stop)

    def masked() -> bool:
        return bool(pair.condition("Heartbeat", "storagenode", victim.name).get("reason") == "Masked")

    wait_for(masked, "the agent to leave it stopped", SPLIT_SECONDS, interval=0.5)
    for cable in CABLES:
        victim.plug(cable)
    wait_for(lambda: "StandAlone" in (cstate(victim), cstate(survivor)), "DRBD to refuse", SPLIT_SECONDS, interval=0.5)
    standing = lambda: pair.condition("Replicated").get("reason") == "StandAlone"  # noqa: E731
    wait_for(standing, "the pair to say so", SPLIT_SECONDS, interval=0.5)
    Reader.do_on(victim, resolve)
    if cstate(survivor) == "StandAlone":
        Reader.do_on(survivor, connect)
    both = lambda: dstate(victim) == dstate(survivor) == "UpToDate/UpToDate"  # noqa: E731
    wait_for(both, "both copies to be UpToDate", SYNC_SECONDS, interval=1)
    Reader.do_on(victim, start)
    pair.wait_ready(seconds=SYNC_SECONDS)
    assert drill.serves(survivor)
    assert not drill.serves(victim)
    assert [found["to"] for found in pair.failovers()] == [survivor.name], "the service moved once, by the split"
    gone = survivor.ssh(["test", "-e", "/storage/written-after-the-split"], check=False)
    assert gone.returncode != 0, "the victim's changes are thrown away"
    assert Writer(initiator.guest, "split").verify_again(drill.log_in(initiator)).lost == 0


def test_a_dead_disk_of_the_active_node_is_replaced_as_the_page_says_while_the_service_runs(ready: Stack) -> None:
    (replace,) = steps("how-to/replace-a-disk.md", REPAIRED)
    pair, initiator = Pair(ready, namespace=NAMESPACE), Initiator(ready.lab.initiator)
    repaired = ready.lab.machines[pair.active]
    writer = initiator.start_writer(drill.log_in(initiator), name="disk")
    writer.wait_acked(20)
    repaired.ssh("echo 1 > $(readlink -f /sys/block/vdb/device/..)/remove")
    wait_for(lambda: dstate(repaired) == "Diskless/UpToDate", "DRBD to let go of the disk", 60, interval=0.5)
    pair.wait_condition("Replicated", "False", seconds=SOON)
    repaired.ssh("echo 1 > /sys/bus/pci/rescan && udevadm settle && blkdiscard --zeroout /dev/vdb")
    Reader.do_on(repaired, replace)
    pair.wait_ready(seconds=SYNC_SECONDS)
    writer.wait_acked(20)
    result = writer.result()
    assert (result.lost, result.errors) == (0, 0)
    assert pair.failovers() == [], "nothing moved"
    takes_all_over(ready, repaired, writer, lost=drill.other(pair, repaired.name))


def test_a_disk_replaced_while_its_machine_was_off_is_filled_from_the_other_copy(ready: Stack) -> None:
    pair, initiator = Pair(ready, namespace=NAMESPACE), Initiator(ready.lab.initiator)
    active = ready.lab.machines[pair.active]
    repaired = ready.lab.machines[drill.other(pair, active.name)]
    writer = initiator.start_writer(drill.log_in(initiator), name="before")
    repaired.power_cut()
    repaired.blank_data_disk()
    repaired.power_up()
    repaired.wait_ssh()
    pair.wait_condition("Replicated", "False", seconds=SOON)
    pair.wait_ready(seconds=SYNC_SECONDS)
    writer.wait_acked(20)
    result = writer.result()
    assert (result.lost, result.errors) == (0, 0)
    takes_all_over(ready, repaired, writer, lost=active.name)


def test_a_new_machine_in_the_place_of_a_lost_node_is_set_up_and_filled_and_can_take_over(ready: Stack) -> None:
    """Of the node that the pair was filled from at first: it must not be taken for the source once more."""
    pair, initiator = Pair(ready, namespace=NAMESPACE), Initiator(ready.lab.initiator)
    lost = ready.lab.machines[pair.active]
    assert ready.kubectl("get", "storagenode", lost.name, "-o", "jsonpath={.spec.replication.seed}") == lost.name
    survivor = ready.lab.machines[drill.other(pair, lost.name)]
    writer = initiator.start_writer(drill.log_in(initiator), name="node")
    writer.wait_acked(20)
    lost.power_cut()
    wait_for(lambda: drill.serves(survivor), "the survivor to serve", SPLIT_SECONDS, interval=0.5)
    with lost.another_machine():
        lost.power_up()
        lost.wait_ssh()
        ready.join_again(lost)
        pair.wait_condition("Replicated", "False", seconds=SOON)
        pair.wait_ready(seconds=READY_SECONDS)
        assert pair.active == survivor.name, "nothing moves back"
        writer.wait_acked(20)
        result = writer.result()
        assert (result.lost, result.errors) == (0, 0)
        takes_all_over(ready, lost, writer, lost=survivor.name)


def takes_all_over(stack: Stack, taker: LabGuest, writer: Writer, *, lost: str) -> None:
    """The other copy's machine goes, and everything that was acknowledged is on this one."""
    assert dstate(taker) == "UpToDate/UpToDate"
    stack.lab.machines[lost].power_cut()
    wait_for(lambda: drill.serves(taker), f"{taker.name} to serve", SPLIT_SECONDS, interval=0.5)
    assert writer.verify_again(drill.log_in(Initiator(stack.lab.initiator))).lost == 0


def cstate(machine: LabGuest) -> str:
    return machine.ssh(["drbdadm", "cstate", "storagepair"]).stdout.strip()


def dstate(machine: LabGuest) -> str:
    return machine.ssh(["drbdadm", "dstate", "storagepair"]).stdout.strip()
