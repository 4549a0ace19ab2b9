"""Default values per Go type, as upstream's pkg/apis/*/v1/defaults.go sets them.

HOOKS maps a type's name to what fills its empty fields; it runs wherever the type occurs, after the types inside
it. DECLARED are the constants that upstream's types declare (`+default=` markers).
"""

from __future__ import annotations

import base64
from typing import Any

from atoll.base import quantity
from atoll.cluster.apiserver.behaviour import addresses
from atoll.cluster.apiserver.behaviour.defaulting import Hook, Object

_MAX_INT32 = 2**31 - 1
TEMPLATE_GENERATION = "deprecated.daemonset.template.generation"


def image_pull_policy(image: str) -> str:
    """Always for :latest (also when no tag is given), else IfNotPresent."""
    name = image.rsplit("/", 1)[-1]
    if "@" in image or not name:
        tag = "" if ":" not in name.split("@", 1)[0] else name.split("@", 1)[0].rsplit(":", 1)[1]
    else:
        tag = name.rsplit(":", 1)[1] if ":" in name else "latest"
    return "Always" if tag == "latest" else "IfNotPresent"


def _container(obj: Object) -> None:
    if "imagePullPolicy" not in obj:
        obj["imagePullPolicy"] = image_pull_policy(obj.get("image", ""))
    if "terminationMessagePath" not in obj:
        obj["terminationMessagePath"] = "/dev/termination-log"
    if "terminationMessagePolicy" not in obj:
        obj["terminationMessagePolicy"] = "File"


def _pod_spec(obj: Object) -> None:
    obj.setdefault("dnsPolicy", "ClusterFirst")
    obj.setdefault("restartPolicy", "Always")
    if "securityContext" not in obj:
        obj["securityContext"] = {}
    obj.setdefault("terminationGracePeriodSeconds", 30)
    obj.setdefault("schedulerName", "default-scheduler")
    if "serviceAccountName" in obj:  # the deprecated alias is always written too
        obj["serviceAccount"] = obj["serviceAccountName"]
    elif "serviceAccount" in obj:
        obj["serviceAccountName"] = obj["serviceAccount"]


def _pod(obj: Object) -> None:
    spec = obj["spec"]
    containers = (*(spec.get("initContainers") or ()), *(spec.get("containers") or ()))
    for container in containers:
        limits = container["resources"].get("limits")
        if limits:
            requests = container["resources"].setdefault("requests", {})
            for name, value in limits.items():
                requests.setdefault(name, value)
    if "enableServiceLinks" not in spec:
        spec["enableServiceLinks"] = True
    if spec.get("resources"):
        _pod_level_requests(spec)
    if spec.get("hostNetwork"):
        for container in containers:
            for port in container.get("ports") or ():
                if not port.get("hostPort"):
                    port["hostPort"] = port["containerPort"]


