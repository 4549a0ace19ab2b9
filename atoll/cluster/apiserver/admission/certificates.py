"""Certificate signing requests: who asked is written by the server, approving and signing need leave of their own.

Covers the CertificateApproval, CertificateSigning and CertificateSubjectRestriction plugins, and the part of the
kind's own strategy that needs the user or the time.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable
from typing import Any

from atoll.base.clock import Clock, rfc3339
from atoll.cluster.apiserver.admission.errors import forbidden
from atoll.cluster.apiserver.ports import AdmissionRequest, Attributes, Authorizer, User, decide, user_info

Object = dict[str, Any]
_GROUP = "certificates.k8s.io"
_CLIENT_SIGNER = "kubernetes.io/kube-apiserver-client"
_MASTERS = "system:masters"


class SigningRequests:
    resources = frozenset((f"certificatesigningrequests.{_GROUP}",))

    def __init__(self, clock: Clock, authorizer: Authorizer | None) -> None:
        self._clock = clock
        self._authorizer = authorizer

    def mutate(self, request: AdmissionRequest) -> None:
        obj = request.obj
        if obj is None:
            return
        if request.operation == "CREATE" and not request.subresource:
            _sign_as(obj, request.user)
        elif request.subresource in ("approval", "status"):
            self._stamp(obj, request.old or {})

    def validate(self, request: AdmissionRequest) -> Awaitable[None] | None:
        obj, old = request.obj, request.old
        if obj is None:
            return None
        if request.operation == "CREATE" and not request.subresource:
            _refuse_masters(request, obj.get("spec") or {})
        elif request.operation == "UPDATE" and old is not None:
            signer = (old.get("spec") or {}).get("signerName", "")
            if request.subresource == "approval":
                return self._need(request, "approve", signer)
            elif request.subresource == "status" and _signed(obj) != _signed(old):
                return self._need(request, "sign", signer)
        return None

    def _stamp(self, obj: Object, old: Object) -> None:
        """Conditions without times get them; one that stood with the same status keeps its transition."""
        now = rfc3339(self._clock.wall())
        stood = {
            (item.get("type"), item.get("status")): item.get("lastTransitionTime")
            for item in (old.get("status") or {}).get("conditions") or ()
        }
        for item in (obj.get("status") or {}).get("conditions") or ():
            if not item.get("lastUpdateTime"):
                item["lastUpdateTime"] = now
            if not item.get("lastTransitionTime"):
                item["lastTransitionTime"] = stood.get((item.get("type"), item.get("status"))) or now

    async def _need(self, request: AdmissionRequest, verb: str, signer: str) -> None:
        if self._authorizer is None:
            return
        for name in (signer, signer.partition("/")[0] + "/*"):
            asked = Attributes(request.user, verb, _GROUP, "v1", "signers", name=name)
            if (await decide(self._authorizer, asked)).allowed:
                return
        raise forbidden(request, f'user not permitted to {verb} requests with signerName "{signer}"')


def _sign_as(obj: Object, user: User) -> None:
    spec = obj.setdefault("spec", {})
    for field in ("username", "uid", "groups", "extra"):
        spec.pop(field, None)
    spec.update(user_info(user))


def _signed(obj: Object) -> tuple[Any, Any]:
    status = obj.get("status") or {}
    return status.get("certificate") or None, status.get("conditions") or []


def _refuse_masters(request: AdmissionRequest, spec: Object) -> None:
    if spec.get("signerName") == _CLIENT_SIGNER and _MASTERS in _organizations(spec.get("request") or ""):
        raise forbidden(request, f"use of {_CLIENT_SIGNER} signer with {_MASTERS} group is not allowed")


def _organizations(encoded: str) -> list[str]:
    """The O's of a request's subject; none of one that can't be read, which validation refuses."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    try:
        subject = x509.load_pem_x509_csr(base64.b64decode(encoded)).subject
    except (ValueError, binascii.Error):
        return []
    return [str(item.value) for item in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
