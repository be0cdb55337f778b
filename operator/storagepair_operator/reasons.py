"""The reasons of all conditions and events that the operator writes, each with its meaning in one line."""

from __future__ import annotations

MEANINGS: dict[str, str] = {}
"""The meaning of each reason; the reference documentation is made from it."""


def _reason(name: str, meaning: str) -> str:
    MEANINGS[name] = meaning
    return name


# Accepted
ACCEPTED = _reason("Accepted", "The document is carried out.")
NODE_IN_OTHER_PAIR = _reason("NodeInOtherPair", "A machine that the pair names belongs to another pair.")
IQN_IN_USE = _reason("IQNInUse", "A target's IQN is another pair's.")
VIP_IN_USE = _reason("VIPInUse", "The floating address is another pair's.")
INVALID_SPEC = _reason("InvalidSpec", "The document contradicts itself in a way that the schema did not refuse.")
PAIR_NOT_FOUND = _reason("PairNotFound", "The StoragePair that the object names does not exist in its namespace.")
PAIR_NOT_ACCEPTED = _reason("PairNotAccepted", "The StoragePair that the object names is not accepted itself.")
TARGET_NOT_FOUND = _reason("TargetNotFound", "The StoragePair has no target of the name.")
NUMBER_IN_USE = _reason("NumberInUse", "Another LUN of the target has the number.")
NUMBER_DIFFERS = _reason(
    "NumberDiffers", "The LUN already has another number on the hosts; initiators know it by that."
)
SIZE_SHRINKS = _reason("SizeShrinks", "The LUN is larger on the hosts than declared; nothing is ever shrunk.")

# NodesReady
NODES_READY = _reason("NodesReady", "Both agents report, and both hosts are as they shall be.")
WAITING_FOR_AGENT = _reason("WaitingForAgent", "A machine's node agent has not reported yet.")
APPLYING = _reason("Applying", "A machine's node agent has not yet carried out the newest document.")
NODE_NOT_READY = _reason("NodeNotReady", "A machine is not as it shall be; the message says what and how to help.")
NODE_NOT_SEEN = _reason("NodeNotSeen", "A machine is dead or cut off: the other one's Heartbeat does not see it.")

# Replicated
REPLICATED = _reason("Replicated", "Both copies of the data are up to date and connected.")
RESYNCING = _reason("Resyncing", "One copy is being brought up to date.")
DISCONNECTED = _reason("Disconnected", "The mirror has lost its other half.")
STAND_ALONE = _reason(
    "StandAlone", "The mirror does not look for its other half any more; split brain looks like this."
)
NOT_UP_TO_DATE = _reason("NotUpToDate", "A copy of the data is not up to date.")
NOT_REPORTED = _reason("NotReported", "No machine has said anything about it yet.")

# Serving
SERVING = _reason("Serving", "Exactly one machine serves.")
PREPARING = _reason("Preparing", "The hosts are being prepared; the service has not been started yet.")
NOT_SERVING = _reason("NotServing", "No machine serves.")
DUAL_PRIMARY = _reason("DualPrimary", "Both machines have the role Primary. The data may diverge: act at once.")
UNCONFIRMED = _reason("Unconfirmed", "The machine that served was not heard of since the other one lost sight of it.")

# Ready
READY = _reason("Ready", "Everything is as declared.")
DEGRADED = _reason("Degraded", "The pair serves, but would not survive the next failure.")
WAITING = _reason("Waiting", "The hosts have not carried it out yet.")
FAILED = _reason("Failed", "The host could not carry it out; the message is the host's.")
DELETING = _reason("Deleting", "It is being taken off the host.")
TEARING_DOWN = _reason("TearingDown", "The pair is deleted with the policy Teardown; its hosts are being stopped.")

# Events
FAILOVER = _reason("Failover", "The service moved because a machine or its service was lost.")
SWITCHOVER = _reason("Switchover", "The service moved as asked.")

# Events about the end of a pair
TORN_DOWN = _reason("TornDown", "The pair is gone, and so is what it had on its hosts, but for bonds and data.")
FORGOTTEN = _reason("Forgotten", "The pair's object is let go of; its hosts stay as they are.")

# Switchover
PENDING = _reason("Pending", "Nobody has looked at the request yet.")
RUNNING = _reason("Running", "The host that serves is asked to hand the service over.")
MOVED = _reason("Moved", "The service is up at the node that was asked for.")
NODE_NOT_IN_PAIR = _reason("NodeNotInPair", "The node that shall serve is none of the pair's.")
TOO_LATE = _reason("TooLate", "The request's notAfter is over.")
ALREADY_CARRIED_OUT = _reason(
    "AlreadyCarriedOut", "A request of that name was carried out before; this one is a replay."
)
MOVE_IN_PROGRESS = _reason("MoveInProgress", "Another Switchover of the pair is under way.")
NOT_ACTIVE = _reason("NotActive", "The node that must serve for the request to hold does not.")
ALREADY_ACTIVE = _reason("AlreadyActive", "The node that shall serve does so already.")
PEER_NOT_SEEN = _reason("PeerNotSeen", "The two Heartbeats do not see each other as ready.")
NOT_CONNECTED = _reason("NotConnected", "The mirror's two halves are not connected.")
LINK_DOWN = _reason("LinkDown", "A bond of one of the machines, or a path of Heartbeat's, has lost a link.")
NO_OUTCOME = _reason("NoOutcome", "The host that was asked did not say in time what came of it.")
SWITCHOVER_STARTED = _reason("SwitchoverStarted", "A Switchover was found good, and the host is asked.")
SWITCHOVER_SUCCEEDED = _reason("SwitchoverSucceeded", "A Switchover has ended as asked.")
SWITCHOVER_REFUSED = _reason("SwitchoverRefused", "A Switchover was refused; nothing was changed.")
SWITCHOVER_FAILED = _reason("SwitchoverFailed", "A Switchover was begun and did not end as asked.")
