"""The two plugins as the chain has them: CEL and all that is around it are loaded by the first binding there is."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from atoll.cluster.apiserver.admission.versions import Versions
from atoll.cluster.apiserver.ports import AdmissionRequest, Authorizer, User
from atoll.cluster.apiserver.served import Registry
from atoll.cluster.store.port import Store

if TYPE_CHECKING:
    from atoll.cluster.apiserver.admission.policies.mutating import MutatingPolicies
    from atoll.cluster.apiserver.admission.policies.validating import ValidatingPolicies

_BINDINGS = "admissionpolicybindings.admissionregistration.k8s.io"


class Policies:
    """Both plugins, over one store: `mutate` and `validate` at their places of the chain."""

    def __init__(self, store: Store, registry: Registry, authorizer: Authorizer | None) -> None:
        self._store = store
        self._registry = registry
        self._authorizer = authorizer
        self._validating: ValidatingPolicies | None = None
        self._mutating: MutatingPolicies | None = None

    @property
    def resources(self) -> None:
        return None

    def depends_on(self, user: User) -> tuple[str, ...] | None:
        """Once there is a binding, each request must be looked at."""
        kinds = ("validating" + _BINDINGS, "mutating" + _BINDINGS)
        if any(self._store.last_change(kind) and self._store.scan(kind) for kind in kinds):
            return None
        return kinds

    def validate(self, request: AdmissionRequest) -> Awaitable[None] | None:
        if not self._store.last_change("validating" + _BINDINGS):
            return None
        return (self._validating or self._load()[0]).validate(request)

    def mutate(self, request: AdmissionRequest) -> Awaitable[None] | None:
        if not self._store.last_change("mutating" + _BINDINGS):
            return None
        return (self._mutating or self._load()[1]).mutate(request)

    def _load(self) -> tuple[ValidatingPolicies, MutatingPolicies]:
        from atoll.cluster.apiserver.admission.policies.matched import Matcher
        from atoll.cluster.apiserver.admission.policies.model import Configured
        from atoll.cluster.apiserver.admission.policies.mutating import MutatingPolicies
        from atoll.cluster.apiserver.admission.policies.params import Parameters
        from atoll.cluster.apiserver.admission.policies.validating import ValidatingPolicies

        parameters = Parameters(self._store, self._registry)
        matcher = Matcher(self._store, Versions(self._registry), parameters, self._authorizer)
        self._validating = ValidatingPolicies(Configured(self._store, "validating"), matcher)
        self._mutating = MutatingPolicies(Configured(self._store, "mutating"), matcher, self._registry)
        return self._validating, self._mutating
