"""One cluster's API with access, admission and its first objects, over a store: no socket, no process, no thread.

The laptop's clusters, the hub, tests and simulations all stand on this one assembly.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Mapping
from functools import partial

import orjson
from msgspec import Struct, field

from atoll.base.chance import Chance
from atoll.base.clock import Clock
from atoll.base.errors import AlreadyExists
from atoll.base.metrics import Metrics
from atoll.base.names import FLEET_GROUP, LABEL_PREFIX
from atoll.client.port import Object
from atoll.cluster.apiserver import components
from atoll.cluster.apiserver.access.authentication import Authenticator
from atoll.cluster.apiserver.access.authorizers import AuthorizerChain
from atoll.cluster.apiserver.access.bootstrap import default_objects, legacy_token_tracking
from atoll.cluster.apiserver.access.impersonation import asks, impersonate, impersonate_slowly
from atoll.cluster.apiserver.access.nodes import NodeAuthorizer
from atoll.cluster.apiserver.access.rbac import RbacAuthorizer
from atoll.cluster.apiserver.access.reviews import Reviews
from atoll.cluster.apiserver.access.service_accounts import ServiceAccountTokens, service_account_user
from atoll.cluster.apiserver.access.tokens import AccountTokens, StaticTokens, TokenAuthenticator, TokenChain
from atoll.cluster.apiserver.admission.chain import Mutating, Validating
from atoll.cluster.apiserver.admission.default import default_chain
from atoll.cluster.apiserver.api import Api, Hooks, NoWayOut
from atoll.cluster.apiserver.builtins import builtin_registry, date_taint_rules
from atoll.cluster.apiserver.extensions import install
from atoll.cluster.apiserver.health import Health
from atoll.cluster.apiserver.local import LocalClient
from atoll.cluster.apiserver.ports import SYSTEM_ADMIN, HookCaller, MustWait, User
from atoll.cluster.store.port import Store
from atoll.kinds.catalog import ApiResource
from atoll.wire.messages import HttpRequest

_DIGEST = f"{LABEL_PREFIX}definition"  # on a CRD of ours


class ApiOptions(Struct, frozen=True):
    """What differs from cluster to cluster. `signing_key`: PEM of the service-account key, None: no tokens."""

    service_cidr: str = "10.96.0.0/16"
    signing_key: bytes | None = None
    client_ca_pem: bytes | None = None  # who may sign client certificates; None: TLS has looked at that
    static_tokens: Mapping[str, User] = {}
    process_nodes_tainted: bool = True
    runs_pods: bool = True
    validating: tuple[Validating, ...] = ()  # admission of the app's own
    queueing: bool = False  # Kueue's kinds are acted upon
    batch: bool = False  # JobSet and the like are acted upon
    teams: bool = False  # pods get the tolerations of their teams
    health: bool = False  # nodes join closed until they have passed their tests
    workload_api: bool = False  # scheduling.k8s.io/v1alpha2 is served
    device_previews: bool = False  # resource.k8s.io/v1beta1, v1beta2 and DeviceTaintRule are served
    hook_caller: HookCaller | None = None  # None: webhooks can't be reached (virtual time)


class Assembly(Struct):
    """The parts, wired."""

    api: Api
    store: Store
    clock: Clock
    chance: Chance
    authorizer: AuthorizerChain
    authenticator: Authenticator
    tokens: ServiceAccountTokens | None
    node_authorizer: NodeAuthorizer
    rbac: RbacAuthorizer
    reviews: Reviews
    metrics: Metrics
    health: Health = field(default_factory=Health)

    def client(self, user: User = SYSTEM_ADMIN, field_manager: str = "atoll") -> LocalClient:
        """The API as a trusted identity, in process."""
        return LocalClient(self.api, user, field_manager)

    def controller_client(self, name: str) -> LocalClient:
        """As kube-controller-manager's controller of that name."""
        return LocalClient(self.api, service_account_user("kube-system", name, "", {}), name)

    def identify(self, request: HttpRequest) -> User:
        """Who asks, impersonation included. Raises Unauthorized, Forbidden, BadRequest, MustWait."""
        try:
            user = self.authenticator.authenticate(request)
        except MustWait as waiting:
            raise MustWait(partial(self._identify_slowly, request, waiting)) from None
        return impersonate(request, user, self.authorizer) if asks(request) else user

    async def _identify_slowly(self, request: HttpRequest, waiting: MustWait) -> User:
        user: User = await waiting.finish()
        return await impersonate_slowly(request, user, self.authorizer)


