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


# as Debian 13's Heartbeat and Pacemaker write them
HEARTBEAT_STANDBY = """\
1795500400.100000 node1 heartbeat[404]: [404]: info: node1 wants to go standby [all]
1795500401.200000 node1 heartbeat[600]: [600]: info: give up all HA resources (standby).
1795500406.300000 node1 ResourceManager(default)[569]: info: Running /etc/ha.d//resource.d/drbddisk ha stop
1795500408.400000 node2 heartbeat[564]: [564]: info: acquire all HA resources (standby).
"""
HEARTBEAT_DEATH = """\
1795500405.100000 node2 heartbeat[404]: [404]: WARN: node node1: is dead
1795500407.200000 node2 mach_down(default)[766]: info: Taking over resource group drbddisk::ha
1795500409.300000 node2 ResourceManager(default)[790]: info: Acquiring resource group: node1 drbddisk::ha
"""
PACEMAKER = """\
1795502370.2 node1 pacemaker-controld[328]: notice: Requesting local execution of stop operation for p_vip on node1
1795502373.8 node2 pacemaker-controld[328]: notice: Requesting local execution of promote operation for p_drbd on node2
1795502382.567863 node2 pacemaker-controld[328]:  notice: Result of promote operation for p_drbd on node2: OK
"""
COROSYNC_DEATH = """\
1795502370.100000 node2 corosync[301]:   [TOTEM ] A processor failed, forming new configuration: token timed out
1795502371.200000 node2 pacemaker-controld[328]:  notice: Node node1 state is now lost
"""


@pytest.mark.parametrize(
    ("stack", "journal", "found"),
    [
        (Classic, HEARTBEAT_STANDBY, {STOP: 1795500401.2, TAKEOVER: 1795500408.4}),
        (Classic, HEARTBEAT_DEATH, {DETECTED: 1795500405.1, TAKEOVER: 1795500407.2}),
        (Pacemaker, PACEMAKER, {STOP: 1795502370.2, TAKEOVER: 1795502373.8}),
        (Pacemaker, COROSYNC_DEATH, {DETECTED: 1795502370.1}),
    ],
)
def test_the_moments_of_a_stack_are_told_by_its_own_log_lines(stack, journal, found):
    assert logs.moments([journal], stack.patterns, since=1795500000.0) == found