def _pod_level_requests(spec: Object) -> None:
    """Pod-level requests: what the containers ask together, else the pod-level limits."""
    limits = spec["resources"].get("limits")
    if not limits:
        return
    requests = spec["resources"].get("requests") or {}
    for name in ("cpu", "memory"):
        asked = [
            quantity.parse(container["resources"]["requests"][name])
            for container in spec.get("containers") or ()
            if name in (container["resources"].get("requests") or {})
        ]
        if asked and name not in requests:
            total = sum(asked)
            bytes_like = name == "memory" and total % quantity.NANO == 0
            write = quantity.from_units_binary if bytes_like else quantity.from_nano
            requests[name] = write(total // quantity.NANO if bytes_like else total)
    for name, limit in limits.items():
        if name in ("cpu", "memory") or name.startswith("hugepages-"):
            requests.setdefault(name, limit)
    if requests:
        spec["resources"]["requests"] = requests


def _volume(obj: Object) -> None:
    if len(obj) == 1 and "name" in obj:
        obj["emptyDir"] = {}
    image = obj.get("image")
    if image is not None and "pullPolicy" not in image:
        image["pullPolicy"] = image_pull_policy(image.get("reference", ""))


def _probe(obj: Object) -> None:
    obj.setdefault("timeoutSeconds", 1)
    obj.setdefault("periodSeconds", 10)
    obj.setdefault("successThreshold", 1)
    obj.setdefault("failureThreshold", 3)


def _http_get(obj: Object) -> None:
    obj.setdefault("path", "/")
    obj.setdefault("scheme", "HTTP")


def _mode(obj: Object) -> None:
    obj.setdefault("defaultMode", 420)


def _token_projection(obj: Object) -> None:
    obj.setdefault("expirationSeconds", 3600)


def _field_ref(obj: Object) -> None:
    obj.setdefault("apiVersion", "v1")


def _host_path(obj: Object) -> None:
    obj.setdefault("type", "")


def _secret(obj: Object) -> None:
    obj.setdefault("type", "Opaque")
    strings = obj.pop("stringData", None)
    if strings:
        _encode_strings(obj, strings)


def _encode_strings(obj: Object, strings: dict[str, str]) -> None:
    """Secret.stringData is write-only: it goes to data."""
    data = obj.setdefault("data", {})
    for key, value in strings.items():
        data[key] = base64.b64encode(value.encode()).decode()


def _service(obj: Object) -> None:
    spec = obj["spec"]
    affinity = spec.setdefault("sessionAffinity", "None")
    if affinity == "None":
        spec.pop("sessionAffinityConfig", None)
    elif affinity == "ClientIP":
        client = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
        if client.get("timeoutSeconds") is None:
            spec["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": 10800}}
    kind = spec.setdefault("type", "ClusterIP")
    for port in spec.get("ports") or ():
        if port.get("targetPort") in (0, "", None):
            port["targetPort"] = port["port"]
    outside = kind in ("NodePort", "LoadBalancer") or (kind == "ClusterIP" and spec.get("externalIPs"))
    if outside:
        spec.setdefault("externalTrafficPolicy", "Cluster")
    if kind != "ExternalName":
        spec.setdefault("internalTrafficPolicy", "Cluster")
    if kind == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)
        for ingress in obj["status"]["loadBalancer"].get("ingress") or ():
            if ingress.get("ip"):
                ingress.setdefault("ipMode", "VIP")


def _replication_controller(obj: Object) -> None:
    spec = obj["spec"]
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels")
    if labels:
        if not spec.get("selector"):
            spec["selector"] = dict(labels)
        if not obj["metadata"].get("labels"):
            obj["metadata"]["labels"] = dict(labels)


def _persistent_volume(obj: Object) -> None:
    obj["status"].setdefault("phase", "Pending")
    obj["spec"].setdefault("persistentVolumeReclaimPolicy", "Retain")
    obj["spec"].setdefault("volumeMode", "Filesystem")


def _claim(obj: Object) -> None:
    obj["status"].setdefault("phase", "Pending")


def _claim_spec(obj: Object) -> None:
    obj.setdefault("volumeMode", "Filesystem")


def _endpoints_subset(obj: Object) -> None:
    for port in obj.get("ports") or ():
        port.setdefault("protocol", "TCP")


def _namespace(obj: Object) -> None:
    metadata = obj["metadata"]
    if metadata.get("name"):
        metadata.setdefault("labels", {})["kubernetes.io/metadata.name"] = metadata["name"]


def _namespace_status(obj: Object) -> None:
    obj.setdefault("phase", "Active")


def _node_status(obj: Object) -> None:
    if "allocatable" not in obj and "capacity" in obj:
        obj["allocatable"] = dict(obj["capacity"])


def _limit_range_item(obj: Object) -> None:
    if obj.get("type") != "Container":
        return
    default = obj.get("default") or {}
    request = obj.get("defaultRequest") or {}
    for name, value in (obj.get("max") or {}).items():
        default.setdefault(name, value)
    for source in (default, obj.get("min") or {}):
        for name, value in source.items():
            request.setdefault(name, value)
    if default:
        obj["default"] = default
    if request:
        obj["defaultRequest"] = request


def _deployment(obj: Object) -> None:
    spec = obj["spec"]
    spec.setdefault("replicas", 1)
    strategy = spec["strategy"]
    if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        rolling.setdefault("maxUnavailable", "25%")
        rolling.setdefault("maxSurge", "25%")
    spec.setdefault("revisionHistoryLimit", 10)
    spec.setdefault("progressDeadlineSeconds", 600)


