"""The roles of docs/rbac.yaml, enforced on a store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from store_api import StoreApi

from pytest_k8snet.cluster.api_errors import Target, parse
from pytest_k8snet.errors import ForbiddenError

RBAC = Path(__file__).parents[3] / "docs" / "rbac.yaml"
ROLES = {
    role["metadata"]["name"]: role["rules"]
    for role in yaml.safe_load_all(RBAC.read_text(encoding="utf-8"))
}


def grants(rule: dict[str, Any], target: Target) -> bool:
    resource = target.resource + (f"/{target.subresource}" if target.subresource else "")
    return (
        target.group in rule["apiGroups"]
        and resource in rule["resources"]
        and target.verb in rule["verbs"]
        and target.name in rule.get("resourceNames", [target.name])
    )


def enforce(api: StoreApi, *roles: str) -> list[str]:
    """Answer what these roles don't grant with 403; returns the list of what was refused."""
    refused: list[str] = []

    def refuse(method: str, path: str) -> None:
        target = parse(method, path)
        if not any(grants(rule, target) for role in roles for rule in ROLES[role]):
            refused.append(f"{target.verb} {target}")
            raise ForbiddenError(f"user may not {target.verb} {target}", status=403)

    api.refuse = refuse
    return refused
