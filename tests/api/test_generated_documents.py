"""Generated documents, 500 in `make api` and 2,000 in `make drills`, against the real API server and operator.

The pairs have agents that follow. No document crashes anything or changes a host that it is not for; what is refused,
by whomever, says which field.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest
from api import generated_hosts
from api.crd_cases import ACL, LUN, MOVE, PAIR
from api.generated_documents import BYSTANDER, FORBIDDEN, HOMES, Case, Home, generate
from api.generated_world import Answer, Caller, collection, names_the_field, settled, tells_why, verdict
from api.operator_agents import Agents
from api.operator_world import API, Operator, Pair, prepare, running
from api.permissions_world import RBAC
from api.planes import own_plane
from lab.controlplane import ControlPlane
from lab.keeper import Keeper
from lab.waiting import SOON, WaitTimeout, wait_for
from storagepair_crds.views import GROUP

pytestmark = pytest.mark.patient

Json = Any
BATCH = 100
PLURALS = {PAIR: "storagepairs", LUN: "luns", ACL: "initiatoracls", MOVE: "switchovers"}
BAD_WORDS = ("Traceback", "a defect", "nhandled", "ended by itself", "can't be read", "never retrieved", "broke down")
ABANDON = json.dumps({"metadata": {"finalizers": None, "annotations": {"storagepair.dev/abandon": "true"}}})
MERGE = "application/merge-patch+json"


@pytest.fixture(scope="module")
def plane(keeper: Keeper) -> Iterator[ControlPlane]:
    with own_plane(keeper, "generated") as plane:
        prepare(plane)
        _plain_user(plane)
        yield plane


def _plain_user(plane: ControlPlane) -> None:
    """Somebody who may write every kind of ours anywhere by RBAC, and may use no machine."""
    client, group = plane.client(), "rbac.authorization.k8s.io"
    for namespace in (BYSTANDER, *HOMES):
        client.post("/api/v1/namespaces", {"metadata": {"name": namespace.namespace}})
    client.post("/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "plain"}})
    rule = {"apiGroups": [GROUP], "resources": list(PLURALS.values()), "verbs": ["*"]}
    client.post(f"{RBAC}/clusterroles", {"metadata": {"name": "plain"}, "rules": [rule]})
    subject = {"kind": "ServiceAccount", "namespace": "default", "name": "plain"}
    reference = {"apiGroup": group, "kind": "ClusterRole", "name": "plain"}
    binding = {"metadata": {"name": "plain"}, "subjects": [subject], "roleRef": reference}
    client.post(f"{RBAC}/clusterrolebindings", binding)


@dataclass
class Tally:
    """What became of the documents, and what should not have."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, case: Case, what: str) -> None:
        with self.lock:
            self.counts[case.group, what] += 1

    def complain(self, case: Case, what: str) -> None:
        with self.lock:
            self.wrong.append(f"{case.name} {case.group} {case.kind} in {case.namespace} ({case.about}): {what[:600]}")


