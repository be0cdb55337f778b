"""A host made of a folder for the resource script: its paths moved there, DRBD, mount, tgtd, ip and nft played by a
program that writes down what it was asked. For ordering and states only: the real things are shown in the lab."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from storagepair_node_agent import hostfiles

SCRIPTS = Path(hostfiles.__file__).with_suffix("")
IQN = "iqn.2011-03.org.weithenn:iscsi.storage"
TABLE = f"""target default 1001 {IQN}
lun datastore1 1001 1 sync 60253500000000000000000000000001 aa STORPAIR aa-lun1 luns/datastore1/disk.img 4096
acl esx 1001 10.10.25.0/24
end
"""

# One program for all names: it notes "NAME ARGUMENTS", fails when a file of its name in fail/ says so, and keeps the
# state that the script reads back.
_FAKE = """#!/bin/sh
name=${{0##*/}}
root={root}
echo "$name $*" >>$root/calls
if [ -e "$root/fail/$name" ]; then
    while read -r pattern message; do
        case "$*" in *$pattern*) echo "$message" >&2; exit 1 ;; esac
    done <"$root/fail/$name"
fi
role() {{ sed -i "s,ro:[A-Za-z]*/,ro:$1/," $root/proc/drbd; }}
case "$name $*" in
    "drbdsetup-84 primary 0") role Primary ;;
    "drbdsetup-84 secondary 0") role Secondary ;;
    "mount "*) mkdir -p $root/sys/ext4/drbd0; echo "/dev/drbd0 $root/storage ext4 rw 0 0" >>$root/proc/mounts ;;
    "umount "*) rmdir $root/sys/ext4/drbd0; : >$root/proc/mounts ;;
    "ip addr add "*) echo 10.10.25.136 >$root/vip ;;
    "ip addr del "*) rm -f $root/vip ;;
    "ip -o "*) [ ! -e $root/vip ] || echo "4: bond0 inet 10.10.25.136/24" ;;
    "nft add element inet storagepair open"*) : >$root/open ;;
    "nft list set inet storagepair answered; flush set inet storagepair open"*) cat $root/answered; rm -f $root/open ;;
    "nft list set "*) cat $root/$5 2>/dev/null ;;
    "ss "*) cat $root/connections ;;
    "cl_status nodestatus "*) cat $root/nodestatus ;;
    "cl_status rscstatus")
        cat $root/rscstatus
        [ ! -e $root/rscstatus-next ] || mv $root/rscstatus-next $root/rscstatus ;;
    "hb_standby "*)
        [ ! -e $root/rscstatus-standby ] || cp $root/rscstatus-standby $root/rscstatus
        [ ! -e $root/refusal ] || {{ cat $root/refusal >>$root/log/ha-log; rm $root/refusal; exit 0; }}
        [ ! -e $root/standby ] || cat $root/standby >$root/proc/drbd ;;
    "drbdsetup-84 events2 "*) tail -n 0 -f $root/mirror-events ;;
    "nft get element "*) [ -e $root/open ] ;;
    "tgtadm "*"--op new --mode target "*) echo "Target $8: ${{10}}" >>$root/tgtd ;;
    "tgtadm "*"--op new --mode logicalunit "*) echo "LUN: ${{10}}" >>$root/tgtd ;;
    "tgtadm "*"--op delete --force "*) : >$root/tgtd ;;
    "tgtadm "*"--op show "*) cat $root/tgtd ;;
