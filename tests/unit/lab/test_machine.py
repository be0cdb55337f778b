"""A machine's QEMU arguments, and its wiring."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from lab import state
from lab.machine import INITIATOR, STORAGE, MachineSpec

NODE = MachineSpec(
    name="node1",
    role=STORAGE,
    index=1,
    run_dir=Path("/run/lab/x"),
    kernel=Path("/disks/vmlinux"),
    initrd=Path("/disks/initrd"),
    root_disk=Path("/disks/node1.qcow2"),
    data_disk=Path("/disks/node1-data.qcow2"),
    loopback="127.88.1.1",
    emulator=Path("/qemu"),
    accelerator="tcg",
)
WIRING = state.LabState("x", "trixie", False, "qemu", "tcg", "key", 1, 512, 192, owned=False)


def values(arguments: list[str], option: str) -> list[str]:
    return [arguments[index + 1] for index, word in enumerate(arguments) if word == option]


def test_a_guests_reboot_is_a_reboot_and_not_the_end_of_the_machine() -> None:
    assert "-no-reboot" not in NODE.arguments()


def test_cards_are_in_the_order_of_their_names() -> None:
    cards = [each for each in values(NODE.arguments(), "-device") if each.startswith("virtio-net")]
    assert [card.split("netdev=")[1].split(",")[0] for card in cards] == [f"eth{n}" for n in range(6)]
    slots = [int(card.split("addr=")[1], 16) for card in cards]
    assert slots == sorted(slots)
    assert len({card.split("mac=")[1].split(",")[0] for card in cards}) == 6


def test_four_cards_go_to_the_four_switches() -> None:
    assert NODE.ports() == {
        "node1-eth0": "svcA",
        "node1-eth1": "svcB",
        "node1-eth2": "replA",
        "node1-eth3": "replB",
    }
    netdevs = values(NODE.arguments(), "-netdev")
    assert "stream,id=eth0,server=off,addr.type=unix,addr.path=/run/lab/x/node1-eth0.sock" in netdevs


def test_management_lets_ssh_in_and_nothing_out() -> None:
    (management,) = [each for each in values(NODE.arguments(), "-netdev") if "id=eth4" in each]
    assert "restrict=on" in management
    assert "hostfwd=tcp:127.88.1.1:2222-10.0.3.15:22" in management


def test_every_node_has_a_cluster_address_of_its_own() -> None:
    assert NODE.cluster_address != replace(NODE, index=2).cluster_address
    assert f"lab.address={NODE.cluster_address}" in NODE.kernel_options()


def test_all_disks_can_hold_a_snapshot() -> None:
    drives = values(NODE.arguments(), "-drive")
    assert len(drives) == 2
    assert all("format=qcow2" in drive for drive in drives)


def test_the_initiator_has_no_data_disk_and_does_not_run_a_storage_hosts_services() -> None:
    initiator = replace(NODE, name="initiator", role=INITIATOR, index=3)
    assert len(values(initiator.arguments(), "-drive")) == 1
    assert "systemd.mask=tgt.service" in initiator.kernel_options()
    assert "systemd.mask=tgt.service" not in NODE.kernel_options()
    assert "lab.cluster=" not in initiator.kernel_options()


def test_a_restored_machine_waits_to_be_told_to_go_on() -> None:
    restored = NODE.arguments(restore="fresh")
    assert values(restored, "-loadvm") == ["fresh"]
    assert "-S" in restored
    assert values(NODE.arguments(incoming=True), "-incoming") == ["defer"]
    assert "-S" not in NODE.arguments()


def test_the_accelerator_is_the_one_that_was_probed() -> None:
    assert values(replace(NODE, accelerator="kvm").arguments(), "-accel") == ["kvm"]
    assert values(NODE.arguments(), "-accel")[0].startswith("tcg")


def test_kubernetes_is_kept_out_unless_asked_for() -> None:
    assert "lab.nokube" in NODE.kernel_options()
    assert "lab.nokube" not in replace(NODE, kube=True).kernel_options()


def test_an_emulated_machine_is_told_how_fast_its_clock_runs():
    assert "tsc_early_khz" not in NODE.kernel_options()
    assert "tsc_early_khz=2596146" in replace(NODE, tsc_khz=2596146).kernel_options()


def test_machines_differ_in_their_machine_id() -> None:
    ids = [
        word
        for spec in (NODE, replace(NODE, name="node2"))
        for word in spec.kernel_options().split()
        if word.startswith("systemd.machine_id=")
    ]
    assert len(set(ids)) == 2


def carriers(wiring: state.LabState) -> dict[str, bool]:
    return {nic.name: wiring.carrier(NODE, nic) for nic in STORAGE.nics}


def test_everything_plugged_in_has_a_carrier() -> None:
    assert all(carriers(WIRING).values())


def test_an_unplugged_card_has_none_until_it_is_plugged_in() -> None:
    unplugged = state.rewire(WIRING, unplug="node1-eth0")
    assert [name for name, up in carriers(unplugged).items() if not up] == ["eth0"]
    assert all(carriers(state.rewire(unplugged, plug="node1-eth0")).values())


def test_a_switch_that_is_off_takes_the_carrier_of_its_cards_but_plugging_in_does_not_help() -> None:
    off = state.rewire(state.rewire(WIRING, switch_off="replB"), plug="node1-eth3")
    assert [name for name, up in carriers(off).items() if not up] == ["eth3"]


def test_an_unplugged_card_stays_so_when_its_switch_comes_back() -> None:
    both = state.rewire(state.rewire(WIRING, unplug="node1-eth0"), switch_off="svcA")
    assert not carriers(state.rewire(both, switch_on="svcA"))["eth0"]


def test_cutting_the_api_off_leaves_ssh() -> None:
    cut = carriers(state.rewire(WIRING, api_cut=True))
    assert [name for name, up in cut.items() if not up] == ["eth5"]


def test_the_state_survives_its_file(tmp_path: Path) -> None:
    wired = state.rewire(state.rewire(WIRING, unplug="node1-eth0"), switch_off="svcA")
    state.save(tmp_path, wired)
    assert state.load(tmp_path) == wired


@pytest.mark.parametrize("name", ["", "../x", "a b", "X", "x" * 40])
def test_a_name_that_makes_no_good_folder_is_refused(name: str) -> None:
    with pytest.raises(state.LabError):
        state.run_dir(name)
