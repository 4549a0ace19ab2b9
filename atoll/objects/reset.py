"""Fields that a strategy resets on a write, so that no manager comes to own them (upstream's GetResetFields).

A write to the main resource ignores `status`; one to `/status` ignores what is not status's.
"""

from __future__ import annotations

from atoll.objects.fields import FieldSet

_STATUS: FieldSet = {"f:status": {}}
_SPEC: FieldSet = {"f:spec": {}}
_META_AND_SPEC: FieldSet = {"f:metadata": {}, "f:spec": {}}

_SPECIAL: dict[tuple[str, str], FieldSet] = {
    ("pods", "status"): {"f:spec": {}, "f:metadata": {"f:deletionTimestamp": {}, "f:ownerReferences": {}}},
    ("deployments.apps", "status"): {"f:spec": {}, "f:metadata": {"f:labels": {}}},
    ("certificatesigningrequests.certificates.k8s.io", ""): {"f:spec": {}, "f:status": {}},
    ("certificatesigningrequests.certificates.k8s.io", "status"): {"f:spec": {}, "f:status": {"f:conditions": {}}},
    ("certificatesigningrequests.certificates.k8s.io", "approval"): {"f:spec": {}, "f:status": {"f:certificate": {}}},
}
_META_TOO = frozenset(
    {
        "validatingadmissionpolicies.admissionregistration.k8s.io",
        "flowschemas.flowcontrol.apiserver.k8s.io",
        "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io",
        "servicecidrs.networking.k8s.io",
        "devicetaintrules.resource.k8s.io",
        "resourceclaims.resource.k8s.io",
        "volumeattachments.storage.k8s.io",
        "apiservices.apiregistration.k8s.io",
    }
)


def reset_fields(
    group_resource: str, subresource: str = "", *, custom: bool = False, has_status: bool = True
) -> FieldSet:
    """What a write of `deployments.apps` or its subresource may not own. `custom`: it comes from a CRD."""
    special = _SPECIAL.get((group_resource, subresource))
    if special is not None:
        return special
    if subresource == "status":
        return _META_AND_SPEC if custom or group_resource in _META_TOO else _SPEC
    if subresource == "" and has_status:
        return _STATUS
    return {}