def assemble(store: Store, clock: Clock, chance: Chance, options: ApiOptions) -> Assembly:
    """Wire an API over `store`; call `bootstrap` next."""
    rbac = RbacAuthorizer(store)
    node_authorizer = NodeAuthorizer(store)
    authorizer = AuthorizerChain([node_authorizer, rbac])
    tokens = None
    if options.signing_key is not None:
        tokens = ServiceAccountTokens(options.signing_key, store, clock, chance.stream("tokens"))
    kinds: list[TokenAuthenticator] = [StaticTokens(options.static_tokens)]
    if tokens is not None:
        kinds.append(AccountTokens(tokens))
    authenticator = Authenticator(
        TokenChain(kinds, [tokens.issuer] if tokens is not None else []), clock, client_ca_pem=options.client_ca_pem
    )
    reviews = Reviews(authorizer, rbac, authenticator, tokens, store, clock)
    registry = builtin_registry(_kinds_off_by_default(options))
    if options.device_previews:
        date_taint_rules(registry, clock)
    metrics = Metrics()
    mutating: tuple[Mutating, ...] = ()
    validating = options.validating
    if options.queueing:
        from atoll.app.queueing import queue_admission

        jobs, checks = queue_admission(store)
        mutating, validating = jobs, (*validating, checks)
    if options.batch:
        from atoll.app.batch import batch_admission

        defaults, refusals = batch_admission(store)
        mutating, validating = (*defaults, *mutating), (*validating, *refusals)
    if options.teams:
        from atoll.app.teams import team_admission

        teams = team_admission(store)
        mutating, validating = (*mutating, teams), (*validating, teams)
    if options.health:
        from atoll.app.health import node_admission

        mutating = (*mutating, node_admission(store, clock))
    admission = default_chain(
        store,
        clock,
        chance,
        authorizer,
        rbac,
        registry=registry,
        metrics=metrics,
        hook_caller=options.hook_caller,
        service_cidr=options.service_cidr,
        process_nodes_tainted=options.process_nodes_tainted,
        runs_pods=options.runs_pods,
        more_mutating=mutating,
        more_validating=validating,
    )
    hooks = Hooks(
        admission=admission,
        virtual=dict(reviews.handlers),
        token_request=reviews.token_request,
        hook_caller=options.hook_caller or NoWayOut(),
    )
    api = Api(store=store, clock=clock, chance=chance, registry=registry, hooks=hooks)
    install(api)
    api.overlay(components.RESOURCE, components.Components())
    return Assembly(
        api, store, clock, chance, authorizer, authenticator, tokens, node_authorizer, rbac, reviews, metrics
    )


def _kinds_off_by_default(options: ApiOptions) -> Iterable[ApiResource]:
    if options.workload_api:
        from atoll.kinds.workload import api_resources

        yield from api_resources()
    if options.device_previews:
        from atoll.kinds.devices import api_resources as device_resources

        yield from device_resources()


def default_storage_class() -> Object:
    """The class of claims that name none, as in every cluster that a person gets from a provider."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": "standard",
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": f"{FLEET_GROUP}/simulated",
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "Immediate",
        "allowVolumeExpansion": True,
    }


async def bootstrap(assembly: Assembly, extra: list[Object] | None = None) -> None:
    """Create what a new cluster has; what is there already is left as it is, but for definitions of ours that changed.

    A definition carries the digest of what it was made from, so that a newer Atoll brings newer ones.
    """
    client = assembly.client(User("system:apiserver", ("system:masters",)), "kube-apiserver")
    objects = [*default_objects(), legacy_token_tracking(assembly.clock), *(extra or [])]
    namespaces = [obj for obj in objects if obj["kind"] == "Namespace"]
    rest = [obj for obj in objects if obj["kind"] != "Namespace"]
    for group in (namespaces, rest):
        await asyncio.gather(*(_create(assembly, client, obj) for obj in group))


async def _create(assembly: Assembly, client: LocalClient, obj: Object) -> None:
    served = assembly.api.registry.of_kind(obj["apiVersion"], obj["kind"])
    assert served is not None, obj["kind"]
    metadata = obj["metadata"]
    definition = obj["kind"] == "CustomResourceDefinition"
    if definition:
        obj = _stamped(obj)
    record = assembly.store.get(served.key(metadata.get("namespace") or "", metadata["name"]))
    if record is not None:
        stored = record.object["metadata"].get("annotations") or {}
        if definition and stored.get(_DIGEST) != obj["metadata"]["annotations"][_DIGEST]:
            await client.apply(served.resource, obj)
        return
    try:
        await client.create(served.resource, obj, metadata.get("namespace"))
    except AlreadyExists:
        return


def _stamped(obj: Object) -> Object:
    metadata = obj["metadata"]
    digest = hashlib.sha256(orjson.dumps(obj, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]
    return {**obj, "metadata": {**metadata, "annotations": {**(metadata.get("annotations") or {}), _DIGEST: digest}}}
