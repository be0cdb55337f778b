"""What the operator costs as the number of pairs grows: the real process on a real API server.

`python -m bench.operator_scale --pairs 500 --luns 2500` measures a tenth, three tenths and the whole of it, prints a
table and writes build/reports/operator.json and .svg. The machines live at the API only. Exit code 1 when a budget of
the design (section 6) is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from api.operator_world import USER, Operator, prepare
from lab.controlplane import ControlPlane
from lab.keeper import Keeper
from lab.waiting import wait_for

from bench import operator_report
from bench.operator_client import Client
from bench.operator_fleet import NAMESPACE, BenchPair, Fleet, NodeTokens
from bench.operator_process import Process
from bench.operator_report import Size
from bench.operator_view import API, View, ready

Json = Any
QUIET_SECONDS = 0.5
"""After how long without any event a change counts as settled. It is not part of the figure."""

LONG = 600.0
"""How long anything may take before the bench gives up."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured."""

    changes: int
    idle_seconds: float


class World:
    """One control plane with so many pairs, and the operator's process."""

    def __init__(self, plane: ControlPlane, pairs: int, luns: int) -> None:
        prepare(plane)
        self.plane = plane
        self.pairs = [BenchPair(number) for number in range(pairs)]
        self.luns = luns
        self.client = Client(plane.admin_kubeconfig)
        self.view = View(Client(plane.admin_kubeconfig))
        self.machines, self.tokens = Client(plane.admin_kubeconfig, certificate=False), NodeTokens(self.client)
        self.operator = Operator(plane, audit_seconds=60, log_level="info")
        self._own = {
            pair.name: {
                ("storagepairs", pair.name),
                *(("storagenodes", name) for name in pair.nodes),
                *(("luns", pair.lun(number)) for number in range(self._luns_of(pair))),
            }
            for pair in self.pairs
        }

    @property
    def process(self) -> Process:
        return Process(self.operator.pid)

    def build(self) -> None:
        """All objects, as users would have applied them, and the machines' agents."""
        self.client.request("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
        documents = itertools.chain.from_iterable(pair.documents(self._luns_of(pair)) for pair in self.pairs)
        plurals = {"StoragePair": "storagepairs", "LUN": "luns", "InitiatorACL": "initiatoracls"}
        with ThreadPoolExecutor(8) as pool:
            made = [pool.submit(self.client.request, "POST", path(plurals[d["kind"]]), d) for d in documents]
            for each in made:
                each.result()
        for plural in ("storagepairs", "luns"):
            self.view.follow(plural, path(plural))
        self.view.objects["storagenodes"] = {}
        fleet = Fleet(self.machines, self.tokens, self.view, self.pairs)
        for plural in ("secrets", "serviceaccounts"):
            self.view.follow(plural, f"/api/v1/namespaces/storagepair-system/{plural}")
        self.view.follow("storagenodes", f"{API}/storagenodes")
        fleet.live()

    def all_ready(self) -> bool:
        """Whether every pair and every LUN is."""
        wanted = {"storagepairs": len(self.pairs), "luns": self.luns}
        return all(
            len(self.view.objects[plural]) == number and all(map(ready, self.view.objects[plural].values()))
            for plural, number in wanted.items()
        )

    def written(self, mark: int) -> int:
        """How many writes of the operator the API server has logged since, its lease aside."""
        writes = self.plane.audit.writes(mark)
        return sum(1 for write in writes if write.user == USER and write.resource != "leases")

    def quiet(self, pair: BenchPair, since: float) -> float:
        """Until nothing happens to a pair's objects any more; when the last thing did."""
        return self.view.quiet(self._own[pair.name], since, QUIET_SECONDS)

    def _luns_of(self, pair: BenchPair) -> int:
        share, rest = divmod(self.luns, len(self.pairs))
        return share + (pair.number < rest)


def path(plural: str, name: str = "") -> str:
    """The URL path of the bench's objects."""
    return f"{API}/namespaces/{NAMESPACE}/{plural}" + (f"/{name}" if name else "")


@contextlib.contextmanager
def control_plane(folder: Path) -> Iterator[ControlPlane]:
    """An API server of its own, gone with all its data afterwards."""
    # an end from outside (timeout, CI) shall leave nothing behind either
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    keeper = Keeper.start(folder, owner_pid=os.getpid())
    try:
        yield ControlPlane.start(keeper, folder / "plane", controllers=False)
    finally:
        keeper.shutdown()
        shutil.rmtree(folder)


def measure(pairs: int, luns: int, effort: Effort, tell: Callable[[str], None]) -> Size:
    """One size, from an empty API server to a restarted operator."""
    # not under build/: unix sockets want short paths
    with control_plane(Path(tempfile.mkdtemp(prefix="storagepair-bench-"))) as plane:
        world = World(plane, pairs, luns)
        world.build()
        tell(f"{pairs} pairs and {luns} LUNs are applied; the operator starts")
        began = time.monotonic()
        world.operator.start()
        built = world.view.wait(world.all_ready, "every pair and LUN to be ready", LONG) - began
        world.process.rest()
        tell(f"all ready after {built:.1f} s; {effort.idle_seconds:g} s of rest")
        idle_writes, idle_cpu = _idle(world, effort.idle_seconds)
        tell("single changes")
        changes = _Changes(world, effort.changes, idle_cpu)
        changes.luns()
        changes.nodes()
        first = world.process
        peak, steady = first.peak_megabytes, first.rss_megabytes
        tell("restart")
        mark = plane.audit.mark()
        if world.operator.stop() != 0:
            raise RuntimeError(f"the operator did not end well: {world.operator.log}")
        began = time.monotonic()
        world.operator.start(ready=False)
        wait_for(lambda: world.operator.ready, "the operator to be ready again", LONG)
        start = time.monotonic() - began
        settled = world.process.rest() - began
        return Size(
            pairs=pairs,
            luns=luns,
            rssMegabytes=round(max(peak, world.process.peak_megabytes), 1),
            rssSteadyMegabytes=round(steady, 1),
            cpuSecondsPerChange=round(changes.cpu, 4),
            changeSettledSeconds=round(max(changes.settled), 3),
            changeSettledSecondsMedian=round(median(changes.settled), 3),
            lunToNodeSeconds=round(median(changes.to_node), 3),
            nodeToPairSeconds=round(median(changes.to_pair), 3),
            nodeToPairSecondsMax=round(max(changes.to_pair), 3),
            writesPerChange=round(changes.writes, 2),
            idleWritesPerMinute=round(idle_writes, 2),
            idleCpuSecondsPerMinute=round(idle_cpu * 60, 3),
            startSeconds=round(start, 2),
            restartSettledSeconds=round(settled, 2),
            restartWrites=world.written(mark),
            firstSettledSeconds=round(built, 1),
        )


def _idle(world: World, seconds: float) -> tuple[float, float]:
    """Writes per minute, and share of a core, while nothing changes; an audit included when a minute is looked at."""
    mark, cpu, began = world.plane.audit.mark(), world.process.cpu_seconds, time.monotonic()
    time.sleep(seconds)
    elapsed = time.monotonic() - began
    return world.written(mark) * 60 / elapsed, (world.process.cpu_seconds - cpu) / elapsed


class _Changes:
    """Single changes, one after the other, each on another pair, each until nothing happens any more."""

    def __init__(self, world: World, number: int, idle_cpu: float) -> None:
        self.to_node: list[float] = []
        self.to_pair: list[float] = []
        self.settled: list[float] = []
        self.cpu = 0.0
        self.writes = 0.0
        self._world = world
        self._idle_cpu = idle_cpu
        # the same ones in every run
        self._chosen = random.Random(number).choices(world.pairs, k=number)

    def luns(self) -> None:
        """A LUN's deletionPolicy: from the patch to both StorageNodes, and to the end of all that it causes."""
        world = self._world
        mark, cpu, start = world.plane.audit.mark(), world.process.cpu_seconds, time.monotonic()
        for pair in self._chosen:
            name = pair.lun(0)
            new = "Retain" if world.view.get("luns", name)["spec"].get("deletionPolicy") == "Delete" else "Delete"
            began = time.monotonic()
            world.client.merge(path("luns", name), {"spec": {"deletionPolicy": new}})
            seen = world.view.wait(partial(self._in_both, pair, new), f"{name} in both documents", LONG)
            self.to_node.append(seen - began)
            done = world.view.wait(partial(self._ready, name), f"{name} to be ready", LONG)
            self.settled.append(world.quiet(pair, done) - began)
        elapsed = time.monotonic() - start
        self.cpu = max(0.0, world.process.cpu_seconds - cpu - self._idle_cpu * elapsed) / len(self._chosen)
        self.writes = world.written(mark) / len(self._chosen)

    def nodes(self) -> None:
        """A machine's mirror loses its other half, and finds it again: from the report to the pair's status."""
        world = self._world
        for pair in self._chosen:
            for connection, phrase in (("WFConnection", "Disconnected"), ("Connected", "UpToDate")):
                began = time.monotonic()
                target = f"{API}/storagenodes/{pair.nodes[0]}/status"
                token = world.tokens.of(pair.nodes[0])
                world.machines.merge(target, {"status": {"replication": {"connection": connection}}}, token)
                seen = world.view.wait(partial(self._replication_is, pair, phrase), phrase, LONG)
                self.to_pair.append(seen - began)
                self.settled.append(world.quiet(pair, seen) - began)

    def _replication_is(self, pair: BenchPair, phrase: str) -> bool:
        return bool(self._world.view.get("storagepairs", pair.name)["status"].get("replication") == phrase)

    def _ready(self, lun: str) -> bool:
        return ready(self._world.view.get("luns", lun))

    def _in_both(self, pair: BenchPair, policy: str) -> bool:
        nodes = (self._world.view.get("storagenodes", name) for name in pair.nodes)
        found = [lun for node in nodes for lun in node["spec"]["luns"] if lun["name"] == pair.lun(0)]
        return [lun.get("deletionPolicy", "Retain") for lun in found] == [policy, policy]


def main(arguments: list[str] | None = None) -> int:
    """Measure and report; 1 when a budget is missed."""
    parser = argparse.ArgumentParser(prog="bench.operator_scale", description=__doc__)
    parser.add_argument("--pairs", type=int, default=500, help="of the largest size")
    parser.add_argument("--luns", type=int, default=2500, help="of the largest size")
    parser.add_argument("--only", action="store_true", help="measure the largest size alone")
    parser.add_argument(
        "--keep", action="store_true", help="other sizes stay in the report as they were measured before"
    )
    parser.add_argument("--changes", type=int, default=20, help="how many single changes of each kind")
    parser.add_argument("--idle-seconds", type=float, default=60)
    parser.add_argument("--reports", type=Path, default=Path("build/reports"))
    options = parser.parse_args(arguments)
    shares = (1.0,) if options.only else (0.1, 0.3, 1.0)
    sizes: list[Size] = []
    began = time.monotonic()
    for share in shares:
        pairs, luns = max(1, round(options.pairs * share)), max(1, round(options.luns * share))
        effort = Effort(options.changes, options.idle_seconds)
        sizes.append(
            measure(
                pairs, luns, effort, lambda words: print(f"[{time.monotonic() - began:6.1f} s] {words}", flush=True)
            )
        )
    if options.keep:
        sizes = sorted([*operator_report.earlier(options.reports, sizes), *sizes], key=lambda size: size.pairs)
    operator_report.write(options.reports, sizes)
    print(operator_report.table(sizes))
    missed = operator_report.missed(sizes)
    print("\n".join(missed) or "all budgets are kept")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
