"""The API server: how to reach it, and one request. Knows no kind and writes nothing by itself."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import kopf
import msgspec
import urllib3
from kubernetes import config as kubernetes_config
from kubernetes.client.configuration import Configuration

CONFLICT = 409
UNPROCESSABLE = 422
NOT_FOUND = 404
UNREACHABLE = 0


_PASSING = (401, 408, 429)
"""Refusals that pass by themselves: a token that is just being renewed, a slow or a busy server."""


class ApiError(Exception):
    """The API server refused (`status` is HTTP's) or could not be reached (`status` 0).

    `retry_after_seconds` is for how long a busy server wants to be left alone, 0 when it does not say.
    """

    def __init__(self, status: int, reason: str, message: str, retry_after_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.retry_after_seconds = retry_after_seconds

    @property
    def conflict(self) -> bool:
        """Whether the object is newer than what the request was made from. A JSON patch's failed test is a 422 too."""
        if self.status == UNPROCESSABLE:
            return " is invalid: " not in str(self) and " is forbidden: " not in str(self)
        return self.status == CONFLICT and self.reason == "Conflict"

    @property
    def final(self) -> bool:
        """Whether the same request would be refused again and again."""
        return 400 <= self.status < 500 and self.status not in _PASSING and not self.conflict


class Cluster:
    """Requests with the operator's own credentials, in threads: urllib3 is synchronous, and proven."""

    def __init__(self, kubeconfig: str | None, timeout: float) -> None:
        self._configuration = _configuration(kubeconfig)
        self._timeout = urllib3.Timeout(connect=min(timeout, 10), read=timeout)
        self._pool = _pool(self._configuration)

    async def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> bytes:
        """One request; the answer's body. Raises `ApiError`."""
        url = path + ("?" + urlencode(query) if query else "")
        payload = None if body is None else msgspec.json.encode(body)
        headers = {"Accept": accept, "User-Agent": "storagepair-operator"}
        if payload is not None:
            headers["Content-Type"] = content_type
        return await asyncio.to_thread(self._request, method, url, payload, headers)

    async def read(self, path: str) -> dict[str, Any]:
        """One object as it is now. Raises `ApiError`."""
        result: dict[str, Any] = msgspec.json.decode(await self.call("GET", path))
        return result

    def login(self) -> kopf.ConnectionInfo:
        """The same credentials for Kopf's watches, fresh: a pod's token changes every hour."""
        configuration = self._configuration
        scheme, _, token = _authorization(configuration).partition(" ")
        return kopf.ConnectionInfo(
            server=configuration.host,
            ca_path=configuration.ssl_ca_cert,
            insecure=not configuration.verify_ssl,
            scheme=scheme or None,
            token=token or None,
            certificate_path=configuration.cert_file,
            private_key_path=configuration.key_file,
        )

    def _request(self, method: str, url: str, payload: bytes | None, headers: dict[str, str]) -> bytes:
        if authorization := _authorization(self._configuration):
            headers = {**headers, "Authorization": authorization}
        try:
            response = self._pool.request(
                method, self._configuration.host + url, body=payload, headers=headers, timeout=self._timeout
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ApiError(UNREACHABLE, "Unreachable", f"{method} {url}: {error}") from error
        if response.status >= 400:
            reason, message = _status(response.data)
            wait = _seconds(response.headers.get("Retry-After"))
            raise ApiError(response.status, reason, f"{method} {url}: {response.status} {message}", wait)
        data: bytes = response.data
        return data


def _configuration(kubeconfig: str | None) -> Configuration:
    configuration = Configuration()
    if kubeconfig is None and os.environ.get("KUBERNETES_SERVICE_HOST"):
        kubernetes_config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    else:
        kubernetes_config.load_kube_config(config_file=kubeconfig, client_configuration=configuration)  # type: ignore[no-untyped-call]
    return configuration


def _pool(configuration: Configuration) -> urllib3.PoolManager:
    return urllib3.PoolManager(
        num_pools=1,
        maxsize=8,
        retries=False,  # a failed reconcile is tried again as a whole, from what is true then
        cert_reqs="CERT_REQUIRED" if configuration.verify_ssl else "CERT_NONE",
        ca_certs=configuration.ssl_ca_cert,
        cert_file=configuration.cert_file,
        key_file=configuration.key_file,
    )


def _authorization(configuration: Configuration) -> str:
    # reads a pod's token again when it has changed
    settings = configuration.auth_settings().get("BearerToken")
    return str(settings["value"]) if settings else ""


def _seconds(text: str | None) -> float:
    """Retry-After, as the API server gives it: a whole number of seconds."""
    return float(text) if text is not None and text.isdigit() else 0.0


def _status(data: bytes) -> tuple[str, str]:
    try:
        status = msgspec.json.decode(data)
        return str(status.get("reason", "")), str(status.get("message", ""))
    except (msgspec.DecodeError, AttributeError):
        return "", data[:200].decode(errors="replace")
