"""Signs of life: this node's Lease, renewed by the loop itself, so that a loop that is stuck gives none.

The operator makes the Lease and calls an agent silent that has not renewed it for long (90 s by default). A renewal
that fails is no matter for the host: it is said once, and tried again when the next one is due.
"""

from __future__ import annotations

import logging
import time
from typing import Protocol

from storagepair_node_agent.transport import NOT_FOUND, ApiError

RENEW_SECONDS = 20.0

_log = logging.getLogger(__name__)


class Renewing(Protocol):
    """The part of the API that is needed here."""

    def renew_lease(self) -> None:
        """Renew this node's Lease. Raises ApiError."""


class Signs:
    """Gives a sign of life when one is due. For the loop's thread only."""

    def __init__(self, api: Renewing) -> None:
        self._api = api
        self._due = float("-inf")
        self._complaint = ""

    def give(self) -> None:
        """Renew the Lease, unless that was tried less than `RENEW_SECONDS` ago."""
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + RENEW_SECONDS
        try:
            self._api.renew_lease()
        except ApiError as error:
            self._due = now + max(RENEW_SECONDS, error.retry_after_seconds)
            self._complain(error)
            return
        if self._complaint:
            _log.info("the node's Lease is renewed again")
        self._complaint = ""

    def _complain(self, error: ApiError) -> None:
        """Said once. An operator of an earlier version makes no Lease, and misses none."""
        text = "there is no Lease of this node yet" if error.status == NOT_FOUND else str(error)
        if text != self._complaint:
            _log.warning("the node's Lease is not renewed: %s", text)
        self._complaint = text
