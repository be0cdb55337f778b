"""What both peers' recipes share: two bare machines get bonds, a mirror, a file system and a file for the LUN.

The same as our agent makes: DRBD with protocol C and the same timers, ext4, 64 MiB written through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from string import Template

from lab.guest import Guest
from lab.lab import Lab, LabGuest
from lab.waiting import wait_for

ADDRESS = "10.10.25.136"
LUN_MIB = 64
RESOURCE = "ha"
_RECIPES = Path(__file__).parent / "recipes"
_CONNECT_SECONDS = 60.0


def recipe(name: str, **values: object) -> str:
    """The content of a recipe's file, with its `$names` filled in; a recipe that asks for others is an error."""
    text = (_RECIPES / name).read_text()
    return Template(text).substitute(**{key: str(value) for key, value in values.items()}) if values else text


def prepare(lab: Lab) -> None:
    """Make storage hosts of the lab's bare nodes; nobody is primary, nothing is mounted."""
    together(_join, lab.nodes)
    first = lab.node1
    wait_for(lambda: replicating(first), "the mirror to connect", _CONNECT_SECONDS, interval=0.3)
    # both disks are new: what is on them does not matter, so that they need not be made equal
    first.ssh(["drbdadm", "--", "--clear-bitmap", "new-current-uuid", RESOURCE])
    wait_for(lambda: replicating(first, "UpToDate/UpToDate"), "the mirror to be whole", _CONNECT_SECONDS, interval=0.3)
    first.ssh(["drbdadm", "primary", RESOURCE])
    options = ["-q", "-F", "-m", "1", "-i", "1048576", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard"]
    first.ssh(["mkfs.ext4", *options, "/dev/drbd0"])
    first.ssh(["mount", "/dev/drbd0", "/storage"])
    first.ssh(["dd", "if=/dev/zero", "of=/storage/lun1", "bs=1M", f"count={LUN_MIB}", "conv=fsync", "status=none"])
    first.ssh(["umount", "/storage"])
    first.ssh(["drbdadm", "secondary", RESOURCE])


def _join(guest: LabGuest) -> None:
    guest.ssh(["modprobe", "-a", "bonding", "drbd"])
    number = 130 + guest.spec.index
    guest.ssh(["ip", "-batch", "-"], stdin=recipe("shared/bonds.batch", number=number).encode())
    guest.write("/etc/drbd.d/ha.res", recipe("shared/ha.res"))
    guest.write("/etc/hosts", "127.0.0.1 localhost\n192.168.1.131 node1\n192.168.1.132 node2\n")
    guest.ssh(["mkdir", "-p", "/storage"])
    guest.ssh(["drbdadm", "create-md", "--force", RESOURCE])
    guest.ssh(["drbdadm", "up", RESOURCE])


def replicating(guest: Guest, disks: str = "") -> bool:
    """Is the mirror connected, as this machine's kernel says; with `disks` as well, in this state?"""
    text = guest.read("/proc/drbd")
    return "cs:Connected " in text and f"ds:{disks}" in text


def has_address(guest: Guest) -> bool:
    """Has this machine the virtual IP?"""
    return ADDRESS in guest.ssh(["ip", "-brief", "address", "show", "to", ADDRESS]).stdout


def has_target(guest: Guest) -> bool:
    """Does tgt on this machine export the LUN?"""
    shown = guest.ssh(["tgtadm", "--lld", "iscsi", "--op", "show", "--mode", "target"], check=False).stdout
    return "Backing store path: /storage/lun1" in shown


def together(action: Callable[[LabGuest], object], guests: Iterable[LabGuest]) -> None:
    """Do the same with several machines at once; the first error is raised when all are done."""
    with ThreadPoolExecutor() as pool:
        for future in [pool.submit(action, guest) for guest in guests]:
            future.result()
