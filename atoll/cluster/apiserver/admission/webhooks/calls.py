"""One webhook and one request: whether it is asked, how, and what it said."""

from __future__ import annotations

import asyncio

from atoll.base.chance import Chance
from atoll.base.errors import ApiError, BadRequest, Unreachable
from atoll.cluster.apiserver.admission import matching
from atoll.cluster.apiserver.admission.versions import Versions
from atoll.cluster.apiserver.admission.webhooks import review
from atoll.cluster.apiserver.admission.webhooks.failures import CallFailed, refused
from atoll.cluster.apiserver.admission.webhooks.model import Hook
from atoll.cluster.apiserver.admission.webhooks.review import BadAnswer, UnreadableAnswer, Verdict
from atoll.cluster.apiserver.ports import AdmissionRequest, Authorizer, HookCaller, Object
from atoll.cluster.store.port import Store
from atoll.kinds.resource import Resource


class Calls:
    """See the module. `chance` gives the reviews' uids."""

    def __init__(
        self, store: Store, versions: Versions, caller: HookCaller, chance: Chance, authorizer: Authorizer | None
    ) -> None:
        self.versions = versions
        self._store = store
        self._caller = caller
        self._chance = chance
        self._authorizer = authorizer

    async def matched(self, hook: Hook, request: AdmissionRequest, *, mutating: bool) -> Resource | None:
        """The resource in whose version the webhook wants to be asked; None: it does not. Raises ApiError."""
        if not matching.object_matches(hook.objects, request.obj, request.old):
            return None
        absent: ApiError | None = None
        try:
            if not matching.namespace_matches(hook.namespaces, request, self._store):
                return None
        except ApiError as error:
            absent = error  # told only where the webhook is about this request at all
        resource = matching.first_match(hook.rules, request, [request.resource])
        if resource is None and hook.equivalent:
            resource = matching.first_match(hook.rules, request, self.versions.resources(request, True)[1:])
        if resource is None:
            return None
        if absent is not None:
            raise absent
        if hook.conditions and not await self._hold(hook, request, resource, mutating):
            return None
        return resource

    async def _hold(self, hook: Hook, request: AdmissionRequest, resource: Resource, mutating: bool) -> bool:
        from atoll.cluster.apiserver.admission.webhooks.conditions import hold  # with all of CEL

        obj, old = await self.versions.show(request, resource, mutating=mutating)
        kind = self.versions.kind_of(request, resource)
        return await hold(hook, request, self._authorizer, resource=resource, kind=kind, obj=obj, old=old)

    async def ask(
        self, hook: Hook, request: AdmissionRequest, resource: Resource, *, mutating: bool
    ) -> tuple[Verdict, Object | None]:
        """The verdict, and the object as it was shown. Raises CallFailed, BadRequest (no dry run)."""
        if request.dry_run and hook.side_effects not in ("None", "NoneOnDryRun"):
            raise BadRequest(f'admission webhook "{hook.name}" does not support dry run')
        version = review.version_of(hook.review_versions)
        if version is None:
            why = "could not create admission objects: webhook does not accept known AdmissionReview versions"
            raise CallFailed(hook.name, f"{why} (v1, v1beta1)", 400)
        obj, old = await self.versions.show(request, resource, mutating=mutating)
        uid = self._chance.uuid()
        asked = self.versions.kind_of(request, request.resource), request.resource
        shown = self.versions.kind_of(request, resource), resource
        body = review.question(request, version, uid, asked=asked, shown=shown, obj=obj, old=old)
        answered = await self._post(hook, body)
        try:
            verdict = review.answer(answered, version, uid, mutating=mutating)
        except UnreadableAnswer as error:
            raise CallFailed(hook.name, f"failed to call webhook: {error}") from None
        except BadAnswer as error:
            raise CallFailed(hook.name, f"received invalid webhook response: {error}") from None
        for key, value in verdict.annotations.items():
            request.annotate(f"{hook.name}/{key}", value)
        for text in verdict.warnings:
            if text not in request.warnings:
                request.warnings.append(text)
        return verdict, obj

    async def _post(self, hook: Hook, body: bytes) -> bytes:
        seconds = hook.timeout_seconds
        try:
            async with asyncio.timeout(seconds):
                status, content_type, answered = await self._caller.post(hook.target, body, seconds)
        except TimeoutError:
            url = hook.target.url
            raise CallFailed(hook.name, f'failed to call webhook: Post "{url}": context deadline exceeded') from None
        except Unreachable as error:
            url = hook.target.url
            raise CallFailed(hook.name, f'failed to call webhook: Post "{url}": {error.message}') from None
        if not 200 <= status <= 206:
            text = refused(status, content_type, answered)
            raise CallFailed(hook.name, f"failed to call webhook: {text}", status)
        return answered
