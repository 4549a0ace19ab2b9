"""Taking a cluster into the fleet, and letting it go: both sides are made, and both are cleaned.

`plan_join` says what will be made (the role is printed before anything is), `join` makes it, `clean_member` undoes it.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import orjson

from atoll.base.clock import Clock
from atoll.base.errors import AlreadyExists, ApiError, Forbidden, NotFound, UserError
from atoll.client.http import HttpClient
from atoll.client.kubeconfig import Access
from atoll.client.port import Client, DeleteOptions
from atoll.fleet import names
from atoll.fleet.kindmap import KindMap
from atoll.fleet.registry.roles import ACCOUNT, Allowed, objects, owned
from atoll.kinds.builtin import NAMESPACES, SECRETS, SERVICE_ACCOUNTS
from atoll.kinds.hub import CLUSTERS, STORED_CLUSTERS
from atoll.kinds.resource import Resource

Object = dict[str, Any]
_CLUSTER_ROLES = Resource("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", False)
_TOKEN_WAIT_SECONDS = 5.0
_TOKEN_STEP_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Joining:
    """What is asked: the member's address and CA as the hub will use them, and what is known of the place."""

    name: str
    server: str
    ca_pem: bytes | None = None
    insecure: bool = False
    provider: str = ""
    region: str = ""
    zones: tuple[str, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    allow: tuple[Allowed, ...] = ()


def http_connect(clock: Clock) -> Callable[[Object, Object | None], Client]:
    """How a hub reaches its members over the network."""
    return lambda cluster, secret: HttpClient(access_of(cluster, secret), clock=clock)


def access_of(cluster: Object, secret: Object | None) -> Access:
    """From a Cluster and the Secret that its secretRef names (token, caBundle; or tls.crt and tls.key)."""
    spec, data = cluster.get("spec") or {}, (secret or {}).get("data") or {}

    def decoded(key: str) -> bytes | None:
        return base64.b64decode(data[key]) if data.get(key) else None

    token = decoded("token")
    return Access(
        server=spec.get("apiEndpoint") or "",
        ca_pem=decoded("caBundle"),
        insecure=bool(spec.get("insecureSkipTLSVerification")),
        certificate_pem=decoded("tls.crt"),
        key_pem=decoded("tls.key"),
        token=token.decode() if token else None,
    )


async def stored_clusters(hub: Client) -> Resource:
    """Where the hub stores its Clusters: on a real kube-apiserver under our own group."""
    answer = await hub.raw("GET", f"/apis/{STORED_CLUSTERS.api_version}")
    kinds = orjson.loads(answer.body).get("resources") or [] if answer.status == 200 else []
    return STORED_CLUSTERS if any(item["name"] == STORED_CLUSTERS.plural for item in kinds) else CLUSTERS


async def plan_join(member: Client, allow: Sequence[Allowed]) -> list[Object]:
    """What will be made in the member. Raises UserError for a kind that the member does not serve."""
    kinds = KindMap(member)
    found: list[tuple[Allowed, Resource]] = []
    for rule in allow:
        resource = await _resource_of(member, kinds, rule.kind)
        if resource is None:
            raise UserError(f"the cluster serves no kind {rule.kind}", hint="see kubectl api-resources there")
        found.append((rule, resource))
    return objects(found)


async def _resource_of(member: Client, kinds: KindMap, kind: str) -> Resource | None:
    """By kind, as the first group that serves it has it; KIND.GROUP says which."""
    kind, _, group = kind.partition(".")
    for version in await _group_versions(member):
        if group and version.rpartition("/")[0] != group:
            continue
        resource = await kinds.resource(version, kind)
        if resource is not None:
            return resource
    return None


async def _group_versions(member: Client) -> list[str]:
    answer = await member.raw("GET", "/apis")
    groups = orjson.loads(answer.body).get("groups") or [] if answer.status == 200 else []
    return ["v1", *(group["preferredVersion"]["groupVersion"] for group in groups)]


async def join(hub: Client, member: Client, wanted: Joining, *, clusters: Resource = CLUSTERS) -> Object:
    """Makes the account in the member, and Secret and Cluster in the hub. Returns the Cluster.

    May be repeated after a failure. Raises UserError where the name is taken by another cluster, Forbidden where the
    member's user may not grant such a role.
    """
    if not wanted.server:
        raise UserError("the kubeconfig names no server")
    identity = await _identity(member)
    await _check_free(hub, wanted, identity, clusters)
    try:
        role, *others = await plan_join(member, wanted.allow)
        made = await _create(member, role)
        for obj in others:
            await _create(member, owned(obj, made))
    except Forbidden as error:
        hint = "use a kubeconfig of a cluster administrator, or --allow only kinds that this user may grant"
        raise UserError(f"the hub's account can't be made in {wanted.name}: {error.message}", hint=hint) from error
    token = await _token(member)
    with suppress(AlreadyExists):
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": names.CREDENTIALS_NAMESPACE}}
        await hub.create(NAMESPACES, space)
    await hub.apply(SECRETS, _secret(wanted, token))
    return await hub.apply(clusters, _cluster(wanted, identity, clusters))


async def _identity(member: Client) -> str:
    """The uid of kube-system, by which upstream knows a cluster."""
    try:
        return str((await member.get(NAMESPACES, "kube-system"))["metadata"]["uid"])
    except (NotFound, Forbidden):
        return ""


async def _check_free(hub: Client, wanted: Joining, identity: str, clusters: Resource) -> None:
    for cluster in (await hub.list(clusters)).items:
        name, its = cluster["metadata"]["name"], (cluster.get("spec") or {}).get("id")
        if name == wanted.name and its and identity and its != identity:
            raise UserError(f"another cluster is joined as {name}", hint=f"choose another name, or atoll unjoin {name}")
        if name != wanted.name and identity and its == identity:
            raise UserError(f"this cluster is joined already, as {name}", hint=f"atoll unjoin {name} first")


async def _create(member: Client, obj: Object) -> Object:
    """Made, or what was made before brought up to date; a namespace that was there before stays its owner's."""
    kinds = KindMap(member)
    resource = await kinds.resource(obj["apiVersion"], obj["kind"])
    assert resource is not None, obj["kind"]
    name, namespace = obj["metadata"]["name"], obj["metadata"].get("namespace")
    try:
        return await member.create(resource, obj)
    except AlreadyExists:
        if obj["kind"] == "Namespace":
            return obj
        fresh: Object = {"metadata": {"ownerReferences": obj["metadata"].get("ownerReferences")}}
        if "rules" in obj:
            fresh["rules"] = obj["rules"]
        return await member.patch(resource, name, fresh, namespace)


async def _token(member: Client) -> str:
    """The token that the member's controller puts into the Secret; a requested one where no controller does."""
    waited = 0.0
    while waited < _TOKEN_WAIT_SECONDS:
        secret = await member.get(SECRETS, ACCOUNT, names.MEMBER_NAMESPACE)
        if (secret.get("data") or {}).get("token"):
            return base64.b64decode(secret["data"]["token"]).decode()
        await asyncio.sleep(_TOKEN_STEP_SECONDS)
        waited += _TOKEN_STEP_SECONDS
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
               "spec": {"expirationSeconds": 10 * 365 * 86400}}  # fmt: skip
    try:
        answer = await member.create(
            SERVICE_ACCOUNTS, request, names.MEMBER_NAMESPACE, name=ACCOUNT, subresource="token"
        )
    except ApiError as error:
        raise UserError(f"the member gave no token for the hub's account: {error.message}") from error
    return str(answer["status"]["token"])


