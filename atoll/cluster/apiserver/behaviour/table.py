"""One Behaviour per built-in kind, put together from defaults, strategies and checks."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from atoll.cluster.apiserver.behaviour import (
    addresses,
    autoscaling,
    certificates,
    config,
    device_claims,
    device_slices,
    device_status,
    device_taints,
    fields,
    flowcontrol,
    jobs,
    networking,
    pods,
    podspec,
    policies,
    rbac,
    registrations,
    scheduling,
    services,
    storage,
    stored,
    strategy,
    warnings,
    workloads,
)
from atoll.cluster.apiserver.behaviour.checks import Errors
from atoll.cluster.apiserver.behaviour.defaulting import Defaulters, Object
from atoll.cluster.apiserver.behaviour.defaults import DECLARED, HOOKS
from atoll.cluster.apiserver.ports import Behaviour
from atoll.kinds.decode import zero
from atoll.kinds.nodes import SchemaNode
from atoll.kinds.resource import Resource
from atoll.kinds.schemas import schema_for

_DEFAULTERS = Defaulters(HOOKS, DECLARED)


@functools.cache
def behaviour_of(resource: Resource) -> Behaviour:
    """The kind's behaviour; for kinds without a table one that only decodes (`schema_only`)."""
    builder = _TABLE.get(resource.group_resource)
    behaviour = builder(resource) if builder is not None else _schema_only(resource)
    warn = _WARNINGS.get(resource.group_resource)
    if warn is not None:
        behaviour = replace(behaviour, warnings=warn)
    checks = _CHECKS.get(resource.group_resource)
    if checks is not None:
        behaviour = replace(behaviour, **checks)
    schema = schema_for(resource.group, resource.version, resource.kind)
    if schema is not None:
        defaulter = _DEFAULTERS.of(schema)
        if defaulter.useful:
            behaviour = replace(behaviour, default=defaulter)
        lists = stored.always_written_lists(schema)
        if lists:
            behaviour = replace(
                behaviour,
                prepare_create=stored.then_create(lists, behaviour.prepare_create),
                prepare_update=stored.then_update(lists, behaviour.prepare_update),
            )
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


def _api_service(_: Resource) -> Behaviour:
    return Behaviour(
        prepare_create=strategy.local_is_available,
        prepare_update=strategy.keep_status_only,
        prepare_status=strategy.status_and_no_metadata,
        has_status=True,
        **_CONDITIONAL,
    )


