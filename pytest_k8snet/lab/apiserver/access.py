"""Who may do what: tokens, RBAC, and the reviews of both.

The lab's own token is that of a member of ``system:masters``, who may do everything. RBAC rules
those whom that user impersonates (``kubectl --as``), service accounts (``kubectl create token``)
and who has no token at all; the fault ``forbid`` rules everybody.
"""

from __future__ import annotations

import hmac
import math
import secrets
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from aiohttp import web

from pytest_k8snet.lab.api import status
from pytest_k8snet.lab.api.objects import Object, dig, timestamp
from pytest_k8snet.lab.api.request import Target, match_labels
from pytest_k8snet.lab.api.status import StatusError
from pytest_k8snet.lab.api.store import Store
from pytest_k8snet.lab.apiserver.body import read_data, respond
from pytest_k8snet.lab.faults import ApiFaults

#: What nobody is asked about: the default of kube-apiserver's --authorization-always-allow-paths.
_ALWAYS_ALLOWED = frozenset({"/healthz", "/livez", "/readyz"})
_RBAC = "rbac.authorization.k8s.io"


@dataclass(frozen=True, slots=True)
class User:
    """Whom a request is made for."""

    name: str
    groups: tuple[str, ...]
    uid: str = ""


_ADMIN = User("kubernetes-admin", ("system:masters", "system:authenticated"))
_ANONYMOUS = User("system:anonymous", ("system:unauthenticated",))


class Tokens:
    """Who is who: the administrator's token, and those of service accounts.

    Args:
        token: the administrator's.
    """

    def __init__(self, token: str) -> None:
        self._token = token
        self._issued: dict[str, tuple[User, float]] = {}

    def authenticate(self, request: web.Request) -> User:
        """Who the request is made for.

        Raises:
            StatusError: 401 for a wrong token; 403 for who is no administrator and impersonates
                somebody.
        """
        header = request.headers.get("Authorization", "")
        if not header:
            return _ANONYMOUS
        scheme, _, given = header.partition(" ")
        user = self._holder(given) if scheme.lower() == "bearer" else None
        if user is None:
            raise status.unauthorized()
        name = request.headers.get("Impersonate-User", "")
        if not name:
            return user
        if user is not _ADMIN:
            why = f'users "{name}" is forbidden: User "{user.name}" cannot impersonate'
            raise StatusError(403, "Forbidden", f'{why} resource "users" in API group ""')
        return _user(name, request.headers.getall("Impersonate-Group", []))

    def review(self, body: Object) -> Object:
        """Say whose token one is: answer a TokenReview."""
        user = self._holder(str(dig(body, "spec.token", "")))
        found: Object = {"user": {}}
        if user is not None:
            who = {"username": user.name, "groups": list(user.groups)}
            found = {"authenticated": True, "user": who | ({"uid": user.uid} if user.uid else {})}
        kind = {"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1"}
        return {**kind, **body, "status": found}

    def _holder(self, token: str) -> User | None:
        """Whose token it is; None for one that is not, or no longer, valid."""
        user, ends = self._issued.get(token, (_ADMIN, math.inf))
        issued = token in self._issued and time.monotonic() < ends
        if issued or hmac.compare_digest(token.encode(), self._token.encode()):
            return user
        return None

    async def issue(self, request: web.Request, store: Store, target: Target) -> web.Response:
        """Make a token for a service account: answer a TokenRequest.

        Raises:
            StatusError: 404, there is no such account; 422, the token would live too shortly.
        """
        account = store.get(target.resource, target.name, target.namespace)
        body = await read_data(request) or {}
        seconds = int(dig(body, "spec.expirationSeconds", 3600))
        if seconds < 600:
            why = f"Invalid value: {seconds}: may not specify a duration less than 10 minutes"
            cause = status.Cause("FieldValueInvalid", "spec.expirationSeconds", why)
            raise status.invalid(target.resource, target.name, [cause])
        token = secrets.token_urlsafe(32)
        name = f"system:serviceaccount:{target.namespace}:{target.name}"
        user = _user(name, uid=str(account["metadata"]["uid"]))
        self._issued[token] = user, time.monotonic() + seconds
        ends = timestamp(after_seconds=seconds)
        answer: Object = {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {"name": target.name, "namespace": target.namespace},
            "spec": {**dig(body, "spec", {}), "expirationSeconds": seconds},
            "status": {"token": token, "expirationTimestamp": ends},
        }
        return respond(answer, code=201)


