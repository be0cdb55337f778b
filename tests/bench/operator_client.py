"""A fast API client for the bench: connections stay open, and a watch is an iterator.

The lab's own client opens a connection per request, which on a small machine would be half of what is measured.
"""

from __future__ import annotations

import base64
import json
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import urllib3
import yaml

Json = Any


class Refused(Exception):
    """The API server answered, and not with success."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Client:
    """Requests with the client certificate of a kubeconfig, or with tokens instead, from any thread."""

    def __init__(self, kubeconfig: Path, *, connections: int = 16, certificate: bool = True) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        context = ssl.create_default_context(cadata=_decoded(cluster["certificate-authority-data"]))
        if certificate:
            with tempfile.NamedTemporaryFile("w") as file:  # the ssl module reads certificates from files only
                file.write(_decoded(user["client-certificate-data"]) + "\n" + _decoded(user["client-key-data"]))
                file.flush()
                context.load_cert_chain(file.name)
        self._server = cluster["server"]
        self._pool = urllib3.PoolManager(num_pools=1, maxsize=connections, block=True, ssl_context=context)

    def request(
        self, method: str, path: str, body: Json = None, content_type: str = "application/json", token: str = ""
    ) -> Json:
        """One request; raises `Refused`."""
        headers = {"Content-Type": content_type}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        data = None if body is None else json.dumps(body)
        answer = self._pool.request(method, self._server + path, body=data, headers=headers, timeout=30)
        if answer.status >= 300:
            raise Refused(answer.status, f"{method} {path}: {answer.data[:300]!r}")
        return json.loads(answer.data)

    def merge(self, path: str, patch: Json, token: str = "") -> Json:
        """A merge patch."""
        return self.request("PATCH", path, patch, "application/merge-patch+json", token)

    def watch(self, path: str) -> Iterator[tuple[str, Json]]:
        """What is at `path` and what happens to it, as (type, object), until the server ends the stream."""
        query = "?watch=true&timeoutSeconds=3600"
        timeout = urllib3.Timeout(connect=5, read=3700)
        answer = self._pool.request("GET", self._server + path + query, preload_content=False, timeout=timeout)
        rest = b""
        while chunk := answer.read1(1 << 20):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                event = json.loads(line)
                yield event["type"], event["object"]


def _decoded(text: str) -> str:
    return base64.b64decode(text).decode()
