"""docs/reference/permissions.md against the API server: what each account can do with its own token, and no more."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
from api.operator_world import API, SYSTEM, Pair, running
from api.permissions_world import NODES, World
from api.planes import own_plane
from lab.apiclient import ApiClient, ApiError
from lab.keeper import Keeper
from lab.waiting import SOON, wait_for

pytestmark = pytest.mark.patient

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "permissions.md"
USERS, NOBODY = "users", "nobody"
ACCOUNTS = ("storagepair-operator", "storagepair-node-agent", "storagenode-NODE")


class Right(NamedTuple):
    """One verb on one kind of object (or on one object), in the whole cluster or in one namespace."""

    where: str
    group: str
    resource: str
    name: str
    verb: str


def documented(account: str, node: str) -> set[Right]:
    """The rows of the account's table."""
    section = PAGE.read_text().split(f"\n### {account}\n")[1].split("\n#")[0]
    return set(_rights(_cells(section), node))


def _cells(section: str) -> Iterator[list[str]]:
    lines = [line for line in section.splitlines() if line.startswith("|")]
    for line in lines[2:]:
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        assert len(cells) == 6, line
        assert cells[5], f"no reason is given: {line}"
        yield cells


def _rights(rows: Iterable[list[str]], node: str) -> Iterator[Right]:
    for where, group, resource, names, verbs, _ in rows:
        for name in names.replace("NODE", node).split() or [""]:
            for verb in verbs.split():
                yield Right(where, group, resource, name, verb)


def reviewed(client: ApiClient, namespace: str) -> set[Right]:
    """What the API server says that the client can do in a namespace; rights in the whole cluster are among it."""
    group = "authorization.k8s.io/v1"
    review = {"apiVersion": group, "kind": "SelfSubjectRulesReview", "spec": {"namespace": namespace}}
    status = client.post(f"/apis/{group}/selfsubjectrulesreviews", review)["status"]
    assert not status.get("evaluationError") and not status["incomplete"], status
    rights = set()
    for rule in status["resourceRules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                for name in rule.get("resourceNames") or [""]:
                    rights |= {Right(namespace, group, resource, name, verb) for verb in rule["verbs"]}
    return rights


def granted(client: ApiClient, everybody: set[Right]) -> set[Right]:
    """What a client can do beyond what every account can; by where it can."""
    elsewhere = {right._replace(where="cluster") for right in reviewed(client, USERS)}
    here = {right._replace(where="cluster") for right in reviewed(client, SYSTEM)}
    assert elsewhere <= here, "a right in users' namespaces alone"
    return (elsewhere - everybody) | {right._replace(where=SYSTEM) for right in here - elsewhere}


@pytest.fixture(scope="module")
def world(keeper: Keeper) -> Iterator[World]:
    with own_plane(keeper, "rights") as plane:
        world = World(plane)
        world.prepare()
        pair = Pair(world.plane, USERS)
        world.admin.post("/api/v1/namespaces", {"metadata": {"name": USERS}})
        world.account(USERS, NOBODY)
        with running(world.plane):
            pair.apply(*pair.documents(nodes=NODES))
            for node in NODES:
                wait_for(partial(_reads, world, node), f"the rights of {node}", SOON)
            yield world


def _reads(world: World, node: str) -> bool:
    try:
        return bool(world.client(f"storagenode-{node}").get(f"{API}/storagenodes/{node}"))
    except ApiError as error:
        assert error.status in (403, 404), error  # not there yet, or without its rights yet
        return False


@pytest.fixture(scope="module")
def everybody(world: World) -> set[Right]:
    """What an account can do that was given nothing."""
    rights = {right._replace(where="cluster") for right in reviewed(world.client(NOBODY, USERS), USERS)}
    assert not any(right.group in ("storagepair.dev", "rbac.authorization.k8s.io") for right in rights)
    assert not any(right.verb in ("update", "patch", "delete", "*") for right in rights)
    return rights


@pytest.mark.parametrize("account", ACCOUNTS)
def test_an_account_can_do_what_is_documented_and_nothing_else(
    world: World, everybody: set[Right], account: str
) -> None:
    for node in NODES if "NODE" in account else NODES[:1]:
        found = granted(world.client(account.replace("NODE", node)), everybody)
        told = documented(account, node)
        assert found - told == set(), "not documented"
        assert told - found == set(), "documented, and not there"


def test_every_account_of_ours_is_documented(world: World) -> None:
    items = world.admin.get(f"{world.system}/serviceaccounts")["items"]
    names = {item["metadata"]["name"] for item in items}
    for node in NODES:
        names = {name.replace(f"storagenode-{node}", "storagenode-NODE") for name in names}
    assert names == set(ACCOUNTS)
    assert set(re.findall(r"^### (\S+)$", PAGE.read_text(), re.MULTILINE)) == set(ACCOUNTS)


def test_every_policy_is_documented(world: World) -> None:
    path = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
    names = {item["metadata"]["name"] for item in world.admin.get(path)["items"]}
    section = PAGE.read_text().split("\n## The admission policies\n")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `(\S+)` \|", section, re.MULTILINE)) == names