def _user(name: str, groups: Iterable[str] = (), uid: str = "") -> User:
    found = list(groups)
    if name.startswith("system:serviceaccount:"):
        namespace = name.split(":")[2]
        found += ["system:serviceaccounts", f"system:serviceaccounts:{namespace}"]
    return User(name, (*found, "system:authenticated"), uid)


class Access:
    """What the rules of access allow a user.

    Args:
        store: has the roles and bindings.
        faults: what is forbidden to everybody at the moment.
        user: whom it is about.
    """

    def __init__(self, store: Store, faults: ApiFaults, user: User) -> None:
        self._store = store
        self._faults = faults
        self._user = user

    def allows(self, verb: str, group: str, resource: str, namespace: str, name: str) -> bool:
        """Whether the user may do this; the resource may be one like ``pods/exec``."""
        return self._why(verb, group, resource, namespace, name) is not None

    def _why(self, verb: str, group: str, resource: str, namespace: str, name: str) -> str | None:
        """What allows the user to do this, in RBAC's words; None when nothing does."""
        plural, slash, subresource = resource.partition("/")
        qualified = f"{plural}.{group}" if group else plural
        if not self._faults.allows(verb, f"{qualified}{slash}{subresource}"):
            return None
        if "system:masters" in self._user.groups:
            return ""
        for rule, why in self._granted(namespace):
            if (
                {"*", verb} & set(rule.get("verbs") or [])
                and {"*", group} & set(rule.get("apiGroups") or [])
                and {"*", resource, f"*/{subresource}"} & set(rule.get("resources") or [])
                and (not rule.get("resourceNames") or name in rule["resourceNames"])
            ):
                return why
        return None

    def _allows_path(self, verb: str, path: str) -> bool:
        """Whether the user may ask for a path that leads to no resource."""
        if "system:masters" in self._user.groups or path in _ALWAYS_ALLOWED:
            return True
        return any(
            {"*", verb} & set(rule.get("verbs") or [])
            and any(
                path == url or (url.endswith("*") and path.startswith(url[:-1]))
                for url in rule.get("nonResourceURLs") or []
            )
            for rule, _ in self._granted("")
        )

    def rules(self, namespace: str) -> list[Object]:
        """Every PolicyRule that holds for the user in a namespace."""
        return [rule for rule, _ in self._granted(namespace)]

    def _granted(self, namespace: str) -> Iterator[tuple[Object, str]]:
        """Each rule that holds for the user, and what grants it."""
        bindings = self._store.list(f"clusterrolebindings.{_RBAC}")
        if namespace:
            bindings += self._store.list(f"rolebindings.{_RBAC}", namespace)
        for binding in bindings:
            for subject in filter(self._is, binding.get("subjects") or []):
                role, where = binding["roleRef"], binding["metadata"].get("namespace")
                name = subject["name"]
                if subject["kind"] == "ServiceAccount":
                    name = f"{name}/{subject.get('namespace', '')}"
                why = (
                    f"RBAC: allowed by {'RoleBinding' if where else 'ClusterRoleBinding'}"
                    f' "{binding["metadata"]["name"]}{f"/{where}" if where else ""}"'
                    f' of {role["kind"]} "{role["name"]}" to {subject["kind"]} "{name}"'
                )
                for rule in self._role(role, namespace):
                    yield rule, why

    def _is(self, subject: Object) -> bool:
        if subject["kind"] == "Group":
            return subject["name"] in self._user.groups
        if subject["kind"] == "ServiceAccount":
            whole = f"system:serviceaccount:{subject.get('namespace', '')}:{subject['name']}"
            return whole == self._user.name
        return bool(subject["name"] == self._user.name)

    def _role(self, reference: Object, namespace: str) -> list[Object]:
        resource = f"{reference['kind'].lower()}s.{_RBAC}"
        where = namespace if reference["kind"] == "Role" else None
        if not self._store.has(resource, reference["name"], where):
            return []
        role = self._store.get(resource, reference["name"], where)
        found: list[Object] = list(role.get("rules") or [])
        for selector in dig(role, "aggregationRule.clusterRoleSelectors", []):
            for other in self._store.list(resource):
                if match_labels(selector, dig(other, "metadata.labels", {})):
                    found += other.get("rules") or []
        return found

    def check(self, target: Target) -> None:
        """Refuse what the rules of access forbid.

        Raises:
            StatusError: 403, naming user, verb, resource and group.
        """
        group, plural = target.resource.group, target.resource.plural
        if target.subresource:
            plural += f"/{target.subresource}"
        # A namespace is within itself.
        namespace = target.name if target.resource.key == "namespaces" else target.namespace
        if self.allows(target.verb, group, plural, namespace, target.name):
            return
        scope = f'in the namespace "{namespace}"' if namespace else ""
        raise status.forbidden(
            target.resource,
            target.name,
            f'User "{self._user.name}" cannot {target.verb} resource "{plural}" in API group'
            f' "{group}" {scope or "at the cluster scope"}',
        )

    def check_path(self, verb: str, path: str) -> None:
        """Refuse a path that leads to no resource, and that the user may not ask for.

        Raises:
            StatusError: 403, naming user, verb and path.
        """
        if not self._allows_path(verb, path):
            why = f'forbidden: User "{self._user.name}" cannot {verb} path "{path}"'
            raise StatusError(403, "Forbidden", why, {})

    def review(self, target: Target, body: Object) -> Object:
        """A review of the user, answered.

        Raises:
            StatusError: 422, the review cannot be understood.
        """
        answer = {**body, "kind": target.resource.kind, "apiVersion": target.resource.api_version}
        if target.resource.kind == "SelfSubjectReview":
            who: Object = {"username": self._user.name}
            if self._user.uid:
                who["uid"] = self._user.uid
            meta = {"creationTimestamp": timestamp()}
            return {**answer, "metadata": meta, "status": {"userInfo": who | self._credentials()}}
        if target.resource.kind == "SelfSubjectRulesReview":
            granted = self.rules(dig(body, "spec.namespace", ""))
            found: Object = {
                "resourceRules": [rule for rule in granted if rule.get("resources")],
                "nonResourceRules": [
                    {key: rule[key] for key in ("verbs", "nonResourceURLs")}
                    for rule in granted
                    if rule.get("nonResourceURLs")
                ],
                "incomplete": False,
            }
            return {**answer, "spec": {}, "status": found}
        return {**answer, "status": self._access(target, body)}

    def _credentials(self) -> Object:
        mark = "JTI" if self._user.uid else "TOKEN"
        extra = {"authentication.kubernetes.io/credential-id": [f"{mark}={self._user.name}"]}
        return {"groups": list(self._user.groups), "extra": extra}

    def _access(self, target: Target, body: Object) -> Object:
        """Whether the user may do what a SelfSubjectAccessReview asks for, and why."""
        attributes = dig(body, "spec.resourceAttributes")
        path = dig(body, "spec.nonResourceAttributes")
        if (attributes is None) == (path is None):
            cause = status.Cause(
                "FieldValueInvalid",
                "spec.resourceAttributes",
                "Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes"
                " must be specified",
            )
            raise status.invalid(target.resource, "", [cause])
        if attributes is None:
            return {"allowed": self._allows_path(path.get("verb", ""), path.get("path", ""))}
        words = {key: str(attributes.get(key) or "") for key in _REVIEWED}
        resource = words["resource"]
        if words["subresource"]:
            resource += f"/{words['subresource']}"
        why = self._why(words["verb"], words["group"], resource, words["namespace"], words["name"])
        if why is None:
            return {"allowed": False}
        return {"allowed": True, "reason": why} if why else {"allowed": True}


_REVIEWED = ("verb", "group", "resource", "subresource", "namespace", "name")