esac
"""
# the guardian's clock, and one that goes on by a line of a pipe
_CLOCK = """\
    while sleep "$TICK_SECONDS"; do
        echo tick
    done"""
_CLOCK_BY_HAND = _CLOCK.replace('sleep "$TICK_SECONDS"', "read -r _")
_numbers = itertools.count()
_NAMES = (
    *("drbdsetup-84", "mount", "umount", "ip", "nft", "tgtadm", "fuser", "send_arp"),
    *("tickle_tcp", "ss", "cl_status", "hb_standby"),
)


class FakeHost:
    """node1 with an UpToDate, connected, secondary device."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._mark = f"{os.getpid()}{next(_numbers)}"  # its sleepers are told from those of tests beside this one by it
        for folder in ("bin", "lib", "proc/sys/kernel/random", "sys", "run/storagepair", "keep", "fail", "log"):
            (root / folder).mkdir(parents=True)
        (root / "storage/.storagepair").mkdir(parents=True)
        (root / "storage/luns/datastore1").mkdir(parents=True)
        (root / "storage/luns/datastore1/disk.img").touch()
        for name in _NAMES:
            (root / "bin" / name).write_text(_FAKE.format(root=root))
            (root / "bin" / name).chmod(0o755)
        for script in SCRIPTS.iterdir():
            self._install(script)
        self.write("proc/sys/kernel/random/boot_id", "b0071d\n")
        self.write("proc/mounts", "")
        self.write("tgtd", "")
        self.write("rscstatus", "all\n")
        for name in ("calls", "answered", "connections", "nodestatus", "mirror-events"):
            self.write(name, "")
        (root / "proc/uptime").symlink_to("/proc/uptime")
        self.drbd()
        self.conf()

    def _install(self, script: Path) -> None:
        moved = {
            "PATH=/usr/sbin:": f"PATH={self.root}/bin:/usr/sbin:",
            "/usr/lib/storagepair/": f"{self.root}/lib/",
            "/usr/lib/drbd/": f"{self.root}/bin/",
            "/usr/libexec/heartbeat/": f"{self.root}/bin/",
            "CONF=/etc/storagepair": f"CONF={self.root}",
            "RUN=/run": f"RUN={self.root}/run",
            "KEEP=/var/lib/storagepair": f"KEEP={self.root}/keep",
            "HA_LOG=/var/log": f"HA_LOG={self.root}/log",
            "HA_PID=/run": f"HA_PID={self.root}/run",
            "/usr/share/heartbeat/": f"{self.root}/bin/",
            "/etc/ha.d/resource.d/storagepair": f"{self.root}/lib/resource",
            "PROC=/proc": f"PROC={self.root}/proc",
            "SYSFS=/sys/fs": f"SYSFS={self.root}/sys",
            "PROMOTE_SECONDS=15": "PROMOTE_SECONDS=5",
            "REST_SECONDS=30": "REST_SECONDS=3",
            "MOVE_SECONDS=90": "MOVE_SECONDS=3",
            "ASK_AGAIN_SECONDS=15": "ASK_AGAIN_SECONDS=0",
            "LAST_ASK_SECONDS=30": "LAST_ASK_SECONDS=0",
            "TICK_SECONDS=2": "TICK_SECONDS=0.1",
            "FIRST_RETRY=10": "FIRST_RETRY=1",
            "deadtime * 200 + 3000": "deadtime * 5",
            "\ntick() {\n": f"\ntick() {{\n    printf . >>{self.root}/run/guardian-ticks\n",
            "sleep 0.": "sleep 0.00",
            "_SECONDS=60": f"_SECONDS=61.{self._mark}",
            "_SECONDS=20": f"_SECONDS=21.{self._mark}",
        }
        text = script.read_text()
        for old, new in moved.items():
            text = text.replace(old, new)
        (self.root / "lib" / script.name).write_text(text)
        (self.root / "lib" / script.name).chmod(0o755)

    def write(self, path: str, text: str) -> None:
        (self.root / path).write_text(text)

    def append(self, path: str, text: str) -> None:
        with (self.root / path).open("a") as file:
            file.write(text)

    def read(self, path: str) -> str:
        file = self.root / path
        return file.read_text() if file.exists() else ""

    def drbd(self, **state: str) -> None:
        self.write("proc/drbd", self._drbd(**state))

    @staticmethod
    def _drbd(
        role="Secondary",
        peer="Secondary",
        disk="UpToDate",
        peer_disk="UpToDate",
        flags="r-----",
        connection="Connected",
    ) -> str:
        protocol = " " if connection == "StandAlone" else "C"
        line = f" 0: cs:{connection} ro:{role}/{peer} ds:{disk}/{peer_disk} {protocol} {flags}"
        return f"version: 8.4.11 (api:1/proto:86-101)\nsrcversion: 63\n{line}\n    ns:0 nr:0\n"

    def on_standby(self, role: str, peer: str) -> None:
        """What hb_standby makes of the mirror."""
        self.write("standby", self._drbd(role=role, peer=peer))

    def heartbeat_holds(self, words: str, *, next_time: str = "", on_standby: str = "") -> None:
        """What `cl_status rscstatus` says: now, the time after that, and from a request to go standby on."""
        for name, answer in (("", words), ("-next", next_time), ("-standby", on_standby)):
            if answer or not name:
                self.write(f"rscstatus{name}", answer)

    def heartbeat_gives_up(self, word: str) -> None:
        """Heartbeat gives the next request to go standby up, and logs `word`."""
        self.write("refusal", f"{word}\n")

    def mirror_event(self) -> None:
        """`drbdsetup events2` tells of a change."""
        self.append(
            "mirror-events", "change connection name:storagepair peer-node-id:0 conn-name:peer role:Secondary\n"
        )

    def heartbeat(self, *, running: bool = True) -> None:
        (self.root / "proc/77").mkdir(exist_ok=True)
        self.write("run/heartbeat.pid", "     77\n" if running else "78\n")

    def tgtd_pid(self, pid: int) -> None:
        folder = self.root / "sys/cgroup/system.slice/tgt.service"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cgroup.procs").write_text(f"{pid}\n")

    def conf(self, **changes) -> None:
        values = {
            "node": "node1",
            "peer": "node2",
            "minor": "0",
            "device": "/dev/drbd0",
            "fstype": "ext4",
            "mount": f"{self.root}/storage",
            "vip": "10.10.25.136",
            "prefix": "24",
            "bond": "bond0",
            "deadtime": "10",
            **changes,
        }
        self.write(
            "service.conf", "# comment\n" + "".join(f"{key} {value}\n" for key, value in values.items() if value)
        )

    def exports(self, text: str = TABLE) -> None:
        self.write("storage/.storagepair/exports", text)

    def fail(self, program: str, pattern: str, message: str) -> None:
        self.write(f"fail/{program}", f"{pattern} {message}\n")

    def heal(self) -> None:
        for file in (self.root / "fail").iterdir():
            file.unlink()

    def run(
        self, script: str, *arguments: str, stdin: str = "", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["/bin/dash", str(self.root / "lib" / script), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            env=os.environ | {"PATH": "/nowhere"} | environment,
        )

    def service(self, verb: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.run("resource", verb, **environment)

    @contextmanager
    def clock_by_hand(self) -> Iterator[Callable[[], None]]:
        """A guardian that is started now ticks once, and then only when it is told to, however slow this machine is."""
        guardian = self.root / "lib/guardian"
        text = guardian.read_text()
        assert _CLOCK in text
        guardian.write_text(text.replace(_CLOCK, f"{_CLOCK_BY_HAND} <{self.root}/clock"))
        os.mkfifo(self.root / "clock")
        clock = os.open(self.root / "clock", os.O_RDWR)  # so that neither side waits for the other to open it

        def tick() -> None:
            begun = len(self.read("run/guardian-ticks"))
            os.write(clock, b"tick\n")
            self._until(lambda: len(self.read("run/guardian-ticks")) > begun, "a tick")

        os.write(clock, b"tick\n")
        try:
            yield tick
        finally:
            os.close(clock)

    def spawn(self, script: str) -> subprocess.Popen[str]:
        """A program that goes on, with whatever it starts in a process group of its own."""
        with (self.root / f"log/{script}").open("w") as log:
            return subprocess.Popen(
                ["/bin/dash", str(self.root / "lib" / script)],
                stdout=log,
                stderr=log,
                start_new_session=True,
                text=True,
            )

    @staticmethod
    def end(process: subprocess.Popen[str]) -> None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def await_file(self, path: str) -> None:
        self._until(lambda: (self.root / path).exists(), path)

    def settled(self, phase: str = "closed") -> str:
        """The journal, once a start's background part has come to a phase."""
        self._until(lambda: phase in self.phases("start"), phase)
        return self.read("keep/journal.log")

    @staticmethod
    def _until(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, what
            time.sleep(0.02)

    def calls(self) -> list[str]:
        """What was asked since the last look, without what a start leaves running in the background."""
        found = [
            line for line in self.read("calls").splitlines() if not line.startswith(("send_arp", "tickle_tcp", "ss "))
        ]
        self.write("calls", "")
        return found

    def await_no_sleepers(self) -> None:
        """Until no script of this host's sleeps any more, for less than the 21 s after which one ends by itself."""
        pattern = rf"sleep (61|21)\.{self._mark}$"
        self._until(lambda: subprocess.run(["pgrep", "-f", pattern], check=False).returncode == 1, "no sleepers", 15)

    def phases(self, verb: str) -> list[str]:
        """The journal's phases of that verb."""
        lines = (line.split() for line in self.read("keep/journal.log").splitlines())
        return [words[6] for words in lines if len(words) > 6 and words[5] == verb]