def _secret(wanted: Joining, token: str) -> Object:
    data = {"token": base64.b64encode(token.encode()).decode()}
    if wanted.ca_pem:
        data["caBundle"] = base64.b64encode(wanted.ca_pem).decode()
    metadata = {"name": wanted.name, "namespace": names.CREDENTIALS_NAMESPACE}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}


def _cluster(wanted: Joining, identity: str, clusters: Resource) -> Object:
    spec: Object = {
        "syncMode": "Push",
        "apiEndpoint": wanted.server,
        "secretRef": {"namespace": names.CREDENTIALS_NAMESPACE, "name": wanted.name},
    }
    optional = {"id": identity, "provider": wanted.provider, "region": wanted.region, "zones": list(wanted.zones)}
    spec |= {key: value for key, value in optional.items() if value}
    if wanted.insecure:
        spec["insecureSkipTLSVerification"] = True
    metadata: Object = {"name": wanted.name}
    if wanted.labels:
        metadata["labels"] = dict(wanted.labels)
    return {"apiVersion": clusters.api_version, "kind": clusters.kind, "metadata": metadata, "spec": spec}


async def unjoin(hub: Client, name: str, *, force: bool = False, clusters: Resource = CLUSTERS) -> None:
    """Asks the hub to let the cluster go; its controllers move what runs there, clean both sides, and then it is gone.

    `force` leaves behind what can't be reached. Raises UserError for a name that is not joined.
    """
    try:
        if force:
            await hub.patch(clusters, name, {"metadata": {"annotations": {names.ORPHAN: "true"}}})
        await hub.delete(clusters, name)
    except NotFound as error:
        raise UserError(f"no cluster is joined as {name}", hint="see kubectl get clusters on the hub") from error


async def clean_member(member: Client) -> None:
    """Takes the hub's account and roles away again.

    Each step by itself would take the right to do the next; the role owns all the rest, so one deletion is enough.
    """
    with suppress(NotFound, Forbidden, ApiError):
        await member.delete(_CLUSTER_ROLES, ACCOUNT, options=DeleteOptions(propagation="Background"))
