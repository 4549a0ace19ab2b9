"""What Kubernetes 1.36 has of devices (`resource.k8s.io`) but does not serve by default: beta versions of the kinds,
and DeviceTaintRule. Served only where asked for."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from atoll.kinds.catalog import ApiResource, Subresource, catalog
from atoll.kinds.resource import Resource

GROUP: Final = "resource.k8s.io"
DEVICE_TAINT_RULES: Final = Resource(GROUP, "v1beta2", "devicetaintrules", "DeviceTaintRule", False)
_STORED: Final = "DJ3UJ0fj8MI="  # upstream's hash of v1alpha3, in which it keeps them
_VERBS: Final = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


def api_resources() -> tuple[ApiResource, ...]:
    """What `runtime-config resource.k8s.io/v1beta1=true,resource.k8s.io/v1beta2=true` makes the real server serve."""
    status = Subresource("status", DEVICE_TAINT_RULES.kind, ("get", "patch", "update"))
    rules = ApiResource(
        DEVICE_TAINT_RULES, "devicetaintrule", _VERBS, subresources=(status,), storage_version_hash=_STORED,
        list_kind="DeviceTaintRuleList",
    )  # fmt: skip
    stable = catalog().group(GROUP)
    assert stable is not None
    betas = [_in(version, entry) for version in ("v1beta2", "v1beta1") for entry in stable.versions[0].resources]
    return (*betas, rules)


def _in(version: str, entry: ApiResource) -> ApiResource:
    old = entry.resource
    return replace(entry, resource=Resource(GROUP, version, old.plural, old.kind, old.namespaced))
