"""Many pairs, and their machines at the API only: each agent carries its document out at once and reports it.

The agents see and write what the real ones do: their StorageNode by a watch, its status by a merge patch of what
differs, their Lease every 20 s, and nothing else while nothing changes.
"""

from __future__ import annotations

import copy
import itertools
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3
import yaml
from api.operator_agents import Agents, lease_path, renewal
from storagepair_crds.views import NodeSpec, document, view
from storagepair_node_agent.signs import RENEW_SECONDS

from bench.operator_client import Client, Refused
from bench.operator_view import API, View

Json = Any
NAMESPACE = "bench"
SAMPLE = Path(__file__).parents[2] / "manifests" / "samples" / "storagepair.yaml"


@dataclass(frozen=True, slots=True)
class BenchPair:
    """One pair of the bench; everything of it is named after its number."""

    number: int

    @property
    def name(self) -> str:
        return f"pair{self.number:03}"

    @property
    def nodes(self) -> tuple[str, str]:
        return f"n{self.number:03}a", f"n{self.number:03}b"

    def lun(self, number: int) -> str:
        """The name of one of its LUNs."""
        return f"{self.name}-lun{number}"

    def documents(self, luns: int) -> Iterator[Json]:
        """The sample, for these machines, with so many LUNs."""
        pair, lun, acl = yaml.safe_load_all(SAMPLE.read_text())
        network = f"10.{64 + self.number // 250}.{self.number % 250}"
        pair["metadata"] = {"name": self.name, "namespace": NAMESPACE}
        for node, name, host in zip(pair["spec"]["nodes"], self.nodes, (131, 132), strict=True):
            node["name"] = name
            node["addresses"][0]["address"] = f"{network}.{host}/24"
        pair["spec"]["heartbeat"]["pingAddresses"] = [f"{network}.254"]
        pair["spec"]["virtualIP"]["address"] = f"{network}.136/24"
        pair["spec"]["targets"][0]["iqn"] = f"iqn.2011-03.org.weithenn:{self.name}"
        yield pair
        acl["metadata"] = {"name": f"{self.name}-esx", "namespace": NAMESPACE}
        acl["spec"] = {"pairRef": {"name": self.name}, "addresses": [f"{network}.0/24"]}
        yield acl
        for number in range(luns):
            each = copy.deepcopy(lun)
            each["metadata"] = {"name": self.lun(number), "namespace": NAMESPACE}
            each["spec"]["pairRef"]["name"] = self.name
            yield each


class _Machines(Agents):
    """Both machines of a pair, as the operator's tests have them, but driven by a watch."""

    def __init__(self, pair: BenchPair) -> None:
        super().__init__(pair)  # type: ignore[arg-type]  # only `nodes` of it is used here
        self.keyed = False
        self.lock = threading.Lock()

    def _keys(self, spec: NodeSpec) -> str:
        return "Present" if self.keyed else "Absent"

    def status(self, node: Json) -> Json:
        """What the machine reports of a document."""
        spec = view(NodeSpec, node["spec"])
        return document(self._status(node["metadata"]["name"], spec, node["metadata"]["generation"]))


class NodeTokens:
    """The tokens of the nodes' own accounts: nobody else may write a StorageNode's status."""

    def __init__(self, admin: Client) -> None:
        self._admin = admin
        self._known: dict[str, str] = {}

    def of(self, node: str) -> str:
        """The node's token; raises `Refused` (404) before the operator has made its account."""
        if node not in self._known:
            path = f"/api/v1/namespaces/storagepair-system/serviceaccounts/storagenode-{node}/token"
            spec = {"expirationSeconds": 86400}
            body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
            self._known[node] = self._admin.request("POST", path, body)["status"]["token"]
        return self._known[node]


class Fleet:
    """All machines of all pairs. `client` brings no credentials of its own."""

    def __init__(self, client: Client, tokens: NodeTokens, seen: View, pairs: list[BenchPair]) -> None:
        self._client = client
        self._tokens = tokens
        self._view = seen
        self._machines = {pair.name: _Machines(pair) for pair in pairs}
        self._of_node = {name: self._machines[pair.name] for pair in pairs for name in pair.nodes}
        self._told: dict[str, Json] = {}
        self._pool = ThreadPoolExecutor(4)
        self._renewing = ThreadPoolExecutor(4)
        self._ended = threading.Event()  # the API server has
        seen.listen(self._changed)

    def live(self) -> None:
        """Renew each node's Lease once a period from now on, spread over it, until the API server ends."""
        threading.Thread(target=self._live, daemon=True).start()

    def _changed(self, plural: str, item: Json) -> None:
        if plural == "storagenodes" and item["metadata"]["name"] in self._of_node:
            self._pool.submit(self._report, item["metadata"]["name"])
        # the account comes last: it has its rights then
        if plural == "serviceaccounts":
            self._submit(item["metadata"]["name"])
        if plural == "secrets":
            self._submit(item["metadata"]["name"], keyed=True)

    def _live(self) -> None:
        due = time.monotonic()
        for node in itertools.cycle(self._of_node):
            due += RENEW_SECONDS / len(self._of_node)
            if self._ended.wait(max(0.0, due - time.monotonic())):
                return
            if self._view.get("serviceaccounts", f"storagenode-{node}"):
                self._renewing.submit(self._renew, node)

    def _renew(self, node: str) -> None:
        try:
            self._client.merge(lease_path(node), {"spec": renewal(node)}, self._tokens.of(node))
        except Refused:
            return  # its rights are just being learnt
        except (urllib3.exceptions.HTTPError, OSError):
            self._ended.set()

    def _submit(self, account: str, *, keyed: bool = False) -> None:
        node = account.removeprefix("storagenode-")
        if node in self._of_node:
            machines = self._of_node[node]
            machines.keyed |= keyed
            self._pool.submit(self._report, node)

    def _report(self, name: str) -> None:
        machines = self._of_node[name]
        with machines.lock:
            node = self._view.get("storagenodes", name)
            if not node:
                return
            new, old = machines.status(node), self._told.get(name, {})
            patch = {key: new.get(key) for key in {**old, **new} if new.get(key) != old.get(key)}
            if patch and self._view.get("serviceaccounts", f"storagenode-{name}"):
                self._client.merge(f"{API}/storagenodes/{name}/status", {"status": patch}, self._tokens.of(name))
                self._told[name] = new
