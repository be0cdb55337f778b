"""One operator acts: a Lease elects it.

A Deployment's Recreate does not exclude an old pod on a machine that is cut off. As in client-go, nobody compares
clocks: a lease has expired when it has not changed for its whole duration, measured by whoever wants it.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
from datetime import UTC, datetime
from typing import Any

import msgspec

from storagepair_operator.cluster import NOT_FOUND, ApiError, Cluster
from storagepair_operator.settings import Settings

log = logging.getLogger(__name__)

NAME = "storagepair-operator"


class Election:
    """Holds the lease, or waits for it. Nothing is written unless `leading` is set."""

    def __init__(self, cluster: Cluster, settings: Settings) -> None:
        self.leading = asyncio.Event()
        self._cluster = cluster
        self._settings = settings
        self._identity = f"{socket.gethostname()}_{secrets.token_hex(4)}"
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{settings.secrets_namespace}/leases"
        self._seen: tuple[object, float] = (None, 0)  # the record, and since when it has been the same
        self._renewed = 0.0
        self._problem = ""

    async def run(self) -> None:
        """Take part for ever; the lease is given back at the end, so that a successor need not wait."""
        try:
            while True:
                await self._attempt()
                await asyncio.sleep(self._settings.lease_retry_seconds)
        finally:
            if self.leading.is_set():
                self.leading.clear()
                await self._give_back()

    async def _attempt(self) -> None:
        began = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(self._settings.lease_renew_limit_seconds / 2):
                leads = await self._take()
        except (ApiError, TimeoutError) as error:
            self._fail(str(error) or "no answer")
            return
        self._problem = ""
        if leads:
            self._renewed = began
            if not self.leading.is_set():
                log.info("this operator (%s) leads", self._identity)
            self.leading.set()
        elif self.leading.is_set():
            log.warning("another operator has taken the lease; this one writes nothing more")
            self.leading.clear()

    def _fail(self, problem: str) -> None:
        """Not heard for too long: another one may lead by now."""
        if problem != self._problem:
            log.warning("the lease can't be renewed: %s", problem)
        self._problem = problem
        if asyncio.get_running_loop().time() - self._renewed > self._settings.lease_renew_limit_seconds:
            self.leading.clear()

    async def _take(self) -> bool:
        """Take or renew the lease, if it is ours or nobody's."""
        try:
            lease = await self._cluster.read(f"{self._path}/{NAME}")
        except ApiError as error:
            if error.status != NOT_FOUND:
                raise
            return await self._write("POST", self._path, {"metadata": {"name": NAME}, "spec": self._spec({})})
        spec = lease["spec"]
        holder, now = spec.get("holderIdentity"), asyncio.get_running_loop().time()
        record = (holder, spec.get("renewTime"))
        if record != self._seen[0]:
            self._seen = (record, now)
        expired = now - self._seen[1] > spec.get("leaseDurationSeconds", 0)
        if holder and holder != self._identity and not expired:
            return False
        metadata = {"name": NAME, "resourceVersion": lease["metadata"]["resourceVersion"]}
        return await self._write("PUT", f"{self._path}/{NAME}", {"metadata": metadata, "spec": self._spec(spec)})

    async def _write(self, method: str, path: str, lease: dict[str, Any]) -> bool:
        body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", **lease}
        try:
            await self._cluster.call(method, path, body)
        except ApiError as error:
            if error.conflict or error.reason == "AlreadyExists":
                return False  # somebody was quicker
            raise
        return True

    def _spec(self, before: dict[str, Any]) -> dict[str, Any]:
        mine = before.get("holderIdentity") == self._identity
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": self._settings.lease_seconds,
            "acquireTime": before["acquireTime"] if mine else now,
            "renewTime": now,
            "leaseTransitions": before.get("leaseTransitions", 0) + (0 if mine else 1),
        }

    async def _give_back(self) -> None:
        try:
            async with asyncio.timeout(2):
                lease = await self._cluster.read(f"{self._path}/{NAME}")
                if lease["spec"].get("holderIdentity") == self._identity:
                    metadata = {"name": NAME, "resourceVersion": lease["metadata"]["resourceVersion"]}
                    spec = self._spec(lease["spec"]) | {"holderIdentity": "", "leaseDurationSeconds": 1}
                    await self._write("PUT", f"{self._path}/{NAME}", {"metadata": metadata, "spec": spec})
        except (ApiError, TimeoutError, msgspec.DecodeError) as error:
            log.info("the lease was not given back, a successor waits for its end: %s", error)
