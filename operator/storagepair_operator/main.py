"""storagepair-operator: the command line, and how the parts are put together."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Iterable, Sequence

from storagepair_operator import health, metrics
from storagepair_operator.audit import Auditor
from storagepair_operator.cluster import Cluster
from storagepair_operator.election import Election
from storagepair_operator.handlers import Watches
from storagepair_operator.kinds import Kind, PairKey
from storagepair_operator.leases import Listener
from storagepair_operator.reconcile import Reconciler
from storagepair_operator.registrar import Registrar
from storagepair_operator.settings import Settings
from storagepair_operator.store import Store
from storagepair_operator.writer import Writer

log = logging.getLogger("storagepair_operator")


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script."""
    settings = _settings(arguments)
    _log(settings.log_level)
    try:
        cluster = Cluster(settings.kubeconfig, settings.request_timeout_seconds)
    except Exception as error:  # noqa: BLE001 - whatever is wrong with the credentials, say it in one line
        log.error("no way to the API server: %s", error)
        return 2
    return asyncio.run(Operator(cluster, settings).run())


class Operator:
    """The parts, connected."""

    def __init__(self, cluster: Cluster, settings: Settings) -> None:
        self._cluster = cluster
        self._settings = settings
        self._store = Store(self._changed)
        self._election = Election(cluster, settings)
        self._registrar = Registrar(cluster, self._store, self._election.leading, settings)
        self._writer = Writer(cluster, self._store, socket.gethostname(), self._may_write, self._registrar.keyed)
        self._reconciler = Reconciler(cluster, self._store, self._writer, self._election.leading, settings)
        self._watches = Watches(cluster, self._store, settings)
        self._listener = Listener(cluster, self._store, settings)
        self._auditor = Auditor(cluster, self._store, settings, self._watches.renew)

    async def run(self) -> int:
        """Run until SIGTERM or SIGINT; the exit code."""
        stop = asyncio.Event()
        for signal_number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(signal_number, stop.set)
        stopping = asyncio.create_task(_until(stop), name="stop")
        parts = {
            "watches": self._watches.run(),
            "audit": self._auditor.run(),
            "election": self._election.run(),
            "reconcile": self._reconciler.run(),
            "identities": self._registrar.run(),
            "leases": self._listener.run(),
            "health": self._health(),
        }
        tasks = [asyncio.create_task(part, name=name) for name, part in parts.items()]
        await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
        ended = [task for task in tasks if task.done()]
        for task in ended:
            log.error("the part %s ended by itself: %s", task.get_name(), _failure(task))
        for task in (stopping, *tasks):
            task.cancel()
        await asyncio.gather(stopping, *tasks, return_exceptions=True)
        log.info("stopped")
        return 1 if ended else 0

    def _changed(self, kind: Kind, keys: Iterable[PairKey]) -> None:
        self._reconciler.changed(kind, keys)
        self._registrar.changed(kind)

    def _may_write(self) -> bool:
        return self._store.whole.is_set() and self._election.leading.is_set()

    def _metrics(self) -> str:
        return metrics.exposition(self._writer.writes + self._registrar.writes, self._store.silent_agents)

    async def _health(self) -> None:
        pages: dict[str, health.Page] = {
            "/healthz": lambda: (self._auditor.alive, "alive" if self._auditor.alive else "the watches stall"),
            "/readyz": lambda: (
                self._store.whole.is_set(),
                "the view is whole" if self._store.whole.is_set() else "no",
            ),
            "/metrics": lambda: (True, self._metrics()),
        }
        if not self._settings.health_port:
            await asyncio.Event().wait()
        await health.serve(self._settings.health_host, self._settings.health_port, pages)


async def _until(event: asyncio.Event) -> None:
    await event.wait()


def _failure(task: asyncio.Task[None]) -> str:
    return "cancelled" if task.cancelled() else repr(task.exception() or "without an error")


def _settings(arguments: Sequence[str] | None) -> Settings:
    parser = argparse.ArgumentParser(
        prog="storagepair-operator",
        description="Turns StoragePairs, LUNs and InitiatorACLs into the two hosts' documents (StorageNode), and tells "
        "what became of them. It touches no host and is in no data path: hosts serve and fail over without it.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run",
        help="run until SIGTERM",
        description="Run until SIGTERM. The credentials are the kubeconfig's, else the pod's service account's, else "
        "those of KUBECONFIG or ~/.kube/config.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    default = Settings()
    run.add_argument("--kubeconfig", metavar="FILE", help="a kubeconfig file")
    run.add_argument(
        "--namespace-of-secrets",
        metavar="NAME",
        default=default.secrets_namespace,
        help="where the pairs' Heartbeat keys are created, and where the operator's own lease is",
    )
    run.add_argument(
        "--audit-seconds",
        metavar="N",
        type=float,
        default=default.audit_seconds,
        help="how often the view is compared with the API server",
    )
    run.add_argument(
        "--agent-silent-seconds",
        metavar="N",
        type=float,
        default=default.agent_silent_seconds,
        help="after how long without a sign of life a node's agent is called silent; agents give one every 20 s, so 60 "
        "or more",
    )
    run.add_argument(
        "--log-level", choices=("debug", "info", "warning", "error"), default=default.log_level, help="how much"
    )
    run.add_argument(
        "--health-port",
        metavar="PORT",
        type=int,
        default=default.health_port,
        help="port of /healthz, /readyz and /metrics; 0 for none",
    )
    options = parser.parse_args(arguments)
    return Settings(
        kubeconfig=options.kubeconfig,
        secrets_namespace=options.namespace_of_secrets,
        audit_seconds=options.audit_seconds,
        agent_silent_seconds=options.agent_silent_seconds,
        log_level=options.log_level,
        health_port=options.health_port,
    )


def _log(level: str) -> None:
    logging.basicConfig(
        level=level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s", force=True
    )
    # Kopf at its info level tells of every handler that it calls
    logging.getLogger("kopf").setLevel(logging.WARNING if level != "debug" else logging.INFO)
    logging.getLogger("urllib3").setLevel(logging.WARNING)


if __name__ == "__main__":
    sys.exit(main())
