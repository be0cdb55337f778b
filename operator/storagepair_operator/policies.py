"""Do the admission policies stand? They alone check who may name a host, and who writes what is root on one.

Without them no pair is accepted. They are looked at with every audit, and live before a pair is given a host.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from storagepair_operator.cluster import NOT_FOUND, ApiError, Cluster

USE = "storagepair-use"
NAMES = (USE, "storagepair-storagenodes", "storagepair-node-token", "storagepair-operator", "storagepair-teardown")
"""Each is the name of a policy and of its binding (manifests/policies/)."""

POLICY, BINDING = "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"
_GROUP = "/apis/admissionregistration.k8s.io/v1"
_PLURALS = {POLICY: "validatingadmissionpolicies", BINDING: "validatingadmissionpolicybindings"}
_REMEDY = "Apply storagepair's manifests again (kubectl apply --server-side -k manifests)"


async def missing(cluster: Cluster, names: Sequence[str] = NAMES) -> str:
    """What is wrong with the policies, in a sentence with the remedy; "" when they stand. Raises `ApiError`."""
    wanted = [(kind, name) for name in names for kind in (POLICY, BINDING)]
    found = await asyncio.gather(*(_read(cluster, path(kind, name)) for kind, name in wanted))
    judged = (judge(kind, name, seen) for (kind, name), seen in zip(wanted, found, strict=True))
    problems = [problem for problem in judged if problem]
    return f"{'; '.join(problems)}. {_REMEDY}" if problems else ""


def path(kind: str, name: str) -> str:
    """The URL path of a policy or binding."""
    return f"{_GROUP}/{_PLURALS[kind]}/{name}"


def judge(kind: str, name: str, seen: Mapping[str, Any] | None) -> str:
    """What keeps a policy or binding from refusing what it should; "" when nothing does."""
    about = f"the {kind} {name}"
    if seen is None or seen["metadata"].get("deletionTimestamp"):
        return f"{about} is missing"
    spec = seen.get("spec") or {}
    if kind == POLICY:
        return f"{about} has not failurePolicy Fail" if spec.get("failurePolicy", "Fail") != "Fail" else ""
    if spec.get("policyName") != name:
        return f"{about} binds another policy"
    if "Deny" not in (spec.get("validationActions") or ()):
        return f"{about} does not deny"
    return f"{about} is limited by matchResources" if spec.get("matchResources") else ""


async def _read(cluster: Cluster, path: str) -> dict[str, Any] | None:
    try:
        return await cluster.read(path)
    except ApiError as error:
        if error.status == NOT_FOUND:
            return None
        raise
