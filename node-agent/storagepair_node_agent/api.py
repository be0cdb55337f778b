"""The API server, as far as the agent needs it: one StorageNode to get, watch and report on, a Secret to read, and a
Lease to renew."""

from __future__ import annotations

import base64
import binascii
import datetime
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import urllib3
from storagepair_crds import views

from storagepair_node_agent.transport import REQUEST_TIMEOUT, UNAUTHORIZED, ApiError, Document, Transport

_WATCH_SECONDS = 300
# a bookmark comes about once a minute; a watch that says nothing for longer is a connection that died silently
_WATCH_SILENCE_SECONDS = 90
_NODES = f"/apis/{views.API_VERSION}/storagenodes"
_LEASES = "/apis/coordination.k8s.io/v1/namespaces"
# the loop waits for this one, and it is no news for anybody
_LEASE_TIMEOUT = urllib3.Timeout(connect=2, read=3)
NAMESPACE = "storagepair-system"
"""Where the nodes' accounts and Leases are, unless the pod's own account says something else."""
_MERGE_PATCH = "application/merge-patch+json"

__all__ = ["Api", "ApiError", "Change", "Document"]


class Identity(Protocol):
    """Who the agent is to the API server: its node's token (nodetoken.py), or what a kubeconfig says."""

    def headers(self) -> dict[str, str]:
        """The Authorization header, or none. Raises ApiError, or OSError when a file can't be read."""

    def refused(self, headers: dict[str, str]) -> bool:
        """The API server did not take these headers (401): whether there may be better ones."""


@dataclass(frozen=True)
class Change:
    """One watch event. `deleted`: the object is gone; `document` is its last state."""

    document: Document
    deleted: bool


class Api:
    """A client for this node's StorageNode. Thread-safe, as its transport is."""

    def __init__(self, transport: Transport, identity: Identity, node: str, namespace: str = NAMESPACE) -> None:
        self._transport = transport
        self._identity = identity
        self._node = node
        self._lease = f"{_LEASES}/{namespace}/leases/storagenode-{node}"

    @property
    def clock_offset_seconds(self) -> float | None:
        """This host's clock minus the API server's, None before its first answer. Follows a clock that is set."""
        server = self._transport.server_time
        return None if server is None else time.time() - server

    def get(self) -> Document | None:
        """This node's StorageNode, None when there is none."""
        try:
            return self._json("GET", f"{_NODES}/{self._node}")
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def patch_status(self, patch: Document) -> Document:
        """Merge `patch` into the status; answers with the whole object."""
        path = f"{_NODES}/{self._node}/status"
        return self._json("PATCH", path, {"status": patch})

    def renew_lease(self) -> None:
        """Write the time into this node's Lease; 404 when the operator has not made it."""
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {"holderIdentity": self._node, "renewTime": now}
        self._request("PATCH", self._lease, {"spec": spec}, timeout=_LEASE_TIMEOUT)

    def authkey(self, reference: views.AuthkeysReference) -> str:
        """The Secret's `authkey`. Errors never hold any of its content."""
        path = f"/api/v1/namespaces/{reference.namespace}/secrets/{reference.name}"
        data = self._json("GET", path).get("data") or {}
        try:
            return base64.b64decode(data["authkey"], validate=True).decode("ascii").strip()
        except (KeyError, TypeError, binascii.Error, UnicodeDecodeError) as error:
            raise ApiError(f"Secret {reference.namespace}/{reference.name} has no readable key `authkey`") from error

    def watch(self, resource_version: str) -> Iterator[Change | None]:
        """Changes after `resource_version`, None for a bookmark, until the server ends the stream.

        "" stands for now, and the first change is then what is there. Raises ApiError; with status 410 the version is
        older than all that the server remembers.
        """
        query = (
            f"?watch=true&allowWatchBookmarks=true&timeoutSeconds={_WATCH_SECONDS}"
            f"&fieldSelector=metadata.name%3D{self._node}"
        )
        if resource_version:
            query += f"&resourceVersion={resource_version}"
        timeout = urllib3.Timeout(connect=5, read=_WATCH_SILENCE_SECONDS)
        response = self._request("GET", _NODES + query, timeout=timeout, stream=True)
        try:
            for line in _lines(response):
                event = json.loads(line)
                kind, content = event["type"], event["object"]
                if kind == "ERROR":
                    raise ApiError(f"watch: {content.get('message', '')}", int(content.get("code", 0)))
                yield None if kind == "BOOKMARK" else Change(content, kind == "DELETED")
        except (urllib3.exceptions.HTTPError, json.JSONDecodeError, KeyError) as error:
            raise ApiError(f"watch broke: {error}") from error
        finally:
            response.close()

    def _json(self, method: str, path: str, body: Document | None = None) -> Document:
        response = self._request(method, path, body)
        try:
            answer: Document = json.loads(response.data)
        except (json.JSONDecodeError, urllib3.exceptions.HTTPError) as error:
            raise ApiError(f"{method} {path}: unreadable answer") from error
        return answer

    def _request(
        self,
        method: str,
        path: str,
        body: Document | None = None,
        *,
        timeout: urllib3.Timeout = REQUEST_TIMEOUT,
        stream: bool = False,
    ) -> urllib3.BaseHTTPResponse:
        """A token that is not taken any more is tried to be replaced, once."""
        again = True
        while True:
            try:
                headers = self._identity.headers()
            except OSError as error:
                raise ApiError(f"no credentials: {error}") from error
            try:
                return self._transport.request(
                    method, path, body, headers=headers, content_type=_MERGE_PATCH, timeout=timeout, stream=stream
                )
            except ApiError as error:
                if error.status != UNAUTHORIZED or not again or not self._identity.refused(headers):
                    raise
                again = False


def _lines(response: urllib3.BaseHTTPResponse) -> Iterator[str]:
    """The stream's lines as they come; read1 hands out what has arrived instead of waiting for a full buffer."""
    rest = b""
    while chunk := response.read1(65536):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line.decode() for line in lines if line.strip())
