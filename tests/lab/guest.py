"""One machine of a running lab: its power, its cables, and commands in it."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from lab import qmp, state
from lab.keeper import Keeper, NotRunning
from lab.machine import SSH_PORT, MachineSpec
from lab.ssh import Command, Result, Ssh, SshError
from lab.volatile import VolatileDisk

# an idle machine takes 12 s; one that is busy with other labs has been seen to take 250
BOOT_SECONDS = 600.0
_QEMU_START_SECONDS = 120.0
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
# the image's ssh.service writes this to the console
_SSH_IS_UP = b"lab: ssh is up"


class Guest:
    """A storage node or the initiator. Cheap to make; all of its state is in the lab's run directory."""

    def __init__(self, keeper: Keeper, spec: MachineSpec, ssh_key: Path, *, volatile_disk: bool = False) -> None:
        self.spec = spec
        self._keeper = keeper
        self._volatile: VolatileDisk | None = None
        if volatile_disk and spec.role.data_disk:
            self._volatile = VolatileDisk(keeper, spec.name, spec.data_disk, spec.run_dir)
        self._ssh = Ssh(spec.name, spec.loopback, SSH_PORT, ssh_key, spec.run_dir)

    @property
    def name(self) -> str:
        """The machine's host name."""
        return self.spec.name

    @property
    def loopback(self) -> str:
        """Where this machine finds the guest's ssh and kubelet ports."""
        return self.spec.loopback

    # --- commands and files -------------------------------------------------------------------------------------

    def ssh(self, command: Command, *, timeout: float = 120, check: bool = True, stdin: bytes = b"") -> Result:
        """Run a command: an argument list, or a string for the shell there. Raises when it fails, unless told."""
        return self._ssh.run(command, timeout=timeout, check=check, stdin=stdin)

    def write(self, path: str, content: bytes | str, *, mode: int = 0o644) -> None:
        """Write a file in the machine."""
        self._ssh.write(path, content, mode=mode)

    def read(self, path: str) -> str:
        """The content of a text file in the machine."""
        return self._ssh.read(path).decode(errors="replace")

    def copy_in(self, source: Path, folder: str) -> None:
        """Copy a file or a folder from here into `folder` there."""
        self._ssh.copy_in(source, folder)

    def copy_out(self, path: str, target: Path) -> None:
        """Copy a file from there to `target` here."""
        self._ssh.copy_out(path, target)

    def ssh_arguments(self) -> list[str]:
        """The argument list of an ssh to the machine, for a terminal."""
        return self._ssh.arguments()

    def wait_ssh(self, timeout: float = BOOT_SECONDS) -> float:
        """Wait until commands work, then set the clock as a time server would. Returns the seconds waited."""
        started = time.monotonic()
        self._wait_booting(timeout)
        while True:
            left = started + timeout - time.monotonic()
            self._ssh.wait(max(5.0, left))
            try:
                self._ssh.set_clock()
            except SshError:
                # a machine that gets next to no processor time may lose a connection that it just made
                if left < 0:
                    raise
                self._ssh.drop()
            else:
                return time.monotonic() - started

    def wait_booted(self, timeout: float = BOOT_SECONDS) -> None:
        """Wait until every service was started. Ssh is there before: the lab lets it start early."""
        deadline = time.monotonic() + timeout
        self.wait_ssh(timeout)
        left = max(5.0, deadline - time.monotonic())
        # "degraded" is Debian's own state: heartbeat starts unconfigured and fails
        self.ssh(["systemctl", "is-system-running", "--wait"], check=False, timeout=left)

    # --- power --------------------------------------------------------------------------------------------------

    def is_on(self) -> bool:
        """Has the machine power?"""
        return self.name in self._keeper.running()

    def power_on(self, *, wiring: state.LabState, restore: str | None = None, memory: Path | None = None) -> None:
        """Start the machine with its cables as `wiring` has them.

        With `restore` it is stopped in that snapshot, with `memory` in the state of that file; else it boots.
        """
        self.spec.qmp_socket.unlink(missing_ok=True)
        self._ssh.drop()
        self._booting = restore is None and memory is None
        log = self.spec.run_dir / f"{self.name}.qemu.log"
        arguments = self.spec.arguments(restore=restore, incoming=memory is not None)
        if self._volatile is not None:
            self._volatile.serve()
            arguments += self._volatile.qemu_arguments()
        self._keeper.spawn(self.name, arguments, log=log)
        try:
            qmp.wait_answering(self.spec.qmp_socket, _QEMU_START_SECONDS, alive=self.is_on)
            if memory is not None:
                qmp.load_state(self.spec.qmp_socket, memory)
        except qmp.QmpError as error:
            raise state.LabError(f"{self.name} did not start: {error}; {_tail(log)}") from error
        self.apply_wiring(wiring)

    def power_cut(self) -> float:
        """Take the power away without warning. Returns the wall-clock time at which it went."""
        try:
            cut_at = self._keeper.kill(self.name, signal.SIGKILL)
        except NotRunning:
            raise state.LabError(f"{self.name} has no power") from None
        # the machine first: without its disk it would live on for a moment, and could tell its peer of a dead disk
        if self._volatile is not None:
            self._volatile.cut()
        self._ssh.drop()
        return cut_at

    def reboot(self, *, timeout: float = BOOT_SECONDS) -> float:
        """Reboot the machine in an orderly way and wait until it is back. Returns the seconds that took."""
        return self._reboot(lambda: self.ssh(["systemctl", "reboot"], check=False, timeout=30), timeout)

    def reset(self, *, timeout: float = BOOT_SECONDS) -> float:
        """Press the reset button and wait until the machine is back. Returns the seconds that took."""
        return self._reboot(lambda: qmp.execute(self.spec.qmp_socket, "system_reset"), timeout)

    def boot_id(self) -> str:
        """What changes with every boot."""
        return self.read(_BOOT_ID).strip()

    def _reboot(self, trigger: Callable[[], object], timeout: float) -> float:
        before, started = self.boot_id(), time.monotonic()
        self._booting = True
        with contextlib.suppress(SshError):
            trigger()
        self.wait_ssh(timeout)
        if self.boot_id() == before:
            raise state.LabError(f"{self.name} did not reboot")
        return time.monotonic() - started

    @property
    def _booting(self) -> bool:
        return self._boot_file.exists()

    @_booting.setter
    def _booting(self, booting: bool) -> None:
        """Remember that a boot began, and what the console had before: any process may wait for its end."""
        if booting:
            console = self.spec.console_log
            self._boot_file.write_text(str(console.stat().st_size if console.exists() else 0))
        else:
            self._boot_file.unlink(missing_ok=True)

    def _wait_booting(self, timeout: float) -> None:
        """Wait for the console's word that ssh is up: trying to connect would slow the boot down (by 20 s, seen)."""
        deadline = time.monotonic() + timeout
        with contextlib.suppress(FileNotFoundError):
            offset = int(self._boot_file.read_text() or 0)
            while _SSH_IS_UP not in self.spec.console_log.read_bytes()[offset:]:
                if not self.is_on():
                    raise state.LabError(f"{self.name} lost its power, or switched itself off")
                if time.monotonic() > deadline:
                    raise SshError(f"{self.name}: not booted within {timeout:g} s: see {self.spec.console_log}")
                time.sleep(0.1)
        self._booting = False

    @property
    def _boot_file(self) -> Path:
        return self.spec.run_dir / f"{self.name}.booting"

    # --- what the lab does with it ------------------------------------------------------------------------------

    def apply_wiring(self, wiring: state.LabState) -> None:
        """Give every card the carrier that it should have; no-op where it has that."""
        for nic in self.spec.role.nics:
            arguments = {"name": nic.name, "up": wiring.carrier(self.spec, nic)}
            qmp.execute(self.spec.qmp_socket, "set_link", arguments)

    def pause(self) -> None:
        """Stop the machine's processor; it notices nothing but the clock."""
        qmp.execute(self.spec.qmp_socket, "stop")

    def resume(self) -> None:
        """Let a paused machine run."""
        qmp.execute(self.spec.qmp_socket, "cont")

    def save(self, tag: str) -> None:
        """Save the paused machine, memory and disks, as `tag`; without power, its disks only."""
        if self.is_on():
            qmp.human(self.spec.qmp_socket, f"savevm {tag}", timeout=300)
        else:
            for disk in self.disks():
                _qemu_img("snapshot", "-c", tag, str(disk))

    def load_disks(self, tag: str) -> None:
        """Bring the disks of a machine without power back to `tag`."""
        for disk in self.disks():
            _qemu_img("snapshot", "-a", tag, str(disk))

    def disks(self) -> list[Path]:
        """The disks that the machine writes to."""
        return [self.spec.root_disk, *([self.spec.data_disk] if self.spec.role.data_disk else [])]

    def save_memory(self, target: Path) -> None:
        """Write the paused machine's state to `target`. It never runs again, and its disks are complete."""
        qmp.save_state(self.spec.qmp_socket, target)

    def make_disks(self, data_mib: int, root_backing: str, data_backing: str | None = None) -> None:
        """Make the machine's disks: overlays over files of the same folder. Without a backing, data is empty."""
        _qemu_img("create", "-q", "-f", "qcow2", "-b", root_backing, "-F", "qcow2", str(self.spec.root_disk))
        if self.spec.role.data_disk:
            # a whole path: behind a server, what is relative has nothing to be relative to
            backing = ["-b", str(self.spec.data_disk.parent / data_backing), "-F", "qcow2"] if data_backing else []
            _qemu_img("create", "-q", "-f", "qcow2", *backing, str(self.spec.data_disk), f"{data_mib}M")
            if self._volatile is not None:
                self._volatile.make_room(data_mib)

    def blank_data_disk(self) -> None:
        """Put a new, empty disk where the data disk of a machine without power was. Snapshots keep the old one."""
        if self.is_on():
            raise state.LabError(f"{self.name} has power: its disk can't be changed")
        size = json.loads(_qemu_img("info", "--output=json", str(self.spec.data_disk)))["virtual-size"]
        command = ["qemu-io", "-f", "qcow2", "-c", f"write -z 0 {size}", str(self.spec.data_disk)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        if done.returncode != 0 or "wrote" not in done.stdout:
            raise state.LabError(f"qemu-io: {done.stdout}{done.stderr}")

    @contextlib.contextmanager
    def another_machine(self) -> Iterator[None]:
        """In the place of a machine without power: another one, never set up, with new disks and the same cards. At
        the end its power is cut, and the old system disk with its snapshots is back."""
        self.blank_data_disk()
        old = self.spec.root_disk.with_suffix(".old")
        backing = json.loads(_qemu_img("info", "--output=json", str(self.spec.root_disk)))["backing-filename"]
        self.spec.root_disk.rename(old)
        try:
            _qemu_img("create", "-q", "-f", "qcow2", "-b", backing, "-F", "qcow2", str(self.spec.root_disk))
            yield
        finally:
            if self.is_on():
                self.power_cut()
            old.replace(self.spec.root_disk)

    def set_clock(self) -> None:
        """Set the machine's clock to this machine's."""
        self._ssh.set_clock()

    def clock_ahead(self) -> float:
        """How many seconds the machine's clock is ahead of this machine's, to half of an ssh command's time."""
        before = time.time()
        told = float(self.ssh(["date", "+%s.%N"]).stdout)
        return told - (before + time.time()) / 2


def _qemu_img(*arguments: str) -> str:
    done = subprocess.run(["qemu-img", *arguments], capture_output=True, text=True, check=False, timeout=300)
    if done.returncode != 0:
        raise state.LabError(f"qemu-img {arguments[0]}: {done.stderr.strip()}")
    return done.stdout


def _tail(log: Path) -> str:
    return log.read_text(errors="replace").strip()[-1000:] if log.exists() else "it left no log"
