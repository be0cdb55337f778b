"""What the bench sees of the cluster: watches, and when each object was last seen to change."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import urllib3

from bench.operator_client import Client

Json = Any
API = "/apis/storagepair.dev/v1alpha1"


class Stuck(Exception):
    """Something did not happen in time; the text says what."""


class View:
    """The newest version of every object of some kinds, by plural and name. Names are unique in the bench."""

    def __init__(self, client: Client) -> None:
        self.changed = threading.Condition()
        self.objects: dict[str, dict[str, Json]] = {}
        self.seen: dict[tuple[str, str], float] = {}  # monotonic, by plural and name
        self._client = client
        self._listeners: list[Callable[[str, Json], None]] = []

    def listen(self, listener: Callable[[str, Json], None]) -> None:
        """Have each change told as (plural, object), in the watch's thread."""
        self._listeners.append(listener)

    def follow(self, plural: str, path: str) -> None:
        """Watch from now on, in a thread that ends with the process or the API server."""
        self.objects[plural] = {}
        threading.Thread(target=self._follow, args=(plural, path), daemon=True).start()

    def get(self, plural: str, name: str) -> Json:
        """The newest version seen, {} before any."""
        return self.objects[plural].get(name, {})

    def wait(self, holds: Callable[[], bool], what: str, seconds: float) -> float:
        """Until something holds; the moment (monotonic) at which it was seen to."""
        end = time.monotonic() + seconds
        with self.changed:
            while not holds():
                left = end - time.monotonic()
                if left <= 0:
                    raise Stuck(f"{what}: not within {seconds:g} s")
                self.changed.wait(min(left, 1))
            return time.monotonic()

    def quiet(self, names: set[tuple[str, str]], since: float, seconds: float) -> float:
        """Until nothing has happened to some objects for a while; the moment of the last thing that did."""
        while True:
            with self.changed:
                last = max([since, *(self.seen.get(name, since) for name in names)])
            left = last + seconds - time.monotonic()
            if left <= 0:
                return last
            time.sleep(left)

    def _follow(self, plural: str, path: str) -> None:
        try:
            for kind, item in self._client.watch(path):
                name = item["metadata"]["name"]
                with self.changed:
                    if kind == "DELETED":
                        self.objects[plural].pop(name, None)
                    else:
                        self.objects[plural][name] = item
                    self.seen[plural, name] = time.monotonic()
                    self.changed.notify_all()
                for listener in self._listeners:
                    listener(plural, item)
        except (urllib3.exceptions.HTTPError, OSError, ValueError):
            return  # the API server has ended


def ready(item: Json) -> bool:
    """Whether an object's condition Ready is True for its newest generation."""
    status = item.get("status", {})
    conditions = {each["type"]: each["status"] for each in status.get("conditions", ())}
    return conditions.get("Ready") == "True" and status["observedGeneration"] == item["metadata"]["generation"]
