"""`python -m lab`: bring up a lab, look into it, and break things in it."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Protocol

from lab import cache, image, registry, state
from lab.binaries import BinariesError
from lab.controlplane import ControlPlaneError
from lab.debian import SUITES, DebianError
from lab.images import ImageError
from lab.keeper import KeeperError
from lab.kubectl import KubectlError
from lab.kubelayer import KubeLayerError
from lab.lab import MACHINES, Lab, LabGuest
from lab.qmp import QmpError
from lab.ssh import CommandFailed, SshError
from lab.stack import Stack, StackError
from lab.state import LabError
from lab.switches import SWITCHES, SwitchError

DEFAULT_NAME = "lab"
_Run = Callable[[argparse.Namespace], object]


class _Add(Protocol):
    def __call__(self, name: str, run: _Run, help_text: str, *positional: str) -> argparse.ArgumentParser: ...


_EXPECTED = (
    *(BinariesError, CommandFailed, ControlPlaneError, DebianError, ImageError, KeeperError, KubectlError),
    *(KubeLayerError, LabError, QmpError, SshError, StackError, SwitchError),
)


def main(arguments: Sequence[str]) -> int:
    """Run one command; 0 when it worked."""
    options = _parser().parse_args(arguments)
    try:
        outcome = options.run(options)
        return outcome if isinstance(outcome, int) else 0
    except _EXPECTED as error:
        cache.say(f"lab: {error}")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lab",
        description="Two storage nodes, an initiator and four switches as virtual machines on this machine.",
        epilog="Machines: node1, node2, initiator. A node's cards: eth0 on switch svcA, eth1 on svcB, eth2 on replA, "
        "eth3 on replB, eth4 management (ssh), eth5 the way to the API server.",
    )
    parser.add_argument("--name", default=DEFAULT_NAME, help="which lab, several may run (default: %(default)s)")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: _Run, help_text: str, *positional: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=help_text, description=help_text)
        command.add_argument("--name", default=argparse.SUPPRESS, help="which lab (default: lab)")
        for each in positional:
            choices = {"machine": list(MACHINES), "switch": list(SWITCHES)}.get(each)
            command.add_argument(each, choices=choices)
        command.set_defaults(run=run)
        return command

    up = add("up", _up, "boot the machines, bare; builds what is missing first")
    up.add_argument("--suite", default=os.environ.get("SUITE", image.DEFAULT_SUITE), choices=SUITES)
    up.add_argument("--data-mib", type=int, default=192, help="size of a storage node's /dev/vdb")
    up.add_argument("--volatile-disks", action="store_true", help="/dev/vdb loses at a power cut what was not flushed")
    up.add_argument("--owner", type=int, help="end the lab when the process with this id ends")
    up.add_argument("--boot", action="store_true", help="a real boot, where a saved one would do")
    up.add_argument("--kube", action="store_true", help="also kubelets, a control plane, the operator, the agents")
    add("down", _down, "end all processes and remove all files of the lab")
    add("list", _list, "the names of all labs")
    add("status", _status, "what is on, what is cut, which snapshots there are (JSON)")
    ssh = add("ssh", _ssh, "a shell in a machine, or one command", "machine")
    ssh.add_argument("command", nargs=argparse.REMAINDER)
    _add_faults(add)
    _add_cluster(add)
    return parser


def _add_faults(add: _Add) -> None:
    add("unplug", lambda o: _guest(o).unplug(o.nic), "pull a network cable: the carrier goes", "machine", "nic")
    add("plug", lambda o: _guest(o).plug(o.nic), "put the cable back", "machine", "nic")
    add("switch-off", lambda o: _lab(o).switch_off(o.switch), "switch off a switch", "switch")
    add("switch-on", lambda o: _lab(o).switch_on(o.switch), "switch it on again", "switch")
    add("power-cut", lambda o: print(f"{_guest(o).power_cut():.3f}"), "cut a machine's power", "machine")
    add("blackout", lambda o: _lab(o).blackout(), "cut the power of both storage nodes at the same instant")
    add("power-on", _power_on, "give it power again, and wait for ssh", "machine")
    add("reboot", lambda o: print(f"{_guest(o).reboot():.1f} s"), "reboot a machine in an orderly way", "machine")
    add("reset", lambda o: print(f"{_guest(o).reset():.1f} s"), "press a machine's reset button", "machine")
    add("cut-api", lambda o: _lab(o).cut_api(), "cut the nodes off the API server")
    add("restore-api", lambda o: _lab(o).restore_api(), "let the nodes reach the API server again")
    add("snapshot", lambda o: _whole(o).snapshot(o.tag), "save the whole lab as TAG", "tag")
    add("restore", lambda o: _whole(o).restore(o.tag), "bring the whole lab back to TAG", "tag")
    logs = add("logs", _logs, "the log files, or the end of one machine's console")
    logs.add_argument("machine", nargs="?", choices=list(MACHINES))


def _add_cluster(add: _Add) -> None:
    kubectl = add("kubectl", _kubectl, "kubectl as administrator (after up --kube)")
    kubectl.add_argument("command", nargs=argparse.REMAINDER)
    add("update-agents", lambda o: Stack.open(o.name).update_agents(), "give the nodes the agent's code as it is now")
    add("restart-operator", lambda o: Stack.open(o.name).restart_operator(), "start the operator's code as it is now")
    add("freeze-kubelets", lambda o: Stack.open(o.name).freeze_kubelets(), "stop kubelets and containerd; pods go on")
    add("thaw-kubelets", lambda o: Stack.open(o.name).thaw_kubelets(), "let them go on")


def _lab(options: argparse.Namespace) -> Lab:
    return Lab.open(options.name)


def _guest(options: argparse.Namespace) -> LabGuest:
    return _lab(options).machines[options.machine]


def _whole(options: argparse.Namespace) -> Lab | Stack:
    """The lab with all that belongs to it."""
    lab = _lab(options)
    return Stack(lab) if lab.settings.kube else lab


def _up(options: argparse.Namespace) -> None:
    settings = {"owner_pid": options.owner, "data_mib": options.data_mib, "volatile_disks": options.volatile_disks}
    if options.kube:
        Stack.up(options.name, suite=options.suite, **settings)
        cache.say(f"the stack is up: python -m lab --name {options.name} kubectl get pods -A")
        return
    Lab.up(options.name, suite=options.suite, boot=options.boot, **settings)
    cache.say(f"the lab is up: python -m lab --name {options.name} ssh node1")


def _down(options: argparse.Namespace) -> None:
    registry.remove(options.name)


def _list(_options: argparse.Namespace) -> None:
    for name in registry.known():
        print(name)


def _status(options: argparse.Namespace) -> None:
    print(json.dumps(_lab(options).status(), indent=1))


def _ssh(options: argparse.Namespace) -> int:
    command = [*_guest(options).ssh_arguments(), *options.command]
    if not options.command:
        command.insert(1, "-t")
    # this process becomes the ssh: its exit status, its signals
    os.execvp(command[0], command)


def _kubectl(options: argparse.Namespace) -> int:
    stack = Stack.open(options.name)
    command = [str(stack.kubectl_path), f"--kubeconfig={stack.plane.admin_kubeconfig}", *options.command]
    os.execv(command[0], command)


def _power_on(options: argparse.Namespace) -> None:
    guest = _guest(options)
    guest.power_up()
    print(f"{guest.wait_ssh():.1f} s")


def _logs(options: argparse.Namespace) -> None:
    folder = state.run_dir(options.name)
    if options.machine:
        print((folder / f"{options.machine}.console").read_text(errors="replace")[-8000:])
    else:
        for file in sorted([*folder.glob("*.log"), *folder.glob("*.console")]):
            print(file)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