def _daemon_set(obj: Object) -> None:
    obj["metadata"].setdefault("annotations", {}).setdefault(TEMPLATE_GENERATION, "0")
    spec = obj["spec"]
    strategy = spec["updateStrategy"]
    if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        rolling.setdefault("maxUnavailable", 1)
        rolling.setdefault("maxSurge", 0)
    spec.setdefault("revisionHistoryLimit", 10)


def _stateful_set(obj: Object) -> None:
    spec = obj["spec"]
    spec.setdefault("podManagementPolicy", "OrderedReady")
    strategy = spec["updateStrategy"]
    if not strategy.get("type"):
        strategy["type"] = "RollingUpdate"
        strategy.setdefault("rollingUpdate", {})
    if strategy["type"] == "RollingUpdate" and strategy.get("rollingUpdate") is not None:
        strategy["rollingUpdate"].setdefault("partition", 0)
    retention = spec.setdefault("persistentVolumeClaimRetentionPolicy", {})
    retention.setdefault("whenDeleted", "Retain")
    retention.setdefault("whenScaled", "Retain")
    spec.setdefault("replicas", 1)
    spec.setdefault("revisionHistoryLimit", 10)
    for claim in spec.get("volumeClaimTemplates") or ():  # typed objects inside: the kind is written
        claim.setdefault("kind", "PersistentVolumeClaim")
        claim.setdefault("apiVersion", "v1")


def _replica_set(obj: Object) -> None:
    obj["spec"].setdefault("replicas", 1)


def _job(obj: Object) -> None:
    spec = obj["spec"]
    if spec.get("completions") is None and spec.get("parallelism") is None:
        spec["completions"] = 1
    spec.setdefault("parallelism", 1)
    spec.setdefault("backoffLimit", 6 if spec.get("backoffLimitPerIndex") is None else _MAX_INT32)
    labels = (spec["template"].get("metadata") or {}).get("labels")
    if labels and not obj["metadata"].get("labels"):
        obj["metadata"]["labels"] = labels  # one map, as upstream: what the strategy adds shows in both
    spec.setdefault("completionMode", "NonIndexed")
    spec.setdefault("suspend", False)
    spec.setdefault("podReplacementPolicy", "Failed" if spec.get("podFailurePolicy") else "TerminatingOrFailed")
    spec.setdefault("manualSelector", False)


def _cron_job(obj: Object) -> None:
    spec = obj["spec"]
    spec.setdefault("concurrencyPolicy", "Allow")
    spec.setdefault("suspend", False)
    spec.setdefault("successfulJobsHistoryLimit", 3)
    spec.setdefault("failedJobsHistoryLimit", 1)


def _condition_pattern(obj: Object) -> None:
    if not obj.get("status"):
        obj["status"] = "True"


def _autoscaler(obj: Object) -> None:
    spec = obj["spec"]
    spec.setdefault("minReplicas", 1)
    if not spec.get("metrics"):
        target = {"type": "Utilization", "averageUtilization": 80}
        spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    behavior = spec.get("behavior")
    if behavior is not None:
        behavior["scaleUp"] = {**_scale_up(), **(behavior.get("scaleUp") or {})}
        behavior["scaleDown"] = {**_scale_down(), **(behavior.get("scaleDown") or {})}


def _scale_up() -> Object:
    return {
        "stabilizationWindowSeconds": 0,
        "selectPolicy": "Max",
        "policies": [
            {"type": "Pods", "value": 4, "periodSeconds": 15},
            {"type": "Percent", "value": 100, "periodSeconds": 15},
        ],
    }


