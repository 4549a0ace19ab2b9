"""NodeRestriction: a kubelet writes its own Node, its own pods' status, mirror pods, and tokens for its pods.

The Node authorizer has let it so far; here the content is looked at. Nobody but nodes is restricted. Source:
https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#noderestriction
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from atoll.base.errors import ApiError, NotFound
from atoll.cluster.apiserver.access.nodes import LEASE_NAMESPACE, USER_PREFIX, named, node_of
from atoll.cluster.apiserver.admission.errors import forbidden
from atoll.cluster.apiserver.gojson import quote
from atoll.cluster.apiserver.ports import AdmissionRequest, Attributes, Authorizer, User, decide
from atoll.cluster.store.port import Key, Record, Store

Object = dict[str, Any]
_MIRROR = "kubernetes.io/config.mirror"
_RESTRICTED = "node-restriction.kubernetes.io"
_OWN_LABELS = frozenset(
    (
        "kubernetes.io/hostname", "topology.kubernetes.io/zone", "topology.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/region",
        "beta.kubernetes.io/instance-type", "node.kubernetes.io/instance-type", "kubernetes.io/os",
        "kubernetes.io/arch", "beta.kubernetes.io/os", "beta.kubernetes.io/arch",
    )
)  # fmt: skip
_OWN_LABEL_DOMAINS = ("kubelet.kubernetes.io", "node.kubernetes.io")
_PLAIN_VOLUMES = frozenset(
    (
        "name", "awsElasticBlockStore", "azureDisk", "cephfs", "cinder", "downwardAPI", "emptyDir", "fc", "flexVolume",
        "flocker", "gcePersistentDisk", "gitRepo", "hostPath", "image", "iscsi", "nfs", "photonPersistentDisk",
        "portworxVolume", "quobyte", "rbd", "scaleIO", "storageos", "vsphereVolume",
    )
)  # fmt: skip
_REFERRING_VOLUMES = {
    "configMap": "configmaps (via configmap volumes)",
    "secret": "secrets (via secret volumes)",
    "csi": "csidrivers (via CSI volumes)",
    "glusterfs": "endpoints (via glusterFS volumes)",
    "persistentVolumeClaim": "persistentvolumeclaims",
    "ephemeral": "persistentvolumeclaims (via ephemeral volumes)",
    "azureFile": "secrets (via azureFile volumes)",
}
_KUBELET_SIGNERS = ("kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet")


class NodeRestriction:
    """Implements `admission.chain.Validating`."""

    resources = frozenset(
        (
            "pods", "nodes", "persistentvolumeclaims", "serviceaccounts", "leases.coordination.k8s.io",
            "csinodes.storage.k8s.io", "resourceslices.resource.k8s.io",
            "certificatesigningrequests.certificates.k8s.io", "podcertificaterequests.certificates.k8s.io",
        )
    )  # fmt: skip

    def __init__(self, store: Store, authorizer: Authorizer | None) -> None:
        self._store = store
        self._authorizer = authorizer
        self._checks = {
            "pods": self._pod,
            "nodes": _own_node,
            "persistentvolumeclaims": _claim,
            "leases": _lease,
            "csinodes": _csi_node,
            "resourceslices": _slice,
            "certificatesigningrequests": _signing_request,
            "podcertificaterequests": self._certificate_request,
        }

    def depends_on(self, user: User) -> tuple[str, ...] | None:
        return None if user.name.startswith(USER_PREFIX) else ()

    def validate(self, request: AdmissionRequest) -> Awaitable[None] | None:
        if not request.user.name.startswith(USER_PREFIX):
            return None
        node = node_of(request.user)
        if node is None:
            return None
        if not node:
            raise forbidden(request, f"could not determine node from user {quote(request.user.name)}")
        if request.resource.plural == "serviceaccounts":
            wanted = request.operation == "CREATE" and request.subresource == "token"
            return self._token(node, request) if wanted else None
        self._checks[request.resource.plural](node, request)
        return None

    def _pod(self, node: str, request: AdmissionRequest) -> None:
        shown = quote(node)
        if request.subresource == "status":
            _pod_status(shown, node, request)
        elif request.subresource == "eviction":
            if self._existing_pod(request).node_name != node:
                raise forbidden(request, f"node {node} can only evict pods with spec.nodeName set to itself")
        elif request.subresource:
            known = f"unexpected pod subresource {quote(request.subresource)}, only 'status' and 'eviction' are allowed"
            raise forbidden(request, known)
        elif request.operation == "DELETE":
            if self._existing_pod(request).node_name != node:
                raise forbidden(request, f"node {shown} can only delete pods with spec.nodeName set to itself")
        elif request.operation == "CREATE":
            self._mirror_pod(shown, node, request)
        else:
            why = (
                f"unexpected operation {quote(request.operation)}, node {shown} can only create and delete mirror pods"
            )
            raise forbidden(request, why)

    def _existing_pod(self, request: AdmissionRequest) -> Record:
        return self._find("pods", request.namespace, request.name)

    def _find(self, plural: str, namespace: str, name: str) -> Record:
        """Raises NotFound."""
        record = self._store.get(Key(plural, namespace, name))
        if record is None:
            details = {"name": name, "kind": plural.removesuffix("s")}
            raise NotFound(f'{plural.removesuffix("s")} "{name}" not found', details=details)
        return record

    def _mirror_pod(self, shown: str, node: str, request: AdmissionRequest) -> None:
        pod = request.obj or {}
        metadata = pod["metadata"]
        if _MIRROR not in (metadata.get("annotations") or {}):
            why = f"pod does not have {quote(_MIRROR)} annotation, node {shown} can only create mirror pods"
            raise forbidden(request, why)
        if pod["spec"].get("nodeName") != node:
            raise forbidden(request, f"node {shown} can only create pods with spec.nodeName set to itself")
        owners = metadata.get("ownerReferences") or []
        if len(owners) > 1:
            why = f"node {shown} can only create pods with a single owner reference set to itself"
            raise forbidden(request, why)
        owner = owners[0] if owners else {}
        if (owner.get("apiVersion"), owner.get("kind"), owner.get("name")) != ("v1", "Node", node):
            raise forbidden(request, f"node {shown} can only create pods with an owner reference set to itself")
        if not owner.get("controller"):
            why = f"node {shown} can only create pods with a controller owner reference set to itself"
            raise forbidden(request, why)
        if owner.get("blockOwnerDeletion"):
            raise forbidden(request, f"node {shown} must not set blockOwnerDeletion on an owner reference")
        uid = self._find("nodes", "", node).uid
        if owner.get("uid") != uid:
            raise forbidden(request, f"node {node} UID mismatch: expected {owner.get('uid')} got {uid}")
        referred = _referred(pod)
        if referred:
            raise forbidden(request, f"node {shown} can not create pods that reference {referred}")

    async def _token(self, node: str, request: AdmissionRequest) -> None:
        spec = (request.obj or {}).get("spec") or {}
        bound = spec.get("boundObjectRef") or {}
        if bound.get("apiVersion") != "v1" or bound.get("kind") != "Pod" or not bound.get("name"):
            raise forbidden(request, "node requested token not bound to a pod")
        if not bound.get("uid"):
            raise forbidden(request, "node requested token with a pod binding without a uid")
        pod = self._find("pods", request.namespace, bound["name"])
        if pod.uid != bound["uid"]:
            raise forbidden(
                request,
                f"the UID in the bound object reference ({bound['uid']}) does not match the UID in record. The object "
                "might have been deleted and then recreated",
            )
        if pod.node_name != node:
            raise forbidden(request, "node requested token bound to a pod scheduled on a different node")
        await self._audience(request, spec.get("audiences") or [], pod)

    async def _audience(self, request: AdmissionRequest, audiences: list[str], pod: Record) -> None:
        """Of the audiences only those that a volume of the pod asks for, or that the node is allowed (KEP-4933)."""
        if len(audiences) > 1:
            raise forbidden(request, "node may only request 0 or 1 audiences")
        audience = audiences[0] if audiences else ""
        if any(audience in self._asked_for(volume, pod) for volume in pod.object["spec"].get("volumes") or ()):
            return
        user = request.user
        asked = Attributes(
            user, "request-serviceaccounts-token-audience", "", "v1", audience, "", request.namespace, request.name
        )
        if self._authorizer is not None and (await decide(self._authorizer, asked)).allowed:
            return
        raise forbidden(
            request,
            f"audience {quote(audience)} not found in pod spec volume, {user.name} is not authorized to request tokens "
            "for this audience",
        )

    def _asked_for(self, volume: Object, pod: Record) -> list[str]:
        """The audiences of the tokens that a volume brings."""
        found = [
            source["serviceAccountToken"].get("audience") or ""
            for source in (volume.get("projected") or {}).get("sources") or ()
            if source.get("serviceAccountToken")
        ]
        driver = (volume.get("csi") or {}).get("driver") or ""
        claim = (volume.get("persistentVolumeClaim") or {}).get("claimName") or ""
        if volume.get("ephemeral"):
            claim = f"{pod.key.name}-{volume['name']}"
        if claim:
            driver = self._driver_of(pod.key.namespace, claim)
        record = self._store.get(Key("csidrivers.storage.k8s.io", "", driver)) if driver else None
        if record is not None:
            found += [item.get("audience") or "" for item in record.object["spec"].get("tokenRequests") or ()]
        return found

    def _driver_of(self, namespace: str, claim: str) -> str:
        record = self._store.get(Key("persistentvolumeclaims", namespace, claim))
        name = (record.object["spec"].get("volumeName") or "") if record is not None else ""
        volume = self._store.get(Key("persistentvolumes", "", name)) if name else None
        return str((volume.object["spec"].get("csi") or {}).get("driver") or "") if volume is not None else ""

    def _certificate_request(self, node: str, request: AdmissionRequest) -> None:
        if request.operation != "CREATE":
            raise forbidden(request, f"unexpected operation {request.operation}")
        spec, namespace = (request.obj or {}).get("spec") or {}, request.namespace
        if spec.get("nodeName") != node:
            named_node = quote(spec.get("nodeName") or "")
            why = f"PodCertificateRequest.Spec.NodeName={named_node}, which is not the requesting node {quote(node)}"
            raise forbidden(request, why)
        if self._find("nodes", "", node).uid != spec.get("nodeUID"):
            raise ApiError("PodCertificateRequest names another node UID than the running node's", code=500, reason="")
        pod = self._find("pods", namespace, spec.get("podName") or "")
        shown = quote(f"{namespace}/{pod.key.name}")
        if pod.uid != spec.get("podUID"):
            raise ApiError(f"PodCertificateRequest for pod {shown} names another pod UID", code=500, reason="")
        if pod.node_name != node:
            why = f"pod {shown} is not running on node {quote(node)} named in the PodCertificateRequest"
            raise forbidden(request, why)
        if _MIRROR in (pod.object["metadata"].get("annotations") or {}):
            raise forbidden(request, f"pod {shown} is a mirror pod")
        account = pod.object["spec"].get("serviceAccountName") or ""
        if spec.get("serviceAccountName") != account:
            asked = quote(spec.get("serviceAccountName") or "")
            raise forbidden(
                request,
                f"PodCertificateRequest for pod {shown} contains serviceAccountName ({asked}) that differs from "
                f"running pod ({quote(account)})",
            )


def _pod_status(shown: str, node: str, request: AdmissionRequest) -> None:
    old, new = request.old or {}, request.obj or {}
    if (old.get("spec") or {}).get("nodeName") != node:
        raise forbidden(request, f"node {shown} can only update pod status for pods with spec.nodeName set to itself")
    if (old["metadata"].get("labels") or {}) != (new["metadata"].get("labels") or {}):
        raise forbidden(request, f"node {shown} cannot update labels through pod status")
    before, after = old.get("status") or {}, new.get("status") or {}
    if (before.get("resourceClaimStatuses") or []) != (after.get("resourceClaimStatuses") or []):
        raise forbidden(request, f"node {shown} cannot update resource claim statues")
    if before.get("extendedResourceClaimStatus") != after.get("extendedResourceClaimStatus"):
        raise forbidden(request, f"node {shown} cannot update extended resource claim status")


def _own_node(node: str, request: AdmissionRequest) -> None:
    name = request.name or ((request.obj or {}).get("metadata") or {}).get("name") or ""
    if name != node:
        raise forbidden(request, f"node {quote(node)} is not allowed to modify node {quote(name)}")
    new, old = request.obj, request.old
    if request.operation == "CREATE" and new is not None:
        wrong = _forbidden_labels(new, None)
        if wrong:
            why = f"node {quote(node)} is not allowed to set the following labels: {', '.join(wrong)}"
            raise forbidden(request, why)
    elif request.operation == "UPDATE" and new is not None and old is not None:
        if (new.get("spec") or {}).get("taints") != (old.get("spec") or {}).get("taints"):
            raise forbidden(request, f"node {quote(node)} is not allowed to modify taints")
        if new["metadata"].get("ownerReferences") != old["metadata"].get("ownerReferences"):
            raise forbidden(request, f"node {quote(node)} is not allowed to modify ownerReferences")
        wrong = _forbidden_labels(new, old)
        if wrong:
            raise forbidden(request, f"is not allowed to modify labels: {', '.join(wrong)}")


def _forbidden_labels(new: Object, old: Object | None) -> list[str]:
    """Labels that differ and that a kubelet may not set, in order."""
    after = new["metadata"].get("labels") or {}
    before = ((old or {}).get("metadata") or {}).get("labels") or {}
    changed = {key for key in {*after, *before} if after.get(key) != before.get(key)}
    return sorted(key for key in changed if not _may_label(key))


def _may_label(key: str) -> bool:
    domain = key.partition("/")[0] if "/" in key else ""
    if _within(domain, _RESTRICTED):
        return False
    if not _within(domain, "kubernetes.io") and not _within(domain, "k8s.io"):
        return True
    return key in _OWN_LABELS or any(_within(domain, own) for own in _OWN_LABEL_DOMAINS)


def _within(domain: str, parent: str) -> bool:
    return domain == parent or domain.endswith("." + parent)


def _claim(node: str, request: AdmissionRequest) -> None:
    if request.subresource != "status":
        raise forbidden(request, "may only update PVC status")
    if _without_sizes(request.old or {}) != _without_sizes(request.obj or {}):
        why = f"node {quote(node)} is not allowed to update fields other than status.quantity and status.conditions"
        raise forbidden(request, why)


def _without_sizes(claim: Object) -> Object:
    metadata = {
        key: value for key, value in claim["metadata"].items() if key not in ("resourceVersion", "managedFields")
    }
    sizes = ("capacity", "conditions", "allocatedResources", "allocatedResourceStatuses")
    status = {key: value for key, value in (claim.get("status") or {}).items() if key not in sizes}
    return {**claim, "metadata": metadata, "status": status}


def _object_name(request: AdmissionRequest) -> str:
    if request.operation == "CREATE" and request.obj is not None:
        return str(request.obj["metadata"].get("name") or "")
    return request.name


def _lease(node: str, request: AdmissionRequest) -> None:
    if request.namespace != LEASE_NAMESPACE:
        raise forbidden(request, f"can only access leases in the {quote(LEASE_NAMESPACE)} system namespace")
    if _object_name(request) != node:
        raise forbidden(request, "can only access node lease with the same name as the requesting node")


def _csi_node(node: str, request: AdmissionRequest) -> None:
    if _object_name(request) != node:
        raise forbidden(request, "can only access CSINode with the same name as the requesting node")


def _slice(node: str, request: AdmissionRequest) -> None:
    checked = {"CREATE": (request.obj, "create"), "DELETE": (request.old, "delete")}.get(request.operation)
    if checked is not None and ((checked[0] or {}).get("spec") or {}).get("nodeName") != node:
        why = f"can only {checked[1]} ResourceSlice with the same NodeName as the requesting node"
        raise forbidden(request, why)


def _signing_request(node: str, request: AdmissionRequest) -> None:
    spec = (request.obj or {}).get("spec") or {}
    if request.operation != "CREATE" or spec.get("signerName") not in _KUBELET_SIGNERS:
        return
    from atoll.wire.signing import read_request

    asked = read_request(spec.get("request") or "")
    if asked is None:
        raise forbidden(request, "unable to parse csr: PEM block type must be CERTIFICATE REQUEST")
    if asked.common_name != f"{USER_PREFIX}{node}":
        raise forbidden(request, f"can only create a node CSR with CN={USER_PREFIX}{node}")


def _referred(pod: Object) -> str:
    """The first kind of API object that a pod names; "" if it names none."""
    spec = pod["spec"]
    named_here = {plural for plural, name in named(pod) if name}
    for plural in ("serviceaccounts", "secrets", "configmaps"):
        if plural in named_here and (plural != "serviceaccounts" or spec.get("serviceAccountName")):
            return plural
    if spec.get("resourceClaims"):
        return "resourceclaims"
    for volume in spec.get("volumes") or ():
        for field in volume:
            if field in _REFERRING_VOLUMES:
                return _REFERRING_VOLUMES[field]
            if field == "projected":
                found = _projected(volume["projected"])
                if found:
                    return found
            elif field not in _PLAIN_VOLUMES:
                return f"unknown volume type {field}"
    return ""


def _projected(volume: Object) -> str:
    for source in volume.get("sources") or ():
        for field, plural in (
            ("configMap", "configmaps (via projected volumes)"),
            ("secret", "secrets (via projected volumes)"),
            ("serviceAccountToken", "serviceaccounts (via projected volumes)"),
            ("clusterTrustBundle", "clustertrustbundles (via projected volumes)"),
        ):
            if source.get(field):
                return plural
    return ""
