"""A desired state and host snapshots for the agent's unit tests, with as little to write as possible."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import yaml
from storagepair_crds import views
from storagepair_node_agent import snapshot as facts
from storagepair_node_agent.actions import Action, Outcome
from storagepair_node_agent.host import Host, Result

DATA = Path(__file__).resolve().parents[2] / "data"
DOCUMENT = Path(__file__).resolve().parents[2] / "api" / "storagenode.yaml"


def document() -> dict:
    return yaml.safe_load(DOCUMENT.read_text())


def desired(node: str = "node1", service: str = "Prepare", generation: int = 1, **spec) -> facts.Desired:
    seen = views.view(views.NodeSpec, document()["spec"])
    return facts.Desired(node, msgspec.structs.replace(seen, service=service, **spec), generation)


def nic(name: str, **more) -> facts.Interface:
    return facts.Interface(**{"name": name, "kind": "", "carrier": True, "master": "", **more})


def bond(name: str, *addresses: str, **more) -> facts.Interface:
    known = {"kind": "bond", "mode": "active-backup", "miimon": 100, "addresses": addresses}
    return nic(name, **{**known, **more})


def bare_network(**more) -> facts.NetworkFacts:
    return facts.NetworkFacts(tuple(nic(f"eth{n}") for n in range(4)), None, **more)


def network() -> facts.NetworkFacts:
    """Both bonds up with their addresses, made by the host's own configuration."""
    members = [nic(f"eth{n}", master=f"bond{n // 2}") for n in range(4)]
    bonds = [
        bond("bond0", "10.10.25.131/24", active_member="eth0"),
        bond("bond1", "192.168.1.131/24", active_member="eth2"),
    ]
    return facts.NetworkFacts((*members, *bonds), None)


def preflight(**more) -> facts.PreflightFacts:
    known = {
        "uname": "node1",
        "kernel": "6.12.0",
        "os": "Debian",
        "missing_programs": (),
        "missing_modules": (),
        "versions": {"drbd": "8.4.11"},
        "clock_offset_seconds": 0.1,
        "recorded_pair": None,
        "recorded_disk": None,
    }
    return facts.PreflightFacts(**{**known, **more})


SET_UP = {
    "recorded_pair": "default/vmstore",
    "recorded_disk": "/dev/vdb",
    "recorded_uid": "00000000-0000-4000-8000-000000000001",
}
EMPTY_DISK = facts.DiskFacts("/dev/vdb", present=True, size_bytes=2**28, zeroed=True)


def drbd(**more) -> facts.DrbdFacts:
    """Not up, on an empty disk."""
    known = {"disk": EMPTY_DISK, "metadata": "Empty", "config": None, "module_loaded": False, "up": False}
    return facts.DrbdFacts(**{**known, **more})


def filesystem(**more) -> facts.FilesystemFacts:
    return facts.FilesystemFacts(**{"signature": None, "mounted_at": "", "formatted_record": False, **more})


def heartbeat(**more) -> facts.HeartbeatFacts:
    known = {"running": False, "enabled": False, "files": {}, "authkeys": "Absent", "peer": ""}
    return facts.HeartbeatFacts(**{**known, **more})


def service(**more) -> facts.ServiceFacts:
    known = {"virtual_ip": False, "port_open": False, "tgtd_running": False, "transition": False}
    return facts.ServiceFacts(**{**known, **more})


def snapshot(**parts) -> facts.HostSnapshot:
    """A bare host that passes preflight and has its bonds."""
    known = {
        "preflight": preflight(),
        "network": network(),
        "drbd": drbd(),
        "filesystem": filesystem(),
        "heartbeat": heartbeat(),
        "service": service(),
    }
    return facts.HostSnapshot(**{**known, **parts})


def changed(snap: facts.HostSnapshot, part: str, **more) -> facts.HostSnapshot:
    return replace(snap, **{part: replace(getattr(snap, part), **more)})


def names(outcome: Outcome) -> list[str]:
    return [action.name for action in outcome.actions]


def steps(action: Action) -> list[str]:
    return [step.describe() for step in action.steps]


class Answering(Host):
    """A host whose programs answer from a table: arguments -> exit status and output; what is not in it fails."""

    def __init__(self, root: Path, answers: dict[tuple[str, ...], tuple[int, str]]) -> None:
        super().__init__(root)
        self.answers = answers
        self.asked: list[tuple[str, ...]] = []

    def run(self, argv, *, timeout_seconds=10, stdin=None):
        self.asked.append(tuple(argv))
        code, out = self.answers.get(tuple(argv), (1, ""))
        return Result(code, out, "")
