"""The MutatingAdmissionPolicy plugin: policies change the object one after another, each seeing what those before it
did, and are asked again when later ones (or webhooks) changed it (mutating/dispatcher.go).
"""

from __future__ import annotations

from collections.abc import Awaitable
from functools import partial
from typing import Any

import orjson

from atoll.base.errors import ApiError, BadRequest, Forbidden, Invalid, ServerError
from atoll.cluster.apiserver.admission.errors import forbidden
from atoll.cluster.apiserver.admission.matching import is_exempt
from atoll.cluster.apiserver.admission.policies.evaluation import OutOfBudget, Run, matches
from atoll.cluster.apiserver.admission.policies.matched import Fault, Invocation, Matcher
from atoll.cluster.apiserver.admission.policies.model import Configured, Expression, Policy
from atoll.cluster.apiserver.admission.policies.patching import PatchFailed, apply_configuration, json_patch
from atoll.cluster.apiserver.admission.reinvocation import Reinvocation, reinvocation
from atoll.cluster.apiserver.expressions.asking import settled
from atoll.cluster.apiserver.expressions.environment import BUDGET
from atoll.cluster.apiserver.ports import AdmissionRequest, Object
from atoll.cluster.apiserver.served import Registry
from atoll.kinds.nodes import SchemaNode
from atoll.kinds.resource import Resource

_NAME = "MutatingAdmissionPolicy"


class MutatingPolicies:
    resources = None

    def __init__(self, configured: Configured, matcher: Matcher, registry: Registry) -> None:
        self._configured = configured
        self._matcher = matcher
        self._registry = registry

    def mutate(self, request: AdmissionRequest) -> Awaitable[None] | None:
        policies = self._configured.current()
        if not policies or request.operation == "DELETE" or is_exempt(request):
            return None
        return self._all(policies, request)

    async def _all(self, policies: tuple[Policy, ...], request: AdmissionRequest) -> None:
        memory = reinvocation(request, _NAME)
        memory.begin(request)
        refused: list[tuple[str, str]] = []
        for found in list(self._matcher.invocations(policies, request)):
            if isinstance(found, Fault):
                _refuse(refused, found.policy, found.binding.name if found.binding else None, found.why, "")
                continue
            for why in await self._one(found, request, memory):
                _refuse(refused, found.policy, found.binding.name, why, "Invalid")
        memory.end(request.obj)
        if refused:
            raise _refusal(request, refused)

    async def _one(self, found: Invocation, request: AdmissionRequest, memory: Reinvocation) -> list[str]:
        """What went wrong. Carries the policy's mutations out on the request's object."""
        policy = found.policy
        names = await self._matcher.names(found, request, mutating=True)
        match = await settled(partial(matches, policy, names))
        if match.error:
            return [match.error]
        if not match.matched:
            return []
        param = (found.param or {}).get("metadata") or {}
        key = (policy.name, found.binding.name, param.get("namespace", ""), param.get("name", ""))
        if memory.skips(request, key):
            return []
        faults = []
        changed = False
        for mutation in policy.mutations:
            if names["object"] is None:
                continue
            try:
                obj = await settled(partial(self._mutated, policy, mutation, names, found.resource))
            except (PatchFailed, OutOfBudget) as error:
                faults.append(str(error))
                continue
            if obj is not None and orjson.dumps(obj) != orjson.dumps(names["object"]):
                changed = True
                await self._take(found, request, obj)
                names = await self._matcher.names(found, request, mutating=True)
        if changed:
            memory.changed(request)
        if policy.reinvoked:
            memory.invoked.add(key)
        return faults

    def _mutated(
        self, policy: Policy, mutation: Expression, names: dict[str, Any], resource: Resource
    ) -> Object | None:
        if mutation.program is None:
            raise PatchFailed(mutation.error)
        value, error = Run(policy, names, BUDGET).evaluate(mutation)
        if error:
            raise PatchFailed(error)
        if mutation.data.get("patchType") == "JSONPatch":
            return json_patch(names["object"], value)
        return apply_configuration(names["object"], value, self._schema(names["object"], resource))

    def _schema(self, obj: Object, resource: Resource) -> SchemaNode | None:
        served = self._registry.of_kind(obj.get("apiVersion", ""), obj.get("kind", "")) or self._registry.of(resource)
        return None if served is None else served.schema

    async def _take(self, found: Invocation, request: AdmissionRequest, obj: Object) -> None:
        try:
            await self._matcher.versions.take(request, found.resource, orjson.loads(orjson.dumps(obj)))
        except BadRequest as error:
            why = error.message.rpartition(" cannot be handled as a ")[2].partition(": ")[2] or error.message
            raise ServerError(f"Internal error occurred: {why}", details={"causes": [{"message": why}]}) from None


def _refuse(refused: list[tuple[str, str]], policy: Policy, binding: str | None, why: str, reason: str) -> None:
    if policy.failure_policy == "Ignore":
        return
    if binding:
        message = f"policy '{policy.name}' with binding '{binding}' denied request: {why}"
    else:
        message = f'policy "{policy.name}" denied request: {why}'
    refused.append((message, reason))


def _refusal(request: AdmissionRequest, refused: list[tuple[str, str]]) -> ApiError:
    """Upstream changes the reason but not the code, which stays 403."""
    message, reason = refused[0]
    like = forbidden(request, "", [{"message": told} for told, _ in refused])
    error = Forbidden(message, details=like.details)
    if reason:
        error.reason = Invalid.reason
    return error
