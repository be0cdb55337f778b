"""Kubernetes away, one part of it at a time: the hosts decide without it, and tell of it afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lab.stack import Stack

PARTS = ("the agents", "the API server", "the operator")
"""The agents first: they have to be there before they can stand still."""
# brackets: the pattern must not find the shell that looks for it
_AGENT = "[s]toragepair-node-agent"


@contextmanager
def without(stack: Stack, part: str) -> Iterator[None]:
    """Within, this part of Kubernetes is away: cut off, not running, or standing still. Afterwards it is back."""
    leave: dict[str, Callable[[], object]] = {
        "the API server": stack.lab.cut_api,
        "the operator": stack.stop_operator,
        "the agents": lambda: stop_agents(stack),
    }
    back: dict[str, Callable[[], object]] = {
        "the API server": stack.lab.restore_api,
        "the operator": stack.start_operator,
        "the agents": lambda: let_agents_go_on(stack),
    }
    leave[part]()
    try:
        yield
    finally:
        back[part]()


def stop_agents(stack: Stack) -> None:
    """Kubernetes' part of both hosts stands still: what happens now is the hosts' own doing."""
    stack.wait_agents()  # a machine that has just come back may have none yet, and would start one later
    stack.freeze_kubelets()
    for node in stack.lab.nodes:
        node.ssh(f"pkill -STOP -f {_AGENT}")


def let_agents_go_on(stack: Stack) -> None:
    """As before; a node that has lost its power meanwhile has nothing that stands still."""
    for node in stack.lab.nodes:
        if node.is_on():
            node.ssh(f"pkill -CONT -f {_AGENT}", check=False)
    stack.thaw_kubelets()
