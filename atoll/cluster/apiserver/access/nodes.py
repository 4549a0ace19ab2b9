"""What a kubelet may see: of Secrets, ConfigMaps, claims and accounts only those that a pod on its node names.

Upstream's Node authorizer keeps a graph for this; here the node's pods are looked at when it asks, which is seldom.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from atoll.cluster.apiserver.ports import Attributes
from atoll.cluster.store.port import Store

Object = dict[str, Any]
USER_PREFIX = "system:node:"
_READ = frozenset(("secrets", "configmaps", "persistentvolumeclaims"))


def unrelated(store: Store, asked: Attributes) -> str:
    """Why the node that asks may not, though nodes may in general; "" if nothing speaks against it."""
    node = asked.user.name.removeprefix(USER_PREFIX)
    if asked.group or not asked.user.name.startswith(USER_PREFIX):
        return ""
    if asked.resource in _READ:
        if asked.verb not in ("get", "list", "watch"):
            return "can only read resources of this type"
        if asked.subresource:
            return "cannot read subresource"
        if not asked.namespace:
            return "can only read namespaced object of this type"
        if not asked.name:
            return "No Object name found"
    elif asked.resource != "serviceaccounts" or asked.subresource != "token":
        return ""
    for record in store.scan("pods", asked.namespace):
        if record.node_name == node and (asked.resource, asked.name) in set(_named(record.object["spec"])):
            return ""
    return f"no relationship found between node '{node}' and this object"


def _named(spec: Object) -> Iterator[tuple[str, str]]:
    """(plural, name) of all that a pod's spec names."""
    yield "serviceaccounts", spec.get("serviceAccountName") or ""
    for secret in spec.get("imagePullSecrets") or ():
        yield "secrets", secret.get("name", "")
    for field in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(field) or ():
            yield from _environment(container)
    for volume in spec.get("volumes") or ():
        yield from _volume(volume)
        for source in (volume.get("projected") or {}).get("sources") or ():
            yield from _volume(source)


def _environment(container: Object) -> Iterator[tuple[str, str]]:
    for item in container.get("env") or ():
        source = item.get("valueFrom") or {}
        yield "secrets", (source.get("secretKeyRef") or {}).get("name", "")
        yield "configmaps", (source.get("configMapKeyRef") or {}).get("name", "")
    for source in container.get("envFrom") or ():
        yield "secrets", (source.get("secretRef") or {}).get("name", "")
        yield "configmaps", (source.get("configMapRef") or {}).get("name", "")


def _volume(source: Object) -> Iterator[tuple[str, str]]:
    secret, config, claim = source.get("secret"), source.get("configMap"), source.get("persistentVolumeClaim")
    if secret:
        yield "secrets", secret.get("secretName") or secret.get("name", "")
    if config:
        yield "configmaps", config.get("name", "")
    if claim:
        yield "persistentvolumeclaims", claim.get("claimName", "")
    for driver in source.values():
        if isinstance(driver, dict):
            for field in ("secretRef", "nodePublishSecretRef"):
                yield "secrets", (driver.get(field) or {}).get("name", "")
