"""The API server, as far as the agent needs it: one StorageNode to get, watch and report on, and one Secret to read.

On urllib3 alone: the whole Kubernetes client costs a second of start-up and 50 MB on a small host.
"""

from __future__ import annotations

import base64
import binascii
import email.utils
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import urllib3
from storagepair_crds import views

from storagepair_node_agent.credentials import Credentials

_REQUEST_TIMEOUT = urllib3.Timeout(connect=5, read=10)
_WATCH_SECONDS = 300
# a bookmark comes about once a minute; a watch that says nothing for longer is a connection that died silently
_WATCH_SILENCE_SECONDS = 90
_NODES = f"/apis/{views.API_VERSION}/storagenodes"

Document = dict[str, Any]


class ApiError(Exception):
    """The API server could not be asked, or refused. `status` is the HTTP code, 0 when there was no answer."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Change:
    """One watch event. `deleted`: the object is gone; `document` is its last state."""

    document: Document
    deleted: bool


class Api:
    """A client for this node's StorageNode. Thread-safe, as urllib3's pool is."""

    def __init__(self, credentials: Credentials, node: str) -> None:
        self._credentials = credentials
        self._node = node
        self._pool = urllib3.PoolManager(ssl_context=credentials.tls, retries=False, maxsize=3)
        self._server_epoch: float | None = None  # the API server's time minus our monotonic clock's

    @property
    def clock_offset_seconds(self) -> float | None:
        """This host's clock minus the API server's, None before its first answer. Follows a clock that is set."""
        return None if self._server_epoch is None else time.time() - (self._server_epoch + time.monotonic())

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
        return self._json("PATCH", f"{_NODES}/{self._node}/status", {"status": patch})

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

        Raises ApiError; with status 410 the version is too old and the caller has to get() first.
        """
        query = (
            f"?watch=true&allowWatchBookmarks=true&timeoutSeconds={_WATCH_SECONDS}"
            f"&fieldSelector=metadata.name%3D{self._node}&resourceVersion={resource_version}"
        )
        timeout = urllib3.Timeout(connect=5, read=_WATCH_SILENCE_SECONDS)
        response = self._request("GET", _NODES + query, None, timeout=timeout, stream=True)
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
        response = self._request(method, path, body, timeout=_REQUEST_TIMEOUT)
        try:
            answer: Document = json.loads(response.data)
        except (json.JSONDecodeError, urllib3.exceptions.HTTPError) as error:
            raise ApiError(f"{method} {path}: unreadable answer") from error
        return answer

    def _request(
        self, method: str, path: str, body: Document | None, *, timeout: urllib3.Timeout, stream: bool = False
    ) -> urllib3.BaseHTTPResponse:
        try:
            headers = {"Accept": "application/json", **self._credentials.headers()}
            if body is not None:
                headers["Content-Type"] = "application/merge-patch+json"
            response = self._pool.request(
                method,
                self._credentials.server.rstrip("/") + path,
                body=json.dumps(body) if body is not None else None,
                headers=headers,
                timeout=timeout,
                preload_content=not stream,
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ApiError(f"{self._credentials.server} does not answer: {_reason(error)}") from error
        self._compare_clocks(response.headers.get("Date"))
        if response.status >= 300:
            said = response.read().decode(errors="replace") if stream else response.data.decode(errors="replace")
            response.close()
            raise ApiError(f"{method} {path}: {response.status} {_message(said)}", response.status)
        return response

    def _compare_clocks(self, date: str | None) -> None:
        if date is None:
            return
        try:
            server = email.utils.parsedate_to_datetime(date).timestamp()
        except ValueError:
            return
        self._server_epoch = server - time.monotonic()


def _lines(response: urllib3.BaseHTTPResponse) -> Iterator[str]:
    """The stream's lines as they come; read1 hands out what has arrived instead of waiting for a full buffer."""
    rest = b""
    while chunk := response.read1(65536):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line.decode() for line in lines if line.strip())


def _message(body: str) -> str:
    try:
        return str(json.loads(body).get("message", ""))[:300]
    except (json.JSONDecodeError, AttributeError):
        return body[:100]


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", None) or error)[:200]
