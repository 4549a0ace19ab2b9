"""The Node authorizer: what a kubelet may do, and to which objects (those that the pods on its node name).

Upstream keeps a graph of these relations; here the node's pods are looked at when a kubelet asks, which is seldom next
to what else is asked. Follows https://kubernetes.io/docs/reference/access-authn-authz/node/; what needs the content of
a new object is left to the NodeRestriction admission plugin, as there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from atoll.cluster.apiserver.access.bootstrap import default_rbac
from atoll.cluster.apiserver.access.rbac import Rule
from atoll.cluster.apiserver.ports import NO_OPINION, Attributes, Decision, User
from atoll.cluster.store.port import Key, Record, Store
from atoll.objects.selectors import SelectorError, parse_fields

Object = dict[str, Any]
USER_PREFIX = "system:node:"
GROUP = "system:nodes"
LEASE_NAMESPACE = "kube-node-lease"
_ALLOWED = Decision(True, "")
_OWN_VERBS = ("get", "create", "update", "patch", "delete")


def node_of(user: User) -> str | None:
    """The node that a user is; "" for one whose name does not say; None for others."""
    if not user.name.startswith(USER_PREFIX) or GROUP not in user.groups:
        return None
    return user.name[len(USER_PREFIX) :]


class NodeAuthorizer:
    """See the module. Has no opinion on anyone but nodes."""

    def __init__(self, store: Store) -> None:
        self._relations = Relations(store)
        self._rules: list[Rule] | None = None
        self._special: dict[tuple[str, str], Callable[[str, Attributes], str]] = {
            ("", "secrets"): self._read,
            ("", "configmaps"): self._read,
            ("", "persistentvolumeclaims"): self._claim,
            ("", "persistentvolumes"): self._get,
            ("resource.k8s.io", "resourceclaims"): self._get,
            ("storage.k8s.io", "volumeattachments"): self._get,
            ("", "serviceaccounts"): self._account,
            ("coordination.k8s.io", "leases"): _lease,
            ("storage.k8s.io", "csinodes"): _csi_node,
            ("resource.k8s.io", "resourceslices"): self._slice,
            ("", "nodes"): _node,
            ("", "pods"): self._pod,
            ("certificates.k8s.io", "podcertificaterequests"): self._certificate_request,
        }

    def authorize(self, attributes: Attributes) -> Decision:
        user = attributes.user
        if not user.name.startswith(USER_PREFIX):
            return NO_OPINION
        node = node_of(user)
        if node is None:
            return NO_OPINION
        if not node:
            return Decision(False, f'unknown node for user "{user.name}"')
        special = self._special.get((attributes.group, attributes.resource)) if attributes.resource else None
        if special is not None:
            why = special(node, attributes)
            return _ALLOWED if why == _MAY else Decision(False, why)
        return _ALLOWED if any(rule.allows(attributes) for rule in self._static()) else NO_OPINION

    def _static(self) -> list[Rule]:
        """The rules of the default ClusterRole system:node, whatever has become of the stored one."""
        if self._rules is None:
            roles = [item for item in default_rbac() if item["kind"] == "ClusterRole"]
            role = next(item for item in roles if item["metadata"]["name"] == "system:node")
            self._rules = [Rule.compile(rule) for rule in role["rules"]]
        return self._rules

    def _related(self, node: str, asked: Attributes) -> str:
        if not asked.name:
            return "No Object name found"
        if self._relations.holds(node, asked.resource, asked.namespace, asked.name):
            return _MAY
        return f"no relationship found between node '{node}' and this object"

    def _read(self, node: str, asked: Attributes) -> str:
        if asked.verb not in ("get", "list", "watch"):
            return "can only read resources of this type"
        if asked.subresource:
            return "cannot read subresource"
        if not asked.namespace:
            return "can only read namespaced object of this type"
        return self._related(node, asked)

    def _get(self, node: str, asked: Attributes) -> str:
        if asked.verb != "get":
            return "can only get individual resources of this type"
        return "cannot get subresource" if asked.subresource else self._related(node, asked)

    def _claim(self, node: str, asked: Attributes) -> str:
        if asked.subresource != "status":
            return self._get(node, asked)
        if asked.verb not in ("update", "patch"):
            return "can only get/update/patch this type"
        return self._related(node, asked)

    def _account(self, node: str, asked: Attributes) -> str:
        if asked.verb == "get" and not asked.subresource:
            return self._read(node, asked)
        if asked.verb != "create" or not asked.name:
            return "can only create tokens for individual service accounts"
        if asked.subresource != "token":
            return "can only create token subresource of serviceaccount"
        return self._related(node, asked)

    def _slice(self, node: str, asked: Attributes) -> str:
        if asked.subresource:
            return "cannot authorize ResourceSlice subresources"
        if asked.verb == "create":
            return _MAY
        if asked.verb in ("get", "update", "patch", "delete"):
            return self._related(node, asked)
        if asked.verb in ("watch", "list", "deletecollection"):
            if _selects(asked, node):
                return _MAY
            return "can only list/watch/deletecollection resourceslices with nodeName field selector"
        return (
            "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, "
            "delete, deletecollection"
        )

    def _pod(self, node: str, asked: Attributes) -> str:
        verb = asked.verb
        if asked.subresource == "status":
            return _MAY if verb in ("update", "patch") else ""
        if asked.subresource == "eviction":
            return _MAY if verb == "create" else ""
        if asked.subresource:
            return ""
        if verb == "get":
            return self._get(node, asked)
        if verb in ("create", "delete"):
            return _MAY
        if verb not in ("list", "watch"):
            return ""
        if _selects(asked, node):
            return _MAY
        if asked.name:
            return self._related(node, asked)
        return "can only list/watch pods with spec.nodeName field selector"

    def _certificate_request(self, node: str, asked: Attributes) -> str:
        if asked.subresource:
            return "nodes may not access the status subresource of PodCertificateRequests"
        if asked.verb == "create":
            return _MAY
        if asked.verb == "get":
            return self._related(node, asked)
        if asked.verb in ("list", "watch"):
            if _selects(asked, node):
                return _MAY
            return "can only list/watch podcertificaterequests with nodeName field selector"
        return f"nodes may not {asked.verb} podcertificaterequests"


_MAY = "yes"  # what the functions above and below answer where they do not say why not


def _lease(node: str, asked: Attributes) -> str:
    if asked.verb not in _OWN_VERBS:
        return "can only get, create, update, patch, or delete a node lease"
    if asked.namespace != LEASE_NAMESPACE:
        return f'can only access leases in the "{LEASE_NAMESPACE}" system namespace'
    if asked.verb != "create" and asked.name != node:
        return "can only access node lease with the same name as the requesting node"
    return _MAY


def _csi_node(node: str, asked: Attributes) -> str:
    if asked.verb not in _OWN_VERBS:
        return "can only get, create, update, patch, or delete a CSINode"
    if asked.subresource:
        return "cannot authorize CSINode subresources"
    if asked.verb != "create" and asked.name != node:
        return "can only access CSINode with the same name as the requesting node"
    return _MAY


def _node(node: str, asked: Attributes) -> str:
    if asked.subresource == "status":
        return _MAY if asked.verb in ("update", "patch") else ""
    if asked.subresource:
        return ""
    if asked.verb in ("create", "update", "patch"):
        return _MAY
    if asked.verb not in ("get", "list", "watch"):
        return ""
    if asked.name == node:
        return _MAY
    if not asked.name:
        return f"node '{node}' cannot read all nodes, only its own Node object"
    return f"node '{node}' cannot read '{asked.name}', only its own Node object"


def _selects(asked: Attributes, node: str) -> bool:
    """Whether a field selector keeps to the node's own objects."""
    if not asked.field_selector:
        return False
    try:
        return parse_fields(asked.field_selector).exact("spec.nodeName") == node
    except SelectorError:
        return False


