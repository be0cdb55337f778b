"""Being told that links, addresses or routes changed, without reading what: a bare netlink socket."""

from __future__ import annotations

import socket

_GROUPS = 0x1 | 0x10 | 0x40  # RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE (linux/rtnetlink.h)
_BUFFER = 65536


class Monitor:
    """Subscribed from its making on. Bonds tell their failovers as link changes."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
        self._socket.bind((0, _GROUPS))
        self.count = 0  # grows when something changed

    def fileno(self) -> int:
        return self._socket.fileno()

    def drain(self) -> int:
        """Take note of what arrived; returns `count`."""
        while True:
            try:
                self._socket.recv(_BUFFER)
            except BlockingIOError:
                return self.count
            except OSError:  # ENOBUFS: messages were lost, so something changed
                pass
            self.count += 1

    def close(self) -> None:
        self._socket.close()
