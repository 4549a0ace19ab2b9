"""Aggregated APIs, wired: the front proxy's identity, what others must know of it, the loop beside the API server."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import orjson

from atoll.app.assembly import Assembly
from atoll.app.pki import FRONT_PROXY, ClusterKeys
from atoll.app.tasks import Tasks
from atoll.client.port import Object
from atoll.cluster.apiserver.aggregation.autoregister import Autoregister
from atoll.cluster.apiserver.health import latched
from atoll.cluster.apiserver.http import Translator
from atoll.cluster.apiserver.ports import User
from atoll.cluster.store.port import Key, Record
from atoll.kinds.builtin import CONFIGMAPS
from atoll.wire.tls import client_context

if TYPE_CHECKING:
    from atoll.wire.ca import Certified

_API_SERVICES = "apiservices.apiregistration.k8s.io"
_NAMESPACE, _NAME = "kube-system", "extension-apiserver-authentication"


def aggregate(assembly: Assembly, handler: Translator, keys: ClusterKeys, tasks: Tasks) -> None:
    """Let `handler` pass group versions on to the servers that APIServices name; the first one to do so loads it."""
    api = assembly.api

    async def first(key: Key, record: Record | None) -> None:
        if record is not None and _names_service(record):
            _begin(assembly, handler, keys, tasks)
            await api.followers[_API_SERVICES](key, record)

    if any(_names_service(record) for record in assembly.store.scan(_API_SERVICES)):
        _begin(assembly, handler, keys, tasks)
    else:
        api.followers[_API_SERVICES] = first
    _register(assembly, tasks)


def _register(assembly: Assembly, tasks: Tasks) -> None:
    """Keep the APIServices of what is served here."""
    local = Autoregister(assembly.api)
    assembly.health.add("autoregister-completion", latched(local.complete, "an APIService is missing"))
    tasks.start("autoregister", local.run())


def _names_service(record: Record) -> bool:
    return bool((record.object.get("spec") or {}).get("service"))


def _begin(assembly: Assembly, handler: Translator, keys: ClusterKeys, tasks: Tasks) -> None:
    from atoll.cluster.apiserver.aggregation.keeper import Keeper
    from atoll.cluster.apiserver.aggregation.proxy import Proxy

    own: Certified | None = None

    def secure(ca_pem: bytes, insecure: bool) -> ssl.SSLContext:
        nonlocal own
        own = own or keys.front_proxy_client()
        return client_context(
            ca_pem=ca_pem or None, certificate_pem=own.certificate_pem, key_pem=own.key_pem, insecure=insecure
        )

    proxy = Proxy(assembly.store, secure)
    keeper = Keeper(assembly.api, proxy)
    handler.aggregation = proxy
    handler.nonresource.aggregated = keeper
    tasks.keep("aggregation", keeper.run)


def trust(keys: ClusterKeys) -> Object:
    """kube-system/extension-apiserver-authentication: by whom clients and the front proxy are certified here, and in
    which headers the front proxy names users."""
    data = {
        "client-ca-file": keys.ca_pem.decode(),
        "requestheader-allowed-names": _listed(FRONT_PROXY),
        "requestheader-client-ca-file": keys.front_proxy_ca_pem.decode(),
        "requestheader-extra-headers-prefix": _listed("X-Remote-Extra-"),
        "requestheader-group-headers": _listed("X-Remote-Group"),
        "requestheader-uid-headers": _listed("X-Remote-Uid"),
        "requestheader-username-headers": _listed("X-Remote-User"),
    }
    metadata = {"name": _NAME, "namespace": _NAMESPACE}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


async def renew_trust(assembly: Assembly, keys: ClusterKeys) -> None:
    """Level: what differs (a restored store, other keys) is put right."""
    wanted = trust(keys)["data"]
    record = assembly.store.get(Key("configmaps", _NAMESPACE, _NAME))
    if record is not None and record.object.get("data") != wanted:
        client = assembly.client(User("system:apiserver", ("system:masters",)), "kube-apiserver")
        await client.patch(CONFIGMAPS, _NAME, {"data": wanted}, _NAMESPACE)


def _listed(text: str) -> str:
    return orjson.dumps([text]).decode()
