"""One Behaviour per built-in kind, put together from defaults, strategies and checks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from atoll.cluster.apiserver.behaviour import fields, strategy
from atoll.cluster.apiserver.behaviour.defaulting import Defaulters, Object
from atoll.cluster.apiserver.behaviour.defaults import DECLARED, HOOKS
from atoll.cluster.apiserver.ports import Behaviour
from atoll.kinds.decode import zero
from atoll.kinds.nodes import SchemaNode
from atoll.kinds.resource import Resource
from atoll.kinds.schemas import schema_for

_DEFAULTERS = Defaulters(HOOKS, DECLARED)


def behaviour_of(resource: Resource) -> Behaviour:
    """The kind's behaviour; for kinds without a table one that only decodes (`schema_only`)."""
    known = _MADE.get(resource)
    if known is None:
        known = _MADE[resource] = _make(resource)
    return known


_MADE: dict[Resource, Behaviour] = {}


def _make(resource: Resource) -> Behaviour:
    builder = _TABLE.get(resource.group_resource)
    behaviour = builder(resource) if builder is not None else _schema_only(resource)
    schema = schema_for(resource.group, resource.version, resource.kind)
    if schema is not None:
        defaulter = _DEFAULTERS.of(schema)
        if defaulter.useful:
            behaviour = replace(behaviour, default=defaulter)
    return behaviour


def _status_schema(resource: Resource) -> SchemaNode | None:
    schema = schema_for(resource.group, resource.version, resource.kind)
    return None if schema is None else schema.at("status")


def _new_status(resource: Resource) -> Callable[[], Object]:
    """Makes the status of a new object: Go's zero value."""
    node = _status_schema(resource)

    def status() -> Object:
        fresh: Object = {} if node is None else zero(node) or {}
        return fresh

    return status


def _has_status(resource: Resource) -> bool:
    return _status_schema(resource) is not None


def _schema_only(resource: Resource) -> Behaviour:
    if not _has_status(resource):
        return Behaviour(prepare_update=strategy.keep_generation, schema_only=True)
    return Behaviour(
        prepare_create=strategy.reset_status(_new_status(resource), generation=True),
        prepare_update=strategy.spec_counts("spec"),
        prepare_status=strategy.status_only,
        has_status=True,
        schema_only=True,
    )


def _plain(**options: Any) -> Callable[[Resource], Behaviour]:
    """No status, no generation."""
    return lambda _: Behaviour(prepare_update=strategy.keep_generation, **options)


def _counted(*counted: str, **options: Any) -> Callable[[Resource], Behaviour]:
    """A generation that counts changes of some fields; no status."""
    return lambda _: Behaviour(
        prepare_create=strategy.first_generation,
        prepare_update=strategy.spec_counts(*counted, status=False),
        **options,
    )


def _with_status(
    generation: bool = True,
    annotations: bool = False,
    status: strategy.PrepareUpdate = strategy.status_only,
    **options: Any,
) -> Callable[[Resource], Behaviour]:
    """Spec and status, by far the most common form."""

    def build(resource: Resource) -> Behaviour:
        update = strategy.spec_counts("spec", annotations=annotations) if generation else strategy.keep_status_only
        return Behaviour(
            prepare_create=strategy.reset_status(_new_status(resource), generation=generation),
            prepare_update=update,
            prepare_status=status,
            has_status=True,
            **options,
        )

    return build


def _pod(_: Resource) -> Behaviour:
    return Behaviour(
        prepare_create=strategy.prepare_pod,
        prepare_update=strategy.update_pod,
        prepare_status=strategy.pod_status,
        has_status=True,
        selectable_fields=fields.pod,
        grace_period_seconds=strategy.pod_grace_period,
    )


def _namespace(_: Resource) -> Behaviour:
    return Behaviour(
        prepare_create=strategy.prepare_namespace,
        prepare_update=strategy.update_namespace,
        prepare_status=strategy.status_only,
        has_status=True,
        selectable_fields=fields.namespace,
        extra={"prepare_finalize": strategy.namespace_finalize},
    )


def _service(resource: Resource) -> Behaviour:
    return Behaviour(
        prepare_create=strategy.reset_status(_new_status(resource), generation=False),
        prepare_update=strategy.update_service,
        prepare_status=strategy.status_only,
        has_status=True,
        create_on_update=True,
        selectable_fields=fields.service,
    )


def _job(resource: Resource) -> Behaviour:
    return Behaviour(
        prepare_create=strategy.prepare_job(_new_status(resource)),
        prepare_update=strategy.spec_counts("spec"),
        prepare_status=strategy.status_only,
        has_status=True,
        selectable_fields=fields.job,
    )


def _persistent_volume(_: Resource) -> Behaviour:
    return Behaviour(
        prepare_create=strategy.prepare_persistent_volume,
        prepare_update=strategy.keep_status_only,
        prepare_status=strategy.status_only,
        has_status=True,
    )


def _claim(_: Resource) -> Behaviour:
    return Behaviour(
        prepare_create=strategy.prepare_claim,
        prepare_update=strategy.update_claim,
        prepare_status=strategy.status_only,
        has_status=True,
    )


def _node(_: Resource) -> Behaviour:
    return Behaviour(
        prepare_update=strategy.keep_status_only,
        prepare_status=strategy.status_only,
        has_status=True,
        selectable_fields=fields.node,
    )


