"""RBAC decisions and objects, reviews, impersonation."""

from steps import Scenario

rbac = Scenario("rbac")
reader = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"], "resourceNames": []}]
rbac.create("roles", {"metadata": {"name": "reader"}, "rules": reader}, save="role")
rbac.create(
    "rolebindings",
    {
        "metadata": {"name": "alice"},
        "roleRef": {"kind": "Role", "name": "reader"},
        "subjects": [{"kind": "User", "name": "alice"}, {"kind": "ServiceAccount", "name": "default"}],
    },
    save="binding",
)
rbac.update("rolebindings", "alice", {"$from": "binding", "$set": {"roleRef.name": "other"}}, "role-ref-immutable")
for name, body in {
    "role-no-verbs": {"rules": [{"apiGroups": [""], "resources": ["pods"]}]},
    "role-url": {"rules": [{"verbs": ["get"], "nonResourceURLs": ["/x"]}]},
    "role-no-resources": {"rules": [{"verbs": ["get"]}]},
}.items():
    rbac.create("roles", {"metadata": {"name": "x"}, **body}, id=name)
for name, body in {
    "binding-no-ref": {},
    "binding-kind": {"roleRef": {"kind": "Thing", "name": "x", "apiGroup": "y"}},
    "binding-subjects": {
        "roleRef": {"kind": "Role", "name": "reader"},
        "subjects": [
            {"kind": "Robot", "name": ""},
            {"kind": "User", "name": "a", "apiGroup": "x"},
            {"kind": "ServiceAccount", "name": "A B"},
        ],
    },
}.items():
    rbac.create("rolebindings", {"metadata": {"name": "x"}, **body}, id=name)
rbac.create("configmaps", {"metadata": {"name": "cm"}}, id="object")
for user in ("alice", "bob", "system:serviceaccount:rbac:default"):
    short = user.rpartition(":")[2]
    rbac.get("configmaps", "cm", id=f"{short}-get", user=user)
    rbac.get("configmaps", id=f"{short}-list", user=user)
    rbac.get("configmaps", id=f"{short}-watch", user=user, query="watch=1&timeoutSeconds=1")
    rbac.create("configmaps", {"metadata": {"name": "x"}}, id=f"{short}-create", user=user)
    rbac.delete("configmaps", "cm", id=f"{short}-delete", user=user)
    rbac.get("deployments", id=f"{short}-other-group", user=user)
    rbac.get("configmaps", id=f"{short}-other-namespace", user=user, namespace="kube-system")
    rbac.get("nodes", id=f"{short}-nodes", user=user)
    rbac.raw(f"{short}-path", "GET", "/metrics", user=user)
rbac.get("pods", "x", id="alice-log", sub="log", user="alice")
rbac.patch("deployments", "x", {}, "alice-scale", sub="scale", user="alice")
rbac.raw("alice-delete-collection", "DELETE", rbac.path("configmaps"), user="alice")
rbac.raw("alice-version", "GET", "/version", user="alice")
rbac.raw("masters", "GET", rbac.path("configmaps", "cm"), user="carol", groups="system:masters")
rbac.create(
    "clusterroles",
    {
        "metadata": {"name": "rbac-view", "labels": {"rbac-agg": "1"}},
        "rules": [{"apiGroups": ["apps"], "resources": ["*"], "verbs": ["*"]}],
    },
)
rbac.create(
    "clusterroles",
    {"metadata": {"name": "rbac-x"}, "aggregationRule": {"clusterRoleSelectors": []}},
    id="aggregation-empty",
)
rbac.create(
    "clusterroles",
    {
        "metadata": {"name": "rbac-sum"},
        "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"rbac-agg": "1"}}]},
    },
)
rbac.create(
    "rolebindings",
    {
        "metadata": {"name": "bob"},
        "roleRef": {"kind": "ClusterRole", "name": "rbac-view"},
        "subjects": [{"kind": "User", "name": "bob"}],
    },
)
rbac.get("deployments", id="bob-now", user="bob")
rbac.create(
    "clusterrolebindings",
    {
        "metadata": {"name": "rbac-x"},
        "roleRef": {"kind": "Role", "name": "x"},
        "subjects": [{"kind": "ServiceAccount", "name": "x"}],
    },
    id="cluster-binding-bad",
)
# escalation: bob may manage roles, but only hand out what he has
rbac.create(
    "roles",
    {
        "metadata": {"name": "role-admin"},
        "rules": [{"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles", "rolebindings"], "verbs": ["*"]}],
    },
)
rbac.create(
    "rolebindings",
    {
        "metadata": {"name": "dave"},
        "roleRef": {"kind": "Role", "name": "role-admin"},
        "subjects": [{"kind": "User", "name": "dave"}],
    },
)
rbac.create(
    "roles",
    {"metadata": {"name": "too-much"}, "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]},
    id="escalate",
    user="dave",
)
rbac.create(
    "rolebindings",
    {
        "metadata": {"name": "too-much"},
        "roleRef": {"kind": "Role", "name": "reader"},
        "subjects": [{"kind": "User", "name": "dave"}],
    },
    id="bind-escalate",
    user="dave",
)


def review(kind: str, id: str, spec: object, path: str | None = None, **options: object) -> None:
    plural = path or f"/apis/authorization.k8s.io/v1/{kind.lower()}s"
    rbac.raw(id, "POST", plural, body={"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec}, **options)


attributes = {"namespace": "rbac", "verb": "get", "resource": "configmaps"}
review("SelfSubjectAccessReview", "can-i", {"resourceAttributes": attributes}, user="alice")
review("SelfSubjectAccessReview", "can-i-not", {"resourceAttributes": {**attributes, "verb": "delete"}}, user="alice")
review(
    "SelfSubjectAccessReview",
    "can-i-path",
    {"nonResourceAttributes": {"path": "/openapi/v2", "verb": "get"}},
    user="alice",
)
review("SelfSubjectAccessReview", "can-i-empty", {}, user="alice")
review(
    "SubjectAccessReview",
    "may-bob",
    {
        "user": "bob",
        "resourceAttributes": {"namespace": "rbac", "verb": "list", "group": "apps", "resource": "deployments"},
    },
)
review("SubjectAccessReview", "may-nobody", {"resourceAttributes": attributes})
review("SelfSubjectRulesReview", "rules", {"namespace": "rbac"}, user="alice")
rbac.raw(
    "who-am-i",
    "POST",
    "/apis/authentication.k8s.io/v1/selfsubjectreviews",
    body={"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"},
    user="alice",
    groups="devs",
)
rbac.raw(
    "token-review-bad",
    "POST",
    "/apis/authentication.k8s.io/v1/tokenreviews",
    body={"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": "nonsense"}},
)
rbac.raw("impersonate-group-only", "GET", rbac.path("configmaps"), groups="x")
rbac.raw("table-roles", "GET", rbac.path("roles"), accept="application/json;as=Table;v=v1;g=meta.k8s.io")
rbac.raw("table-rolebindings", "GET", rbac.path("rolebindings"), accept="application/json;as=Table;v=v1;g=meta.k8s.io")

SCENARIOS = [rbac]
