"""How the agent proves to the API server who it is: the pod's service account, or a kubeconfig."""

from __future__ import annotations

import base64
import binascii
import os
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class CredentialsError(Exception):
    """No usable credentials; the message says what is missing."""


@dataclass(frozen=True)
class Credentials:
    """Where the API server is and how to speak to it. A token file is read at every request: the kubelet rotates it."""

    server: str
    tls: ssl.SSLContext
    token_file: Path | None = None
    token: str | None = None
    namespace: str | None = None  # the pod's, None outside of one

    def headers(self) -> dict[str, str]:
        """The Authorization header, if a token is what we have. Raises OSError when the token file can't be read."""
        token = self.token_file.read_text().strip() if self.token_file else self.token
        return {"Authorization": f"Bearer {token}"} if token else {}

    def refused(self, headers: dict[str, str]) -> bool:
        """Whether the file holds another token than these headers, which the API server did not take."""
        return self.token_file is not None and self.headers() != headers


def in_cluster(server: str | None = None) -> Credentials:
    """The pod's own service account; `server` overrides the address that Kubernetes injects."""
    if server is None:
        host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
        if not host:
            raise CredentialsError("not in a pod (no KUBERNETES_SERVICE_HOST): give --kubeconfig, or --api-server")
        server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    authority = _SERVICE_ACCOUNT / "ca.crt"
    if not authority.exists():
        raise CredentialsError(f"no service account here ({authority} is missing): give --kubeconfig")
    return Credentials(
        server,
        ssl.create_default_context(cafile=str(authority)),
        _SERVICE_ACCOUNT / "token",
        namespace=(_SERVICE_ACCOUNT / "namespace").read_text().strip(),
    )


def from_kubeconfig(path: Path, server: str | None = None) -> Credentials:
    """The current context of a kubeconfig: CA, and token, token file or client certificate, as files or inline."""
    try:
        config = yaml.safe_load(path.read_text())
        context = _named(config, "contexts", "context", config["current-context"])
        cluster = _named(config, "clusters", "cluster", context["cluster"])
        user = _named(config, "users", "user", context["user"])
        tls = _tls(cluster, user, path.parent)
        address = server or cluster["server"]
    except (OSError, yaml.YAMLError, KeyError, TypeError, binascii.Error, ssl.SSLError) as error:
        raise CredentialsError(f"{path} can't be used: {type(error).__name__}: {error}") from error
    token_file = path.parent / user["tokenFile"] if "tokenFile" in user else None
    return Credentials(address, tls, token_file, user.get("token"))


def _named(config: Mapping[str, Any], group: str, part: str, name: str) -> Mapping[str, Any]:
    for entry in config[group]:
        if entry["name"] == name:
            found: Mapping[str, Any] = entry[part]
            return found
    raise KeyError(f"{group}: {name}")


def _tls(cluster: Mapping[str, Any], user: Mapping[str, Any], folder: Path) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority = _content(cluster, "certificate-authority", folder)
    if authority is not None:
        context = ssl.create_default_context(cadata=authority.decode())
    if "tls-server-name" in cluster:
        raise KeyError("tls-server-name is not supported")
    certificate, key = _content(user, "client-certificate", folder), _content(user, "client-key", folder)
    if certificate is not None and key is not None:
        # ssl only takes a file: certificate and key together, gone as soon as they are loaded
        with tempfile.NamedTemporaryFile(prefix="storagepair-", suffix=".pem") as pem:
            pem.write(certificate + b"\n" + key)
            pem.flush()
            context.load_cert_chain(pem.name)
    return context


def _content(part: Mapping[str, Any], field: str, folder: Path) -> bytes | None:
    if f"{field}-data" in part:
        return base64.b64decode(part[f"{field}-data"])
    return (folder / part[field]).read_bytes() if field in part else None
