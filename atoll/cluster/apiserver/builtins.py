"""The registry of built-in kinds: the catalogue, its schemas (compiled when first used) and the behaviour tables."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from atoll.base.clock import Clock
from atoll.cluster.apiserver import names
from atoll.cluster.apiserver.behaviour import behaviour_of, conversions, device_taints
from atoll.cluster.apiserver.ports import Behaviour
from atoll.cluster.apiserver.served import Registry, Served
from atoll.kinds.catalog import ApiResource, catalog, storage_version
from atoll.kinds.devices import DEVICE_TAINT_RULES
from atoll.kinds.resource import Resource

_CRD = "CustomResourceDefinition"
_NOT_ACTED_UPON = {
    "networkpolicies.networking.k8s.io": "network policies are stored but not enforced",
    "ingresses.networking.k8s.io": "ingresses are stored but no controller acts upon them",
    "servicecidrs.networking.k8s.io": "service CIDRs are stored but no addresses are given from them",
    "csidrivers.storage.k8s.io": "CSI drivers are stored but not called",
    "volumeattachments.storage.k8s.io": "volume attachments are stored but nothing is attached",
    "volumeattributesclasses.storage.k8s.io": "volume attributes are stored but not applied",
}


_DEPRECATED = {
    ("v1", "Endpoints"): "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
    ("v1", "ComponentStatus"): "v1 ComponentStatus is deprecated in v1.19+",
    **{
        (f"resource.k8s.io/{version}", kind): (
            f"resource.k8s.io/{version} {kind} is deprecated in v1.{since}+, unavailable in v1.{since + 3}+"
        )
        for version, since in (("v1beta1", 35), ("v1beta2", 36))
        for kind in ("DeviceClass", "ResourceClaim", "ResourceClaimTemplate", "ResourceSlice")
    },
}


def _behaviour_of(resource: Resource, storage: Resource) -> Behaviour:
    """Events of either group are stored alike but checked by the rules of the version asked for."""
    return behaviour_of(resource if resource.group == "events.k8s.io" else storage)


def _definition() -> Behaviour:
    from atoll.cluster.apiserver.extensions import definitions  # with all that CRDs need: CEL, schemas

    return definitions.behaviour()


def _any_name(_: str) -> tuple[str, ...]:
    """The checks of a CRD tell what is wrong with its name."""
    return ()


def builtin_registry(more: Iterable[ApiResource] = ()) -> Registry:
    """All that a default kube-apiserver serves; `more`: what is off by default."""
    registry = Registry()
    for entry in (*catalog(), *more):
        registry.add(served_builtin(entry))
    return registry


def date_taint_rules(registry: Registry, clock: Clock) -> None:
    """DeviceTaintRule is the one built-in kind whose defaults need the time."""
    served = registry.of(DEVICE_TAINT_RULES)
    assert served is not None
    make = served.make_behaviour
    served.make_behaviour = lambda: device_taints.dated(make(), clock)


def served_builtin(entry: ApiResource) -> Served:
    resource = entry.resource
    group, version = storage_version(resource)
    storage = Resource(group, version, resource.plural, resource.kind, resource.namespaced)
    is_crd = resource.kind == _CRD
    converted = conversions(resource)
    gap = _NOT_ACTED_UPON.get(resource.group_resource, "")
    return Served(
        resource,
        storage,
        entry,
        make_behaviour=_definition if is_crd else partial(_behaviour_of, resource, storage),
        check_name=_any_name if is_crd else names.check_for(storage.group_resource),
        to_storage=converted[0] if converted else None,
        from_storage=converted[1] if converted else None,
        deprecation=_DEPRECATED.get((resource.api_version, resource.kind), ""),
        warning=f"{resource.group_resource}: {gap} by this server" if gap else "",
    )
