"""What a lab remembers about itself, in one JSON file of its run directory, so that any process can drive it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from lab import cache, machine

ROOT_VARIABLE = "STORAGEPAIR_RUN"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,23}")
_STATE_FILE = "state.json"
_LOCK_FILE = "state.lock"
# each lab has a /24 of the loopback network: a machine's ports are the same in every lab
_LOOPBACK = "127.88.{lab}.{machine}"
_MACHINES = 3


class LabError(Exception):
    """The lab can't do what was asked; the message says why."""


@dataclass(frozen=True)
class LabState:
    """A lab's settings and the state of its wiring."""

    name: str
    suite: str
    kube: bool
    emulator: str
    accelerator: str
    ssh_key: str
    loopback: int
    memory_mib: int
    data_mib: int
    owned: bool
    tsc_khz: int = 0  # 0: the guests find out by themselves
    unplugged: tuple[str, ...] = ()
    off_switches: tuple[str, ...] = ()
    api_cut: bool = False
    volatile_disks: bool = False

    def address(self, index: int) -> str:
        """The loopback address at which machine number `index` is reached from this machine."""
        return _LOOPBACK.format(lab=self.loopback, machine=index)

    def carrier(self, spec: machine.MachineSpec, nic: machine.Nic) -> bool:
        """Has the card a live cable? Not when it is unplugged, nor when what it leads to is off."""
        if spec.port(nic.name) in self.unplugged or nic.network in self.off_switches:
            return False
        return not (self.api_cut and nic.network == "cluster")


def runs_root() -> Path:
    """Where run directories are: STORAGEPAIR_RUN, or a folder with a name short enough for unix sockets."""
    given = os.environ.get(ROOT_VARIABLE)
    if given:
        return Path(given).absolute()
    if os.access("/run", os.W_OK):
        return Path("/run/storagepair-lab")
    return Path(tempfile.gettempdir()) / f"storagepair-lab-{os.geteuid()}"


def run_dir(name: str) -> Path:
    """Sockets, logs and the state of the lab `name`."""
    if not _NAME.fullmatch(name):
        raise LabError(f"{name!r} is no name for a lab: up to 24 small letters, digits and dashes")
    return runs_root() / name


def disks_dir(name: str) -> Path:
    """The machines' disks, with their snapshots: in the cache, because they may be large."""
    return cache.root() / "labs" / name


def load(folder: Path) -> LabState:
    """The state of the lab in `folder`."""
    try:
        document = json.loads((folder / _STATE_FILE).read_text())
    except FileNotFoundError:
        raise LabError(f"there is no lab {folder.name!r}: `up` makes one") from None
    try:
        for field in ("unplugged", "off_switches"):
            document[field] = tuple(document[field])
        return LabState(**document)
    except (KeyError, TypeError) as error:
        raise LabError(f"the lab {folder.name!r} was made by another version: `down` removes it") from error


def save(folder: Path, state: LabState) -> None:
    """Write the state, whole: another process may be reading."""
    unfinished = folder / f"{_STATE_FILE}.new"
    unfinished.write_text(json.dumps(asdict(state), indent=1))
    unfinished.rename(folder / _STATE_FILE)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of the lab's state: its changes come from tests and from the command line at once."""
    with (folder / _LOCK_FILE).open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def rewire(
    state: LabState,
    *,
    unplug: str = "",
    plug: str = "",
    switch_off: str = "",
    switch_on: str = "",
    api_cut: bool | None = None,
) -> LabState:
    """The state with one cable, switch or the way to the API server changed."""
    return replace(
        state,
        unplugged=tuple(sorted({*state.unplugged, *_some(unplug)} - {plug})),
        off_switches=tuple(sorted({*state.off_switches, *_some(switch_off)} - {switch_on})),
        api_cut=state.api_cut if api_cut is None else api_cut,
    )


def free_loopback(taken: set[int]) -> int:
    """A number for a lab's part of the loopback network that no lab and nobody else uses."""
    for number in range(1, 255):
        # asked for every machine: one without power holds no port, and a lab of another version may not be known here
        addresses = [_LOOPBACK.format(lab=number, machine=index) for index in range(1, _MACHINES + 1)]
        if number not in taken and all(_free(address) for address in addresses):
            return number
    raise LabError("no free part of 127.88.0.0/16 for the lab's machines")


def _some(name: str) -> set[str]:
    return {name} if name else set()


def _free(address: str) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, machine.SSH_PORT))
        except OSError:
            return False
    return True
