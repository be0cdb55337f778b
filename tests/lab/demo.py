"""`make demo`: the main job on the lab, from bare machines to a power cut that nobody but the clock noticed.

Every figure that it prints or reports was read from this run.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from lab import drill
from lab.initiator import Initiator
from lab.pair import KINDS, Pair
from lab.stack import Stack

NAME = "demo"
REPORT = Path(__file__).parents[2] / "build" / "reports" / "demo.json"
_PROOF = "storagepair: written through the virtual IP"
_STARTED = time.monotonic()


def say(text: str) -> None:
    """A line with the time since the demo began."""
    print(f"[{time.monotonic() - _STARTED:6.1f} s] {text}", flush=True)


def show(title: str, text: str) -> None:
    """A block of real output."""
    print(f"\n--- {title}", flush=True)
    print("\n".join(f"    {line}" for line in text.rstrip().splitlines()), flush=True)
    print(flush=True)


def main() -> int:
    """Run the demo; 0 when the pair became Ready and no acknowledged write was lost."""
    Stack.remove(NAME)  # an earlier demo may still be there
    say("two bare machines, an initiator, four switches, a Kubernetes control plane, the operator, the agents")
    stack = Stack.up(NAME)
    pair = Pair(stack)
    show("kubectl apply -f manifests/samples/storagepair.yaml", pair.apply())
    seconds = pair.wait_ready(say=say)
    say(f"Ready {seconds:.0f} s after kubectl apply")
    initiator = Initiator(stack.lab.initiator)
    show_service(stack, pair, initiator)
    outcome = power_cut(stack, pair, initiator)
    report = {
        "ready": True,
        "readySeconds": round(seconds, 1),
        "acknowledgedWrites": outcome.result.acked,
        "lostWrites": outcome.result.lost,
        "failovers": [failover(spec, outcome.gap_seconds) for spec in pair.failovers()],
    }
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps(report, indent=2) + "\n")
    say(
        f"{outcome.result.lost} acknowledged writes lost of {outcome.result.acked}; report: build/reports/{REPORT.name}"
    )
    farewell(stack)
    return 0 if outcome.result.lost == 0 and report["failovers"] else 1


def show_service(stack: Stack, pair: Pair, initiator: Initiator) -> None:
    """What kubectl and the initiator say, and a write and a read through the virtual IP."""
    show(f"kubectl get {KINDS}", stack.kubectl("get", KINDS))
    device = drill.log_in(initiator)
    show("the initiator: iscsiadm -m session", initiator.guest.ssh(["iscsiadm", "-m", "session"]).stdout)
    write = ["dd", f"of={device}", "bs=4096", "count=1", "conv=sync", "oflag=direct", "status=none"]
    initiator.guest.ssh(write, stdin=_PROOF.encode())
    read = ["dd", f"if={device}", "bs=4096", "count=1", "iflag=direct", "status=none"]
    back = initiator.guest.ssh(read).stdout.rstrip("\0")
    if back != _PROOF:
        raise SystemExit(f"demo: read back {back[:80]!r} from {device}, not what was written")
    show(f"the initiator: read back from {device}", back)


def power_cut(stack: Stack, pair: Pair, initiator: Initiator) -> drill.Outcome:
    """Cut the active node's power under the writer; show what was recorded."""
    active = stack.lab.machines[pair.active]
    taker = stack.lab.machines[drill.other(pair, active.name)]
    say(f"a writer on the initiator records every acknowledged write; now the power of {active.name} is cut")
    outcome = drill.run(initiator, active.power_cut, taker)
    say(f"{taker.name} serves; the initiator felt a pause of {outcome.gap_seconds:.1f} s")
    pair.wait_failovers(1)
    show("kubectl get failovers", stack.kubectl("get", "failovers"))
    show("kubectl events --for storagepair/vmstore", stack.kubectl("events", "--for", f"storagepair/{pair.name}"))
    show("kubectl get storagepairs", stack.kubectl("get", "storagepairs"))
    say(f"{active.name} gets its power back")
    active.power_up()
    active.wait_ssh()
    seconds = pair.wait_ready(say=say)
    say(f"resynchronised; Ready again {seconds:.0f} s after {active.name} was back")
    show(f"kubectl get {KINDS}", stack.kubectl("get", KINDS))
    return outcome


def failover(spec: dict[str, Any], gap_seconds: float) -> dict[str, Any]:
    """A recorded failover for the report: what the hosts say, and the pause that the initiator felt."""
    return {
        "cause": spec["cause"],
        "from": spec.get("from", ""),
        "to": spec["to"],
        "startTime": spec["startTime"],
        "endTime": spec["endTime"],
        "recordedSeconds": spec["milliseconds"] / 1000,
        "gapSeconds": round(gap_seconds, 2),
    }


def farewell(stack: Stack) -> None:
    """How to look around, and how to stop."""
    print(
        f"""
The lab goes on running. Look around:
    export KUBECONFIG={stack.plane.admin_kubeconfig}
    {stack.kubectl_path} get storagepairs
    {stack.kubectl_path} describe storagepair vmstore
    make lab ARGS="--name {NAME} ssh node1"          (or node2, initiator)
    make lab ARGS="--name {NAME} power-cut node2"    (and power-on, unplug, switch-off, ...: make lab ARGS=--help)
Stop it:
    make down""",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