class Relations:
    """Which objects the pods on a node lead to."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def holds(self, node: str, resource: str, namespace: str, name: str) -> bool:
        if resource == "pods":
            record = self._store.get(Key("pods", namespace, name))
            return record is not None and record.node_name == node
        if resource == "volumeattachments":
            return self._names_node(Key("volumeattachments.storage.k8s.io", "", name), node)
        if resource == "resourceslices":
            return self._names_node(Key("resourceslices.resource.k8s.io", "", name), node)
        if resource == "podcertificaterequests":
            return self._names_node(Key("podcertificaterequests.certificates.k8s.io", namespace, name), node)
        if resource == "persistentvolumes":
            return self._volume(node, name)
        if any((resource, name) in set(named(record.object)) for record in self._pods(node, namespace)):
            return True
        return resource == "secrets" and self._volume_secret(node, namespace, name)

    def _pods(self, node: str, namespace: str | None) -> Iterator[Record]:
        return (record for record in self._store.scan("pods", namespace) if record.node_name == node)

    def _names_node(self, key: Key, node: str) -> bool:
        record = self._store.get(key)
        return record is not None and (record.object.get("spec") or {}).get("nodeName") == node

    def _uses_claim(self, node: str, reference: Object | None) -> bool:
        if not reference:
            return False
        wanted = ("persistentvolumeclaims", reference.get("name") or "")
        return any(wanted in set(named(item.object)) for item in self._pods(node, reference.get("namespace") or ""))

    def _volume(self, node: str, name: str) -> bool:
        record = self._store.get(Key("persistentvolumes", "", name))
        return record is not None and self._uses_claim(node, record.object["spec"].get("claimRef"))

    def _volume_secret(self, node: str, namespace: str, name: str) -> bool:
        """A secret that a volume names, of a claim that a pod on the node uses."""
        for record in self._store.scan("persistentvolumes", None):
            spec = record.object["spec"]
            home = (spec.get("claimRef") or {}).get("namespace") or ""
            if (namespace, name) in set(_secrets_of(spec, home)) and self._uses_claim(node, spec.get("claimRef")):
                return True
        return False


def _secrets_of(spec: Object, home: str) -> Iterator[tuple[str, str]]:
    """(namespace, name) of each secret that a volume's source names."""
    for source in spec.values():
        if isinstance(source, dict):
            for field, value in source.items():
                if field.endswith("SecretRef") or field == "secretRef":
                    yield value.get("namespace") or home, value.get("name") or ""
            if source.get("secretName"):
                yield source.get("secretNamespace") or home, source["secretName"]


def named(pod: Object) -> Iterator[tuple[str, str]]:
    """(plural, name) of all that a pod names in its namespace."""
    spec = pod["spec"]
    yield "serviceaccounts", spec.get("serviceAccountName") or ""
    for secret in spec.get("imagePullSecrets") or ():
        yield "secrets", secret.get("name", "")
    for field in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(field) or ():
            yield from _environment(container)
    for volume in spec.get("volumes") or ():
        yield from _volume(volume)
        if volume.get("ephemeral"):
            yield "persistentvolumeclaims", f"{pod['metadata']['name']}-{volume['name']}"
        for source in (volume.get("projected") or {}).get("sources") or ():
            yield from _volume(source)
    for claim in spec.get("resourceClaims") or ():
        yield "resourceclaims", claim.get("resourceClaimName") or ""
    status = pod.get("status") or {}
    for claim in status.get("resourceClaimStatuses") or ():
        yield "resourceclaims", claim.get("resourceClaimName") or ""
    yield "resourceclaims", (status.get("extendedResourceClaimStatus") or {}).get("resourceClaimName") or ""


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
