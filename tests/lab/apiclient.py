"""A Kubernetes API client of a few lines for the lab's own needs: JSON over HTTPS.

Tests of the product use the real client library; the lab must poll an API server that is just starting, every
few milliseconds and from several threads, without a fork and without an import that takes a second.
"""

from __future__ import annotations

import base64
import http
import json
import ssl
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import urllib3
import yaml

# how many are kept; more than that at once are made and thrown away
_CONNECTIONS = 8


class ApiError(Exception):
    """The API server answered, and not with success."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class ApiUnreachable(Exception):
    """No answer from the API server: nobody listens, or the connection broke."""


class ApiClient:
    """Requests with the credentials of one kubeconfig, from any thread.

    Connections stay open: with a new one, and the kubeconfig read again, a look at an object cost both sides 15 ms of
    processor instead of 4. One that a server closed, as when it restarts, is made anew; nothing is asked for twice.
    """

    def __init__(self, kubeconfig: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        cluster = config["clusters"][0]["cluster"]
        user = config["users"][0]["user"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        context = ssl.create_default_context(cadata=authority)
        self._headers = {"Accept": "application/json"}
        if "token" in user:
            self._headers["Authorization"] = f"Bearer {user['token']}"
        else:
            _load_certificate(context, user["client-certificate-data"], user["client-key-data"])
        address = urlsplit(cluster["server"])
        assert address.hostname is not None
        self._pool = urllib3.HTTPSConnectionPool(
            address.hostname, address.port, ssl_context=context, retries=False, maxsize=_CONNECTIONS
        )

    def get(self, path: str) -> Any:
        """The JSON (or else the text) at `path`; raises `ApiError` unless the answer is a success."""
        return self.request("GET", path)

    def post(self, path: str, document: object) -> Any:
        """Create `document` in the collection at `path`."""
        return self.request("POST", path, document)

    def delete(self, path: str) -> Any:
        """Delete what is at `path`."""
        return self.request("DELETE", path)

    def request(self, method: str, path: str, document: object = None, *, timeout: float = 30) -> Any:
        """Any request. Raises `ApiError` for an answer that isn't a success, else `ApiUnreachable`."""
        body = None if document is None else json.dumps(document)
        status, answer = self.send(method, path, body, _content_type(method, document), timeout=timeout)
        if status >= http.HTTPStatus.BAD_REQUEST:
            message = answer["message"] if isinstance(answer, dict) and "message" in answer else answer
            raise ApiError(status, f"{method} {path}: {message}")
        return answer

    def send(
        self, method: str, path: str, body: str | None = None, kind: str = "application/json", *, timeout: float = 30
    ) -> tuple[int, Any]:
        """A body as it is, of a content type; the status and the JSON (or else the text) of whatever answer there is.

        Raises `ApiUnreachable`.
        """
        headers = {**self._headers, "Content-Type": kind}
        payload = None if body is None else body.encode()
        try:
            response = self._pool.request(method, path, body=payload, headers=headers, timeout=timeout)
        except (OSError, urllib3.exceptions.HTTPError) as error:
            raise ApiUnreachable(f"{method} {path}: {error}") from error
        return response.status, _decode(response.data, response.headers.get("Content-Type", ""))


def _load_certificate(context: ssl.SSLContext, certificate: str, key: str) -> None:
    # the ssl module reads certificates from files only
    with tempfile.NamedTemporaryFile() as file:
        file.write(base64.b64decode(certificate) + b"\n" + base64.b64decode(key))
        file.flush()
        context.load_cert_chain(file.name)


def _content_type(method: str, document: object) -> str:
    if method != "PATCH":
        return "application/json"
    return "application/json-patch+json" if isinstance(document, list) else "application/merge-patch+json"


def _decode(content: bytes, content_type: str) -> Any:
    kind = content_type.partition(";")[0].strip()
    return json.loads(content) if kind == "application/json" else content.decode(errors="replace")
