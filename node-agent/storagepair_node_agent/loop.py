"""The agent's life: follow this node's StorageNode, run a cycle whenever something may be new, report what differs.

The API server may be away at any time: the last good document is kept on the host and carried out all the same, and
the status is delivered when the server is back.
"""

from __future__ import annotations

import datetime
import logging
import random
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from storagepair_crds import views

from storagepair_node_agent import documents, journal, report
from storagepair_node_agent.actions import StepFailed, apply
from storagepair_node_agent.api import Api, ApiError, Document
from storagepair_node_agent.cycle import Cycle, Pass
from storagepair_node_agent.host import Host
from storagepair_node_agent.nodetoken import NoIdentity
from storagepair_node_agent.signs import Signs
from storagepair_node_agent.snapshot import Desired
from storagepair_node_agent.subsystems import preflight
from storagepair_node_agent.wakeups import Wakeups

# events come in bursts (a bond's failover, a start of the service): look once they are over, and not all the time
_SETTLE_SECONDS = 0.3
_GAP_SECONDS = 1.0
_FIRST_ANSWER_SECONDS = 10.0
# the parts of the time that looking may take: the slower the machine, or the busier with what it is for, the more
# seldom it is looked at, down to the limit, so that the operator misses no sign of life
_LOOKING_WHILE_SETTLED = 0.05
_LOOKING_WHILE_UNSETTLED = 0.5
_PAUSE_LIMIT_SECONDS = 15.0
_REPORT_SECONDS = 2.0  # a report that is older than this is renewed before more is done
_BACKOFF_SECONDS = 1.0
_BACKOFF_LIMIT_SECONDS = 30.0
_GONE = 410
_IDENTITY_LIMIT_SECONDS = 10.0  # a pair that has just been applied waits for this

_log = logging.getLogger(__name__)


class Follower(threading.Thread):
    """Keeps the latest StorageNode as the API server has it. `wake` is called when its spec may be new."""

    def __init__(self, api: Api, wake: Callable[[], None]) -> None:
        super().__init__(name="follower", daemon=True)
        self._api = api
        self._wake = wake
        self._lock = threading.Lock()
        self._latest: Document | None = None
        self._complaint = ""
        self._too_old = False  # whether the object's own version is older than what the server remembers
        self.answered = threading.Event()  # the API server said something, or did not answer

    @property
    def latest(self) -> Document | None:
        """The StorageNode, None before the first answer and after it was deleted."""
        with self._lock:
            return self._latest

    def offer(self, document: Document | None) -> None:
        """Take a newer state of the object, as the API server's watch tells it."""
        with self._lock:
            before, self._latest = self._latest, document
        if _spec_version(before) != _spec_version(document):
            self._wake()

    def answered_with(self, document: Document) -> None:
        """Take the answer to a status patch, unless the watch was quicker and has told of a newer spec, or of another
        object, or of none: the answer would put the old one back, and nothing would tell of the new one again."""
        with self._lock:
            before = self._latest
            if before is None or not _follows(before, document):
                return
            self._latest = document
        if _spec_version(before) != _spec_version(document):
            self._wake()

    def run(self) -> None:
        pause = _BACKOFF_SECONDS
        while True:
            began, limit, wait = time.monotonic(), _BACKOFF_LIMIT_SECONDS, 0.0
            try:
                self._follow()
                if time.monotonic() - began > _BACKOFF_SECONDS:  # watches end, but not at once
                    pause = _BACKOFF_SECONDS
                    continue
            except ApiError as error:
                if error.status == _GONE and not self._too_old:
                    self._too_old = True
                    continue
                self._complain(str(error))
                limit = _IDENTITY_LIMIT_SECONDS if isinstance(error, NoIdentity) else _BACKOFF_LIMIT_SECONDS
                wait = error.retry_after_seconds
            pause = min(pause, limit)
            time.sleep(max(pause, wait) * random.uniform(0.8, 1.2))  # noqa: S311 - spreads the hosts, no secret
            pause = min(pause * 2, limit)

    def _follow(self) -> None:
        """One read and a watch from there, until the server ends the watch.

        An object that nobody changes has an old version, and a server that was restarted since knows no change from
        then on: reading it again gives the same version. Then the watch begins with what is there now.
        """
        document = self._api.get()
        self.answered.set()
        if self._complaint:
            _log.info("the API server answers again")
            self._complaint = ""
        self.offer(document)
        # without an object any version of the collection will do: "0" is whatever the server has
        version = document["metadata"]["resourceVersion"] if document else "0"
        for change in self._api.watch("" if self._too_old else version):
            if change is not None:
                self.offer(None if change.deleted else change.document)
        self._too_old = False

    def _complain(self, text: str) -> None:
        """Said once; the host goes on without."""
        if text != self._complaint:
            _log.warning("%s; going on with the document kept on the host", text)
        self._complaint = text
        self.answered.set()


