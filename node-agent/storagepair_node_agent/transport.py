"""One request to the API server, on urllib3 alone: the whole Kubernetes client costs a second of start-up and 50 MB."""

from __future__ import annotations

import email.utils
import json
import ssl
import time
from collections.abc import Mapping
from typing import Any

import urllib3

REQUEST_TIMEOUT = urllib3.Timeout(connect=5, read=10)
UNAUTHORIZED, FORBIDDEN, NOT_FOUND = 401, 403, 404
_PATIENCE_SECONDS = 60.0
"""The longest Retry-After that is obeyed."""

Document = dict[str, Any]


class ApiError(Exception):
    """The API server could not be asked, or refused. `status` is the HTTP code, 0 when there was no answer.

    `retry_after_seconds` is what a busy server asks for, 0 when it doesn't.
    """

    def __init__(self, message: str, status: int = 0, retry_after_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_seconds = retry_after_seconds


class Transport:
    """Requests to one API server, with whatever credentials each brings. Thread-safe, as urllib3's pool is."""

    def __init__(self, server: str, tls: ssl.SSLContext) -> None:
        self.server = server.rstrip("/")
        self._pool = urllib3.PoolManager(ssl_context=tls, retries=False, maxsize=3)
        self._server_epoch: float | None = None  # the API server's time minus our monotonic clock's

    @property
    def server_time(self) -> float | None:
        """Seconds since the epoch by the API server's clock, None before its first answer."""
        return None if self._server_epoch is None else self._server_epoch + time.monotonic()

    def request(
        self,
        method: str,
        path: str,
        body: Document | None = None,
        *,
        headers: Mapping[str, str],
        content_type: str = "application/json",
        timeout: urllib3.Timeout = REQUEST_TIMEOUT,
        stream: bool = False,
    ) -> urllib3.BaseHTTPResponse:
        """One request, answered with success. Raises ApiError, which never holds a header."""
        all_headers = {"Accept": "application/json", **headers}
        if body is not None:
            all_headers["Content-Type"] = content_type
        try:
            response = self._pool.request(
                method,
                self.server + path,
                body=json.dumps(body) if body is not None else None,
                headers=all_headers,
                timeout=timeout,
                preload_content=not stream,
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ApiError(f"{self.server} does not answer: {_reason(error)}") from error
        self._compare_clocks(response.headers.get("Date"))
        if response.status >= 300:
            said = response.read().decode(errors="replace") if stream else response.data.decode(errors="replace")
            wait = _seconds(response.headers.get("Retry-After"))
            response.close()
            raise ApiError(f"{method} {path}: {response.status} {_message(said)}", response.status, wait)
        return response

    def json(
        self,
        method: str,
        path: str,
        body: Document | None = None,
        *,
        headers: Mapping[str, str],
        content_type: str = "application/json",
    ) -> Document:
        """One request; the answer's document. Raises ApiError."""
        response = self.request(method, path, body, headers=headers, content_type=content_type)
        try:
            answer: Document = json.loads(response.data)
        except (json.JSONDecodeError, urllib3.exceptions.HTTPError) as error:
            raise ApiError(f"{method} {path}: unreadable answer") from error
        return answer

    def _compare_clocks(self, date: str | None) -> None:
        if date is None:
            return
        try:
            server = email.utils.parsedate_to_datetime(date).timestamp()
        except ValueError:
            return
        self._server_epoch = server - time.monotonic()


def _seconds(text: str | None) -> float:
    """Retry-After in seconds, as the API server gives it."""
    return min(float(text), _PATIENCE_SECONDS) if text is not None and text.isdigit() else 0.0


def _message(body: str) -> str:
    try:
        return str(json.loads(body).get("message", ""))[:300]
    except (json.JSONDecodeError, AttributeError):
        return body[:100]


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", None) or error)[:200]
