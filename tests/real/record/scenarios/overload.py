"""Deadlines, health pages, what has no table; flow schemas and priority levels as they are written and read."""

from steps import Scenario

overload = Scenario("overload")
maps = overload.path("configmaps")
for text in ("5s", "0s", "1h", "-1s", "abc", "5", "5x", "1.5m", "", "1s2", "."):
    overload.raw(f"timeout-{text}", "GET", maps, query=f"timeout={text}&limit=1")
overload.raw("timeout-create", "POST", maps, query="timeout=9x", body={"metadata": {"name": "a"}})
overload.raw("timeout-watch", "GET", maps, query="watch=1&timeoutSeconds=1&timeout=abc&resourceVersion=1")
for page in ("livez", "readyz", "healthz"):
    overload.raw(page, "GET", f"/{page}")
    overload.raw(f"{page}-ping", "GET", f"/{page}/ping")
    overload.raw(f"{page}-etcd", "GET", f"/{page}/etcd")
    overload.raw(f"{page}-none", "GET", f"/{page}/nope")
overload.raw("livez-shutdown", "GET", "/livez/shutdown")
overload.raw("livez-informer-sync", "GET", "/livez/informer-sync")
overload.raw("readyz-shutdown", "GET", "/readyz/shutdown")
overload.raw("readyz-etcd-readiness", "GET", "/readyz/etcd-readiness")
table = "application/json;as=Table;v=v1;g=meta.k8s.io"
access, reviews = "/apis/authorization.k8s.io/v1", {"spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}}}
overload.raw("table-access", "POST", f"{access}/selfsubjectaccessreviews", body=reviews, accept=table)
overload.raw(
    "table-rules", "POST", f"{access}/selfsubjectrulesreviews", body={"spec": {"namespace": "a"}}, accept=table
)
overload.raw(
    "table-token", "POST", "/apis/authentication.k8s.io/v1/tokenreviews", body={"spec": {"token": "x"}}, accept=table
)
overload.raw(
    "table-or-json", "POST", f"{access}/selfsubjectaccessreviews", body=reviews, accept=f"{table},application/json"
)
flow = "/apis/flowcontrol.apiserver.k8s.io/v1"
level = {
    "metadata": {"name": "overload"},
    "spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Reject"}}},
}
overload.raw("level", "POST", f"{flow}/prioritylevelconfigurations", body=level)
overload.raw(
    "schema", "POST", f"{flow}/flowschemas",
    body={"metadata": {"name": "overload"}, "spec": {"priorityLevelConfiguration": {"name": "overload"}}},
)  # fmt: skip
for name, spec in {
    "queues": {"type": "Queue", "queuing": {"queues": 4, "handSize": 8, "queueLengthLimit": 0}},
    "entropy": {"type": "Queue", "queuing": {"queues": 1000000, "handSize": 8, "queueLengthLimit": 1}},
    "queue-without": {"type": "Queue"},
    "reject-with": {"type": "Reject", "queuing": {"queues": 4}},
}.items():
    body = {"metadata": {"name": "bad"}, "spec": {"type": "Limited", "limited": {"limitResponse": spec}}}
    overload.raw(f"level-{name}", "POST", f"{flow}/prioritylevelconfigurations", body=body)
for name, spec in {
    "exempt": {"type": "Exempt", "exempt": {"nominalConcurrencyShares": 1}},
    "both": {"type": "Limited", "limited": {"limitResponse": {"type": "Reject"}}, "exempt": {}},
    "percent": {"type": "Limited", "limited": {"lendablePercent": 101, "borrowingLimitPercent": -1,
                                               "limitResponse": {"type": "Reject"}}},
}.items():  # fmt: skip
    body = {"metadata": {"name": "bad"}, "spec": spec}
    overload.raw(f"level-{name}", "POST", f"{flow}/prioritylevelconfigurations", body=body)
everyone = [{"kind": "Group", "group": {"name": "system:authenticated"}}]
anything = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"]}
reference = {"priorityLevelConfiguration": {"name": "overload"}}
for name, spec in {
    "first": {**reference, "matchingPrecedence": 1},
    "beyond": {**reference, "matchingPrecedence": 10001},
    "negative": {**reference, "matchingPrecedence": -1},
    "no-level": {"priorityLevelConfiguration": {"name": ""}},
    "level-name": {"priorityLevelConfiguration": {"name": "A_b"}},
    "method": {**reference, "distinguisherMethod": {"type": "ByColour"}},
}.items():
    overload.raw(f"flow-{name}", "POST", f"{flow}/flowschemas", body={"metadata": {"name": "bad"}, "spec": spec})
for name, rule in {
    "empty": {},
    "no-rules": {"subjects": everyone},
    "subjects": {
        "subjects": [
            {"kind": "Robot"},
            {"kind": "User"},
            {"kind": "User", "user": {"name": ""}},
            {"kind": "Group", "group": {"name": "a"}, "user": {"name": "b"}},
            {"kind": "ServiceAccount", "serviceAccount": {"name": "A", "namespace": "B"}, "group": {"name": "c"}},
            {"kind": "ServiceAccount", "serviceAccount": {"name": "*", "namespace": ""}},
        ],
        "resourceRules": [anything],
    },
    "resources": {
        "subjects": everyone,
        "resourceRules": [
            {"verbs": [], "apiGroups": [], "resources": []},
            {"verbs": ["*", "get"], "apiGroups": ["*", "a"], "resources": ["*", "b"], "namespaces": ["*", "c"]},
            {"verbs": ["fly"], "apiGroups": ["a"], "resources": ["b"], "namespaces": ["C"]},
        ],
    },
    "paths": {
        "subjects": everyone,
        "nonResourceRules": [
            {"verbs": ["get"], "nonResourceURLs": []},
            {"verbs": ["get"], "nonResourceURLs": ["*", "/a"]},
            {"verbs": ["get"], "nonResourceURLs": ["", "a", "/a b", "//", "/a*", "/*/b/*", "/a/*", "/"]},
        ],
    },
}.items():
    body = {"metadata": {"name": "bad"}, "spec": {**reference, "rules": [rule]}}
    overload.raw(f"rule-{name}", "POST", f"{flow}/flowschemas", body=body)
overload.raw("delete-schema", "DELETE", f"{flow}/flowschemas/overload")
overload.raw("delete-level", "DELETE", f"{flow}/prioritylevelconfigurations/overload")

SCENARIOS = [overload]
