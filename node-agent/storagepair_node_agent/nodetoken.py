"""The node's own identity: a short-lived token of the service account storagenode-NODE.

The pods of the DaemonSet share an account that can do one thing only: get this token, each for the node that it runs
on. The operator makes the node's account when a StoragePair first names the node; until then there is none to be had.
"""

from __future__ import annotations

import datetime
import logging
import threading
import time
from dataclasses import dataclass

from storagepair_node_agent.credentials import Credentials, CredentialsError
from storagepair_node_agent.transport import FORBIDDEN, NOT_FOUND, UNAUTHORIZED, ApiError, Document, Transport

LIFE_SECONDS = 3600
_RENEWED_AT = 0.7
"""After which part of its life a token is renewed: an API server that is away for a quarter of an hour does no harm."""
_AGAIN_SECONDS = 10.0
"""How soon a renewal that failed is tried again, while the old token is still good."""
_SAME_ANSWER_SECONDS = 0.5
"""Who waited while another thread was refused, or got no answer, need not ask for himself."""

_log = logging.getLogger(__name__)


class NoIdentity(ApiError):
    """There is no account for this node (yet), or the pod may not have its token. Says nothing of any StorageNode: its
    status is 0, whatever the answer was."""


@dataclass(frozen=True)
class _Token:
    text: str
    renewal: float  # monotonic
    end: float


class NodeToken:
    """This node's token, made when it is first needed and renewed in time. Thread-safe."""

    def __init__(self, pod: Credentials, transport: Transport, node: str) -> None:
        if pod.namespace is None:
            raise CredentialsError("the pod's service account does not name its namespace")
        self._pod = pod
        self._transport = transport
        self._node = node
        self._account = f"storagenode-{node}"
        self._path = f"/api/v1/namespaces/{pod.namespace}/serviceaccounts/{self._account}/token"
        self._lock = threading.Lock()
        self._token: _Token | None = None
        self._failure: tuple[float, ApiError] | None = None  # of the last try, and when (monotonic)

    def headers(self) -> dict[str, str]:
        """The Authorization header. Raises ApiError, `NoIdentity` where waiting or somebody's help is needed."""
        with self._lock:
            token = self._token
            now = time.monotonic()
            if token is None or now >= token.end:
                token = self._token = self._first()
            elif now >= token.renewal:
                token = self._token = self._renew(token)
            return {"Authorization": f"Bearer {token.text}"}

    def refused(self, headers: dict[str, str]) -> bool:
        """The API server does not take these headers (401): whether another try with new ones makes sense."""
        with self._lock:
            if self._token is not None and headers == {"Authorization": f"Bearer {self._token.text}"}:
                self._token = None
            return True

    def _first(self) -> _Token:
        if self._failure is not None and time.monotonic() - self._failure[0] < _SAME_ANSWER_SECONDS:
            raise self._failure[1]
        try:
            token = self._mint()
        except ApiError as error:
            self._failure = (time.monotonic(), error)
            raise
        self._failure = None
        return token

    def _renew(self, old: _Token) -> _Token:
        try:
            return self._mint()
        except ApiError as error:
            left = old.end - time.monotonic()
            _log.warning("the node's token is not renewed yet, it is good for %.0f s more: %s", left, error)
            return _Token(old.text, time.monotonic() + _AGAIN_SECONDS, old.end)

    def _mint(self) -> _Token:
        began = time.monotonic()
        answer = self._ask()
        try:
            text = str(answer["status"]["token"])
            end = datetime.datetime.fromisoformat(str(answer["status"]["expirationTimestamp"])).timestamp()
        except (KeyError, TypeError, ValueError) as error:
            raise ApiError(f"POST {self._path}: the answer holds no token") from error
        # by the server's clock: ours may be anything
        now = self._transport.server_time
        life = min(LIFE_SECONDS, end - now) if now is not None else LIFE_SECONDS
        return _Token(text, began + life * _RENEWED_AT, began + life)

    def _ask(self) -> Document:
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": LIFE_SECONDS},
        }
        try:
            headers = self._pod.headers()
        except OSError as error:
            raise ApiError(f"the pod's own token can't be read: {error}") from error
        try:
            return self._transport.json("POST", self._path, body, headers=headers)
        except ApiError as error:
            raise self._explained(error) from error

    def _explained(self, error: ApiError) -> ApiError:
        if error.status == NOT_FOUND:
            text = (
                f"there is no service account {self._account} yet: storagepair's operator makes it when a StoragePair "
                f"names node {self._node}"
            )
            return NoIdentity(text)
        if error.status in (UNAUTHORIZED, FORBIDDEN):
            return NoIdentity(f"this pod does not get the identity of node {self._node}: {error}")
        return error
