"""Which policies and bindings a request is about, and the values that their expressions see."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from atoll.base.errors import NotFound
from atoll.cluster.apiserver.admission import matching
from atoll.cluster.apiserver.admission.policies.model import Binding, Constraints, Policy
from atoll.cluster.apiserver.admission.policies.params import Misconfigured, Parameters
from atoll.cluster.apiserver.admission.versions import Versions
from atoll.cluster.apiserver.expressions import admission
from atoll.cluster.apiserver.ports import AdmissionRequest, Authorizer, Object
from atoll.cluster.store.port import Key, Store
from atoll.kinds.resource import Resource


@dataclass(frozen=True, slots=True)
class Invocation:
    """A policy to evaluate for a request: with one binding and one param, on the matched version."""

    policy: Policy
    binding: Binding
    resource: Resource
    param: Object | None


@dataclass(frozen=True, slots=True)
class Fault:
    """A policy (`binding` None) or binding that can't be asked."""

    policy: Policy
    binding: Binding | None
    why: str


class Matcher:
    def __init__(self, store: Store, versions: Versions, parameters: Parameters, authorizer: Authorizer | None) -> None:
        self._store = store
        self._parameters = parameters
        self._authorizer = authorizer
        self.versions = versions

    def invocations(self, policies: tuple[Policy, ...], request: AdmissionRequest) -> Iterator[Invocation | Fault]:
        """In the order of policies and bindings."""
        for policy in policies:
            try:
                resource = self._matched(policy.constraints, request)
                if resource is None:
                    continue
                self._parameters.kind_of(policy)
            except (Misconfigured, NotFound) as error:
                yield Fault(policy, None, f"failed to configure policy: {error}")
                continue
            for binding in policy.bindings:
                yield from self._bound(policy, binding, resource, request)

    def _bound(
        self, policy: Policy, binding: Binding, resource: Resource, request: AdmissionRequest
    ) -> Iterator[Invocation | Fault]:
        try:
            if binding.constraints is not None and self._matched(binding.constraints, request) is None:
                return
            params = self._parameters.collect(policy, binding, matching.namespace_of(request))
        except (Misconfigured, NotFound) as error:
            yield Fault(policy, binding, f"failed to configure binding: {error}")
            return
        for param in params:
            yield Invocation(policy, binding, resource, param)

    def _matched(self, constraints: Constraints, request: AdmissionRequest) -> Resource | None:
        """The resource as which the request matches. Raises NotFound: its namespace is not there."""
        resources = self.versions.resources(request, constraints.equivalent)
        if not constraints.rules:
            found: Resource | None = request.resource
        else:
            found = _first(constraints.rules, request, resources)
        if found is None or _first(constraints.excluded, request, resources) is not None:
            return None
        if not matching.object_matches(constraints.objects, request.obj, request.old):
            return None
        return found if matching.namespace_matches(constraints.namespaces, request, self._store) else None

    async def names(self, invocation: Invocation, request: AdmissionRequest, *, mutating: bool) -> dict[str, Any]:
        """The variables of the policy's expressions, but for the composed ones."""
        resource = invocation.resource
        obj, old = await self.versions.show(request, resource, mutating=mutating)
        names = admission.bindings(
            request,
            namespace=self._namespace(request),
            authorizer=self._authorizer,
            params=invocation.param,
            resource=resource,
            kind=self.versions.kind_of(request, resource),
        )
        names["object"], names["oldObject"] = obj, old
        return names

    def _namespace(self, request: AdmissionRequest) -> Object | None:
        if not request.namespace or matching.is_namespace(request.resource):
            return None
        record = self._store.newest(Key("namespaces", "", request.namespace))
        return None if record is None else record.object


def _first(rules: Any, request: AdmissionRequest, resources: list[Resource]) -> Resource | None:
    """Of rules with resourceNames: one with names matches only these."""
    named = [rule for rule in rules if not rule.get("resourceNames") or request.name in rule["resourceNames"]]
    return matching.first_match(named, request, resources)
