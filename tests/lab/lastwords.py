"""What a person would look at first when the stack does not get where it should."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterable

from lab.guest import Guest
from lab.kubectl import KubectlError
from lab.ssh import SshError
from lab.state import LabError

_LOOK = (("get", "nodes"), ("get", "pods", "-A", "-o", "wide"), ("get", "events", "-A"))
_MOST_CHARACTERS = 4000
_LOOK_AT_PAIRS = (
    ("get", "storagepairs,luns,initiatoracls,switchovers,failovers", "-A", "-o", "wide"),
    ("get", "storagenodes", "-o", "wide"),
    ("get", "switchovers", "-A", "-o", "jsonpath={range .items[*]}{.metadata.name}: {.status.message}{'\\n'}{end}"),
)
_HOST = """\
echo "Heartbeat holds: $(cl_status rscstatus 2>&1)"
grep -v '^srcversion' /proc/drbd
tail -n 3 /var/lib/storagepair/journal.log
grep -a -v -e Gmain_timeout -e harc -e ipfail /var/log/ha-log | tail -n 25
"""
_CRASH = re.compile(rb"PANIC: .*|Oops: .*|BUG: unable .*|Kernel panic .*")


def told(kubectl: Callable[..., str], namespace: str) -> str:
    """Nodes, pods, events, and what the pods of `namespace` that aren't ready have logged last; never raises."""
    pieces = [_asked(kubectl, *words)[-_MOST_CHARACTERS:] for words in _LOOK]
    for name in _not_ready(_asked(kubectl, "get", "pods", "-n", namespace, "-o", "json")):
        for more in ((), ("--previous",)):
            words = ("logs", "-n", namespace, name, "--tail=30", *more)
            pieces.append(f"--- {' '.join(words)}\n{_asked(kubectl, *words)}")
    return "\n".join(pieces)


def of_pair(kubectl: Callable[..., str], hosts: Iterable[Guest]) -> str:
    """What the pair's objects say, and each host that has power: who holds what, its mirror, the ends of its logs.
    Never raises: what can't be told is told in its place."""
    pieces = [_asked(kubectl, *words)[-_MOST_CHARACTERS:] for words in _LOOK_AT_PAIRS]
    for host in hosts:
        pieces.append(f"--- {host.name}; its kernel's crashes: {'; '.join(crashes(host)) or 'none'}")
        try:
            if host.is_on():
                pieces.append(host.ssh(["sh", "-s"], stdin=_HOST.encode(), check=False, timeout=20).stdout)
        except (SshError, LabError) as error:
            pieces.append(str(error))
    return "\n".join(pieces)


def crashes(host: Guest) -> list[str]:
    """Every word of a kernel that crashed, in all that the machine's console has shown."""
    console = host.spec.console_log
    return [line.decode(errors="replace") for line in _CRASH.findall(console.read_bytes())] if console.exists() else []


def _asked(kubectl: Callable[..., str], *words: str) -> str:
    """kubectl's answer, or its complaint."""
    try:
        return kubectl(*words)
    except (KubectlError, subprocess.TimeoutExpired) as error:
        return str(error)


def _not_ready(answer: str) -> list[str]:
    """The names of the pods in a list; none when the answer is a complaint, which is among the pieces already."""
    try:
        pods = json.loads(answer)["items"]
    except json.JSONDecodeError:
        return []
    return [
        pod["metadata"]["name"]
        for pod in pods
        if not any((c["type"], c["status"]) == ("Ready", "True") for c in pod["status"].get("conditions", []))
    ]
