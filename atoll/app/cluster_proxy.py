"""The hub's clusters/NAME/proxy, wired to the hub's own authentication, RBAC and stored credentials."""

from __future__ import annotations

from atoll.app.assembly import Assembly
from atoll.base.errors import ApiError
from atoll.client.kubeconfig import Access
from atoll.cluster.apiserver import problems
from atoll.cluster.apiserver.ports import Attributes, MustWait, decide
from atoll.cluster.apiserver.refusals import refusal
from atoll.fleet.registry.join import access_of
from atoll.fleet.registry.proxy import Person, with_cluster_proxy
from atoll.kinds.builtin import SECRETS
from atoll.kinds.hub import CLUSTERS
from atoll.wire.messages import Handler, HttpRequest, HttpResponse

_VERBS = {"GET": "get", "HEAD": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


def cluster_proxy(inner: Handler, assembly: Assembly) -> Handler:
    """The hub's handler with the proxy in front."""
    client = assembly.client()

    async def authorize(request: HttpRequest, cluster: str) -> Person:
        try:
            user = assembly.identify(request)
        except MustWait as waiting:
            user = await waiting.finish()
        asked = Attributes(
            user, _VERBS.get(request.method, request.method.lower()), CLUSTERS.group, CLUSTERS.version,
            CLUSTERS.plural, "proxy", "", cluster,
        )  # fmt: skip
        decision = await decide(assembly.authorizer, asked)
        if not decision.allowed:
            raise problems.denied(asked, decision.reason)
        return Person(user.name, user.groups, user.extra)

    async def reach(cluster: str) -> Access:
        obj = await client.get(CLUSTERS, cluster)
        reference = (obj.get("spec") or {}).get("secretRef") or {}
        secret = None
        if reference.get("name"):
            secret = await client.get(SECRETS, reference["name"], reference.get("namespace"))
        return access_of(obj, secret)

    def refuse(error: Exception) -> HttpResponse:
        if isinstance(error, ApiError):
            return refusal(error)
        raise error

    return with_cluster_proxy(inner, authorize, reach, refuse)
