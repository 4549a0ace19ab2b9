"""The FlowSchemas and PriorityLevelConfigurations that every cluster has, as kube-apiserver 1.36 makes them.

The mandatory ones are held as they are whatever is written to them; the suggested ones are an operator's to change
(annotation apf.kubernetes.io/autoupdate-spec), and are made anew where they were deleted.
"""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]
AUTO_UPDATE = "apf.kubernetes.io/autoupdate-spec"
_API_VERSION = "flowcontrol.apiserver.k8s.io/v1"
_EVERYTHING: Object = {
    "resourceRules": [
        {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": True, "namespaces": ["*"]}
    ],
    "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
}


def _object(kind: str, name: str, spec: Object) -> Object:
    metadata = {"name": name, "annotations": {AUTO_UPDATE: "true"}}
    return {"apiVersion": _API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}


def _limited(name: str, shares: int, lendable: int, queues: int = 0, hand: int = 0) -> Object:
    response: Object = {"type": "Reject"}
    if queues:
        response = {"type": "Queue", "queuing": {"queues": queues, "handSize": hand, "queueLengthLimit": 50}}
    limited = {"nominalConcurrencyShares": shares, "lendablePercent": lendable, "limitResponse": response}
    return _object("PriorityLevelConfiguration", name, {"type": "Limited", "limited": limited})


def _flow(name: str, level: str, precedence: int, distinguisher: str, *rules: Object) -> Object:
    spec: Object = {"priorityLevelConfiguration": {"name": level}, "matchingPrecedence": precedence}
    if distinguisher:
        spec["distinguisherMethod"] = {"type": distinguisher}
    return _object("FlowSchema", name, {**spec, "rules": list(rules)})


def _groups(*names: str) -> list[Object]:
    return [{"kind": "Group", "group": {"name": name}} for name in names]


def _users(*names: str) -> list[Object]:
    return [{"kind": "User", "user": {"name": name}} for name in names]


def _rule(subjects: list[Object], **what: Any) -> Object:
    return {"subjects": subjects, **(what or _EVERYTHING)}


def _on(verbs: list[str], group: str, resources: list[str], cluster: bool) -> Object:
    rule = {"verbs": verbs, "apiGroups": [group], "resources": resources, "namespaces": ["*"]}
    return {**rule, "clusterScope": True} if cluster else rule


_ANYONE = _groups("system:unauthenticated", "system:authenticated")
_SYSTEM_ACCOUNTS: list[Object] = [
    {"kind": "ServiceAccount", "serviceAccount": {"namespace": "kube-system", "name": "*"}}
]
_NODES = _groups("system:nodes")
_MANAGER, _SCHEDULER = "system:kube-controller-manager", "system:kube-scheduler"

MANDATORY_LEVELS: tuple[Object, ...] = (
    _limited("catch-all", 5, 0),
    _object(
        "PriorityLevelConfiguration",
        "exempt",
        {"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}},
    ),
)
MANDATORY_FLOWS: tuple[Object, ...] = (
    _flow("exempt", "exempt", 1, "", _rule(_groups("system:masters"))),
    _flow("catch-all", "catch-all", 10000, "ByUser", _rule(_ANYONE)),
)
SUGGESTED_LEVELS: tuple[Object, ...] = (
    _limited("system", 30, 33, 64, 6),
    _limited("node-high", 40, 25, 64, 6),
    _limited("leader-election", 10, 0, 16, 4),
    _limited("workload-high", 40, 50, 128, 6),
    _limited("workload-low", 100, 90, 128, 6),
    _limited("global-default", 20, 50, 128, 6),
)
SUGGESTED_FLOWS: tuple[Object, ...] = (
    _flow("system-nodes", "system", 500, "ByUser", _rule(_NODES)),
    _flow(
        "system-node-high",
        "node-high",
        400,
        "ByUser",
        _rule(
            _NODES,
            resourceRules=[
                _on(["*"], "", ["nodes", "nodes/status"], True),
                _on(["*"], "coordination.k8s.io", ["leases"], False),
            ],
        ),
    ),
    _flow(
        "probes",
        "exempt",
        2,
        "",
        _rule(_ANYONE, nonResourceRules=[{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}]),
    ),
    _flow(
        "system-leader-election",
        "leader-election",
        100,
        "ByUser",
        _rule(
            [*_users(_MANAGER, _SCHEDULER), *_SYSTEM_ACCOUNTS],
            resourceRules=[_on(["get", "create", "update"], "coordination.k8s.io", ["leases"], False)],
        ),
    ),
    _flow("kube-controller-manager", "workload-high", 800, "ByNamespace", _rule(_users(_MANAGER))),
    _flow("kube-scheduler", "workload-high", 800, "ByNamespace", _rule(_users(_SCHEDULER))),
    _flow("kube-system-service-accounts", "workload-high", 900, "ByNamespace", _rule(_SYSTEM_ACCOUNTS)),
    _flow("service-accounts", "workload-low", 9000, "ByUser", _rule(_groups("system:serviceaccounts"))),
    _flow("global-default", "global-default", 9900, "ByUser", _rule(_ANYONE)),
)
