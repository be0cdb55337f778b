"""The CRD files themselves: documented, bounded, anchored, and alike where they say the same."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from storagepair_crds.schema import definitions, openapi_schema

KINDS = sorted(definitions())
ROOT = Path(__file__).parents[3]


def nodes(schema: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The schema and every schema below it, with a path such as StoragePair.spec.nodes[].disk."""
    yield path, schema
    for name, part in schema.get("properties", {}).items():
        yield from nodes(part, f"{path}.{name}")
    if "items" in schema:
        yield from nodes(schema["items"], f"{path}[]")


def all_nodes() -> list[tuple[str, dict[str, Any]]]:
    return [node for kind in KINDS for node in nodes(openapi_schema(kind), kind)]


def at(path: str) -> dict[str, Any]:
    return dict(all_nodes())[path]


@pytest.mark.parametrize("kind", KINDS)
def test_the_frame(kind: str) -> None:
    crd = definitions()[kind]
    spec, (version,) = crd["spec"], crd["spec"]["versions"]
    assert crd["apiVersion"] == "apiextensions.k8s.io/v1"
    assert crd["metadata"]["name"] == f"{spec['names']['plural']}.storagepair.dev"
    assert spec["group"] == "storagepair.dev"
    assert spec["scope"] == ("Cluster" if kind == "StorageNode" else "Namespaced")
    assert spec["names"]["categories"] == ["storagepair-all"]
    assert (version["name"], version["served"], version["storage"]) == ("v1alpha1", True, True)
    # a record has no status; everything else has one of its own
    assert ("status" in version.get("subresources", {})) == (kind != "Failover")
    assert version["additionalPrinterColumns"]


def test_every_field_is_described() -> None:
    for path, schema in all_nodes():
        if not path.endswith(".metadata"):  # the API server's own, it takes no description
            text = schema.get("description", "")
            assert text.endswith("."), f"{path}: {text!r}"


def test_every_text_of_a_spec_is_bounded() -> None:
    """A hostile document can be neither long nor strange; and CEL's cost is estimated from these bounds."""
    for path, schema in all_nodes():
        if schema.get("type") == "string" and ".spec" in path and "enum" not in schema:
            assert "maxLength" in schema, path
        if schema.get("type") == "array" and ".spec" in path and not path.startswith("StorageNode"):
            assert "maxItems" in schema, path


def test_patterns_mean_the_same_to_re2_and_python() -> None:
    for path, schema in all_nodes():
        for pattern in (schema.get("pattern"), schema.get("not", {}).get("pattern")):
            if pattern is None:
                continue
            assert pattern.startswith("^"), path
            assert pattern.endswith("$"), path
            assert "$" not in pattern[:-1], path
            # classes that are Unicode in one of them, and groups that RE2 has not
            assert not re.search(r"\\[dDwWsSbB]|\(\?", pattern), path
            re.compile(pattern)


def test_lists_say_how_they_merge() -> None:
    for path, schema in all_nodes():
        if schema.get("type") == "array":
            kind = schema.get("x-kubernetes-list-type")
            assert kind in ("map", "set", "atomic"), path
            assert (kind == "map") == bool(schema.get("x-kubernetes-list-map-keys")), path
            if schema["items"]["type"] == "object" and "name" in schema["items"].get("required", []):
                assert kind == "map" or ".phases" in path, f"{path}: a list of named objects"


def test_rules_have_messages_and_defaults_fit() -> None:
    for path, schema in all_nodes():
        for rule in schema.get("x-kubernetes-validations", []):
            assert rule.get("message"), path
            assert "\n" not in rule["message"], path
            immutable = "oldSelf" in rule["rule"]
            assert (rule.get("reason") == "FieldValueForbidden") == immutable or "has(oldSelf" in rule["rule"], path
        if "enum" in schema and "default" in schema:
            assert schema["default"] in schema["enum"], path


def test_observed_generation_starts_at_minus_one() -> None:
    for kind in KINDS:
        status = openapi_schema(kind)["properties"].get("status")
        if status is not None:
            # both are needed: without the parent's default a fresh object has no status to fill in
            assert status["default"] == {}
            assert status["properties"]["observedGeneration"]["default"] == -1


