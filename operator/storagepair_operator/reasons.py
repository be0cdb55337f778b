"""The reasons of all conditions and events that the operator writes, each with its meaning and what to do about it.

A new reason is one `_reason(...)` more. Where a reason is written mypy takes nothing else; what an agent or an earlier
status said is passed on by `told`.
"""

from __future__ import annotations

from typing import NewType

from storagepair_crds.words import NOTHING, Word

Reason = NewType("Reason", str)

WORDS: dict[Reason, Word] = {}
"""What each reason means; the reference documentation is made from it (`make reference`)."""


def _reason(name: str, meaning: str, remedy: str = "") -> Reason:
    reason = Reason(name)
    WORDS[reason] = Word(meaning, remedy)
    return reason


def told(reason: str) -> Reason:
    """A reason that is somebody else's word: an agent's, which has a vocabulary of its own, or one on record."""
    return Reason(reason)


# Accepted
ACCEPTED = _reason(
    "Accepted",
    "The document is carried out.",
    NOTHING,
)
NODE_IN_OTHER_PAIR = _reason(
    "NodeInOtherPair",
    "A machine that the pair names belongs to another pair.",
    "The message names the other pair: take the machine out of one of the two.",
)
IQN_IN_USE = _reason(
    "IQNInUse",
    "A target's IQN is another pair's.",
    "Give this pair's target an IQN of its own.",
)
VIP_IN_USE = _reason(
    "VIPInUse",
    "The floating address is another pair's.",
    "Give this pair a floating address of its own.",
)
INVALID_SPEC = _reason(
    "InvalidSpec",
    "The document contradicts itself in a way that the schema did not refuse.",
    "Correct the field that the message names; `storagepair validate` finds most of these before.",
)
POLICY_MISSING = _reason(
    "PolicyMissing",
    "An admission policy of storagepair's is missing or does not deny, so that nobody checks who may name a host.",
    "Apply the manifests again: `kubectl apply --server-side -k manifests`. Hosts that serve go on serving.",
)
PAIR_NOT_FOUND = _reason(
    "PairNotFound",
    "The StoragePair that the object names does not exist in its namespace.",
    "Create the pair, or correct spec.pairRef; it must be in the same namespace.",
)
PAIR_NOT_ACCEPTED = _reason(
    "PairNotAccepted",
    "The StoragePair that the object names is not accepted itself.",
    "Look at the pair's condition Accepted first.",
)
TARGET_NOT_FOUND = _reason(
    "TargetNotFound",
    "The StoragePair has no target of the name.",
    "Correct spec.target; the message lists the pair's targets.",
)
NUMBER_IN_USE = _reason(
    "NumberInUse",
    "Another LUN of the target has the number.",
    "Choose another number, or leave it out.",
)
NUMBER_DIFFERS = _reason(
    "NumberDiffers",
    "The LUN already has another number on the hosts; initiators know it by that.",
    "Declare the number that the message names, or leave it out.",
)
SIZE_SHRINKS = _reason(
    "SizeShrinks",
    "The LUN is larger on the hosts than declared; nothing is ever shrunk.",
    "Declare at least the size that the hosts have.",
)

# NodesReady
NODES_READY = _reason(
    "NodesReady",
    "Both agents report, and both hosts are as they shall be.",
    NOTHING,
)
WAITING_FOR_AGENT = _reason(
    "WaitingForAgent",
    "A machine's node agent has not reported yet.",
    "Does the agent's pod run there? `kubectl -n storagepair-system get pods -o wide`; is the node labelled?",
)
APPLYING = _reason(
    "Applying",
    "A machine's node agent has not yet carried out the newest document.",
    "Wait. If it lasts, read the agent's log.",
)
NODE_NOT_READY = _reason(
    "NodeNotReady",
    "A machine is not as it shall be; the message says what and how to help.",
    "Do what the message says; the same reason stands in the StorageNode's conditions.",
)
NODE_NOT_SEEN = _reason(
    "NodeNotSeen",
    "A machine is dead or cut off: the other one's Heartbeat does not see it.",
    "Is the machine up, does Heartbeat run there, are its links up?",
)

AGENT_SILENT = _reason(
    "AgentSilent",
    "A machine's node agent gives no sign of life any more; the service goes on without it, and what is told is old.",
    "Does its pod run? `kubectl -n storagepair-system get pods -o wide --field-selector spec.nodeName=NODE`; is the "
    "machine still a node, and labelled? If the pod runs, read its log.",
)

# Replicated
REPLICATED = _reason(
    "Replicated",
    "Both copies of the data are up to date and connected.",
    NOTHING,
)
RESYNCING = _reason(
    "Resyncing",
    "One copy is being brought up to date.",
    "Wait. Do not stop the node that serves until it is done.",
)
DISCONNECTED = _reason(
    "Disconnected",
    "The mirror has lost its other half.",
    "Is the other machine up? Look at the replication bond and its switches. Another failure now may cost data.",
)
STAND_ALONE = _reason(
    "StandAlone",
    "The mirror does not look for its other half any more; split brain looks like this.",
    "Look at both hosts before anything else; see how to resolve a split brain.",
)
NOT_UP_TO_DATE = _reason(
    "NotUpToDate",
    "A copy of the data is not up to date.",
    "See `drbdadm status` on both hosts; a dead disk shows as Diskless.",
)
NOT_REPORTED = _reason(
    "NotReported",
    "No machine has said anything about it yet.",
    "Wait for the agents; see NodesReady.",
)

