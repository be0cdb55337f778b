"""Moments of a failover are found in what the machines really write."""

from __future__ import annotations

import pytest
from bench import failover_logs as logs
from bench.failover_classic import Classic
from bench.failover_model import DETECTED, STOP, TAKEOVER
from bench.failover_pacemaker import Pacemaker

MONITOR = """\
[2026-11-24T06:07:27.500000] Deleted 7: bond0    inet 10.10.25.136/24 brd 10.10.25.255 scope global secondary bond0
       valid_lft forever preferred_lft forever
[2026-11-24T06:07:28.250000] 7: bond0    inet 10.10.25.136/24 brd 10.10.25.255 scope global secondary bond0
       valid_lft forever preferred_lft forever
[2026-11-24T06:07:29.000000] 7: bond0    inet 10.10.25.13/24 brd 10.10.25.255 scope global secondary bond0
       valid_lft forever preferred_lft forever
"""
UP = 1795500448.25


def test_an_address_is_up_when_it_is_added_not_when_it_is_deleted():
    assert logs.address_up(MONITOR, "10.10.25.136", since=UP - 10) == UP


def test_an_address_that_came_before_is_not_this_runs():
    assert logs.address_up(MONITOR, "10.10.25.136", since=UP + 0.1) is None


def test_an_address_that_begins_like_another_is_another():
    assert logs.address_up(MONITOR, "10.10.25.13", since=UP - 10) == UP + 0.75


def test_nothing_was_written_yet():
    assert logs.address_up("", "10.10.25.136", since=0) is None
    assert logs.moments(["", "-- No entries --\n"], {STOP: "stop"}, since=0) == {}


def test_the_first_line_of_any_machine_after_the_fault_counts():
    journals = ["1795500010.5 node1 x: stop\n1795500011.0 node1 x: stop\n", "1795500010.2 node2 x: stop\n"]
    assert logs.moments(journals, {STOP: "x: stop", DETECTED: "dead"}, since=1795500010.1) == {STOP: 1795500010.2}
    assert logs.moments(journals, {STOP: "x: stop"}, since=1795500010.3) == {STOP: 1795500010.5}
