"""The two plugins of the chain. Mutating webhooks are asked one after another, each seeing what those before it did;
validating ones all at once, and the first refusal to come is the answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Sequence
from typing import Any

import orjson

from atoll.base.errors import ApiError, BadRequest, Invalid, TooLarge
from atoll.cluster.apiserver.admission.matching import is_exempt
from atoll.cluster.apiserver.admission.reinvocation import reinvocation
from atoll.cluster.apiserver.admission.webhooks.calls import Calls
from atoll.cluster.apiserver.admission.webhooks.failures import CallFailed, internal
from atoll.cluster.apiserver.admission.webhooks.metrics import HookMetrics
from atoll.cluster.apiserver.admission.webhooks.model import Configured, Hook
from atoll.cluster.apiserver.admission.webhooks.review import denial
from atoll.cluster.apiserver.ports import AdmissionRequest, Object, User
from atoll.kinds.resource import Resource
from atoll.objects.patch_json import apply_json_patch

log = logging.getLogger(__name__)
_NAME = "MutatingAdmissionWebhook"
_MUTATION = "mutation.webhook.admission.k8s.io/"
_PATCH = "patch.webhook.admission.k8s.io/"
_VALIDATION_FAILED_OPEN = "failed-open.validating.webhook.admission.k8s.io/"


class _Webhooks:
    resources = None

    def __init__(self, configured: Configured, calls: Calls, metrics: HookMetrics) -> None:
        self._configured = configured
        self._calls = calls
        self._metrics = metrics

    def depends_on(self, user: User) -> tuple[str, ...] | None:
        return None if self._configured.current() else (self._configured.resource,)


class MutatingWebhooks(_Webhooks):
    def mutate(self, request: AdmissionRequest) -> Awaitable[None] | None:
        hooks = self._configured.current()
        return self._all(request, hooks) if hooks and not is_exempt(request) else None

    async def _all(self, request: AdmissionRequest, hooks: Sequence[Hook]) -> None:
        memory = reinvocation(request, _NAME)
        memory.begin(request)
        for index, hook in enumerate(hooks):
            resource = await self._calls.matched(hook, request, mutating=True)
            if resource is None or memory.skips(request, hook.uid):
                continue
            changed = False
            try:
                with self._metrics.asking(hook, request, "admit"):
                    changed = await self._one(request, hook, resource, index)
            except CallFailed as error:
                if not hook.fails_open:
                    raise internal(str(error)) from None
                log.warning("failing open: %s", error)
                request.annotate(f"failed-open.{_MUTATION}round_{int(request.is_again)}_index_{index}", hook.name)
            if changed:
                memory.changed(request)
            if hook.reinvoked:
                memory.invoked.add(hook.uid)
        memory.end(request.obj)

    async def _one(self, request: AdmissionRequest, hook: Hook, resource: Resource, index: int) -> bool:
        """Whether the object is another now. Raises CallFailed, ApiError."""
        at = f"round_{int(request.is_again)}_index_{index}"
        changed = False
        try:
            verdict, shown = await self._calls.ask(hook, request, resource, mutating=True)
            if not verdict.allowed:
                raise denial(hook.name, verdict.result)
            patch = _decoded(hook, verdict.patch)
            if patch:
                changed = await self._patch(request, hook, resource, shown, patch)
                _annotate(request, _PATCH + at, hook, patch=patch, patchType="JSONPatch")
            return changed
        finally:
            _annotate(request, _MUTATION + at, hook, mutated=changed)

    async def _patch(
        self, request: AdmissionRequest, hook: Hook, resource: Resource, shown: Object | None, patch: Any
    ) -> bool:
        if shown is None:
            raise internal(
                f'admission webhook "{hook.name}" attempted to modify the object, which is not supported for this'
                " operation"
            )
        try:
            patched = apply_json_patch(shown, patch)
        except (BadRequest, TooLarge, Invalid) as error:
            raise internal(str(error.__cause__ or error.message)) from None
        if not isinstance(patched, dict):
            raise internal("the patched object is no object")
        before = orjson.dumps(shown, option=orjson.OPT_SORT_KEYS)
        is_other = orjson.dumps(patched, option=orjson.OPT_SORT_KEYS) != before
        try:
            await self._calls.versions.take(request, resource, patched)
        except BadRequest as error:
            _, found, detail = error.message.partition(" cannot be handled as a ")
            raise internal(detail.partition(": ")[2] if found else error.message) from None
        return is_other


def _decoded(hook: Hook, patch: bytes) -> list[Any]:
    if not patch:
        return []
    try:
        value = orjson.loads(patch)
    except orjson.JSONDecodeError as error:
        raise CallFailed(hook.name, f"received undecodable patch in webhook response: {error}") from None
    if value is not None and not isinstance(value, list):
        kind = "object" if isinstance(value, dict) else type(value).__name__
        why = f"json: cannot unmarshal {kind} into Go value of type jsonpatch.Patch"
        raise CallFailed(hook.name, f"received undecodable patch in webhook response: {why}")
    return value or []


def _annotate(request: AdmissionRequest, key: str, hook: Hook, **more: Any) -> None:
    if request.annotations is not None:
        value = {"configuration": hook.configuration, "webhook": hook.name, **more}
        request.annotate(key, orjson.dumps(value).decode())


class ValidatingWebhooks(_Webhooks):
    def validate(self, request: AdmissionRequest) -> Awaitable[None] | None:
        hooks = self._configured.current()
        return self._all(request, hooks) if hooks and not is_exempt(request) else None

    async def _all(self, request: AdmissionRequest, hooks: Sequence[Hook]) -> None:
        asked: list[tuple[Hook, Resource]] = []
        for hook in hooks:
            resource = await self._calls.matched(hook, request, mutating=False)
            if resource is not None:
                asked.append((hook, resource))
        if not asked:
            return
        refusals: list[ApiError] = []
        async with asyncio.TaskGroup() as group:
            for index, (hook, resource) in enumerate(asked):
                group.create_task(self._one(request, hook, resource, index, refusals))
        if refusals:
            raise refusals[0]

    async def _one(
        self, request: AdmissionRequest, hook: Hook, resource: Resource, index: int, refusals: list[ApiError]
    ) -> None:
        try:
            with self._metrics.asking(hook, request, "validating"):
                verdict, _ = await self._calls.ask(hook, request, resource, mutating=False)
                if not verdict.allowed:
                    raise denial(hook.name, verdict.result)
        except CallFailed as error:
            if not hook.fails_open:
                refusals.append(internal(str(error)))
                return
            log.warning("failing open: %s", error)
            request.annotate(f"{_VALIDATION_FAILED_OPEN}round_0_index_{index}", hook.name)
        except ApiError as error:
            refusals.append(error)
