"""The lab itself: do its machines, cables, switches and snapshots behave like the real things?"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from lab import emulator, registry, state
from lab.guest import Guest
from lab.initiator import SERVICE_ADDRESS, Initiator
from lab.lab import Lab
from lab.machine import HOST_FROM_GUEST
from lab.waiting import SOON, wait_for

TARGET = "iqn.2011-03.org.weithenn:lab.test"


def make_bond(guest: Guest, name: str, members: tuple[str, str], address: str) -> None:
    """What the node agent will do properly."""
    lines = [f"link add {name} type bond mode active-backup miimon 100"]
    lines += [f"link set {member} master {name}" for member in members]
    lines += [f"link set {name} up", f"addr add {address}/24 dev {name}"]
    guest.ssh(["ip", "-batch", "-"], stdin="\n".join(lines).encode())


def make_service_bonds(lab: Lab) -> None:
    make_bond(lab.node1, "bond0", ("eth0", "eth1"), "10.10.25.131")
    make_bond(lab.node2, "bond0", ("eth0", "eth1"), "10.10.25.132")


def clock_is_right(guest: Guest, within_seconds: float) -> bool:
    """However long it takes to ask."""
    before = time.time()
    told = float(guest.ssh("date +%s.%N").stdout)
    return before - within_seconds < told < time.time() + within_seconds


def pings(guest: Guest, address: str) -> bool:
    return guest.ssh(["ping", "-q", "-c", "3", "-i", "0.2", "-W", "2", address], check=False).returncode == 0


def carrier(guest: Guest, nic: str) -> str:
    return guest.ssh(f"ip link set {nic} up && sleep 0.3 && cat /sys/class/net/{nic}/carrier").stdout.strip()


def test_a_storage_node_is_a_bare_server_with_all_that_the_stack_needs(bare_lab: Lab) -> None:
    modules = "modprobe -a bonding drbd iscsi_tcp xfs ext4 nf_tables overlay"
    for guest in (*bare_lab.nodes, bare_lab.initiator):
        guest.ssh(modules)
    for node in bare_lab.nodes:
        assert "8.4.11" in node.read("/proc/drbd")
        assert node.ssh("ls /sys/class/net | tr '\\n' ' '").stdout.split() == [
            *("bonding_masters", "eth0", "eth1", "eth2", "eth3", "eth4", "eth5", "lo"),
        ]
        assert node.ssh("ip -br -4 addr show scope global | grep -c 'eth[0-3]'", check=False).stdout.strip() == "0"
        assert node.ssh("blkid -p /dev/vdb", check=False).returncode == 2, "the DRBD disk is not empty"
        node.ssh("command -v drbdadm heartbeat tgtadm mkfs.xfs mkfs.ext4 nft runc || ls /usr/lib/heartbeat/heartbeat")
    assert bare_lab.node1.read("/etc/machine-id") != bare_lab.node2.read("/etc/machine-id")


def test_the_emulator_needs_nothing_that_is_installed_on_this_machine() -> None:
    """One that never had a QEMU lacks its libraries and its firmware."""
    folder = emulator.emulator()
    command = emulator.command(folder)
    loader, option, path, program, *_ = command
    listed = subprocess.run([loader, option, path, "--list", program], capture_output=True, text=True, check=True)
    libraries = [line.split(" => ")[1].split()[0] for line in listed.stdout.splitlines() if " => " in line]
    assert libraries
    assert [library for library in libraries if not library.startswith(f"{folder}/")] == []

    hide = 'for each in /usr/share/qemu /usr/share/seabios; do [ ! -d "$each" ] || mount -t tmpfs none "$each"; done'
    start = [*command, "-S", "-nodefaults", "-display", "none", "-monitor", "stdio"]
    without = ["unshare", "--mount", "sh", "-c", f'{hide}; exec "$@"', "sh", *start]
    done = subprocess.run(without, input="quit\n", capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.drill
def test_a_bond_hides_a_pulled_cable_and_a_dead_switch(bare_lab: Lab) -> None:
    node = bare_lab.node1
    make_service_bonds(bare_lab)
    assert pings(node, "10.10.25.132")
    assert pings(node, SERVICE_ADDRESS)
    node.unplug("eth0")
    time.sleep(0.5)
    assert "Currently Active Slave: eth1" in node.read("/proc/net/bonding/bond0")
    assert pings(node, "10.10.25.132"), "from switch B to a bond on switch A, over the link between them"
    bare_lab.switch_off("svcB")
    time.sleep(0.5)
    assert carrier(node, "eth1") == "0"
    assert not pings(node, SERVICE_ADDRESS), "one cable pulled, the other's switch off"
    assert pings(bare_lab.node2, SERVICE_ADDRESS)
    node.plug("eth0")
    time.sleep(0.5)
    assert pings(node, SERVICE_ADDRESS)
    bare_lab.switch_on("svcB")
    assert carrier(node, "eth1") == "1"


@pytest.mark.drill
def test_the_replication_network_is_apart_from_the_service_network(bare_lab: Lab) -> None:
    make_service_bonds(bare_lab)
    make_bond(bare_lab.node1, "bond1", ("eth2", "eth3"), "192.168.1.131")
    make_bond(bare_lab.node2, "bond1", ("eth2", "eth3"), "192.168.1.132")
    assert pings(bare_lab.node1, "192.168.1.132")
    bare_lab.switch_off("svcA")
    bare_lab.switch_off("svcB")
    time.sleep(0.5)
    assert pings(bare_lab.node1, "192.168.1.132")
    assert not pings(bare_lab.node1, "10.10.25.132")


def test_a_machine_comes_back_after_a_power_cut_with_its_disk_and_its_cables(bare_lab: Lab) -> None:
    node = bare_lab.node1
    node.ssh("echo kept > /root/file && sync")
    node.unplug("eth2")
    before = node.boot_id()
    cut_at = node.power_cut()
    assert abs(cut_at - time.time()) < 5
    assert not node.is_on()
    node.power_up()
    node.wait_ssh()
    assert node.boot_id() != before
    assert node.read("/root/file") == "kept\n"
    assert carrier(node, "eth2") == "0"
    assert clock_is_right(node, 2)


@pytest.mark.drill
def test_a_machine_that_reboots_itself_is_rebooted_and_not_gone(bare_lab: Lab) -> None:
    # Heartbeat does this when a resource will not stop
    node = bare_lab.node2
    before = node.boot_id()
    node.ssh("(sleep 0.5; reboot -nf) > /dev/null 2>&1 < /dev/null &")
    time.sleep(3)
    node.wait_ssh()
    wait_for(lambda: node.boot_id() != before, "the node to reboot", 300, interval=1)


def test_a_snapshot_is_the_whole_lab(bare_lab: Lab) -> None:
    node = bare_lab.node1
    node.ssh("echo before > /root/file && (sleep 1000 > /dev/null 2>&1 &)")
    node.unplug("eth1")
    bare_lab.snapshot("middle")
    node.ssh("echo after > /root/file; pkill sleep")
    node.plug("eth1")
    bare_lab.switch_off("replA")
    bare_lab.node2.power_cut()
    bare_lab.restore("middle")
    assert node.read("/root/file") == "before\n"
    assert node.ssh("pgrep sleep", check=False).returncode == 0, "the processes are back too"
    assert carrier(node, "eth1") == "0"
    assert carrier(node, "eth2") == "1"
    assert bare_lab.node2.is_on()
    for guest in bare_lab.machines.values():
        assert clock_is_right(guest, 1)


@pytest.mark.drill
def test_a_snapshot_remembers_which_machines_had_no_power(bare_lab: Lab) -> None:
    bare_lab.node2.power_cut()
    bare_lab.snapshot("one-off")
    bare_lab.node2.power_up()
    bare_lab.node2.wait_ssh()
    bare_lab.node2.ssh("echo new > /root/file && sync")
    bare_lab.restore("one-off")
    assert not bare_lab.node2.is_on()
    bare_lab.node2.power_up()
    bare_lab.node2.wait_ssh()
    assert bare_lab.node2.ssh("test -e /root/file", check=False).returncode == 1


@pytest.mark.drill
def test_the_way_to_the_api_server_can_be_cut_while_ssh_works(bare_lab: Lab) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def serve() -> None:
            while True:
                try:
                    server.accept()[0].close()
                except OSError:
                    return

        threading.Thread(target=serve, daemon=True).start()
        connect = f"timeout 3 bash -c 'exec 3<>/dev/tcp/{HOST_FROM_GUEST}/{port}'"
        assert bare_lab.node1.ssh(connect, check=False).returncode == 0
        bare_lab.cut_api()
        assert bare_lab.node1.ssh(connect, check=False).returncode != 0
        bare_lab.restore_api()
        assert bare_lab.node1.ssh(connect, check=False).returncode == 0


def make_target(node: Guest, file: str) -> None:
    """A target with one LUN on a file, by hand."""
    tgtadm = "tgtadm --lld iscsi"
    lines = [
        f"truncate -s 32M {file}",
        f"{tgtadm} --op new --mode target --tid 1 -T {TARGET}",
        f"{tgtadm} --op new --mode logicalunit --tid 1 --lun 1 -b {file}",
        f"{tgtadm} --op bind --mode target --tid 1 -I ALL",
    ]
    node.ssh("set -e; " + "; ".join(lines))


def test_the_writer_finds_all_it_wrote_through_iscsi_and_misses_what_was_damaged(
    bare_lab: Lab, initiator: Initiator
) -> None:
    make_service_bonds(bare_lab)
    make_target(bare_lab.node1, "/root/lun")
    assert initiator.discover("10.10.25.131") == [TARGET]
    initiator.login(TARGET, "10.10.25.131")
    device = initiator.device(TARGET, 1)
    writer = initiator.start_writer(device)
    writer.wait_acked(50)
    # long enough for a gap, short enough for no error
    bare_lab.switch_off("svcA")
    bare_lab.switch_off("svcB")
    time.sleep(3)
    bare_lab.switch_on("svcA")
    bare_lab.switch_on("svcB")
    writer.wait_acked(50)
    result = writer.result()
    assert result.acked > 100
    assert (result.lost, result.errors) == (0, 0)
    assert 2.5 < result.longest_gap < 30
    # the negative control, on the same path: a block is damaged behind the initiator's back
    bare_lab.node1.ssh("printf x | dd of=/root/lun bs=1 seek=$((20 * 4096 + 4095)) conv=notrunc status=none")
    assert writer.verify_again(device).lost == 1


def test_nothing_is_left_when_the_owner_is_killed(tmp_path: Path) -> None:
    name = f"orphan-{os.getpid()}"
    code = (
        f"import os; from lab.lab import Lab; Lab.up({name!r}, owner_pid=os.getpid()); print('up', flush=True); input()"
    )
    tests = Path(__file__).resolve().parents[1]
    suite = os.environ.get("SUITE")
    if suite:
        code = code.replace("owner_pid", f"suite={suite!r}, owner_pid")
    owner = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tests)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert owner.stdout is not None
    assert owner.stdout.readline() == b"up\n"
    lab = Lab.open(name)
    pids = [*lab.keeper.running().values(), lab.keeper.pid]
    assert len(pids) == 5
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "the lab's processes to end", SOON)
    registry.remove_dead()
    assert not state.disks_dir(name).exists()
    assert not state.run_dir(name).exists()


@pytest.mark.parametrize("arguments", [["--help"], ["power-cut", "--help"], ["status", "--name", "no-such-lab"]])
def test_the_command_line_explains_itself(arguments: list[str]) -> None:
    tests = Path(__file__).resolve().parents[1]
    done = subprocess.run(
        [sys.executable, "-m", "lab", *arguments],
        env=os.environ | {"PYTHONPATH": str(tests)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == (0 if "--help" in arguments else 1)
    assert "Traceback" not in done.stderr
    assert (done.stdout if "--help" in arguments else done.stderr).strip()