class Writer:
    """Writes the cases of one namespace, a batch at a time, and asks what came of each."""

    def __init__(self, plane: ControlPlane, tally: Tally) -> None:
        plain = plane.service_account_kubeconfig("default", "plain", plane.folder / "plain.kubeconfig")
        self.callers = {"admin": Caller(plane.admin_kubeconfig), "plain": Caller(plain)}
        self.admin = self.callers["admin"]
        self.tally = tally
        self.rendered: dict[str, int] = {}

    def batch(self, cases: list[Case]) -> None:
        """Create them, change those that are changes, delete them; look at what is said in between."""
        there: dict[str, tuple[Case, str]] = {}
        for case in cases:
            self._create(case, there)
        items = self._settle(there)
        changed: dict[str, tuple[Case, str]] = {}
        for path, (case, _) in there.items():
            if case.first is not None and path in items:
                self._update(case, path, changed)
        self._settle(changed)
        self._remove(there)
        self.hosts(cases[0])

    def _create(self, case: Case, there: dict[str, tuple[Case, str]]) -> None:
        document = case.document if case.first is None else case.first
        answer = self._send(case, "POST", collection(case), document)
        if answer.accepted:
            path = f"{API}/namespaces/{answer.body['metadata']['namespace']}/{PLURALS.get(case.kind, 'failovers')}"
            there[f"{path}/{answer.body['metadata']['name']}"] = (case, case.kind)
        if case.first is None:
            self._judge(case, answer)
        elif not answer.accepted:
            self.tally.complain(case, f"what it shall be a change of is refused: {answer.text}")

    def _update(self, case: Case, path: str, changed: dict[str, tuple[Case, str]]) -> None:
        """With the newest version; the operator may be writing too."""
        while True:
            metadata = self.admin("GET", path).body["metadata"]
            document = json.loads(case.body(case.document))
            if isinstance(document.get("metadata"), dict):
                document["metadata"]["resourceVersion"] = metadata["resourceVersion"]
            answer = self._send(case, "PUT", path, document)
            if answer.status != 409:
                break
        self._judge(case, answer)
        if answer.accepted:
            changed[path] = (case, case.kind)

    def _send(self, case: Case, method: str, path: str, document: Json) -> Answer:
        kind = "application/yaml" if isinstance(document, str) else "application/json"
        strict = f"?fieldValidation={'Strict' if case.strict else 'Ignore'}"
        return self.callers[case.user](method, path + strict, case.body(document), kind)

    def _judge(self, case: Case, answer: Answer) -> None:
        self.tally.count(case, "accepted" if answer.accepted else "refused")
        if answer.accepted:
            if case.group == FORBIDDEN:
                self.tally.complain(case, "is accepted")
        elif not 400 <= answer.status < 500:
            self.tally.complain(case, f"{answer.status} {answer.text}")
        elif not names_the_field(case, answer):
            self.tally.complain(case, f"the refusal does not name the field: {answer.status} {answer.text}")

    def _settle(self, there: dict[str, tuple[Case, str]]) -> dict[str, Json]:
        """Until the operator has said something of each; what it said."""
        waiting, items = dict(there), dict[str, Json]()

        def looked_at() -> bool:
            found = self._there(waiting)
            for path, (case, kind) in list(waiting.items()):
                if path not in found:
                    self.tally.complain(case, "is gone, though nobody deleted it")
                    del waiting[path]
                elif settled(kind, found[path]):
                    items[path] = found[path]
                    del waiting[path]
            return not waiting

        try:
            wait_for(looked_at, "every document to be looked at", SOON, interval=0.2)
        except WaitTimeout:
            for path, (case, _) in waiting.items():
                self.tally.complain(case, f"nothing is said of it: {self.admin('GET', path).body}")
        for path, item in items.items():
            case, kind = there[path]
            good, message = verdict(kind, item)
            self.tally.count(case, "carried out" if good else "accepted, then not carried out")
            if not good and not tells_why(kind, item, message):
                self.tally.complain(case, f"it is not said why: {message!r}")
        return items

    def _remove(self, there: dict[str, tuple[Case, str]]) -> None:
        """Deleted as a user would; what waits for machines that do not exist, or for a stranger, is let go."""
        for path in there:
            self.admin("DELETE", path)
        with contextlib.suppress(WaitTimeout):
            wait_for(lambda: not self._left(there), "the documents to go", 1.0, interval=0.2)
        for path in self._left(there):
            self.admin("PATCH", path, ABANDON, MERGE)
            self.admin("DELETE", path)  # one that the operator had not seen was refused
        try:
            wait_for(lambda: not self._left(there), "the rest to go", SOON, interval=0.2)
        except WaitTimeout:
            for path in self._left(there):
                self.tally.complain(there[path][0], f"can't be deleted: {self.admin('GET', path).body}")

    def _left(self, there: dict[str, tuple[Case, str]]) -> list[str]:
        found = self._there(there)
        return [path for path in there if path in found]

    def _there(self, paths: Iterable[str]) -> dict[str, Json]:
        """What is there of these, by a list of each collection: a request for each object would be thousands."""
        items = {}
        for place in {path.rpartition("/")[0] for path in paths}:
            answer = self.admin("GET", place)
            assert answer.accepted, answer.text
            items |= {f"{place}/{item['metadata']['name']}": item for item in answer.body["items"]}
        return items

    def hosts(self, case: Case) -> None:
        """Every machine's document, as it is now, is one that the machine can take."""
        for item in self.admin("GET", f"{API}/storagenodes").body["items"]:
            uid, generation = item["metadata"]["uid"], item["metadata"]["generation"]
            if self.rendered.get(uid) != generation:
                self.rendered[uid] = generation
                try:
                    generated_hosts.check({"apiVersion": f"{GROUP}/v1alpha1", "kind": "StorageNode", **item})
                except Exception as error:  # noqa: BLE001 - whatever it is, the document is what has to be seen
                    self.tally.complain(case, f"{item['metadata']['name']} can't take {item['spec']}: {error!r}")