def _pod(_: Resource) -> Behaviour:
    return Behaviour(
        prepare_create=strategy.prepare_pod,
        prepare_update=strategy.update_pod,
        default_status=addresses.pod_status,
        prepare_status=strategy.pod_status,
        has_status=True,
        selectable_fields=fields.pod,
        grace_period_seconds=strategy.pod_grace_period,
        extra={"validate_ephemeral": pods.validate_ephemeral, "validate_resize": pods.validate_resize},
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


_JOB_WARNING = (
    "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or"
    " set propagationPolicy=Orphan to suppress this warning"
)


def _job(resource: Resource) -> Behaviour:
    return Behaviour(
        prepare_create=strategy.prepare_job(_new_status(resource)),
        prepare_update=strategy.spec_counts("spec"),
        prepare_status=strategy.status_only,
        has_status=True,
        selectable_fields=fields.job,
        extra={"orphan_by_default": True, "delete_warning": _JOB_WARNING},
    )


def _daemon_set(resource: Resource) -> Behaviour:
    return Behaviour(
        prepare_create=strategy.prepare_daemon_set(_new_status(resource)),
        prepare_update=strategy.update_daemon_set,
        prepare_status=strategy.status_only,
        has_status=True,
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
        prepare_update=certificates.prepare_update,
        prepare_status=certificates.prepare_status,
        has_status=True,
        extra={
            "prepare_approval": certificates.prepare_approval,
            "validate_approval": certificates.validate_approval,
        },
        selectable_fields=fields.signing_request,
    )


def _resource_slice(_: Resource) -> Behaviour:
    count = strategy.spec_counts("spec", status=False)

    def create(obj: Object) -> None:
        device_slices.drop_disabled(obj)
        strategy.first_generation(obj)

    def update(new: Object, old: Object) -> None:
        device_slices.drop_disabled(new)
        count(new, old)

    return Behaviour(prepare_create=create, prepare_update=update, selectable_fields=device_slices.selectable)


_EVENT = _plain(create_on_update=True, selectable_fields=fields.event)
_RBAC = _plain(create_on_update=True)
_CONDITIONAL: dict[str, Any] = {"unconditional_update": False}

_TABLE: dict[str, Callable[[Resource], Behaviour]] = {
    "pods": _pod,
    "podtemplates": _counted("template"),
    "replicationcontrollers": _with_status(
        has_scale=True, selectable_fields=fields.replicas, extra={"orphan_by_default": True}
    ),
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
    "limitranges": _plain(create_on_update=True, prepare_create=strategy.prepare_limit_range),
    "deployments.apps": _with_status(annotations=True, status=strategy.deployment_status, has_scale=True),
    "replicasets.apps": _with_status(has_scale=True),
    "statefulsets.apps": _with_status(has_scale=True),
    "daemonsets.apps": _daemon_set,
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
    "csidrivers.storage.k8s.io": lambda _: Behaviour(
        prepare_update=strategy.spec_counts("spec", status=False), **_CONDITIONAL
    ),
    "csistoragecapacities.storage.k8s.io": _plain(**_CONDITIONAL),
    "volumeattributesclasses.storage.k8s.io": _plain(prepare_create=strategy.prepare_attributes_class),
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
    "apiservices.apiregistration.k8s.io": _api_service,
    "deviceclasses.resource.k8s.io": _counted("spec"),
    "devicetaintrules.resource.k8s.io": _with_status(status=strategy.status_and_no_metadata),
    "resourceclaims.resource.k8s.io": _with_status(generation=False, status=device_status.prepare_status),
    "resourceclaimtemplates.resource.k8s.io": _plain(),
    "resourceslices.resource.k8s.io": _resource_slice,
}


def _pod_template(obj: Object) -> Errors:
    errors: Errors = []
    podspec.validate_template(errors, obj.get("template") or {}, "template")
    return errors


_TEMPLATE = ("spec", "template")
_WARNINGS: dict[str, warnings.Warn] = {
    "pods": warnings.pod,
    "podtemplates": warnings.workload("template", check_name=False),
    "replicationcontrollers": warnings.workload(*_TEMPLATE),
    "deployments.apps": warnings.workload(*_TEMPLATE),
    "replicasets.apps": warnings.workload(*_TEMPLATE),
    "statefulsets.apps": warnings.stateful_set,
    "daemonsets.apps": warnings.workload(*_TEMPLATE, check_name=False),
    "jobs.batch": warnings.workload(*_TEMPLATE),
    "cronjobs.batch": warnings.workload("spec", "jobTemplate", *_TEMPLATE),
    "ingresses.networking.k8s.io": warnings.ingress,
    "services": warnings.service,
    "persistentvolumes": warnings.volume,
    "persistentvolumeclaims": warnings.claim,
    "resourceslices.resource.k8s.io": device_slices.uppercase_warning,
}


def _validate(create: Any, update: Any = None, status: Any = None) -> dict[str, Any]:
    """Without an update check of its own a kind is checked as on create."""
    found: dict[str, Any] = {"validate_create": create}
    found["validate_update"] = update or (lambda new, old: create(new))
    if status is not None:
        found["validate_status"] = status
    return found


def _compiled(name: str) -> Callable[[Object], Errors]:
    """A check that compiles expressions: CEL is loaded by the first policy that is written."""

    def check(obj: Object) -> Errors:
        from atoll.cluster.apiserver.behaviour import admission_policies

        found: Errors = getattr(admission_policies, name)(obj)
        return found

    return check


_CHECKS: dict[str, dict[str, Any]] = {
    "podgroups.scheduling.k8s.io": _validate(scheduling.pod_group, scheduling.pod_group_update),
    "workloads.scheduling.k8s.io": _validate(scheduling.workload, scheduling.workload_update),
    "pods": _validate(pods.validate_create, pods.validate_update, pods.validate_status),
    "podtemplates": _validate(_pod_template),
    "replicationcontrollers": _validate(
        workloads.replication_controller, workloads.replication_controller_update, workloads.replicas_status()
    ),
    "services": _validate(services.service, services.service_update),
    "endpoints": _validate(services.endpoints, services.endpoints_update),
    "endpointslices.discovery.k8s.io": _validate(services.endpoint_slice, services.endpoint_slice_update),
    "configmaps": _validate(config.config_map, config.config_map_update),
    "secrets": _validate(config.secret, config.secret_update),
    "namespaces": _validate(config.namespace, config.namespace_update, config.namespace_status),
    "nodes": _validate(config.node, config.node_update, config.node_update),
    "events": _validate(config.event, config.event_update),
    "events.events.k8s.io": _validate(config.event_v1, config.event_v1_update),
    "persistentvolumes": _validate(storage.volume, storage.volume_update),
    "persistentvolumeclaims": _validate(storage.claim, storage.claim_update),
    "resourcequotas": _validate(config.resource_quota, config.resource_quota_update),
    "limitranges": _validate(config.limit_range),
    "deployments.apps": _validate(workloads.deployment, workloads.deployment_update, workloads.replicas_status()),
    "replicasets.apps": _validate(workloads.replica_set, workloads.replica_set_update, workloads.replicas_status()),
    "statefulsets.apps": _validate(
        workloads.stateful_set, workloads.stateful_set_update, workloads.replicas_status(ready="status.readyReplicas")
    ),
    "daemonsets.apps": _validate(workloads.daemon_set, workloads.daemon_set_update, workloads.daemon_set_status),
    "controllerrevisions.apps": _validate(workloads.controller_revision, workloads.controller_revision_update),
    "jobs.batch": _validate(jobs.job, jobs.job_update),
    "cronjobs.batch": _validate(jobs.cron_job, jobs.cron_job_update),
    "horizontalpodautoscalers.autoscaling": _validate(autoscaling.autoscaler, autoscaling.autoscaler_update),
    "poddisruptionbudgets.policy": _validate(policies.disruption_budget, policies.disruption_budget_update),
    "leases.coordination.k8s.io": _validate(policies.lease, policies.lease_update),
    "roles.rbac.authorization.k8s.io": _validate(rbac.role),
    "rolebindings.rbac.authorization.k8s.io": _validate(rbac.role_binding, rbac.role_binding_update),
    "clusterroles.rbac.authorization.k8s.io": _validate(rbac.cluster_role),
    "clusterrolebindings.rbac.authorization.k8s.io": _validate(
        rbac.cluster_role_binding, rbac.cluster_role_binding_update
    ),
    "storageclasses.storage.k8s.io": _validate(storage.storage_class, storage.storage_class_update),
    "volumeattachments.storage.k8s.io": _validate(storage.attachment, storage.attachment_update),
    "priorityclasses.scheduling.k8s.io": _validate(policies.priority_class, policies.priority_class_update),
    "runtimeclasses.node.k8s.io": _validate(policies.runtime_class, policies.runtime_class_update),
    "csidrivers.storage.k8s.io": _validate(storage.csi_driver, storage.csi_driver_update),
    "csinodes.storage.k8s.io": _validate(storage.csi_node),
    "csistoragecapacities.storage.k8s.io": _validate(storage.storage_capacity, storage.storage_capacity_update),
    "volumeattributesclasses.storage.k8s.io": _validate(storage.attributes_class, storage.attributes_class_update),
    "mutatingwebhookconfigurations.admissionregistration.k8s.io": _validate(registrations.webhooks),
    "validatingwebhookconfigurations.admissionregistration.k8s.io": _validate(registrations.webhooks),
    "validatingadmissionpolicies.admissionregistration.k8s.io": _validate(_compiled("validating_policy")),
    "validatingadmissionpolicybindings.admissionregistration.k8s.io": _validate(_compiled("validating_binding")),
    "mutatingadmissionpolicies.admissionregistration.k8s.io": _validate(_compiled("mutating_policy")),
    "mutatingadmissionpolicybindings.admissionregistration.k8s.io": _validate(_compiled("mutating_binding")),
    "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io": _validate(flowcontrol.priority_level),
    "flowschemas.flowcontrol.apiserver.k8s.io": _validate(flowcontrol.flow_schema),
    "certificatesigningrequests.certificates.k8s.io": _validate(
        certificates.validate, certificates.validate_update, certificates.validate_status
    ),
    "apiservices.apiregistration.k8s.io": _validate(registrations.api_service),
    "deviceclasses.resource.k8s.io": _validate(device_claims.device_class),
    "devicetaintrules.resource.k8s.io": _validate(device_taints.rule, None, device_taints.rule_status),
    "resourceclaims.resource.k8s.io": _validate(
        device_claims.resource_claim, device_claims.resource_claim_update, device_status.resource_claim_status
    ),
    "resourceclaimtemplates.resource.k8s.io": _validate(device_claims.template, device_claims.template_update),
    "resourceslices.resource.k8s.io": _validate(device_slices.resource_slice, device_slices.resource_slice_update),
    "servicecidrs.networking.k8s.io": _validate(networking.service_cidr),
    "ipaddresses.networking.k8s.io": _validate(networking.ip_address),
    "ingresses.networking.k8s.io": _validate(networking.ingress, networking.ingress_update),
    "ingressclasses.networking.k8s.io": _validate(networking.ingress_class, networking.ingress_class_update),
    "networkpolicies.networking.k8s.io": _validate(networking.network_policy, networking.network_policy_update),
}
