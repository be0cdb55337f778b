"""Kopf's rim: events in, objects into the store. Nothing else happens here, and nothing blocks.

Kopf runs in a thread and an event loop of its own. It ends when a watched CRD goes at the wrong moment (a watch that
answers 404), and it cancels what other tasks it finds in its loop when it ends; so it is started again, and nobody
else lives there.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import kopf

from storagepair_operator.cluster import Cluster
from storagepair_operator.kinds import GROUP, KINDS, VERSION, Kind
from storagepair_operator.settings import Settings
from storagepair_operator.store import Store

log = logging.getLogger(__name__)

_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 1.0, 15.0
"""Before the watches begin anew; it doubles while they break down at once, for each beginning lists everything."""


class Watches:
    """Feeds the store with what happens to objects of our kinds."""

    def __init__(self, cluster: Cluster, store: Store, settings: Settings) -> None:
        self._cluster = cluster
        self._store = store
        self._settings = settings
        self._stop = threading.Event()

    def renew(self) -> None:
        """Begin anew: what is listed did not come, or a kind is served that was not there before."""
        self._stop.set()

    async def run(self) -> None:
        """Watch for ever."""
        loop = asyncio.get_running_loop()
        pause = _PAUSE_SECONDS
        with ThreadPoolExecutor(1, thread_name_prefix="watches") as executor:
            while True:
                began = loop.time()
                self._stop = threading.Event()
                watching = loop.run_in_executor(executor, self._watch, loop, self._stop)
                try:
                    await asyncio.shield(watching)
                except asyncio.CancelledError:
                    self._stop.set()
                    await watching
                    raise
                except Exception as error:  # noqa: BLE001 - Kopf's own; whatever it was, only a new start helps
                    at_once = loop.time() - began < _LONGEST_PAUSE_SECONDS
                    pause = min(2 * pause, _LONGEST_PAUSE_SECONDS) if at_once else _PAUSE_SECONDS
                    log.warning("the watches broke down and begin anew in %g s: %r", pause, error)
                else:
                    pause = _PAUSE_SECONDS
                    log.info("the watches begin anew")
                self._store.relist()
                await asyncio.sleep(pause)

    def _watch(self, loop: asyncio.AbstractEventLoop, stop: threading.Event) -> None:
        # by itself Kopf asks getpass for a user's name, which raises in a container: no passwd file knows its uid
        identity: Any = f"storagepair-operator@{socket.gethostname()}"
        operator = kopf.operator(
            identity=identity,
            registry=self._registry(loop),
            settings=_kopf_settings(self._settings),
            standalone=True,
            clusterwide=True,
            stop_flag=stop,
        )
        asyncio.run(operator)

    def _registry(self, loop: asyncio.AbstractEventLoop) -> kopf.OperatorRegistry:
        """Handlers of raw events: no indices, no finalizers and no annotations of Kopf's."""
        registry = kopf.OperatorRegistry()
        for kind in KINDS:
            self._observe(registry, kind, loop)

        @kopf.on.login(registry=registry)
        async def _login(**_: object) -> kopf.ConnectionInfo:
            return self._cluster.login()

        return registry

    def _observe(self, registry: kopf.OperatorRegistry, kind: Kind, loop: asyncio.AbstractEventLoop) -> None:
        @kopf.on.event(GROUP, VERSION, kind.plural, registry=registry, id=kind.plural)
        async def _event(event: kopf.RawEvent, **_: object) -> None:
            loop.call_soon_threadsafe(self._feed, kind, event)

    def _feed(self, kind: Kind, event: kopf.RawEvent) -> None:
        document = event["object"]
        if event["type"] == "DELETED":
            self._store.deleted(kind, document["metadata"]["uid"])
            return
        if event["type"] is None and self._store.whole.is_set():
            self._store.relist()
        self._store.put(kind, document)


def _kopf_settings(settings: Settings) -> kopf.OperatorSettings:
    result = kopf.OperatorSettings()
    result.posting.enabled = False  # our events have names, so that each appears once
    result.watching.server_timeout = settings.watch_seconds
    result.networking.request_timeout = settings.request_timeout_seconds
    # True would watch nothing for ever when started before the CRDs, and die when any CRD goes (both seen)
    result.scanning.disabled = False
    return result
