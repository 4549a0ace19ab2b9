"""Certificate signing requests: kubelets' own are approved where they may be, what is approved is signed with the
cluster's CA, what is done or forgotten goes. `rules` says what is fit for which signer.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence

from atoll.base.clock import parse_rfc3339, rfc3339
from atoll.base.errors import NotFound, UserError
from atoll.client.port import DeleteOptions, Object
from atoll.cluster.workloads.certificates.rules import SIGNERS, recognised, to_approve, unfit
from atoll.cluster.workloads.common.context import Context
from atoll.kinds.builtin import CERTIFICATE_SIGNING_REQUESTS
from atoll.kinds.resource import Resource
from atoll.runtime.controller import Controller

Signer = Callable[[bytes, Sequence[str], float], bytes]
"""(a request's PEM, its usages, seconds it shall last) → the certificate's PEM. Raises UserError for a bad request."""

_REVIEWS = Resource("authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", False)
_LONGEST = 365 * 86400.0
_SHORTEST = 600.0
_DECIDED_SECONDS = 3600.0  # issued, denied or failed: upstream's cleaner keeps them for an hour
_PENDING_SECONDS = 86400.0


class CertificateSigner:
    """Signs for the signer names that kube-controller-manager signs for; others are somebody else's."""

    def __init__(self, context: Context, sign: Signer) -> None:
        self.name = "certificate-controller"
        self._client = context.client(self.name)
        self._clock = context.clock
        self._sign = sign
        self._requests = context.informers.of(CERTIFICATE_SIGNING_REQUESTS)
        self.loop: Controller[str] = Controller(self.name, self._reconcile, wait_for=(self._requests,))
        self._requests.add_handler(self._changed)

    async def run(self) -> None:
        await self.loop.run()

    def _changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None:
            self.loop.queue.add(new["metadata"]["name"])

    async def _reconcile(self, name: str) -> float | None:
        request = self._requests.get(name)
        if request is None:
            return None
        left = self._left(request)
        if left <= 0:
            await self._remove(request)
            return None
        if to_approve(request):
            await self._approve(request)
            return left  # a write brings us here again
        if not _to_sign(request):
            return left
        spec = request["spec"]
        status = dict(request.get("status") or {})
        wrong = unfit(spec)
        try:
            if wrong:
                raise UserError(wrong)
            pem = base64.b64decode(spec["request"])
            status["certificate"] = base64.b64encode(
                self._sign(pem, spec.get("usages") or (), lifetime(spec.get("expirationSeconds")))
            ).decode()
        except (UserError, binascii.Error) as error:
            failed = {"type": "Failed", "status": "True", "reason": "SignerValidationFailure", "message": str(error)}
            failed["lastUpdateTime"] = rfc3339(self._clock.wall())
            status["conditions"] = [*(status.get("conditions") or ()), failed]
        await self._client.update(CERTIFICATE_SIGNING_REQUESTS, {**request, "status": status}, subresource="status")
        return left

    async def _approve(self, request: Object) -> None:
        """Approve what the one who asks may have approved (a SubjectAccessReview says so)."""
        spec = request["spec"]
        for subresource, message in recognised(spec):
            attributes = {"group": CERTIFICATE_SIGNING_REQUESTS.group, "resource": CERTIFICATE_SIGNING_REQUESTS.plural,
                          "verb": "create", "subresource": subresource, "version": "*"}  # fmt: skip
            asked = {"user": spec.get("username") or "", "uid": spec.get("uid") or "",
                     "groups": spec.get("groups") or [], "extra": spec.get("extra") or {},
                     "resourceAttributes": attributes}  # fmt: skip
            review = {"apiVersion": _REVIEWS.api_version, "kind": _REVIEWS.kind, "metadata": {}, "spec": asked}
            answer = await self._client.create(_REVIEWS, review)
            if (answer.get("status") or {}).get("allowed"):
                approved = {"type": "Approved", "status": "True", "reason": "AutoApproved", "message": message}
                status = dict(request.get("status") or {})
                status["conditions"] = [*(status.get("conditions") or ()), approved]
                await self._client.update(
                    CERTIFICATE_SIGNING_REQUESTS, {**request, "status": status}, subresource="approval"
                )
                return

    def _left(self, request: Object) -> float:
        """Seconds until nobody needs this request any more; none that waits for another signer is forgotten."""
        status = request.get("status") or {}
        issued = bool(status.get("certificate"))
        conditions = status.get("conditions") or ()
        final = ("Approved", "Denied", "Failed") if issued else ("Denied", "Failed")
        decided = [item.get("lastUpdateTime") for item in conditions if item.get("type") in final]
        if not decided and conditions:
            return _PENDING_SECONDS
        since, kept = (decided[0], _DECIDED_SECONDS) if decided else (None, _PENDING_SECONDS)
        left = parse_rfc3339(since or request["metadata"]["creationTimestamp"]) + kept - self._clock.wall()
        if issued:
            from atoll.wire.ca import certificate_end  # with cryptography, only where there are requests

            ends = certificate_end(status["certificate"])
            left = min(left, ends - self._clock.wall()) if ends is not None else left
        return left

    async def _remove(self, request: Object) -> None:
        metadata = request["metadata"]
        try:
            options = DeleteOptions(uid=metadata["uid"])
            await self._client.delete(CERTIFICATE_SIGNING_REQUESTS, metadata["name"], None, options=options)
        except NotFound:
            return


def lifetime(asked: int | None) -> float:
    """Seconds: what was asked for, between ten minutes and a year; a year by default."""
    return _LONGEST if asked is None else min(max(float(asked), _SHORTEST), _LONGEST)


def _to_sign(request: Object) -> bool:
    status = request.get("status") or {}
    true = {item["type"] for item in status.get("conditions") or () if item.get("status") == "True"}
    signed = bool(status.get("certificate"))
    return request["spec"].get("signerName") in SIGNERS and "Approved" in true and "Failed" not in true and not signed