def _scale_down() -> Object:
    return {"selectPolicy": "Max", "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]}


def _autoscaler_v1(obj: Object) -> None:
    obj["spec"].setdefault("minReplicas", 1)


def _role_ref(obj: Object) -> None:
    if not obj["roleRef"].get("apiGroup"):
        obj["roleRef"]["apiGroup"] = "rbac.authorization.k8s.io"


def _subject(obj: Object) -> None:
    if not obj.get("apiGroup") and obj.get("kind") in ("User", "Group"):
        obj["apiGroup"] = "rbac.authorization.k8s.io"


def _storage_class(obj: Object) -> None:
    obj.setdefault("reclaimPolicy", "Delete")
    obj.setdefault("volumeBindingMode", "Immediate")


def _csi_driver(obj: Object) -> None:
    spec = obj["spec"]
    spec.setdefault("attachRequired", True)
    for name in ("podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount"):
        spec.setdefault(name, False)
    spec.setdefault("fsGroupPolicy", "ReadWriteOnceWithFSType")
    if not spec.get("volumeLifecycleModes"):
        spec["volumeLifecycleModes"] = ["Persistent"]


def _network_policy(obj: Object) -> None:
    spec = obj["spec"]
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]


def _protocol(obj: Object) -> None:
    obj.setdefault("protocol", "TCP")


def _ingress_class(obj: Object) -> None:
    parameters = obj["spec"].get("parameters")
    if parameters is not None and parameters.get("scope") is None:
        parameters["scope"] = "Cluster"


def _priority_class(obj: Object) -> None:
    obj.setdefault("preemptionPolicy", "PreemptLowerPriority")


def _endpoint_port(obj: Object) -> None:
    obj.setdefault("name", "")
    obj.setdefault("protocol", "TCP")


def _webhook(obj: Object) -> None:
    obj.setdefault("failurePolicy", "Fail")
    obj.setdefault("matchPolicy", "Equivalent")
    obj.setdefault("namespaceSelector", {})
    obj.setdefault("objectSelector", {})
    obj.setdefault("timeoutSeconds", 10)


def _mutating_webhook(obj: Object) -> None:
    _webhook(obj)
    obj.setdefault("reinvocationPolicy", "Never")


def _rule(obj: Object) -> None:
    obj.setdefault("scope", "*")


def _service_reference(obj: Object) -> None:
    obj.setdefault("port", 443)


def _failure_policy(obj: Object) -> None:
    obj.setdefault("failurePolicy", "Fail")


def _match_resources(obj: Object) -> None:
    obj.setdefault("matchPolicy", "Equivalent")
    obj.setdefault("namespaceSelector", {})
    obj.setdefault("objectSelector", {})


def _flow_schema(obj: Object) -> None:
    if not obj.get("matchingPrecedence"):
        obj["matchingPrecedence"] = 1000


def _exempt_level(obj: Object) -> None:
    obj.setdefault("nominalConcurrencyShares", 0)
    obj.setdefault("lendablePercent", 0)


def _limited_level(obj: Object) -> None:
    if obj.get("nominalConcurrencyShares") is None:
        obj["nominalConcurrencyShares"] = 30
    obj.setdefault("lendablePercent", 0)


def _queuing(obj: Object) -> None:
    for name, value in (("handSize", 8), ("queues", 64), ("queueLengthLimit", 50)):
        if not obj.get(name):
            obj[name] = value


def _device_request(obj: Object) -> None:
    mode: Any = obj.setdefault("allocationMode", "ExactCount")
    if mode == "ExactCount" and not obj.get("count"):
        obj["count"] = 1


DECLARED: dict[str, dict[str, Any]] = {
    "core/v1.AzureDiskVolumeSource": {
        "cachingMode": "ReadWrite",
        "fsType": "ext4",
        "readOnly": False,
        "kind": "Shared",
    },
    "core/v1.ContainerPort": {"protocol": "TCP"},
    "core/v1.ServicePort": {"protocol": "TCP"},
    "core/v1.FileKeySelector": {"optional": False},
    "core/v1.GRPCAction": {"service": ""},
    "core/v1.ISCSIPersistentVolumeSource": {"iscsiInterface": "default"},
    "core/v1.ISCSIVolumeSource": {"iscsiInterface": "default"},
    "core/v1.RBDPersistentVolumeSource": {"pool": "rbd", "user": "admin", "keyring": "/etc/ceph/keyring"},
    "core/v1.RBDVolumeSource": {"pool": "rbd", "user": "admin", "keyring": "/etc/ceph/keyring"},
    "core/v1.ReplicationControllerSpec": {"replicas": 1},
    "core/v1.ScaleIOPersistentVolumeSource": {"storageMode": "ThinProvisioned", "fsType": "xfs"},
    "core/v1.ScaleIOVolumeSource": {"storageMode": "ThinProvisioned", "fsType": "xfs"},
    "resource/v1.DeviceToleration": {"operator": "Equal"},
}

