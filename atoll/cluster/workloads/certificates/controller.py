"""Certificate signing requests: what is approved is signed with the cluster's CA; what is done or forgotten goes."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence

from atoll.base.clock import parse_rfc3339, rfc3339
from atoll.base.errors import NotFound, UserError
from atoll.client.port import DeleteOptions, Object
from atoll.cluster.workloads.common.context import Context
from atoll.kinds.builtin import CERTIFICATE_SIGNING_REQUESTS
from atoll.runtime.controller import Controller

Signer = Callable[[bytes, Sequence[str], float], bytes]
"""(a request's PEM, its usages, seconds it shall last) → the certificate's PEM. Raises UserError for a bad request."""

CLIENT = "kubernetes.io/kube-apiserver-client"
KUBELET_CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"
KUBELET_SERVING = "kubernetes.io/kubelet-serving"
_CLIENT_USAGES = frozenset(("digital signature", "key encipherment", "client auth"))
_SERVING_USAGES = frozenset(("digital signature", "key encipherment", "server auth"))
_SIGNERS = {
    CLIENT: (_CLIENT_USAGES, "client auth"),
    KUBELET_CLIENT: (_CLIENT_USAGES, "client auth"),
    KUBELET_SERVING: (_SERVING_USAGES, "server auth"),
}
_LONGEST = 365 * 86400.0
_SHORTEST = 600.0
_DECIDED_SECONDS = 3600.0  # approved or denied: upstream's cleaner keeps them for an hour
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
        if not _to_sign(request):
            return left
        spec = request["spec"]
        status = dict(request.get("status") or {})
        wrong = usages_wrong(spec["signerName"], spec.get("usages") or ())
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

    def _left(self, request: Object) -> float:
        """Seconds until nobody needs this request any more."""
        decided = [
            item.get("lastUpdateTime")
            for item in (request.get("status") or {}).get("conditions") or ()
            if item.get("type") in ("Approved", "Denied", "Failed")
        ]
        since, kept = (decided[0], _DECIDED_SECONDS) if decided else (None, _PENDING_SECONDS)
        return parse_rfc3339(since or request["metadata"]["creationTimestamp"]) + kept - self._clock.wall()

    async def _remove(self, request: Object) -> None:
        metadata = request["metadata"]
        try:
            options = DeleteOptions(uid=metadata["uid"])
            await self._client.delete(CERTIFICATE_SIGNING_REQUESTS, metadata["name"], None, options=options)
        except NotFound:
            return


def usages_wrong(signer: str, usages: Sequence[str]) -> str:
    """Why the signer may not give a certificate for these usages; "" if it may."""
    allowed, needed = _SIGNERS[signer]
    kind = needed.partition(" ")[0]
    for usage in usages:
        if usage not in allowed:
            return f"invalid usage for {kind} certificate: {usage}"
    return "" if needed in usages else f"missing required usage for {kind} certificate: {needed}"


def lifetime(asked: int | None) -> float:
    """Seconds: what was asked for, between ten minutes and a year; a year by default."""
    return _LONGEST if asked is None else min(max(float(asked), _SHORTEST), _LONGEST)


def _to_sign(request: Object) -> bool:
    status = request.get("status") or {}
    true = {item["type"] for item in status.get("conditions") or () if item.get("status") == "True"}
    signed = bool(status.get("certificate"))
    return request["spec"].get("signerName") in _SIGNERS and "Approved" in true and "Failed" not in true and not signed
