"""The lab's own kubectl: the version that belongs to the control plane, whatever else the machine has."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from lab.apiclient import ApiClient, ApiError
from lab.binaries import binary
from lab.waiting import wait_for

SCHEMAS = Path(__file__).resolve().parents[2] / "crds" / "storagepair_crds" / "schemas"
FIELD_MANAGER = "storagepair-lab"


class KubectlError(Exception):
    """kubectl failed; the message is what it said."""


def kubectl(kubeconfig: Path, *arguments: str, stdin: str | None = None, timeout: float = 240) -> str:
    """Run kubectl with these arguments and return what it prints."""
    environment = dict(os.environ)
    # its discovery cache is kept per address: another control plane may have had ours an hour ago
    environment["KUBECACHEDIR"] = str(kubeconfig.parent / "kubectl-cache")
    environment.pop("KUBECONFIG", None)
    done = subprocess.run(
        [str(binary("kubectl")), f"--kubeconfig={kubeconfig}", *arguments],
        env=environment,
        input=stdin or "",
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if done.returncode != 0:
        raise KubectlError(f"kubectl {' '.join(arguments)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def apply(kubeconfig: Path, *paths: Path) -> None:
    """Apply files or folders server-side."""
    files = [f"--filename={path}" for path in paths]
    kubectl(kubeconfig, "apply", "--server-side", "--force-conflicts", f"--field-manager={FIELD_MANAGER}", *files)


def apply_crds(kubeconfig: Path, schemas: Path = SCHEMAS) -> list[str]:
    """Apply the CRDs in `schemas` and return their names once all of them can be used."""
    definitions = [
        document
        for path in sorted(schemas.glob("*.yaml"))
        for document in yaml.safe_load_all(path.read_text())
        if document is not None
    ]
    if not definitions:
        raise KubectlError(f"there are no CRDs in {schemas}")
    apply(kubeconfig, schemas)
    names = [str(definition["metadata"]["name"]) for definition in definitions]
    client = ApiClient(kubeconfig)
    for name, definition in zip(names, definitions, strict=True):
        wait_for(partial(_established, client, name), f"the CRD {name} to be established", 30)
        for path in _collections(definition):
            # Established comes a moment before the resource is served
            wait_for(partial(_served, client, path), f"{path} to be served", 30)
    return names


def _established(client: ApiClient, name: str) -> bool:
    status = client.get(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}").get("status", {})
    conditions = {condition["type"]: condition for condition in status.get("conditions", [])}
    accepted = conditions.get("NamesAccepted", {})
    if accepted.get("status") == "False":
        raise KubectlError(f"the names of the CRD {name} are not accepted: {accepted['message']}")
    return bool(conditions.get("Established", {}).get("status") == "True")


def _collections(definition: dict[str, Any]) -> Iterable[str]:
    spec = definition["spec"]
    for version in spec["versions"]:
        if version["served"]:
            yield f"/apis/{spec['group']}/{version['name']}/{spec['names']['plural']}"


def _served(client: ApiClient, path: str) -> bool:
    group_version, _, plural = path.rpartition("/")
    try:
        found = client.get(group_version)["resources"]
        client.get(f"{path}?limit=1")
    except ApiError as error:
        if error.status == 404:
            return False
        raise
    return any(resource["name"] == plural for resource in found)