def _endpoint_slice(_: Resource) -> Behaviour:
    return Behaviour(prepare_create=strategy.first_generation, prepare_update=strategy.update_endpoint_slice)


def _signing_request(resource: Resource) -> Behaviour:
    return Behaviour(
        prepare_create=strategy.prepare_signing_request(_new_status(resource)),
        prepare_update=strategy.update_signing_request,
        prepare_status=strategy.status_only,
        has_status=True,
        selectable_fields=fields.signing_request,
    )


_EVENT = _plain(create_on_update=True, selectable_fields=fields.event)
_RBAC = _plain(create_on_update=True)
_CONDITIONAL: dict[str, Any] = {"unconditional_update": False}

_TABLE: dict[str, Callable[[Resource], Behaviour]] = {
    "pods": _pod,
    "podtemplates": _counted("template"),
    "replicationcontrollers": _with_status(has_scale=True, selectable_fields=fields.replicas),
    "services": _service,
    "endpoints": _plain(create_on_update=True),
    "endpointslices.discovery.k8s.io": _endpoint_slice,
    "configmaps": _plain(),
    "secrets": lambda _: Behaviour(prepare_update=strategy.update_secret, selectable_fields=fields.secret),
    "namespaces": _namespace,
    "nodes": _node,
    "serviceaccounts": _plain(),
    "events": _EVENT,
    "events.events.k8s.io": _EVENT,
    "persistentvolumes": _persistent_volume,
    "persistentvolumeclaims": _claim,
    "resourcequotas": _with_status(generation=False),
    "limitranges": _plain(create_on_update=True),
    "deployments.apps": _with_status(annotations=True, status=strategy.deployment_status, has_scale=True),
    "replicasets.apps": _with_status(has_scale=True, selectable_fields=fields.replicas),
    "statefulsets.apps": _with_status(has_scale=True),
    "daemonsets.apps": _with_status(),
    "controllerrevisions.apps": _plain(),
    "jobs.batch": _job,
    "cronjobs.batch": _with_status(),
    "horizontalpodautoscalers.autoscaling": _with_status(generation=False),
    "poddisruptionbudgets.policy": _with_status(**_CONDITIONAL),
    "leases.coordination.k8s.io": _plain(create_on_update=True, **_CONDITIONAL),
    "leasecandidates.coordination.k8s.io": _plain(
        create_on_update=True, selectable_fields=fields.lease_candidate, **_CONDITIONAL
    ),
    "roles.rbac.authorization.k8s.io": _RBAC,
    "rolebindings.rbac.authorization.k8s.io": _RBAC,
    "clusterroles.rbac.authorization.k8s.io": _RBAC,
    "clusterrolebindings.rbac.authorization.k8s.io": _RBAC,
    "storageclasses.storage.k8s.io": _plain(),
    "volumeattachments.storage.k8s.io": _with_status(
        generation=False, status=strategy.status_and_no_metadata, **_CONDITIONAL
    ),
    "csinodes.storage.k8s.io": _plain(**_CONDITIONAL),
    "csidrivers.storage.k8s.io": _counted("spec", **_CONDITIONAL),
    "csistoragecapacities.storage.k8s.io": _plain(**_CONDITIONAL),
    "volumeattributesclasses.storage.k8s.io": _plain(),
    "priorityclasses.scheduling.k8s.io": _counted(),
    "runtimeclasses.node.k8s.io": _plain(create_on_update=True, **_CONDITIONAL),
    "ingresses.networking.k8s.io": _with_status(),
    "ingressclasses.networking.k8s.io": _counted("spec"),
    "networkpolicies.networking.k8s.io": _counted("spec"),
    "ipaddresses.networking.k8s.io": _plain(),
    "servicecidrs.networking.k8s.io": _with_status(generation=False, status=strategy.status_and_no_metadata),
    "certificatesigningrequests.certificates.k8s.io": _signing_request,
    "mutatingwebhookconfigurations.admissionregistration.k8s.io": _counted("webhooks", **_CONDITIONAL),
    "validatingwebhookconfigurations.admissionregistration.k8s.io": _counted("webhooks", **_CONDITIONAL),
    "validatingadmissionpolicies.admissionregistration.k8s.io": _with_status(
        status=strategy.status_and_no_metadata, **_CONDITIONAL
    ),
    "validatingadmissionpolicybindings.admissionregistration.k8s.io": _counted("spec", **_CONDITIONAL),
    "mutatingadmissionpolicies.admissionregistration.k8s.io": _counted("spec", **_CONDITIONAL),
    "mutatingadmissionpolicybindings.admissionregistration.k8s.io": _counted("spec", **_CONDITIONAL),
    "flowschemas.flowcontrol.apiserver.k8s.io": _with_status(status=strategy.status_and_no_metadata),
    "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io": _with_status(status=strategy.status_and_no_metadata),
    "apiservices.apiregistration.k8s.io": _with_status(generation=False, **_CONDITIONAL),
    "deviceclasses.resource.k8s.io": _counted("spec"),
    "resourceclaims.resource.k8s.io": _with_status(generation=False, status=strategy.status_and_no_metadata),
    "resourceclaimtemplates.resource.k8s.io": _plain(),
    "resourceslices.resource.k8s.io": _counted("spec"),
}
