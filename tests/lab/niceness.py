"""Niceness that holds between sessions too.

Where the kernel groups processes by session (sched_autogroup, sched(7)), every session gets the same share of the
processors and a nice value counts within its session only. The lab's programs lead sessions of their own.
"""

from __future__ import annotations

import contextlib
import os

_OWN_SESSION = "/proc/self/autogroup"


def give_to_session() -> None:
    """Give this process's session, which is new and thus at 0, the process's nice value.

    Nothing where the kernel does not group by session. A user who is not root may change one session in a tenth of a
    second (kernel/sched/autogroup.c); a lab needs root, and what is left then is a unit test's session at 0.
    """
    niceness = os.getpriority(os.PRIO_PROCESS, 0)
    if niceness == 0:
        return
    with contextlib.suppress(FileNotFoundError, BlockingIOError):
        session = os.open(_OWN_SESSION, os.O_WRONLY)
        try:
            os.write(session, b"%d" % niceness)
        finally:
            os.close(session)
