"""Strategic merge patch: merge patch that knows which lists are keyed."""

from __future__ import annotations

from pytest_k8snet.lab.api.objects import Object


def strategic_merge(obj: Object, patch: Object, kind: str) -> Object:
    from pytest_k8snet.lab.api.patch import merge

    return merge(obj, patch)
