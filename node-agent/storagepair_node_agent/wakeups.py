"""What wakes the loop: links and addresses (netlink), DRBD (`drbdsetup events2`), the journal, other threads, a timer.

None of them says what happened; they only say: look now. What there is to see is read from the host itself.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import subprocess
import time
from collections.abc import Sequence

from storagepair_node_agent.host import Host
from storagepair_node_agent.netlink import Monitor

_TICK_SECONDS = 1.0
_EVENTS_RETRY_SECONDS = 15.0

_log = logging.getLogger(__name__)


class Wakeups:
    """One selector over everything that may have something new. Not thread-safe, but for `call`."""

    def __init__(self, host: Host, watched_files: Sequence[str]) -> None:
        self._host = host
        self._files = {path: host.stamp(path) for path in watched_files}
        self._selector = selectors.DefaultSelector()
        self._reader, self._caller = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector.register(self._reader, selectors.EVENT_READ, "call")
        self._netlink = Monitor()
        self._selector.register(self._netlink, selectors.EVENT_READ, "network")
        self._events: subprocess.Popen[bytes] | None = None
        self._events_again = 0.0

    def call(self) -> None:
        """Wake the loop; from any thread, or from a signal handler."""
        with contextlib.suppress(BlockingIOError):  # a full pipe wakes as well
            os.write(self._caller, b"x")

    def wait(self, seconds: float) -> set[str]:
        """Sleep until something calls or `seconds` are over; says who called, "timer" if nobody did."""
        end = time.monotonic() + seconds
        while True:
            self._keep_events()
            left = end - time.monotonic()
            reasons = {self._drain(key) for key, _ in self._selector.select(max(0.0, min(left, _TICK_SECONDS)))}
            reasons |= self._changed_files()
            reasons.discard("")
            if reasons:
                return reasons
            if left <= 0:
                return {"timer"}

    def close(self) -> None:
        """End the child and free what is held."""
        self._end_events()
        self._selector.close()
        self._netlink.close()
        os.close(self._reader)
        os.close(self._caller)

    def _drain(self, key: selectors.SelectorKey) -> str:
        if key.data == "network":
            self._netlink.drain()
            return "network"
        try:
            content = os.read(key.fd, 65536)
        except BlockingIOError:
            return ""
        if not content and key.data == "drbd":
            self._end_events()
        return str(key.data)

    def _changed_files(self) -> set[str]:
        """By a stat each: neither inotify nor a watching child is worth it for one file in a second."""
        changed = False
        for path, before in self._files.items():
            now = self._host.stamp(path)
            if now != before:
                self._files[path] = now
                changed = True
        return {"journal"} if changed else set()

    def _keep_events(self) -> None:
        """`events2` can't run before DRBD's module is there, and ends when it goes."""
        if self._events is not None or time.monotonic() < self._events_again:
            return
        self._events_again = time.monotonic() + _EVENTS_RETRY_SECONDS
        if not self._host.exists("/proc/drbd"):
            return
        try:
            self._events = self._host.spawn(("drbdsetup", "events2"))
        except OSError as error:
            _log.warning("drbdsetup events2 does not start (%s); DRBD is looked at by the timer", error)
            return
        assert self._events.stdout is not None  # noqa: S101 - spawn() asked for a pipe
        os.set_blocking(self._events.stdout.fileno(), False)
        self._selector.register(self._events.stdout, selectors.EVENT_READ, "drbd")

    def _end_events(self) -> None:
        if self._events is None:
            return
        assert self._events.stdout is not None  # noqa: S101
        self._selector.unregister(self._events.stdout)
        self._events.kill()
        self._events.wait()
        self._events.stdout.close()
        self._events = None
