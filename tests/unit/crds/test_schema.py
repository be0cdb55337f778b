"""Offline validation and defaulting by the CRDs' own schemas."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from storagepair_crds.offline import offline_schema, validator_class
from storagepair_crds.schema import Problem, SchemaError, apply_defaults, openapi_schema, validate

SAMPLES = Path(__file__).parents[3] / "manifests" / "samples" / "storagepair.yaml"
DOCUMENTS: dict[str, dict[str, Any]] = {
    document["kind"]: document for document in yaml.safe_load_all(SAMPLES.read_text())
} | {
    "StorageNode": {
        "apiVersion": "storagepair.dev/v1alpha1",
        "kind": "StorageNode",
        "metadata": {"name": "node1", "resourceVersion": "7", "managedFields": []},
        "spec": {
            "pairRef": {"namespace": "default", "name": "vmstore", "uid": "u"},
            "bonds": [{"name": "bond0", "members": ["eth0", "eth1"], "addresses": ["10.10.25.131/24"]}],
            "replication": {
                "hosts": [
                    {"name": "node1", "disk": "/dev/vdb", "address": "192.168.1.131"},
                    {"name": "node2", "disk": "/dev/vdb", "address": "192.168.1.132"},
                ],
                "seed": "node1",
            },
            "filesystem": {},
            "heartbeat": {
                "preferred": "node1",
                "links": [
                    {"device": "bond1", "peerAddress": "192.168.1.132"},
                    {"device": "bond0", "peerAddress": "10.10.25.132"},
                ],
                "authkeysSecretRef": {"namespace": "storagepair-system", "name": "vmstore.authkeys"},
            },
            "virtualIP": {"device": "bond0", "address": "10.10.25.136/24"},
            "targets": [{"name": "default", "iqn": "iqn.2011-03.org.weithenn:iscsi.storage"}],
            "luns": [{"name": "datastore1", "target": "default", "sizeBytes": 67108864}],
        },
    },
    "Failover": {
        "apiVersion": "storagepair.dev/v1alpha1",
        "kind": "Failover",
        "metadata": {"name": "f"},
        "spec": {
            "pairRef": {"name": "vmstore"},
            "cause": "NodeLost",
            "to": "node2",
            "startTime": "2026-01-31T12:34:56.789012Z",
            "endTime": "2026-01-31T12:35:06.000001Z",
            "milliseconds": 9211,
            "incident": "i",
        },
    },
}


def changed(kind: str, path: str, value: Any = ...) -> dict[str, Any]:
    """A good document of the kind, the value at a path such as `spec.nodes.0.disk` replaced, or taken away (...)."""
    document = copy.deepcopy(DOCUMENTS[kind])
    *way, last = (int(part) if part.isdigit() else part for part in path.split("."))
    place: Any = document
    for part in way:
        place = place[part]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return document


@pytest.mark.parametrize("kind", sorted(DOCUMENTS))
def test_good_documents(kind: str) -> None:
    assert validate(DOCUMENTS[kind]) == ()
    assert validate(apply_defaults(DOCUMENTS[kind])) == ()


NODE, PAIR = "StorageNode", "StoragePair"
LONG = "a" * 64
REFUSED = [
    (PAIR, "apiVersion", "storagepair.dev/v1", "apiVersion", "must be storagepair.dev/v1alpha1"),
    (PAIR, "metadata", ..., "metadata", "is required"),
    (PAIR, "metadata.name", ..., "metadata.name", "is required"),
    (PAIR, "metadata.name", "a/b", "metadata.name", "DNS label"),
    (PAIR, "metadata.name", LONG, "metadata.name", "at most 63"),
    (PAIR, "spec", ..., "spec", "is required"),
    (PAIR, "spec.surprise", 1, "spec.surprise", "not a field that the schema knows"),
    (PAIR, "spec.nodes.0.surprise", 1, "spec.nodes[0].surprise", "not a field"),
    (PAIR, "spec.nodes.1", ..., "spec.nodes", "at least 2 entries"),
    (PAIR, "spec.nodes.1.name", "node1", "spec.nodes[1]", "is there twice"),
    (PAIR, "spec.nodes.0.name", "node1\n", "spec.nodes[0].name", "not valid"),
    (PAIR, "spec.nodes.0.name", None, "spec.nodes[0].name", "type string, not null"),
    (PAIR, "spec.bonds.0.members", "eth0", "spec.bonds[0].members", "type array, not a string"),
    (PAIR, "spec.bonds.0.members.0", "eth0/../x", "spec.bonds[0].members[0]", "not valid"),
    (PAIR, "spec.bonds.0.members.0", "enp0s31f6abcdefg", "spec.bonds[0].members[0]", "at most 15"),
    (PAIR, "spec.heartbeat.deadtimeSeconds", 4, "spec.heartbeat.deadtimeSeconds", "at least 5"),
    (PAIR, "spec.heartbeat.deadtimeSeconds", True, "spec.heartbeat.deadtimeSeconds", "type integer, not a boolean"),
    (PAIR, "spec.heartbeat.deadtimeSeconds", 9.0, "spec.heartbeat.deadtimeSeconds", "type integer"),
    (PAIR, "spec.heartbeat.autoFailback", "off", "spec.heartbeat.autoFailback", "one of Disabled, Enabled"),
    (PAIR, "spec.filesystem.mountPath", "/", "spec.filesystem.mountPath", "not valid"),
    (NODE, "spec.filesystem.mountPath", "/etc/x", "spec.filesystem.mountPath", "not allowed"),
    (PAIR, "spec.filesystem.mountPath", "/storage/../etc", "spec.filesystem.mountPath", "not valid"),
    (NODE, "spec.filesystem.mountPath", "/mnt", "spec.filesystem.mountPath", "not allowed"),
    (PAIR, "spec.targets.0.iqn", "iqn.2011-13.org:x", "spec.targets[0].iqn", "not valid"),
    (PAIR, "spec.targets.0.iqn", "iqn.2011-03.org.Weithenn", "spec.targets[0].iqn", "not valid"),
    ("LUN", "spec.size", 67108864, "spec.size", "type string, not a number"),
    ("LUN", "spec.size", "-1Gi", "spec.size", "not valid"),
    ("LUN", "spec.number", 256, "spec.number", "at most 255"),
    ("LUN", "spec.number", 0, "spec.number", "at least 1"),
    ("InitiatorACL", "spec.addresses", [], "spec.addresses", "at least 1"),
    ("InitiatorACL", "spec.addresses", ["10.0.0.1", "10.0.0.1"], "spec.addresses[1]", "is there twice"),
    ("InitiatorACL", "spec.addresses.0", "ALL", "spec.addresses[0]", "not valid"),
    ("InitiatorACL", "spec.addresses.0", "0.0.0.0/0", "spec.addresses[0]", "not valid"),
    ("Failover", "spec.startTime", "yesterday", "spec.startTime", "RFC 3339"),
    ("Failover", "spec.startTime", "2026-13-31T12:34:56Z", "spec.startTime", "RFC 3339"),
    # what the host must be sure of is refused without CEL
    (NODE, "spec.replication.hosts.0.disk", "/dev/../etc/passwd", "spec.replication.hosts[0].disk", "not valid"),
    (NODE, "spec.replication.hosts.0.disk", "vdb", "spec.replication.hosts[0].disk", "not valid"),
    (NODE, "spec.replication.hosts.0.disk", "/dev/vdb;x", "spec.replication.hosts[0].disk", "not valid"),
    (NODE, "spec.replication.hosts.0.address", "1.2.3.256", "spec.replication.hosts[0].address", "not valid"),
    (NODE, "spec.replication.hosts.0.address", "01.2.3.4", "spec.replication.hosts[0].address", "not valid"),
    (NODE, "spec.replication.resyncRateBytes", 2**63, "spec.replication.resyncRateBytes", "at most"),
    (NODE, "spec.luns.0.sizeBytes", 67108865, "spec.luns[0].sizeBytes", "multiple of 4096"),
    (NODE, "spec.luns.0.name", "../../etc/passwd", "spec.luns[0].name", "not valid"),
    (NODE, "spec.luns.0.name", "a.b", "spec.luns[0].name", "not valid"),
    (NODE, "spec.targets.0.initiators", [{"acl": "e", "addresses": ["::1"]}], "spec.targets[0].initiators[0]", "valid"),
    (NODE, "spec.virtualIP.device", "bond0 x", "spec.virtualIP.device", "not valid"),
    (NODE, "spec.service", "Stop", "spec.service", "one of Prepare, Run"),
]


@pytest.mark.parametrize(("kind", "path", "value", "field", "fragment"), REFUSED)
def test_refused(kind: str, path: str, value: Any, field: str, fragment: str) -> None:
    problems = validate(changed(kind, path, value))
    assert any(problem.field.startswith(field) and fragment in problem.message for problem in problems), problems
    if path != "metadata" and not path.startswith("metadata.name"):
        assert {(problem.kind, problem.name) for problem in problems} == {(kind, DOCUMENTS[kind]["metadata"]["name"])}


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        (PAIR, "spec.nodes.0.disk", "/dev/disk/by-id/ata-WDC_WD10-1.2:3+4"),
        (PAIR, "spec.nodes.0.disk", "/dev/mapper/vg0-storage"),
        (PAIR, "spec.nodes.0.name", "node1.example.org"),
        (PAIR, "spec.bonds.0.members", ["enP2p1s0f0", "eth0.10"]),
        (NODE, "spec.filesystem.mountPath", "/srv/storage"),
        (NODE, "spec.filesystem.mountPath", "/variable"),
        (PAIR, "spec.filesystem", {}),
        (PAIR, "spec.targets.0.iqn", "iqn.2001-04.com.example"),
        (PAIR, "spec.replication.resyncRate", "1500Mi"),
        ("LUN", "spec.size", "4096k"),
        ("LUN", "spec.number", 255),
        ("InitiatorACL", "spec.addresses", ["10.0.0.0/8", "10.10.26.7"]),
        (NODE, "status", {"heartbeat": {"peer": "join"}, "conditions": []}),
        (PAIR, "metadata.ownerReferences", [{"name": "x"}]),
        (PAIR, "metadata", {"generateName": "vmstore-"}),
    ],
)
def test_accepted(kind: str, path: str, value: Any) -> None:
    assert validate(changed(kind, path, value)) == ()


@pytest.mark.parametrize("document", [None, [], "text", 7])
def test_what_is_no_document(document: Any) -> None:
    (problem,) = validate(document)
    assert str(problem).startswith("document: must be a mapping")


@pytest.mark.parametrize("kind", [None, 7, "Pod", ["LUN"]])
def test_an_unknown_kind(kind: Any) -> None:
    (problem,) = validate({"kind": kind, "metadata": {"name": "x"}})
    assert problem.field == "kind"
    with pytest.raises(SchemaError, match="none of our kinds"):
        apply_defaults({"kind": kind})


def test_a_problem_reads_like_a_sentence() -> None:
    problem = Problem("LUN", "datastore1", "spec.size", "is required")
    assert str(problem) == "LUN datastore1: spec.size: is required"


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "bond", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.sampled_from(sorted(DOCUMENTS)), junk)
def test_junk_never_breaks_validation(kind: str, value: Any) -> None:
    """Whatever stands where, the answer is a tuple of problems."""
    for field in DOCUMENTS[kind]["spec"]:
        document = changed(kind, f"spec.{field}", value)
        assert all(problem.message for problem in validate(document))
        apply_defaults(document)


# ------------------------------------------------------------------------------------------ defaults


def test_defaults_are_filled_in_at_every_depth() -> None:
    pair = apply_defaults(changed(PAIR, "spec.filesystem"))
    assert pair["spec"]["filesystem"] == {"type": "ext4", "mountPath": "/storage"}
    assert pair["spec"]["replication"] == {"bond": "bond1", "port": 7788, "resyncRate": "100Mi"}
    assert [bond["miimonMilliseconds"] for bond in pair["spec"]["bonds"]] == [100, 100]
    assert pair["spec"]["heartbeat"]["deadtimeSeconds"] == 5, "what is said stays"
    assert pair["status"] == {"observedGeneration": -1, "luns": 0, "failovers": 0}


def test_a_null_is_absent() -> None:
    lun = apply_defaults(changed("LUN", "spec.number", None))
    assert "number" not in lun["spec"]
    assert apply_defaults(changed("LUN", "spec.writePolicy", None))["spec"]["writePolicy"] == "WriteThrough"


def test_defaulting_changes_no_argument_and_is_idempotent() -> None:
    for kind, document in DOCUMENTS.items():
        before = copy.deepcopy(document)
        once = apply_defaults(document)
        assert document == before
        assert apply_defaults(once) == once
        once["spec"].clear()
        assert apply_defaults(document)["spec"], f"{kind}: a default is shared with the schema"


# ------------------------------------------------------------------------------------------ Kubernetes' dialect


def problems(schema: dict[str, Any], value: Any) -> list[str]:
    root = {"type": "object", "properties": {"metadata": {"type": "object"}, "spec": schema}}
    document = {"apiVersion": "v", "kind": "K", "metadata": {"name": "n"}, "spec": value}
    return [error.message for error in validator_class()(offline_schema(root, "K", "v")).iter_errors(document)]


def test_int_or_string() -> None:
    schema = {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]}
    assert not problems(schema, 7)
    assert not problems(schema, "7")
    assert problems(schema, 7.5)


def test_nullable() -> None:
    assert not problems({"type": "string", "nullable": True, "enum": ["a"]}, None)
    assert not problems({"type": "string", "nullable": True, "enum": ["a"]}, "a")
    assert problems({"type": "string", "enum": ["a"]}, None)


def test_exclusive_bounds_are_flags() -> None:
    assert problems({"type": "integer", "minimum": 3, "exclusiveMinimum": True}, 3)
    assert not problems({"type": "integer", "minimum": 3, "exclusiveMinimum": False}, 3)


def test_a_field_with_a_default_is_not_missing() -> None:
    schema = {"type": "object", "required": ["a", "b"], "properties": {"a": {"default": 1}, "b": {}}}
    assert problems(schema, {}) == ["is required"]


def test_maps_of_anything_and_unknown_fields_where_allowed() -> None:
    assert not problems({"type": "object", "additionalProperties": {"type": "string"}}, {"a": "b"})
    assert problems({"type": "object", "additionalProperties": {"type": "string"}}, {"a": 1})
    schema = {"type": "object", "properties": {"a": {}}, "x-kubernetes-preserve-unknown-fields": True}
    assert not problems(schema, {"b": 1})


def test_the_schema_is_left_as_it_is() -> None:
    before = copy.deepcopy(dict(openapi_schema("LUN")))
    validate(DOCUMENTS["LUN"])
    assert dict(openapi_schema("LUN")) == before
