"""What each built-in signer signs, and what is approved by itself. Pure.

Source: https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/#kubernetes-signers
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from atoll.client.port import Object

if TYPE_CHECKING:
    from atoll.wire.signing import SigningRequest

CLIENT = "kubernetes.io/kube-apiserver-client"
KUBELET_CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"
KUBELET_SERVING = "kubernetes.io/kubelet-serving"
LEGACY = "kubernetes.io/legacy-unknown"  # no longer made by the API, signed without questions where it is stored
SIGNERS = frozenset((CLIENT, KUBELET_CLIENT, KUBELET_SERVING, LEGACY))
_NODES = ("system:nodes",)
_NODE_PREFIX = "system:node:"
_CLIENT_USAGES = ("digital signature", "key encipherment", "client auth")


def unfit(spec: Object) -> str:
    """Why the signer that is named may not sign; "" if it may."""
    signer, usages = spec["signerName"], spec.get("usages") or ()
    if signer == CLIENT:
        return _client_usages_wrong(usages)
    if signer == LEGACY:
        return ""
    asked = _read(spec)
    if asked is None:
        return "PEM block type must be CERTIFICATE REQUEST"
    return _kubelet_client_wrong(asked, usages) if signer == KUBELET_CLIENT else _kubelet_serving_wrong(asked, usages)


def recognised(spec: Object) -> Iterator[tuple[str, str]]:
    """(the subresource that the one who asks must be allowed to create, what the approval says)."""
    asked = _read(spec)
    if asked is None or _kubelet_client_wrong(asked, spec.get("usages") or ()):
        return
    if spec.get("username") == asked.common_name:
        yield "selfnodeclient", "Auto approving self kubelet client certificate after SubjectAccessReview."
    yield "nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview."


def to_approve(request: Object) -> bool:
    """Whether nobody has decided yet on a kubelet's client certificate."""
    if request["spec"].get("signerName") != KUBELET_CLIENT:
        return False
    status = request.get("status") or {}
    decided = any(item.get("type") in ("Approved", "Denied") for item in status.get("conditions") or ())
    return not decided and not status.get("certificate")


def _read(spec: Object) -> SigningRequest | None:
    from atoll.wire.signing import read_request  # with cryptography, only where there are requests

    return read_request(spec.get("request") or "")


def _client_usages_wrong(usages: Sequence[str]) -> str:
    for usage in usages:
        if usage not in _CLIENT_USAGES:
            return f"invalid usage for client certificate: {usage}"
    return "" if "client auth" in usages else "missing required usage for client certificate: client auth"


def _kubelet_client_wrong(asked: SigningRequest, usages: Sequence[str]) -> str:
    if asked.organizations != _NODES:
        return "subject organization is not system:nodes"
    for kind, values in (
        ("DNS", asked.dns_names), ("Email", asked.emails), ("IP", asked.addresses), ("URI", asked.uris),
    ):  # fmt: skip
        if values:
            return f"{kind} subjectAltNames are not allowed"
    if not asked.common_name.startswith(_NODE_PREFIX):
        return "subject common name does not begin with system:node:"
    return _usages_differ(usages, "client auth")


def _kubelet_serving_wrong(asked: SigningRequest, usages: Sequence[str]) -> str:
    if asked.organizations != _NODES:
        return "subject organization is not system:nodes"
    if not asked.dns_names and not asked.addresses:
        return "DNS or IP subjectAltName is required"
    for kind, values in (("Email", asked.emails), ("URI", asked.uris)):
        if values:
            return f"{kind} subjectAltNames are not allowed"
    wrong = _usages_differ(usages, "server auth")
    if wrong:
        return wrong
    if not asked.common_name.startswith(_NODE_PREFIX):
        return "subject common name does not begin with system:node:"
    return ""


def _usages_differ(usages: Sequence[str], purpose: str) -> str:
    """Key encipherment is for RSA keys only."""
    wanted = {"digital signature", "key encipherment", purpose}
    if set(usages) in (wanted, wanted - {"key encipherment"}):
        return ""
    return f"usages did not match [{' '.join(sorted(wanted))}]"
