"""What a person does by hand in an emergency, as the documentation has it, on a pair that is in that trouble."""

from __future__ import annotations

import pytest
from docgen.commands import PARTS, SURVIVOR, VICTIM, Block, commands
from lab import drill
from lab.drill import NAMESPACE
from lab.initiator import Initiator, Writer
from lab.lab import LabGuest
from lab.pair import Pair
from lab.stack import Stack
from lab.waiting import wait_for

pytestmark = pytest.mark.drill

CABLES = ("eth0", "eth1", "eth2", "eth3")
SPLIT_SECONDS = 90
SYNC_SECONDS = 300


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
    do(stop, victim)
    for cable in CABLES:
        victim.plug(cable)
    wait_for(lambda: "StandAlone" in (cstate(victim), cstate(survivor)), "DRBD to refuse", SPLIT_SECONDS, interval=0.5)
    standing = lambda: pair.condition("Replicated").get("reason") == "StandAlone"  # noqa: E731
    wait_for(standing, "the pair to say so", SPLIT_SECONDS, interval=0.5)
    do(resolve, victim)
    if cstate(survivor) == "StandAlone":
        do(connect, survivor)
    both = lambda: dstate(victim) == dstate(survivor) == "UpToDate/UpToDate"  # noqa: E731
    wait_for(both, "both copies to be UpToDate", SYNC_SECONDS, interval=1)
    do(start, victim)
    pair.wait_ready(seconds=SYNC_SECONDS)
    assert drill.serves(survivor)
    assert not drill.serves(victim)
    gone = survivor.ssh(["test", "-e", "/storage/written-after-the-split"], check=False)
    assert gone.returncode != 0, "the victim's changes are thrown away"
    assert Writer(initiator.guest, "split").verify_again(drill.log_in(initiator)).lost == 0


def test_a_disk_replaced_while_its_machine_was_off_is_filled_from_the_other_copy(ready: Stack) -> None:
    pair, initiator = Pair(ready, namespace=NAMESPACE), Initiator(ready.lab.initiator)
    active = ready.lab.machines[pair.active]
    repaired = ready.lab.machines[drill.other(pair, active.name)]
    writer = initiator.start_writer(drill.log_in(initiator), name="before")
    repaired.power_cut()
    repaired.blank_data_disk()
    repaired.power_up()
    repaired.wait_ssh()
    pair.wait_ready(seconds=SYNC_SECONDS)
    assert dstate(repaired) == "UpToDate/UpToDate"
    writer.wait_acked(20)
    result = writer.result()
    assert (result.lost, result.errors) == (0, 0)
    # what it was filled with: the other copy's machine goes, and everything is there
    active.power_cut()
    wait_for(lambda: drill.serves(repaired), f"{repaired.name} to serve", SPLIT_SECONDS, interval=0.5)
    assert writer.verify_again(drill.log_in(initiator)).lost == 0


def steps(page: str, *places: str) -> list[Block]:
    """The page's blocks for a pair in trouble; `places` is what they have to be, so that none is done elsewhere."""
    found = [block for block in commands(*PARTS) if block.page == page]
    assert tuple(block.place for block in found) == places
    return found


def do(block: Block, machine: LabGuest) -> None:
    """Run a block on the machine, as written."""
    done = machine.ssh(["bash", "-s"], stdin=block.script.encode(), check=False, timeout=SYNC_SECONDS)
    assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"


def cstate(machine: LabGuest) -> str:
    return machine.ssh(["drbdadm", "cstate", "storagepair"]).stdout.strip()


def dstate(machine: LabGuest) -> str:
    return machine.ssh(["drbdadm", "dstate", "storagepair"]).stdout.strip()