def test_conditions_are_alike() -> None:
    conditions = [dict(at(f"{kind}.status.conditions[]")) for kind in KINDS if kind != "Failover"]
    assert all(condition == conditions[0] for condition in conditions)


SAME = {
    "StoragePair.spec.nodes[].name": [
        "StorageNode.spec.replication.hosts[].name",
        "StorageNode.spec.heartbeat.preferred",
    ],
    "StoragePair.spec.nodes[].disk": ["StorageNode.spec.replication.hosts[].disk"],
    "StoragePair.spec.nodes[].addresses[].address": [
        "StorageNode.spec.bonds[].addresses[]",
        "StorageNode.spec.virtualIP.address",
        "StoragePair.spec.virtualIP.address",
    ],
    "StoragePair.spec.bonds[].name": [
        "StoragePair.spec.bonds[].members[]",
        "StorageNode.spec.bonds[].name",
        "StorageNode.spec.bonds[].members[]",
        "StorageNode.spec.heartbeat.links[].device",
        "StorageNode.spec.virtualIP.device",
    ],
    "StoragePair.spec.bonds[].miimonMilliseconds": ["StorageNode.spec.bonds[].miimonMilliseconds"],
    "StoragePair.spec.replication.port": ["StorageNode.spec.replication.port"],
    "StoragePair.spec.filesystem.type": ["StorageNode.spec.filesystem.type"],
    "StoragePair.spec.filesystem.mountPath": ["StorageNode.spec.filesystem.mountPath"],
    "StoragePair.spec.heartbeat.pingAddresses[]": [
        "StorageNode.spec.heartbeat.pingAddresses[]",
        "StorageNode.spec.heartbeat.links[].peerAddress",
        "StorageNode.spec.replication.hosts[].address",
    ],
    "StoragePair.spec.heartbeat.keepaliveSeconds": ["StorageNode.spec.heartbeat.keepaliveSeconds"],
    "StoragePair.spec.heartbeat.deadtimeSeconds": ["StorageNode.spec.heartbeat.deadtimeSeconds"],
    "StoragePair.spec.heartbeat.autoFailback": ["StorageNode.spec.heartbeat.autoFailback"],
    "StoragePair.spec.targets[].name": [
        "StorageNode.spec.targets[].name",
        "LUN.metadata.name",
        "InitiatorACL.metadata.name",
        "StoragePair.metadata.name",
        "Switchover.metadata.name",
        "StorageNode.spec.luns[].name",
        "StorageNode.spec.targets[].initiators[].acl",
    ],
    "StoragePair.spec.targets[].iqn": ["StorageNode.spec.targets[].iqn"],
    "LUN.spec.number": ["StorageNode.spec.luns[].number"],
    "LUN.spec.writePolicy": ["StorageNode.spec.luns[].writePolicy"],
    "LUN.spec.deletionPolicy": ["StorageNode.spec.luns[].deletionPolicy"],
    "InitiatorACL.spec.addresses[]": ["StorageNode.spec.targets[].initiators[].addresses[]"],
    "Failover.spec.cause": ["StorageNode.status.incidents[].cause"],
    "Failover.spec.request": ["StorageNode.status.incidents[].request", "StorageNode.spec.switchover.name"],
    "Switchover.spec.to": ["Switchover.spec.from", "StorageNode.spec.switchover.to", "StoragePair.spec.nodes[].name"],
    "Switchover.spec.notAfter": ["StorageNode.spec.switchover.notAfter"],
}


@pytest.mark.parametrize(("source", "others"), SAME.items(), ids=list(SAME))
def test_what_the_user_may_say_the_host_accepts_and_no_more(source: str, others: list[str]) -> None:
    keys = ("type", "format", "pattern", "enum", "minimum", "maximum", "maxLength")
    for other in others:
        for key in keys:
            assert at(source).get(key) == at(other).get(key), f"{source} and {other}: {key}"


def test_the_kustomize_base_has_every_crd() -> None:
    base = yaml.safe_load((ROOT / "crds" / "kustomization.yaml").read_text())
    there = {path.name for path in (ROOT / "crds" / "storagepair_crds" / "schemas").iterdir()}
    assert {Path(resource).name for resource in base["resources"]} == there
