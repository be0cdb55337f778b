"""What the lab's initiator does: find targets, log in, find the disk, and write to it while things break.

Debian's open-iscsi with its default settings, as users have it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.guest import Guest
from lab.waiting import wait_for

SERVICE_ADDRESS = "10.10.25.140"
GATEWAY_ADDRESS = "10.10.25.254"

_WRITER = Path(__file__).resolve().parent / "writer" / "verifying_writer.py"
_FOLDER = "/var/lib/lab-writer"
_PROGRAM = f"{_FOLDER}/{_WRITER.name}"
_LOGIN_SECONDS = 180.0
_VERIFY_SECONDS = 600.0

# iscsiadm's exit status for "there is none"
_NOTHING_FOUND = 21


class InitiatorError(Exception):
    """The initiator could not do what was asked."""


@dataclass(frozen=True)
class Gap:
    """A time in which no write was acknowledged (wall clock)."""

    start: float
    end: float
    seconds: float


@dataclass(frozen=True)
class WriterResult:
    """What a writer found: every acknowledged write was verified, `lost` of them were not there."""

    acked: int
    lost: int
    errors: int
    gaps: tuple[Gap, ...]
    longest_gap: float
    document: dict[str, Any]

    @classmethod
    def parse(cls, text: str) -> WriterResult:
        """The result from the writer's JSON."""
        document = json.loads(text)
        return cls(
            acked=document["acked"],
            lost=document["lost"],
            errors=document["errors"],
            gaps=tuple(Gap(**gap) for gap in document["gaps"]),
            longest_gap=document["longest_gap"],
            document=document,
        )


class Writer:
    """A writer that runs in the background on the initiator."""

    def __init__(self, guest: Guest, name: str) -> None:
        self._guest = guest
        self.name = name

    @property
    def log_path(self) -> str:
        """The log of acknowledgements, on the initiator's own disk."""
        return f"{_FOLDER}/{self.name}.acks"

    @property
    def result_path(self) -> str:
        """Where the result will be."""
        return f"{_FOLDER}/{self.name}.json"

    @property
    def _unit(self) -> str:
        return f"lab-writer-{self.name}.service"

    def acked(self) -> int:
        """How many writes were acknowledged so far."""
        return int(json.loads(self._guest.ssh(["python3", _PROGRAM, "status", self.log_path]).stdout)["acked"])

    def wait_acked(self, count: int, timeout: float = 60.0) -> None:
        """Wait until `count` more writes were acknowledged than now."""
        goal = self.acked() + count
        wait_for(lambda: self.acked() >= goal, f"{count} more acknowledged writes", timeout, interval=0.3)

    def stop(self) -> None:
        """Tell the writer to write no more; it then verifies."""
        self._guest.ssh(["systemctl", "kill", "--signal=TERM", self._unit])

    def result(self, timeout: float = _VERIFY_SECONDS) -> WriterResult:
        """Stop the writer if it still writes, wait until it has verified everything; what it found."""
        if self._state() == "active":
            self.stop()
        wait_for(lambda: self._state() != "active", f"the writer {self.name} to verify", timeout, interval=0.5)
        done = self._guest.ssh(["cat", self.result_path], check=False)
        if done.returncode != 0:
            log = self._guest.ssh(["journalctl", "-n", "20", "-o", "cat", "-u", self._unit], check=False)
            raise InitiatorError(f"the writer {self.name} left no result:\n{log.stdout}")
        return WriterResult.parse(done.stdout)

    def verify_again(self, device: str, timeout: float = _VERIFY_SECONDS) -> WriterResult:
        """Verify all acknowledged writes once more, for example after another failover."""
        path = f"{_FOLDER}/{self.name}.again.json"
        command = ["python3", _PROGRAM, "verify", device, self.log_path, path]
        done = self._guest.ssh(command, check=False, timeout=timeout)
        if done.returncode not in (0, 1):
            raise InitiatorError(f"the verification did not run: {done.stderr.strip()}")
        return WriterResult.parse(self._guest.read(path))

    def _state(self) -> str:
        done = self._guest.ssh(["systemctl", "show", "--property=ActiveState", "--value", self._unit])
        return done.stdout.strip()


