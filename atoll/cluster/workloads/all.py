"""The controller-manager: all controllers of a cluster, or the few that a hub runs."""

from __future__ import annotations

from atoll.base.chance import Chance
from atoll.base.clock import Clock
from atoll.cluster.workloads.accounts.controller import AccountTokens, DefaultAccounts, RootCaPublisher, TokenMaker
from atoll.cluster.workloads.autoscaling.controller import AutoscalerController
from atoll.cluster.workloads.certificates.controller import CertificateSigner, Signer
from atoll.cluster.workloads.common.context import ClientFactory, Context, Options, Runnable
from atoll.cluster.workloads.cronjob.controller import CronJobController
from atoll.cluster.workloads.daemonset.controller import DaemonSetController
from atoll.cluster.workloads.deployment.controller import DeploymentController
from atoll.cluster.workloads.devicetaints.controller import DeviceTaintEviction
from atoll.cluster.workloads.disruption.controller import DisruptionController
from atoll.cluster.workloads.endpoints.controller import EndpointsController, EndpointSliceController
from atoll.cluster.workloads.endpoints.mirroring import EndpointSliceMirroringController
from atoll.cluster.workloads.garbage.controller import GarbageCollector
from atoll.cluster.workloads.housekeeping.cluster import ClusterRoleAggregation, NodeAddresses
from atoll.cluster.workloads.housekeeping.expiry import EventExpiry, FinishedJobs
from atoll.cluster.workloads.housekeeping.pod_gc import PodCollector
from atoll.cluster.workloads.job.controller import JobController
from atoll.cluster.workloads.loadbalancers.controller import LoadBalancerController
from atoll.cluster.workloads.namespaces.controller import NamespaceController
from atoll.cluster.workloads.policies.controller import PolicyCheck, PolicyStatusController
from atoll.cluster.workloads.quota.controller import ResourceQuotaController
from atoll.cluster.workloads.replicaset.controller import (
    REPLICA_SET,
    REPLICATION_CONTROLLER,
    ReplicaSetController,
)
from atoll.cluster.workloads.resourceclaims.controller import ResourceClaimController
from atoll.cluster.workloads.statefulset.controller import StatefulSetController
from atoll.cluster.workloads.volumes.class_protection import ClassProtectionController
from atoll.cluster.workloads.volumes.controller import EphemeralClaims, ProtectionController, VolumeController
from atoll.runtime.informer import Informers

__all__ = ["Options", "full_controllers", "hub_controllers"]


def hub_controllers(
    client_for: ClientFactory,
    informers: Informers,
    clock: Clock,
    chance: Chance,
    options: Options | None = None,
    make_token: TokenMaker | None = None,
) -> list[Runnable]:
    """Namespaces, garbage collection, service accounts, aggregated roles, quotas: all but what runs templates.

    The caller starts the informers (`informers.start()`) and runs each as a task.
    """
    context = Context(client_for, informers, clock, chance, options or Options())
    return _basic(context, make_token)


def full_controllers(
    client_for: ClientFactory,
    informers: Informers,
    clock: Clock,
    chance: Chance,
    options: Options | None = None,
    make_token: TokenMaker | None = None,
    sign: Signer | None = None,
    check_policy: PolicyCheck | None = None,
) -> list[Runnable]:
    """Everything that kube-controller-manager does here but for nodes' health, which is the nodes' part."""
    options = options or Options()
    context = Context(client_for, informers, clock, chance, options)
    found: list[Runnable] = [
        *_basic(context, make_token),
        ReplicaSetController(context, REPLICA_SET),
        ReplicaSetController(context, REPLICATION_CONTROLLER),
        DeploymentController(context),
        StatefulSetController(context),
        DaemonSetController(context),
        JobController(context),
        CronJobController(context),
        DisruptionController(context),
        AutoscalerController(context),
        EndpointsController(context),
        EndpointSliceController(context),
        EndpointSliceMirroringController(context),
        VolumeController(context),
        ProtectionController(context),
        ClassProtectionController(context),
        EphemeralClaims(context),
        ResourceClaimController(context),
        DeviceTaintEviction(context),
        FinishedJobs(context),
        PodCollector(context),
    ]
    if options.load_balancers:
        found.append(LoadBalancerController(context, options.load_balancers, shared=options.load_balancers_shared))
    if sign is not None:
        found.append(CertificateSigner(context, sign))
    if check_policy is not None:
        found.append(PolicyStatusController(context, check_policy))
    if options.cluster_cidr:
        found.append(NodeAddresses(context))
    return found


def _basic(context: Context, make_token: TokenMaker | None) -> list[Runnable]:
    found: list[Runnable] = [
        NamespaceController(context),
        GarbageCollector(context),
        DefaultAccounts(context),
        ClusterRoleAggregation(context),
        ResourceQuotaController(context),
    ]
    if context.options.event_ttl_seconds:
        found.append(EventExpiry(context))
    if context.options.root_ca:
        found.append(RootCaPublisher(context))
    if make_token is not None:
        found.append(AccountTokens(context, make_token))
    return found