@contextlib.contextmanager
def _serving(plane: ControlPlane, home: Home, every_seconds: float) -> Iterator[Pair]:
    pair = Pair(plane, home.namespace, home.index)
    pair.apply()
    with Agents(pair, every_seconds=every_seconds):
        pair.wait_served()
        yield pair


def _base(pair: Pair) -> list[tuple[Json, ...]]:
    """What no LUN, InitiatorACL or Switchover may change of a pair's hosts."""
    parts = ("pairRef", "bonds", "replication", "filesystem", "heartbeat", "virtualIP", "service")
    return [tuple(pair.node(index)["spec"].get(part) for part in parts) for index in (0, 1)]


# of which a few write another one first, of which they are a change
@pytest.mark.parametrize("documents", [500, pytest.param(2000, marks=pytest.mark.drill)])
def test_generated_documents(plane: ControlPlane, documents: int, capsys: pytest.CaptureFixture[str]) -> None:
    cases = generate(documents)
    assert len(cases) == documents, "hypothesis found fewer different ones"
    tally = Tally()
    with contextlib.ExitStack() as stack:
        operator = stack.enter_context(running(plane, log_level="info"))
        bystander = stack.enter_context(_serving(plane, BYSTANDER, 0.5))
        crowd = [stack.enter_context(_serving(plane, home, 0.5)) for home in HOMES]
        pid, before, bases = operator.pid, _untouched(bystander), [_base(pair) for pair in crowd]
        _write_all(plane, cases, tally)
        assert operator.pid == pid
        assert _untouched(bystander) == before
        assert [_base(pair) for pair in crowd] == bases
        _good_end(operator, bystander, [bystander, *crowd])
    with capsys.disabled():
        print("\n" + "\n".join(f"  {group}: {what}: {n}" for (group, what), n in sorted(tally.counts.items())))
    assert not tally.wrong, f"{len(tally.wrong)} wrong:\n" + "\n".join(tally.wrong[:40])


def _untouched(pair: Pair) -> list[tuple[Json, Json]]:
    return [(node["metadata"]["generation"], node["spec"]) for node in (pair.node(0), pair.node(1))]


def _write_all(plane: ControlPlane, cases: list[Case], tally: Tally) -> None:
    """The namespaces side by side; what is written into the bystander's goes with the first."""
    writer = Writer(plane, tally)
    halves = [[case for case in cases if case.number % 2 == half] for half in (0, 1)]

    def write(part: list[Case]) -> None:
        for begin in range(0, len(part), BATCH):
            writer.batch(part[begin : begin + BATCH])

    with ThreadPoolExecutor(len(halves)) as executor:
        for done in [executor.submit(write, half) for half in halves]:
            done.result()


def _good_end(operator: Operator, bystander: Pair, pairs: list[Pair]) -> None:
    """All serve as before, and what is declared now is carried out."""
    operator.wait_ready()
    for pair in pairs:
        pair.wait_served()
    _, lun, _ = bystander.documents()
    lun["metadata"]["name"] = "good"
    bystander.apply(lun)
    bystander.wait("Ready", "True", "luns", "good")
    log = operator.log.read_text()
    found = [line for line in log.splitlines() if any(word in line for word in BAD_WORDS)]
    assert not found, "\n".join(found[:10])
