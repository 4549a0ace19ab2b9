"""Nobody grants what he does not hold (RBAC privilege escalation prevention).

Writing a role needs every permission in it, or the verb `escalate` on it; writing a binding needs every
permission of the role it names, or the verb `bind` on that role. Follows
https://kubernetes.io/docs/reference/access-authn-authz/rbac/#privilege-escalation-prevention-and-bootstrapping
"""

from __future__ import annotations

import itertools
import json
from typing import Any

from atoll.base.errors import Forbidden, NotFound
from atoll.cluster.apiserver.access.rbac import RbacAuthorizer, Rule
from atoll.cluster.apiserver.ports import AdmissionRequest, Attributes, Authorizer, User, decide

Object = dict[str, Any]
_GROUP = "rbac.authorization.k8s.io"
_EVERYTHING: list[Object] = [
    {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
    {"nonResourceURLs": ["*"], "verbs": ["*"]},
]


async def check(rbac: RbacAuthorizer, authorizer: Authorizer, request: AdmissionRequest) -> None:
    """Raises Forbidden if the write would grant more than the user holds. `authorizer`: who may escalate and bind."""
    obj = request.obj
    if request.resource.group != _GROUP or request.operation == "DELETE" or obj is None or request.subresource:
        return
    user = request.user
    if "system:masters" in user.groups:
        return
    if request.resource.plural in ("roles", "clusterroles"):
        await _check_role(rbac, authorizer, request, obj)
    else:
        await _check_binding(rbac, authorizer, request, obj)


async def _may(authorizer: Authorizer, request: AdmissionRequest, verb: str, plural: str, name: str) -> bool:
    asked = Attributes(
        request.user, verb, _GROUP, request.resource.version, plural, namespace=request.namespace, name=name
    )
    return (await decide(authorizer, asked)).allowed


async def _check_role(rbac: RbacAuthorizer, authorizer: Authorizer, request: AdmissionRequest, obj: Object) -> None:
    old = request.old or {}
    same_rules = (obj.get("rules") or []) == (old.get("rules") or [])
    if request.old and same_rules and obj.get("aggregationRule") == old.get("aggregationRule"):
        return
    if await _may(authorizer, request, "escalate", request.resource.plural, request.name):
        return
    missing = _missing(rbac, request.user, request.namespace, obj.get("rules") or [])
    if missing:
        raise _forbidden(request, _grant_message(request.user, missing))
    if obj.get("aggregationRule") and _missing(rbac, request.user, request.namespace, _EVERYTHING):
        raise _forbidden(request, "must have cluster-admin privileges to use the aggregationRule")


async def _check_binding(rbac: RbacAuthorizer, authorizer: Authorizer, request: AdmissionRequest, obj: Object) -> None:
    old = request.old or {}
    if request.old and obj.get("subjects") == old.get("subjects") and obj.get("roleRef") == old.get("roleRef"):
        return
    ref = obj.get("roleRef") or {}
    kind, name = str(ref.get("kind")), str(ref.get("name"))
    plural = "clusterroles" if kind == "ClusterRole" else "roles"
    if await _may(authorizer, request, "bind", plural, name):
        return
    rules = rbac.role_rules(kind, name, request.namespace)
    if rules is None:
        raise NotFound(f'{plural}.{_GROUP} "{name}" not found', details={"name": name, "group": _GROUP, "kind": plural})
    missing = _missing(rbac, request.user, request.namespace, rules)
    if missing:
        raise _forbidden(request, _grant_message(request.user, missing))


def _forbidden(request: AdmissionRequest, why: str) -> Forbidden:
    resource = request.resource
    return Forbidden(
        f'{resource.group_resource} "{request.name}" is forbidden: {why}',
        details={"name": request.name, "group": resource.group, "kind": resource.plural},
    )


def _grant_message(user: User, missing: list[Object]) -> str:
    groups = "[" + " ".join(json.dumps(group) for group in user.groups) + "]"
    lines = sorted({_compact(rule) for rule in missing})
    return (
        f"user {json.dumps(user.name)} (groups={groups}) is attempting to grant RBAC permissions not currently held:\n"
        + "\n".join(lines)
    )


def _missing(rbac: RbacAuthorizer, user: User, namespace: str, wanted: list[Object]) -> list[Object]:
    """The parts of `wanted` that no rule of the user covers, merged back per rule."""
    held = [rule for rule, _ in rbac.rules_for(user, namespace)]
    missing: list[Object] = []
    for rule in wanted:
        atoms = [atom for atom in _atoms(rule) if not any(_covers(own, atom) for own in held)]
        missing += _merge(atoms)
    return missing


def _atoms(rule: Object) -> list[Object]:
    verbs = rule.get("verbs") or []
    atoms: list[Object] = []
    resources = itertools.product(rule.get("apiGroups") or [], rule.get("resources") or [], verbs)
    for group, resource, verb in resources:
        for name in rule.get("resourceNames") or [None]:
            atom = {"apiGroups": [group], "resources": [resource], "verbs": [verb]}
            atoms.append({**atom, "resourceNames": [name]} if name is not None else atom)
    for path, verb in itertools.product(rule.get("nonResourceURLs") or [], verbs):
        atoms.append({"nonResourceURLs": [path], "verbs": [verb]})
    return atoms


def _covers(own: Rule, atom: Object) -> bool:
    if "*" not in own.verbs and atom["verbs"][0] not in own.verbs:
        return False
    if "nonResourceURLs" in atom:
        path = atom["nonResourceURLs"][0]
        return any(p in ("*", path) or (p.endswith("*") and path.startswith(p[:-1])) for p in own.paths)
    if "*" not in own.groups and atom["apiGroups"][0] not in own.groups:
        return False
    resource = atom["resources"][0]
    sub = "*/" + resource.split("/", 1)[1] if "/" in resource else None
    if "*" not in own.resources and resource not in own.resources and sub not in own.resources:
        return False
    names = atom.get("resourceNames")
    return not own.names or (names is not None and names[0] in own.names)


def _merge(atoms: list[Object]) -> list[Object]:
    """Atoms that differ in the verb only become one rule again, as upstream's CompactRules."""
    merged: dict[str, Object] = {}
    for atom in atoms:
        key = json.dumps({field: value for field, value in atom.items() if field != "verbs"}, sort_keys=True)
        if key in merged:
            merged[key]["verbs"] = merged[key]["verbs"] + atom["verbs"]
        else:
            merged[key] = dict(atom)
    return list(merged.values())


def _compact(rule: Object) -> str:
    parts = []
    for label, field in (
        ("APIGroups", "apiGroups"),
        ("Resources", "resources"),
        ("NonResourceURLs", "nonResourceURLs"),
        ("ResourceNames", "resourceNames"),
        ("Verbs", "verbs"),
    ):
        if rule.get(field):
            parts.append(f"{label}:[" + " ".join(json.dumps(value) for value in rule[field]) + "]")
    return "{" + ", ".join(parts) + "}"
