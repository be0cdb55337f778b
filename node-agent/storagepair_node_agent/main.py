"""The command line: run the agent, or plan and apply one StorageNode document without Kubernetes."""

from __future__ import annotations

import argparse
import fcntl
import importlib.metadata
import logging
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from storagepair_node_agent import credentials, documents, loop
from storagepair_node_agent.api import NAMESPACE, Api
from storagepair_node_agent.cycle import Cycle
from storagepair_node_agent.host import Host
from storagepair_node_agent.nodetoken import NodeToken
from storagepair_node_agent.transport import Transport

NOTHING, TROUBLE, PENDING = 0, 1, 2
_LOCK = "/run/storagepair/agent.lock"
_POLL_SECONDS = 2.0
_NICENESS = 10  # a cycle must never take the processor from a failover

_log = logging.getLogger(__name__)

_DESCRIPTION = """\
The node agent of storagepair: makes this host what its StorageNode document says (bonds, DRBD, file system, Heartbeat,
iSCSI targets) and reports what it sees. It decides no failover: Heartbeat does, with or without this agent."""

_EPILOG = """\
examples:
  storagepair-node-agent run                                in the DaemonSet's pod, as the node's own service account
  storagepair-node-agent run --kubeconfig /etc/kubernetes/agent.conf
  storagepair-node-agent plan storagenodes.yaml             what would be changed on this host? touches nothing
  storagepair-node-agent apply storagenodes.yaml --wait 300 converge from the file, without Kubernetes

what it changed on the host, and when: /var/log/storagepair/actions.log"""


def main(argv: Sequence[str] | None = None) -> int:
    """The entry point of `storagepair-node-agent`."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(
        level=arguments.log_level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s"
    )
    try:
        code: int = arguments.command(arguments)
    except (documents.InvalidDocument, credentials.CredentialsError, _Busy) as error:
        print(f"storagepair-node-agent: {error}", file=sys.stderr)
        return TROUBLE
    return code


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--node",
        default=os.environ.get("NODE_NAME") or os.uname().nodename,
        help="name of this node's StorageNode (default: $NODE_NAME, else `uname -n`; here %(default)s)",
    )
    common.add_argument(
        "--host-root",
        type=Path,
        metavar="DIR",
        help="where the host's files are; its programs are then run by nsenter into PID 1's namespaces "
        "(default: found out: /proc/1/root in a container with the host's PID namespace, else this very machine)",
    )
    common.add_argument(
        "--log-level", default="info", choices=["debug", "info", "warning", "error"], help="%(default)s"
    )

    parser = argparse.ArgumentParser(
        prog="storagepair-node-agent",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=_version())
    _add_commands(parser.add_subparsers(required=True, metavar="COMMAND"), common)
    return parser


def _add_commands(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    run = commands.add_parser("run", parents=[common], help="follow this node's StorageNode for ever")
    run.add_argument("--kubeconfig", type=Path, metavar="FILE", help="default: in a pod, as its node's service account")
    run.add_argument("--api-server", metavar="URL", help="instead of the address in the credentials")
    run.add_argument(
        "--interval",
        type=float,
        default=5.0,
        metavar="SECONDS",
        help="look at the host this long after the last look, whether or not anything called; more seldom where a look "
        "takes long (default: %(default)g s)",
    )
    run.set_defaults(command=_run)

    plan = commands.add_parser(
        "plan",
        parents=[common],
        help="print what would be changed on this host, and change nothing",
        description="Validates this node's StorageNode in FILE, looks at the host and prints every action that would "
        "be taken now, with its steps. Exit code: 0 nothing to do, 2 actions pending, 1 blocked or an error.",
    )
    plan.add_argument(
        "file", type=Path, metavar="FILE", help="YAML or JSON: a StorageNode, or several documents, or a List"
    )
    plan.set_defaults(command=_plan)

    apply = commands.add_parser(
        "apply",
        parents=[common],
        help="make this host what a file says, without Kubernetes",
        description="Converges this host to its StorageNode in FILE (Heartbeat's key may come with it as the Secret "
        "that it names). Refused while the agent runs here. Exit code: 0 all is as desired, 1 it is not (yet).",
    )
    apply.add_argument("file", type=Path, metavar="FILE", help="as for plan")
    apply.add_argument(
        "--wait",
        type=float,
        default=0,
        metavar="SECONDS",
        help="how long to go on until all is as desired (0: one pass)",
    )
    apply.set_defaults(command=_apply)


def _run(arguments: argparse.Namespace) -> int:
    api, server = _api(arguments)
    host = _host(arguments)
    os.nice(_NICENESS)
    with _lock(host):
        _log.info("storagepair-node-agent %s on %s, API server %s", _version(), arguments.node, server)
        loop.run(
            host,
            arguments.node,
            api,
            interval_seconds=arguments.interval,
            agent_version=_version(),
        )
    return NOTHING


def _api(arguments: argparse.Namespace) -> tuple[Api, str]:
    """By a kubeconfig as whoever that says; in the DaemonSet's pod as the node itself."""
    if arguments.kubeconfig:
        user = credentials.from_kubeconfig(arguments.kubeconfig, arguments.api_server)
        return Api(Transport(user.server, user.tls), user, arguments.node), user.server
    pod = credentials.in_cluster(arguments.api_server)
    transport = Transport(pod.server, pod.tls)
    token = NodeToken(pod, transport, arguments.node)
    return Api(transport, token, arguments.node, pod.namespace or NAMESPACE), pod.server


def _plan(arguments: argparse.Namespace) -> int:
    desired = documents.from_file(arguments.file, arguments.node)
    cycle = Cycle(_host(arguments))
    outcomes = cycle.plan(desired, cycle.observe(desired))
    actions = [action for outcome in outcomes.values() for action in outcome.actions]
    for name, outcome in outcomes.items():
        state = "ok" if outcome.verdict.ready else "pending" if outcome.verdict.waiting else "BLOCKED"
        print(f"{name:<12} {state:<8} {outcome.verdict.message}")
    print()
    for action in actions:
        print(action.describe())
    if actions:
        print(f"\n{len(actions)} action(s) pending; what follows from their results is planned after them.")
        return PENDING
    print("nothing to do")
    return NOTHING if all(outcome.verdict.ready for outcome in outcomes.values()) else TROUBLE


def _apply(arguments: argparse.Namespace) -> int:
    desired = documents.from_file(arguments.file, arguments.node)
    host = _host(arguments)
    cycle, said, end = Cycle(host), "", time.monotonic() + arguments.wait
    with _lock(host):
        while True:
            result = cycle.run(desired)
            sentence = result.sentence(arguments.node)
            if sentence != said:
                print(sentence, flush=True)
            said = sentence
            if result.ready:
                return NOTHING
            if time.monotonic() >= end:
                return TROUBLE
            time.sleep(_POLL_SECONDS)


def _host(arguments: argparse.Namespace) -> Host:
    return Host.at(arguments.host_root) if arguments.host_root else Host.detect()


class _Busy(Exception):
    """Another agent works on this host."""


def _lock(host: Host) -> TextIO:
    """One agent a host: a pod and `apply` at once would undo each other's work. Gone with the process."""
    path = host.path(_LOCK)
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise _Busy(f"another storagepair-node-agent works on this host (it holds {_LOCK})") from error
    return file


def _version() -> str:
    try:
        return importlib.metadata.version("storagepair")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"  # run from a source tree


if __name__ == "__main__":
    sys.exit(main())