class Initiator:
    """Commands for the initiator's open-iscsi."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest

    def discover(self, portal: str) -> list[str]:
        """The target names that a portal shows to this initiator."""
        done = self.guest.ssh(["iscsiadm", "-m", "discovery", "-t", "sendtargets", "-p", portal], check=False)
        if done.returncode == _NOTHING_FOUND:
            return []
        if done.returncode != 0:
            raise InitiatorError(f"discovery at {portal}: {done.stderr.strip()}")
        return parse_targets(done.stdout)

    def login(self, target: str, portal: str, *, settings: Sequence[tuple[str, str]] = ()) -> None:
        """Log in to a discovered target; `settings` are node settings other than open-iscsi's defaults."""
        node = ["iscsiadm", "-m", "node", "-T", target, "-p", portal]
        for name, value in settings:
            self.guest.ssh([*node, "-o", "update", "-n", name, "-v", value])
        done = self.guest.ssh([*node, "--login"], check=False, timeout=_LOGIN_SECONDS)
        if done.returncode != 0:
            raise InitiatorError(f"login to {target} at {portal}: {done.stderr.strip()}")

    def logout(self, target: str | None = None) -> None:
        """Log out of a target, or of all."""
        which = ["-T", target] if target else []
        command = ["iscsiadm", "-m", "node", *which, "--logout"]
        done = self.guest.ssh(command, check=False, timeout=_LOGIN_SECONDS)
        if done.returncode not in (0, _NOTHING_FOUND):
            raise InitiatorError(f"logout: {done.stderr.strip()}")

    def sessions(self) -> list[str]:
        """The names of the targets that there are sessions with."""
        return parse_targets(self.guest.ssh(["iscsiadm", "-m", "session"], check=False).stdout)

    def device(self, target: str, lun: int, timeout: float = 30.0) -> str:
        """The disk that is this LUN of this target, such as /dev/sda; waits until it is there."""
        found = wait_for(lambda: self._find(target, lun), f"LUN {lun} of {target} to appear", timeout, interval=0.3)
        assert found is not None
        return found

    def start_writer(
        self, device: str, *, name: str = "writer", dsync: bool = True, blocks: int = 0, pause: float = 0.002
    ) -> Writer:
        """Start writing to `device` in the background, all over it: what was there is gone."""
        self.guest.copy_in(_WRITER, _FOLDER)
        writer = Writer(self.guest, name)
        command = ["python3", _PROGRAM, "run", device, writer.log_path, writer.result_path]
        command += [f"--blocks={blocks}", f"--pause={pause}", *(["--dsync"] if dsync else [])]
        run = ["systemd-run", f"--unit=lab-writer-{name}", "--collect", "--quiet", "--property=KillMode=process"]
        self.guest.ssh(["rm", "-f", writer.result_path, writer.log_path])
        self.guest.ssh([*run, *command])
        wait_for(
            lambda: self.guest.ssh(["test", "-s", writer.log_path], check=False).returncode == 0,
            f"the writer {name} to start",
            60,
            interval=0.2,
        )
        return writer

    def _find(self, target: str, lun: int) -> str | None:
        # one command: the session's own folder leads to its disks
        line = (
            "for session in /sys/class/iscsi_session/session*; do "
            '[ -e "$session" ] && read -r name < "$session/targetname" && '
            'for disk in "$session"/device/target*/*/block/*; do [ -e "$disk" ] && echo "$name $disk"; done; done'
        )
        return find_disk(self.guest.ssh(line, check=False).stdout, target, lun)


def parse_targets(output: str) -> list[str]:
    """The target names in the output of iscsiadm's discovery or session mode, each once."""
    return list(dict.fromkeys(re.findall(r"^.*?,-?\d+ (\S+)", output, flags=re.MULTILINE)))


def find_disk(listing: str, target: str, lun: int) -> str | None:
    """The disk in lines of `TARGET /sys/.../H:C:T:L/block/NAME`."""
    for line in listing.splitlines():
        name, _, path = line.partition(" ")
        found = re.search(r"/\d+:\d+:\d+:(\d+)/block/(\w+)$", path)
        if found and name == target and int(found[1]) == lun:
            return f"/dev/{found[2]}"
    return None
