"""Who may do what: the token, the rules of access, and the reviews by which a client asks first."""

from __future__ import annotations

import hmac

from aiohttp import web

from pytest_k8snet.lab.api import bodies, status
from pytest_k8snet.lab.api.faults import Faults
from pytest_k8snet.lab.api.objects import Object, dig
from pytest_k8snet.lab.api.status import StatusError
from pytest_k8snet.lab.api.target import Target

USER = "kubernetes-admin"

#: What anyone may read.
OPEN_PATHS = frozenset({"/healthz", "/livez", "/readyz", "/version"})


def authenticate(request: web.Request, token: str) -> None:
    """Let only the holder of the token in.

    Raises:
        StatusError: 401 for a wrong token; 403 for none, as anonymous clients may do nothing.
    """
    header = request.headers.get("Authorization", "")
    if not header:
        if request.path in OPEN_PATHS:
            return
        raise StatusError(
            403,
            "Forbidden",
            f'forbidden: User "system:anonymous" cannot {request.method.lower()} path'
            f' "{request.path}"',
        )
    scheme, _, given = header.partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.encode(), token.encode()):
        raise status.unauthorized()


def authorize(target: Target, faults: Faults) -> None:
    """Refuse what the rules of access forbid at the moment.

    Raises:
        StatusError: 403, naming user, verb, resource and group.
    """
    verb, resource = target.rule
    if faults.allows(verb, resource):
        return
    plural = target.resource.plural
    if target.subresource:
        plural += f"/{target.subresource}"
    if target.namespace:
        scope = f' in the namespace "{target.namespace}"'
    else:
        scope = " at the cluster scope"
    raise status.forbidden(
        target.resource,
        target.name,
        f'User "{USER}" cannot {verb} resource "{plural}" in API group'
        f' "{target.resource.group}"{scope}',
    )


async def review(request: web.Request, target: Target, faults: Faults) -> web.Response:
    """Answer a SelfSubjectAccessReview or a SelfSubjectRulesReview.

    Raises:
        StatusError: 400 or 422, the review cannot be understood.
    """
    body, _ = await bodies.read_object(request, target)
    if target.resource.kind == "SelfSubjectRulesReview":
        body["status"] = {
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
            "incomplete": False,
        }
    else:
        body["status"] = _decision(target, body, faults)
    return bodies.respond(
        {**body, "kind": target.resource.kind, "apiVersion": target.resource.api_version},
        code=201,
    )


def _decision(target: Target, body: Object, faults: Faults) -> Object:
    attributes = dig(body, "spec.resourceAttributes")
    if attributes is None:
        if dig(body, "spec.nonResourceAttributes"):
            return {"allowed": True}
        cause = status.Cause(
            "FieldValueInvalid",
            "spec.resourceAttributes",
            "Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes"
            " must be specified",
        )
        raise status.invalid(target.resource, "", [cause])
    resource = str(attributes.get("resource", ""))
    if attributes.get("group"):
        resource += f".{attributes['group']}"
    if attributes.get("subresource"):
        resource += f"/{attributes['subresource']}"
    return {"allowed": faults.allows(str(attributes.get("verb", "")), resource)}
