"""The plugins that are on by default, in the real chain's order, over one store."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

from atoll.base.chance import Chance
from atoll.base.clock import Clock
from atoll.base.metrics import Metrics
from atoll.cluster.apiserver.access import escalation
from atoll.cluster.apiserver.access.rbac import RbacAuthorizer
from atoll.cluster.apiserver.admission.certificates import SigningRequests
from atoll.cluster.apiserver.admission.chain import AdmissionChain, Mutating, Validating
from atoll.cluster.apiserver.admission.devices import DeviceAccess
from atoll.cluster.apiserver.admission.limit_ranger import LimitRanger
from atoll.cluster.apiserver.admission.namespaces import NamespaceLifecycle
from atoll.cluster.apiserver.admission.node_restriction import NodeRestriction
from atoll.cluster.apiserver.admission.placement import PodResizes, PodTopologyLabels
from atoll.cluster.apiserver.admission.pod_security.plugin import PodSecurity
from atoll.cluster.apiserver.admission.pods import (
    DefaultTolerationSeconds,
    Priority,
    ProcessNodes,
    RuntimeClasses,
    ServiceAccounts,
)
from atoll.cluster.apiserver.admission.policies.plugins import Policies
from atoll.cluster.apiserver.admission.quota import ResourceQuotas
from atoll.cluster.apiserver.admission.services import ServiceAllocation
from atoll.cluster.apiserver.admission.storage import (
    ClaimResize,
    NodeTaints,
    StorageProtection,
    default_ingress_class,
    default_storage_class,
)
from atoll.cluster.apiserver.admission.versions import Versions
from atoll.cluster.apiserver.admission.webhooks.calls import Calls
from atoll.cluster.apiserver.admission.webhooks.metrics import HookMetrics
from atoll.cluster.apiserver.admission.webhooks.model import MUTATING, VALIDATING, Configured
from atoll.cluster.apiserver.admission.webhooks.plugins import MutatingWebhooks, ValidatingWebhooks
from atoll.cluster.apiserver.api import NoWayOut
from atoll.cluster.apiserver.ports import AdmissionRequest, Authorizer, HookCaller
from atoll.cluster.apiserver.served import Registry
from atoll.cluster.store.port import Store

_RBAC = ("roles", "rolebindings", "clusterroles", "clusterrolebindings")


class RbacEscalation:
    """Refuses to grant what the writer does not hold (part of the RBAC storage upstream)."""

    resources = frozenset(f"{plural}.rbac.authorization.k8s.io" for plural in _RBAC)

    def __init__(self, rbac: RbacAuthorizer, authorizer: Authorizer) -> None:
        self._rbac = rbac
        self._authorizer = authorizer

    def validate(self, request: AdmissionRequest) -> Awaitable[None]:
        return escalation.check(self._rbac, self._authorizer, request)


def default_chain(
    store: Store,
    clock: Clock,
    chance: Chance,
    authorizer: Authorizer | None,
    rbac: RbacAuthorizer | None = None,
    *,
    registry: Registry,
    metrics: Metrics,
    hook_caller: HookCaller | None = None,
    service_cidr: str = "10.96.0.0/16",
    process_nodes_tainted: bool = True,
    runs_pods: bool = True,
    more_mutating: Sequence[Mutating] = (),
    more_validating: Sequence[Validating] = (),
) -> AdmissionChain:
    """`process_nodes_tainted`: selecting process nodes adds the toleration for their taint.

    Without `runs_pods` (a hub) claims and volumes are not protected: nothing uses them there, and nobody would let go.
    """
    told = HookMetrics(metrics, clock)
    calls = Calls(store, Versions(registry), hook_caller or NoWayOut(), chance.stream("admission-reviews"), authorizer)
    priority = Priority(store)
    limits = LimitRanger(store)
    signing = SigningRequests(clock, authorizer)
    devices = DeviceAccess(store, clock, authorizer)
    policies = Policies(store, registry, authorizer)
    services = ServiceAllocation(store, clock, chance.stream("service-allocation"), service_cidr)
    mutating: list[Mutating] = [
        NamespaceLifecycle(store),
        limits,
        ServiceAccounts(store, chance.stream("service-accounts")),
        NodeTaints(),
        priority,
        DefaultTolerationSeconds(),
        *([ProcessNodes()] if process_nodes_tainted else []),
        default_storage_class(store),
        *([StorageProtection()] if runs_pods else []),
        RuntimeClasses(store),
        default_ingress_class(store),
        signing,
        devices,
        PodTopologyLabels(store),
        *more_mutating,
        policies,
        MutatingWebhooks(Configured(store, MUTATING), calls, told),
    ]
    validating: list[Validating] = [
        limits,
        NodeRestriction(store, authorizer),
        PodSecurity(store),
        priority,
        ClaimResize(store),
        signing,
        devices,
        PodResizes(store),
        policies,
        ValidatingWebhooks(Configured(store, VALIDATING), calls, told),
        ResourceQuotas(store, clock),
    ]
    if authorizer is not None and rbac is not None:
        validating.insert(0, RbacEscalation(rbac, authorizer))
    return AdmissionChain(mutating, [*validating, *more_validating], [services])
