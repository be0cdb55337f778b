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

    Connections stay open, since a handshake costs both sides more than the request of a test that polls. One that was
    closed meanwhile, by a server that restarted, is made anew; nothing is ever asked for twice.
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
        headers = dict(self._headers)
        body = None
        if document is not None:
            body = json.dumps(document).encode()
            headers["Content-Type"] = _content_type(method, document)
        try:
            response = self._pool.request(method, path, body=body, headers=headers, timeout=timeout, redirect=False)
        except (OSError, urllib3.exceptions.HTTPError) as error:
            raise ApiUnreachable(f"{method} {path}: {error}") from error
        answer = _decode(response.data, response.headers.get("Content-Type", ""))
        if response.status >= http.HTTPStatus.BAD_REQUEST:
            message = answer["message"] if isinstance(answer, dict) and "message" in answer else answer
            raise ApiError(response.status, f"{method} {path}: {message}")
        return answer


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