HOOKS: dict[str, Hook] = {
    "core/v1.Container": _container,
    "core/v1.EphemeralContainer": _container,
    "core/v1.PodSpec": _pod_spec,
    "core/v1.Pod": _pod,
    "core/v1.Volume": _volume,
    "core/v1.Probe": _probe,
    "core/v1.HTTPGetAction": _http_get,
    "core/v1.SecretVolumeSource": _mode,
    "core/v1.ConfigMapVolumeSource": _mode,
    "core/v1.DownwardAPIVolumeSource": _mode,
    "core/v1.ProjectedVolumeSource": _mode,
    "core/v1.ServiceAccountTokenProjection": _token_projection,
    "core/v1.ObjectFieldSelector": _field_ref,
    "core/v1.HostPathVolumeSource": _host_path,
    "core/v1.Secret": _secret,
    "core/v1.Service": _service,
    "core/v1.ReplicationController": _replication_controller,
    "core/v1.PersistentVolume": _persistent_volume,
    "core/v1.PersistentVolumeClaim": _claim,
    "core/v1.PersistentVolumeClaimSpec": _claim_spec,
    "core/v1.EndpointSubset": _endpoints_subset,
    "core/v1.Namespace": _namespace,
    "core/v1.NamespaceStatus": _namespace_status,
    "core/v1.NodeSpec": addresses.node_spec,
    "core/v1.NodeStatus": _node_status,
    "core/v1.PodStatus": addresses.pod_status,
    "core/v1.LimitRangeItem": _limit_range_item,
    "apps/v1.Deployment": _deployment,
    "apps/v1.DaemonSet": _daemon_set,
    "apps/v1.StatefulSet": _stateful_set,
    "apps/v1.ReplicaSet": _replica_set,
    "batch/v1.Job": _job,
    "batch/v1.CronJob": _cron_job,
    "batch/v1.PodFailurePolicyOnPodConditionsPattern": _condition_pattern,
    "autoscaling/v2.HorizontalPodAutoscaler": _autoscaler,
    "autoscaling/v1.HorizontalPodAutoscaler": _autoscaler_v1,
    "rbac/v1.ClusterRoleBinding": _role_ref,
    "rbac/v1.RoleBinding": _role_ref,
    "rbac/v1.Subject": _subject,
    "storage/v1.StorageClass": _storage_class,
    "storage/v1.CSIDriver": _csi_driver,
    "networking/v1.NetworkPolicy": _network_policy,
    "networking/v1.NetworkPolicyPort": _protocol,
    "networking/v1.IngressClass": _ingress_class,
    "scheduling/v1.PriorityClass": _priority_class,
    "discovery/v1.EndpointPort": _endpoint_port,
    "admissionregistration/v1.ValidatingWebhook": _webhook,
    "admissionregistration/v1.MutatingWebhook": _mutating_webhook,
    "admissionregistration/v1.Rule": _rule,
    "admissionregistration/v1.RuleWithOperations": _rule,
    "admissionregistration/v1.NamedRuleWithOperations": _rule,
    "admissionregistration/v1.ServiceReference": _service_reference,
    "apiregistration/v1.ServiceReference": _service_reference,
    "admissionregistration/v1.ValidatingAdmissionPolicySpec": _failure_policy,
    "admissionregistration/v1.MutatingAdmissionPolicySpec": _failure_policy,
    "admissionregistration/v1.MatchResources": _match_resources,
    "flowcontrol/v1.FlowSchemaSpec": _flow_schema,
    "flowcontrol/v1.ExemptPriorityLevelConfiguration": _exempt_level,
    "flowcontrol/v1.LimitedPriorityLevelConfiguration": _limited_level,
    "flowcontrol/v1.QueuingConfiguration": _queuing,
    "resource/v1.ExactDeviceRequest": _device_request,
    "resource/v1.DeviceSubRequest": _device_request,
}
