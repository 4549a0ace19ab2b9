"""The parameters of a policy's binding: objects of the policy's paramKind, by name or selector (CollectParams)."""

from __future__ import annotations

from collections.abc import Sequence

from atoll.cluster.apiserver.admission.policies.model import Binding, Policy
from atoll.cluster.apiserver.ports import Object
from atoll.cluster.apiserver.served import Registry, Served
from atoll.cluster.store.port import Store
from atoll.objects.selectors import from_object


class Misconfigured(Exception):
    """The policy or binding can't be asked; the failure policy says what that means."""


class Parameters:
    def __init__(self, store: Store, registry: Registry) -> None:
        self._store = store
        self._registry = registry

    def kind_of(self, policy: Policy) -> Served | None:
        """What serves the policy's paramKind; None where it has none. Raises Misconfigured."""
        kind = policy.param_kind
        if kind is None:
            return None
        version, name = kind.get("apiVersion") or "", kind.get("kind") or ""
        served = self._registry.of_kind(version, name)
        if served is None:
            group, _, plain = version.rpartition("/")
            told = f"{group}/{plain}, Kind={name}"
            raise Misconfigured(f"failed to find resource referenced by paramKind: '{told}'")
        return served

    def collect(self, policy: Policy, binding: Binding, namespace: str) -> Sequence[Object | None]:
        """The params to evaluate with, one after another; [None]: evaluate without. Raises Misconfigured."""
        served = self.kind_of(policy)
        reference = binding.param_ref
        if served is None or reference is None:
            return (None,)
        within = ""
        if served.resource.namespaced:
            within = reference.get("namespace") or namespace
            if not within:
                why = "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"
                raise Misconfigured(why)
        elif reference.get("namespace"):
            raise Misconfigured("paramRef.namespace must not be provided for a cluster-scoped `paramKind`")
        found = self._find(served, reference, within)
        if not found and reference.get("parameterNotFoundAction") == "Deny":
            raise Misconfigured("no params found for policy binding with `Deny` parameterNotFoundAction")
        return found

    def _find(self, served: Served, reference: Object, within: str) -> list[Object]:
        name = reference.get("name") or ""
        if name:
            record = self._store.get(served.key(within, name))
            return [] if record is None else [served.present(record)]
        if reference.get("selector") is None:
            raise Misconfigured("one of name or selector must be provided")
        selector = from_object(reference["selector"])
        records = self._store.scan(served.store_resource, within or None)
        return [served.present(record) for record in records if selector.matches(record.labels)]
