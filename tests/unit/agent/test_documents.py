"""Documents: from files and from the host's own copy, and what is refused before anything is touched."""

from __future__ import annotations

import base64
import copy

import pytest
import yaml
from storagepair_node_agent import documents
from storagepair_node_agent.host import Host
from unit.agent import agentbuilders as a


def other_node():
    document = copy.deepcopy(a.document())
    document["metadata"]["name"] = "node2"
    return document


SECRET = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"namespace": "storagepair-system", "name": "storagenode-node1"},
}


def write(tmp_path, *contents):
    path = tmp_path / "file.yaml"
    path.write_text(yaml.safe_dump_all(contents))
    return path


class TestFiles:
    def test_its_own_document_among_several(self, tmp_path):
        desired = documents.from_file(write(tmp_path, other_node(), a.document()), "node1")
        assert (desired.node, desired.peer, desired.authkey) == ("node1", "node2", None)

    def test_in_a_list(self, tmp_path):
        path = write(tmp_path, {"kind": "List", "items": [other_node(), {"kind": "List", "items": [a.document()]}]})
        assert documents.from_file(path, "node1").node == "node1"

    @pytest.mark.parametrize(
        "secret",
        [{"stringData": {"authkey": "abc"}}, {"data": {"authkey": base64.b64encode(b"abc\n").decode()}}],
    )
    def test_with_its_secret(self, tmp_path, secret):
        desired = documents.from_file(write(tmp_path, a.document(), {**SECRET, **secret}), "node1")
        assert desired.authkey == "abc"
        assert "abc" not in repr(desired)

    def test_another_secret_is_not_taken(self, tmp_path):
        other = {
            **SECRET,
            "metadata": {"namespace": "elsewhere", "name": "storagenode-node1"},
            "stringData": {"authkey": "abc"},
        }
        assert documents.from_file(write(tmp_path, a.document(), other), "node1").authkey is None

    @pytest.mark.parametrize("contents", [(), (None,), ([1],), ("text",), ({"kind": "Pod"},), (other_node(),)])
    def test_without_its_document(self, tmp_path, contents):
        with pytest.raises(documents.InvalidDocument, match="exactly one StorageNode node1"):
            documents.from_file(write(tmp_path, *contents), "node1")

    def test_twice(self, tmp_path):
        with pytest.raises(documents.InvalidDocument, match="exactly one"):
            documents.from_file(write(tmp_path, a.document(), a.document()), "node1")

    def test_no_yaml(self, tmp_path):
        (tmp_path / "x").write_text("a: [")
        with pytest.raises(documents.InvalidDocument):
            documents.from_file(tmp_path / "x", "node1")
        with pytest.raises(documents.InvalidDocument):
            documents.from_file(tmp_path / "missing", "node1")


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        (("spec", "replication", "hosts", 0, "disk"), "/dev/vdb; reboot", "spec.replication.hosts[0].disk"),
        (("spec", "bonds", 0, "members", 0), "eth0 nomaster", "spec.bonds[0].members[0]"),
        (("spec", "bonds", 0, "addresses"), ["10.0.0.1"], "spec.bonds[0].addresses[0]"),
        (("spec", "filesystem", "type"), "btrfs", "spec.filesystem.type"),
        (("spec", "filesystem", "mountPath"), "/etc", "spec.filesystem.mountPath"),
        (("spec", "surprise"), 1, "spec.surprise"),
        (("spec",), None, "spec"),
        (("kind",), "Pod", "kind"),
    ],
)
def test_a_bad_document_is_refused_with_its_field(path, value, field):
    document = a.document()
    target = document
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    with pytest.raises(documents.InvalidDocument, match=field.replace("[", r"\[")):
        documents.desired_of(document, "node1")


def test_another_node_s_document_is_refused():
    with pytest.raises(documents.InvalidDocument, match="node2"):
        documents.desired_of(other_node(), "node1")


def test_a_document_as_the_api_server_gives_it():
    document = a.document()
    document["metadata"] |= {"generation": 7, "uid": "u", "managedFields": [{"manager": "x"}], "resourceVersion": "12"}
    document["status"] = {"observedGeneration": 6, "someday": "more"}
    assert documents.desired_of(document, "node1").generation == 7


class TestKeeping:
    def test_the_host_keeps_what_is_needed_and_no_more(self, tmp_path):
        host = Host(tmp_path)
        document = a.document()
        document["metadata"] |= {"generation": 7, "uid": "u", "annotations": {"x": "y"}}
        document["status"] = {"observedGeneration": 6}
        documents.keep(host, document)
        assert host.path(documents.KEPT).stat().st_mode & 0o777 == 0o600
        kept = documents.kept(host)
        assert kept["metadata"] == {"name": "node1", "generation": 7, "uid": "u"}
        assert "status" not in kept
        assert documents.desired_of(kept, "node1") == documents.desired_of(document, "node1")

    def test_it_is_written_only_when_it_differs(self, tmp_path):
        host = Host(tmp_path)
        documents.keep(host, a.document())
        before = host.stamp(documents.KEPT)
        documents.keep(host, a.document())
        assert host.stamp(documents.KEPT) == before

    @pytest.mark.parametrize("text", ["{", "[]", ""])
    def test_a_damaged_copy(self, tmp_path, text):
        host = Host(tmp_path)
        host.write(documents.KEPT, text, 0o600)
        with pytest.raises(documents.InvalidDocument):
            documents.kept(host)

    def test_none(self, tmp_path):
        assert documents.kept(Host(tmp_path)) is None
