"""Which requests a webhook or an admission policy is about: its rules and its selectors, as upstream matches them.

Pure but for the namespace's labels, which come from the store. Configurations of admission themselves are exempt, so
that a bad one can always be taken away.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from atoll.base.errors import NotFound
from atoll.cluster.apiserver.ports import AdmissionRequest, Object
from atoll.cluster.store.port import Key, Store
from atoll.kinds.resource import Resource
from atoll.objects.selectors import LabelSelector

_EXEMPT = frozenset(
    {
        "validatingwebhookconfigurations", "mutatingwebhookconfigurations", "validatingadmissionpolicies",
        "validatingadmissionpolicybindings", "mutatingadmissionpolicies", "mutatingadmissionpolicybindings",
    }
)  # fmt: skip


def is_exempt(request: AdmissionRequest) -> bool:
    """Whether no webhook and no policy may be asked about it."""
    resource = request.resource
    return resource.group == "admissionregistration.k8s.io" and resource.plural in _EXEMPT


def is_namespace(resource: Resource) -> bool:
    return resource.plural == "namespaces" and not resource.group


def namespace_of(request: AdmissionRequest) -> str:
    """The namespace as admission sees it: a Namespace lies in itself."""
    return request.name if is_namespace(request.resource) else request.namespace


def first_match(rules: Iterable[Object], request: AdmissionRequest, resources: Sequence[Resource]) -> Resource | None:
    """The first of `resources` (the requested one, then its equivalents) that an earlier rule matches."""
    for rule in rules:
        for resource in resources:
            if rule_matches(rule, request, resource):
                return resource
    return None


def rule_matches(rule: Object, request: AdmissionRequest, resource: Resource) -> bool:
    """A RuleWithOperations against the request as if it were for `resource`."""
    return (
        _any(rule.get("operations"), request.operation)
        and _any(rule.get("apiGroups"), resource.group)
        and _any(rule.get("apiVersions"), resource.version)
        and _in_scope(rule.get("scope") or "*", resource, namespace_of(request))
        and any(_is_resource(item, resource.plural, request.subresource) for item in rule.get("resources") or ())
    )


def _any(allowed: Sequence[str] | None, asked: str) -> bool:
    return bool(allowed) and any(item in ("*", asked) for item in allowed or ())


def _in_scope(scope: str, resource: Resource, namespace: str) -> bool:
    if scope == "*":
        return True
    inside = bool(namespace) and not is_namespace(resource)
    return inside if scope == "Namespaced" else not inside


def _is_resource(pattern: str, plural: str, subresource: str) -> bool:
    wanted, _, below = pattern.partition("/")
    return wanted in ("*", plural) and below in ("*", subresource)


def namespace_matches(selector: LabelSelector | None, request: AdmissionRequest, store: Store) -> bool:
    """`selector` None: everything. Raises NotFound where the namespace is not there."""
    if selector is None:
        return True
    name = namespace_of(request)
    if not name and not is_namespace(request.resource):
        return True  # what lies in no namespace is never exempted by one
    return selector.matches(namespace_labels(request, store))


def namespace_labels(request: AdmissionRequest, store: Store) -> dict[str, str]:
    """Raises NotFound."""
    written = is_namespace(request.resource) and not request.subresource and request.operation in ("CREATE", "UPDATE")
    if written and request.obj is not None:
        return _labels(request.obj)
    name = namespace_of(request)
    record = store.newest(Key("namespaces", "", name))
    if record is None:
        raise NotFound(f'namespaces "{name}" not found', details={"name": name, "kind": "namespaces"})
    return record.labels


def object_matches(selector: LabelSelector | None, obj: Object | None, old: Object | None) -> bool:
    """Either the new object or the old one is selected; what has no metadata never is."""
    if selector is None:
        return True
    return any(item is not None and "metadata" in item and selector.matches(_labels(item)) for item in (obj, old))


def _labels(obj: Object) -> dict[str, str]:
    return (obj.get("metadata") or {}).get("labels") or {}