@dataclass
class _Delivery:
    """A status that the API server doesn't have yet is tried again with a growing pause."""

    pause: float = 0.0
    again: float = 0.0

    def due(self) -> bool:
        return time.monotonic() >= self.again

    def failed(self, wait_seconds: float = 0.0) -> None:
        self.pause = min(max(self.pause * 2, _BACKOFF_SECONDS), _BACKOFF_LIMIT_SECONDS)
        self.again = time.monotonic() + max(self.pause, wait_seconds)

    def succeeded(self) -> None:
        self.pause = self.again = 0.0


class Loop:
    """Everything but the threads: one call of `turn()` is one cycle with its report."""

    def __init__(self, host: Host, node: str, api: Api, follower: Follower, agent_version: str) -> None:
        self._host = host
        self._node = node
        self._api = api
        self._follower = follower
        self._agent_version = agent_version
        self._cycle = Cycle(host)
        self._taken: object = None  # which document _desired, or _refused, stands for
        self._desired = self._kept()
        self._refused = ""  # why the API server's present document isn't carried out
        self._authkey: str | None = None
        self._authkey_for: object = None  # the document that it was read for
        self._authkey_again = 0.0
        self._delivered: tuple[str, ...] = ()
        self._last: Pass | None = None
        self._said = ""
        self._delivery = _Delivery()
        self._signs = Signs(api)
        self._reported = 0.0  # when the status was last looked at for a difference (monotonic)
        host.meanwhile = self._give_sign  # making a file system may take an hour; each program has its time limit

    @property
    def settled(self) -> bool:
        """Whether the last cycle found all as desired, and did nothing."""
        return self._last is not None and self._last.ready and not self._last.done

    def turn(self) -> None:
        """Take the newest document, run a cycle, say what there is to say, deliver the status."""
        self._take(self._follower.latest)
        if self._desired is None:
            self._say(f"there is no good StorageNode {self._node} yet, nothing is done", done=False)
        else:
            self._delivered = self._remembered(self._desired)
            self._last = self._cycle.run(self._with_authkey(self._desired), self._clock_offset(), self._go_on)
            self._say(self._last.sentence(self._node), done=bool(self._last.done))
        self._deliver()
        self._give_sign()

    def _give_sign(self) -> None:
        """A sign of life says: this agent works, and what it sees is known. Not so while its status is not taken."""
        if self._follower.latest is not None and not self._delivery.pause:
            self._signs.give()

    def _go_on(self, so_far: Pass) -> bool:
        """Between actions: what takes long is told meanwhile, and a newer document is not kept waiting for the rest.

        A machine that is Ready stays so in its status while a change is carried out that takes a moment only.
        """
        self._last = so_far
        if not self._told_ready() or time.monotonic() - self._reported > _REPORT_SECONDS:
            self._deliver()
        self._give_sign()
        latest = self._follower.latest
        return not so_far.done or latest is None or self._taken == _spec_version(latest)

    def _told_ready(self) -> bool:
        document = self._follower.latest or {}
        try:
            status = views.view(views.NodeStatus, document.get("status") or {})
        except ValueError:
            return False
        return any(c.type == report.READY and c.status == "True" for c in status.conditions)

    def _kept(self) -> Desired | None:
        try:
            document = documents.kept(self._host)
            if document is None:
                return None
            desired = documents.desired_of(document, self._node)
            self._taken = _spec_version(document)
            return desired
        except documents.InvalidDocument as error:
            _log.warning("the document kept on the host is not used: %s", error)
            return None

    def _take(self, document: Document | None) -> None:
        """A deleted object takes nothing from the host: absence is no instruction, what was wanted last stands."""
        if document is None:
            return
        if self._taken == _spec_version(document):
            return
        self._taken = _spec_version(document)
        try:
            self._desired, self._refused = documents.desired_of(document, self._node), ""
            documents.keep(self._host, document)
        except documents.InvalidDocument as error:
            self._refused = str(error)
            _log.error("refused: %s; nothing is changed", error)

    def _with_authkey(self, desired: Desired) -> Desired:
        """Heartbeat's key, read once for each document (and again while that fails); kept in memory only."""
        if desired.spec.service != "Run":
            return desired
        if self._authkey is None or self._authkey_for != self._taken:
            self._read_authkey(desired)
        return replace(desired, authkey=self._authkey)

    def _read_authkey(self, desired: Desired) -> None:
        if self._authkey_for == self._taken and time.monotonic() < self._authkey_again:
            return
        self._authkey_for, self._authkey_again = self._taken, time.monotonic() + _BACKOFF_LIMIT_SECONDS
        try:
            self._authkey = self._api.authkey(desired.spec.heartbeat.authkeys_secret_ref)
        except ApiError as error:
            _log.warning("Heartbeat's key can't be read: %s", error)

    def _remembered(self, desired: Desired) -> tuple[str, ...]:
        """The incidents that the operator has recorded. Only what is noted on the host may leave the status: the record
        may be trimmed once it does."""
        delivered = desired.spec.delivered_incidents
        try:
            for action in journal.remember(self._host, delivered):
                apply(self._host, action)
        except (StepFailed, OSError) as error:
            _log.warning("%s", error)
            return ()
        return delivered

    def _clock_offset(self) -> float | None:
        """Asked again before a bad one is believed: a machine that was paused has an old answer."""
        offset = self._api.clock_offset_seconds
        if offset is None or abs(offset) <= preflight.CLOCK_TOLERANCE_SECONDS:
            return offset
        try:
            self._api.get()
        except ApiError:
            return None
        return self._api.clock_offset_seconds

    def _say(self, sentence: str, *, done: bool) -> None:
        if done or sentence != self._said:
            _log.info("%s", sentence)
        self._said = sentence

    def _deliver(self) -> None:
        document = self._follower.latest
        if document is None or not self._delivery.due():
            return
        self._reported = time.monotonic()
        stands = document.get("status") or {}
        try:
            previous = views.view(views.NodeStatus, stands)
        except ValueError as error:  # msgspec.ValidationError is one
            _log.error("the object's present status is unreadable, replacing it: %s", error)
            previous = None
        status = self._status(document, previous or views.NodeStatus())
        # as views: the server fills in defaults that our document leaves out, within lists too
        if status == previous:
            self._delivery.succeeded()  # what was not taken is not true any more
            return
        try:
            self._follower.answered_with(self._api.patch_status(report.merge_patch(stands, views.document(status))))
            self._delivery.succeeded()
        except ApiError as error:
            self._delivery.failed(error.retry_after_seconds)
            _log.warning("the status is not delivered yet: %s", error)

    def _status(self, document: Document, previous: views.NodeStatus) -> views.NodeStatus:
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        observed = previous
        if self._desired is not None and self._last is not None:
            observed = report.status(
                self._desired,
                self._last.snapshot,
                self._last.verdicts,
                journal.undelivered(self._host, self._delivered, time.time()),
                previous,
                now=now,
                agent_version=self._agent_version,
            )
        if not self._refused:
            return observed
        generation = document["metadata"].get("generation", 0)
        return report.refused(observed, self._refused, generation, previous, now=now)


