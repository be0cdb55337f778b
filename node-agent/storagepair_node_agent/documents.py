"""StorageNode documents: from the API server, from a file, and the copy that the host keeps for when the API is away.

Whatever the source, a document is validated by the CRD's own schema before anything is touched: the hosts trust nobody.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import yaml
from storagepair_crds import schema, views

from storagepair_node_agent.host import Host
from storagepair_node_agent.snapshot import Desired

KEPT = "/var/lib/storagepair/desired.json"
_SHOWN_PROBLEMS = 5

Document = dict[str, Any]


class InvalidDocument(Exception):
    """The document is not one to act on; the message names the fields."""


def desired_of(document: Document, node: str, authkey: str | None = None) -> Desired:
    """What the document wants of this node. Raises InvalidDocument."""
    checked = {key: document.get(key) for key in ("apiVersion", "kind", "spec")}
    checked["metadata"] = {"name": (document.get("metadata") or {}).get("name")}
    problems = schema.validate(checked)
    if problems:
        shown = "; ".join(f"{problem.field}: {problem.message}" for problem in problems[:_SHOWN_PROBLEMS])
        more = f" (and {len(problems) - _SHOWN_PROBLEMS} more)" if len(problems) > _SHOWN_PROBLEMS else ""
        raise InvalidDocument(f"StorageNode {node}: {shown}{more}")
    try:
        seen = views.view(views.StorageNode, {"metadata": document["metadata"], "spec": document["spec"]})
    except msgspec.ValidationError as error:
        raise InvalidDocument(f"StorageNode {node}: {error}") from error
    if seen.metadata.name != node:
        raise InvalidDocument(f"StorageNode {seen.metadata.name} is not for this node, {node}")
    return Desired(node=node, spec=seen.spec, generation=seen.metadata.generation, authkey=authkey)


def from_file(path: Path, node: str) -> Desired:
    """This node's StorageNode of a YAML or JSON file of one or several documents or Lists; the authkey, if the file
    holds its Secret too. Raises InvalidDocument."""
    try:
        found = list(_documents(list(yaml.safe_load_all(path.read_text()))))
    except (OSError, yaml.YAMLError) as error:
        raise InvalidDocument(f"{path}: {error}") from error
    nodes = [document for document in found if document.get("kind") == "StorageNode"]
    own = [document for document in nodes if (document.get("metadata") or {}).get("name") == node]
    if len(own) != 1:
        names = ", ".join(str((document.get("metadata") or {}).get("name")) for document in nodes) or "none"
        raise InvalidDocument(f"{path}: needs exactly one StorageNode {node}, has: {names}")
    desired = desired_of(own[0], node)
    reference = desired.spec.heartbeat.authkeys_secret_ref
    key = next((key for document in found if (key := _authkey(document, reference)) is not None), None)
    return dataclasses.replace(desired, authkey=key)


def keep(host: Host, document: Document) -> None:
    """Keep the document on the host; written only when it differs. It holds no secret, only a Secret's name."""
    metadata = document["metadata"]
    kept = {
        "apiVersion": document["apiVersion"],
        "kind": document["kind"],
        "metadata": {key: metadata[key] for key in ("name", "uid", "generation") if key in metadata},
        "spec": document["spec"],
    }
    content = json.dumps(kept, indent=1, sort_keys=True) + "\n"
    if host.read(KEPT) != content:
        host.write(KEPT, content, 0o600)


def kept(host: Host) -> Document | None:
    """The document that the host keeps, None if there is none. Raises InvalidDocument for a damaged one."""
    text = host.read(KEPT)
    if text is None:
        return None
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidDocument(f"{KEPT} is damaged: {error}") from error
    if not isinstance(document, dict):
        raise InvalidDocument(f"{KEPT} is damaged: no document")
    return document


def _documents(contents: list[Any]) -> Iterator[Document]:
    for content in contents:
        if isinstance(content, dict) and isinstance(content.get("items"), list):
            yield from _documents(content["items"])
        elif isinstance(content, dict):
            yield content


def _authkey(document: Document, reference: views.AuthkeysReference) -> str | None:
    metadata = document.get("metadata") or {}
    if document.get("kind") != "Secret" or metadata.get("name") != reference.name:
        return None
    if metadata.get("namespace", reference.namespace) != reference.namespace:
        return None
    plain = (document.get("stringData") or {}).get("authkey")
    if isinstance(plain, str):
        return plain.strip()
    try:
        return base64.b64decode((document.get("data") or {})["authkey"], validate=True).decode("ascii").strip()
    except (KeyError, TypeError, binascii.Error, UnicodeDecodeError):
        return None