# Serving
SERVING = _reason(
    "Serving",
    "Exactly one machine serves; of a LUN or an ACL: it does so there.",
    NOTHING,
)
PREPARING = _reason(
    "Preparing",
    "The hosts are being prepared; the service has not been started yet.",
    "Wait; the message says what for. The first sync copies whole disks, at most at replication.resyncRate.",
)
NOT_SERVING = _reason(
    "NotServing",
    "No machine serves.",
    "See /var/log/ha-log and `journalctl -u storagepair-guardian` on both hosts. A move shows this for seconds.",
)
DUAL_PRIMARY = _reason(
    "DualPrimary",
    "Both machines have the role Primary. The data may diverge: act at once.",
    "Stop the service on one machine now, then resolve the split brain.",
)
UNCONFIRMED = _reason(
    "Unconfirmed",
    "The machine that served was not heard of since the other one lost sight of it.",
    "Look at the machine itself: is it up? Nothing takes over by order of Kubernetes.",
)

# Ready
READY = _reason(
    "Ready",
    "Everything is as declared.",
    NOTHING,
)
DEGRADED = _reason(
    "Degraded",
    "The pair serves, but would not survive the next failure.",
    "The message says what is wrong. Mend it before anything else fails.",
)
WAITING = _reason(
    "Waiting",
    "The hosts have not carried it out yet.",
    "Wait. If it lasts, see the StorageNode of the active node.",
)
FAILED = _reason(
    "Failed",
    "The host could not carry it out; the message is the host's.",
    "Remove the cause that the message names; it is tried again by itself.",
)
DELETING = _reason(
    "Deleting",
    "It is being taken off the host.",
    "Wait until a machine serves and has taken it away.",
)
TEARING_DOWN = _reason(
    "TearingDown",
    "The pair was deleted with the policy Teardown; its hosts are being stopped and cleared.",
    "Wait. The message names whom that waits for, and how to go on without: see how to uninstall.",
)

# Events
FAILOVER = _reason(
    "Failover",
    "The service moved because a machine or its service was lost.",
    "Look at what the note names, and mend it: the next failure needs the other machine.",
)
SWITCHOVER = _reason(
    "Switchover",
    "The service moved as asked.",
    NOTHING,
)

AGENT_REPORTS = _reason(
    "AgentReports",
    "A node agent that was silent gives signs of life again.",
    NOTHING,
)

# Events about the end of a pair
TORN_DOWN = _reason(
    "TornDown",
    "The pair is gone, and so is what it had on its hosts, but for bonds and data.",
    NOTHING,
)
FORGOTTEN = _reason(
    "Forgotten",
    "A pair that was held for its hosts is let go of; they stay as they are.",
    "Nothing, if that was meant: a pair of the same name takes the hosts over as they are.",
)

# Switchover
PENDING = _reason(
    "Pending",
    "Nobody has looked at the request yet.",
    "Wait.",
)
RUNNING = _reason(
    "Running",
    "The host that serves is asked to hand the service over.",
    "Wait.",
)
MOVED = _reason(
    "Moved",
    "The service is up at the node that was asked for.",
    NOTHING,
)
NODE_NOT_IN_PAIR = _reason(
    "NodeNotInPair",
    "The node that shall serve is none of the pair's.",
    "Correct spec.to; the message lists the pair's nodes.",
)
TOO_LATE = _reason(
    "TooLate",
    "The request's notAfter is over.",
    "Create another Switchover with a later notAfter, or none.",
)
ALREADY_CARRIED_OUT = _reason(
    "AlreadyCarriedOut",
    "A request of that name was carried out before; this one is a replay.",
    "Another move needs another name: use generateName and `kubectl create`.",
)
MOVE_IN_PROGRESS = _reason(
    "MoveInProgress",
    "Another Switchover of the pair is under way.",
    "Wait until the other one has ended, then ask again.",
)
NOT_ACTIVE = _reason(
    "NotActive",
    "The node that must serve for the request to hold does not.",
    "See who serves, then ask again with that node, or without spec.from.",
)
ALREADY_ACTIVE = _reason(
    "AlreadyActive",
    "The node that shall serve does so already.",
    NOTHING,
)
PEER_NOT_SEEN = _reason(
    "PeerNotSeen",
    "The two Heartbeats do not see each other as ready.",
    "Is the other machine up, does Heartbeat run on both, are the links up?",
)
NOT_CONNECTED = _reason(
    "NotConnected",
    "The mirror's two halves are not connected.",
    "Look at the replication network, and at `drbdadm status` on both hosts.",
)
LINK_DOWN = _reason(
    "LinkDown",
    "A bond of one of the machines, or a path of Heartbeat's, has lost a link.",
    "Mend the link that the message names; then ask again.",
)
NO_OUTCOME = _reason(
    "NoOutcome",
    "The host that was asked did not say in time what came of it.",
    "See who serves now, and the log of the agent that was asked.",
)
SWITCHOVER_STARTED = _reason(
    "SwitchoverStarted",
    "A Switchover was found good, and the host is asked.",
    NOTHING,
)
SWITCHOVER_SUCCEEDED = _reason(
    "SwitchoverSucceeded",
    "A Switchover has ended as asked.",
    NOTHING,
)
SWITCHOVER_REFUSED = _reason(
    "SwitchoverRefused",
    "A Switchover was refused; nothing was changed.",
    "The note names the host, the field and the remedy; nothing was changed.",
)
SWITCHOVER_FAILED = _reason(
    "SwitchoverFailed",
    "A Switchover was begun and did not end as asked.",
    "The note says where to look; see who serves.",
)