def run(host: Host, node: str, api: Api, *, interval_seconds: float, agent_version: str) -> None:
    """Until SIGTERM or SIGINT; an action that was begun is finished first."""
    wakeups = Wakeups(host, [journal.JOURNAL])
    stop = threading.Event()

    def end(*_: object) -> None:
        stop.set()
        wakeups.call()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    follower = Follower(api, wakeups.call)
    loop = Loop(host, node, api, follower, agent_version)
    follower.start()
    follower.answered.wait(_FIRST_ANSWER_SECONDS)
    while not stop.is_set():
        started = time.monotonic()
        loop.turn()
        reasons = wakeups.wait(pause(interval_seconds, time.monotonic() - started, settled=loop.settled))
        if not reasons & {"call", "timer"}:
            stop.wait(max(_SETTLE_SECONDS, _GAP_SECONDS - (time.monotonic() - started)))
    wakeups.close()


def pause(interval_seconds: float, turn_seconds: float, *, settled: bool) -> float:
    """How many seconds to wait, if nothing calls, after a turn that took so long; never less than the interval."""
    part = _LOOKING_WHILE_SETTLED if settled else _LOOKING_WHILE_UNSETTLED
    return max(interval_seconds, min(turn_seconds * (1 - part) / part, _PAUSE_LIMIT_SECONDS))


def _follows(before: Document, after: Document) -> bool:
    """Is it the same object with a spec that is not older?"""
    old, new = before["metadata"], after["metadata"]
    return bool(old.get("uid") == new.get("uid") and old.get("generation", 0) <= new.get("generation", 0))


def _spec_version(document: Document | None) -> object:
    return document and (document["metadata"].get("uid"), document["metadata"].get("generation"))
