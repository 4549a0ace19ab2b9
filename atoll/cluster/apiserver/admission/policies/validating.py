"""The ValidatingAdmissionPolicy plugin: denies, warns and audits as the bindings say (dispatcher.go)."""

from __future__ import annotations

from collections.abc import Awaitable
from functools import partial
from typing import Any

import orjson

from atoll.base.errors import ApiError, Forbidden, Invalid, TooLarge, Unauthorized
from atoll.cluster.apiserver.admission.errors import forbidden
from atoll.cluster.apiserver.admission.matching import is_exempt
from atoll.cluster.apiserver.admission.policies.evaluation import Denial, Verdict, validate
from atoll.cluster.apiserver.admission.policies.matched import Fault, Invocation, Matcher
from atoll.cluster.apiserver.admission.policies.model import Configured, Policy
from atoll.cluster.apiserver.expressions.asking import settled
from atoll.cluster.apiserver.ports import AdmissionRequest

_FAILURE_KEY = "validation.policy.admission.k8s.io/validation_failure"
_LONGEST_ANNOTATION = 10 * 1024
_CLASSES: dict[str, type[ApiError]] = {
    "Forbidden": Forbidden,
    "Unauthorized": Unauthorized,
    "RequestEntityTooLarge": TooLarge,
    "Invalid": Invalid,
}


class ValidatingPolicies:
    resources = None

    def __init__(self, configured: Configured, matcher: Matcher) -> None:
        self._configured = configured
        self._matcher = matcher

    def validate(self, request: AdmissionRequest) -> Awaitable[None] | None:
        policies = self._configured.current()
        return self._all(policies, request) if policies and not is_exempt(request) else None

    async def _all(self, policies: tuple[Policy, ...], request: AdmissionRequest) -> None:
        """Raises the first denial."""
        denied: list[tuple[str, str]] = []  # (message, reason)
        annotations: dict[str, list[str]] = {}
        for found in self._matcher.invocations(policies, request):
            if isinstance(found, Fault):
                if found.policy.failure_policy != "Ignore":
                    denied.append(
                        (_denied(found.policy.name, found.binding.name if found.binding else None, found.why), "")
                    )
                continue
            names = await self._matcher.names(found, request, mutating=False)
            verdict = await settled(partial(validate, found.policy, names))
            denied += self._act(found, verdict, request)
            for key, value in verdict.annotations.items():
                values = annotations.setdefault(f"{found.policy.name}/{key}", [])
                if value[:_LONGEST_ANNOTATION] not in values:
                    values.append(value[:_LONGEST_ANNOTATION])
        for key, values in annotations.items():
            request.annotate(key, ", ".join(values))
        if denied:
            raise _refusal(request, *denied[0])

    def _act(self, found: Invocation, verdict: Verdict, request: AdmissionRequest) -> list[tuple[str, str]]:
        policy, binding = found.policy.name, found.binding
        denied = []
        for denial in verdict.denials:
            for action in binding.actions:
                if action == "Deny":
                    denied.append((_denied(policy, binding.name, denial.message), denial.reason))
                elif action == "Warn":
                    named = f"'{policy}' with binding '{binding.name}'"
                    request.warnings.append(
                        f"Validation failed for ValidatingAdmissionPolicy {named}: {denial.message}"
                    )
                elif action == "Audit":
                    request.annotate(_FAILURE_KEY, _failure(found, denial))
        denied += [(_denied(policy, binding.name, why), "") for why in verdict.annotation_errors]
        return denied


def _failure(found: Invocation, denial: Denial) -> str:
    told: dict[str, Any] = {
        "message": denial.message,
        "policy": found.policy.name,
        "binding": found.binding.name,
        "expressionIndex": denial.index,
        "validationActions": list(found.binding.actions),
    }
    return orjson.dumps([told]).decode()


def _denied(policy: str, binding: str | None, why: str) -> str:
    bound = f" with binding '{binding}'" if binding else ""
    return f"ValidatingAdmissionPolicy '{policy}'{bound} denied request: {why}"


def _refusal(request: AdmissionRequest, message: str, reason: str) -> ApiError:
    like = forbidden(request, message, [{"message": message}])
    return _CLASSES.get(reason or "Invalid", Invalid)(like.message, details=like.details)
