"""status.typeChecking and observedGeneration of ValidatingAdmissionPolicies, as kube-controller-manager keeps them.

The check itself belongs to the API server, which knows the schemas; it is handed in.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from atoll.base.errors import NotFound
from atoll.client.port import Object
from atoll.cluster.workloads.common.context import Context
from atoll.kinds.resource import Resource
from atoll.runtime.controller import Controller

NAME = "validatingadmissionpolicy-status-controller"
_FIELD_MANAGER = "validatingadmissionpolicy-status"
_POLICIES = Resource(
    "admissionregistration.k8s.io", "v1", "validatingadmissionpolicies", "ValidatingAdmissionPolicy", False
)
PolicyCheck = Callable[[Object], list[Object]]
"""A policy → its ExpressionWarnings."""


class PolicyStatusController:
    def __init__(self, context: Context, check: PolicyCheck) -> None:
        self.name = NAME
        self._client = context.client(NAME)
        self._check = check
        self._policies = context.informers.of(_POLICIES)
        self.loop: Controller[str] = Controller(NAME, self._reconcile, wait_for=(self._policies,))
        self._policies.add_handler(self._changed)

    async def run(self) -> None:
        await self.loop.run()

    def _changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None:
            self.loop.queue.add(new["metadata"]["name"])

    async def _reconcile(self, name: str) -> float | None:
        policy = self._policies.get(name)
        if policy is None or _is_current(policy):
            return None
        warnings = self._check(policy)
        status: Object = {
            "observedGeneration": policy["metadata"].get("generation"),
            "typeChecking": {"expressionWarnings": warnings} if warnings else {},
        }
        applied = {
            "apiVersion": _POLICIES.api_version,
            "kind": _POLICIES.kind,
            "metadata": {"name": name},
            "status": status,
        }
        with suppress(NotFound):  # deleted meanwhile
            await self._client.apply(_POLICIES, applied, subresource="status", field_manager=_FIELD_MANAGER)
        return None


def _is_current(policy: Object) -> bool:
    observed = (policy.get("status") or {}).get("observedGeneration") or 0
    return bool((policy["metadata"].get("generation") or 0) <= observed)
