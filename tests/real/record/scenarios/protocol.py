"""Lists, watches, paging, server-side apply, field validation, content types, discovery, unknown things."""

from steps import APPLY_PATCH, Scenario, deployment, pod

lists = Scenario("lists")
for number in range(5):
    lists.create(
        "configmaps",
        {
            "metadata": {"name": f"cm-{number}", "labels": {"n": str(number), "even": str(number % 2 == 0).lower()}},
            "data": {"n": str(number)},
        },
    )
lists.get("configmaps", id="all", save="all")
for name, query in {
    "limit": "limit=2",
    "label": "labelSelector=even%3Dtrue",
    "label-set": "labelSelector=n+in+(1,2)",
    "label-not": "labelSelector=n+notin+(1),even",
    "label-exists": "labelSelector=!even",
    "label-gt": "labelSelector=n%3E2",
    "field-name": "fieldSelector=metadata.name%3Dcm-1",
    "field-not": "fieldSelector=metadata.name!%3Dcm-1",
    "rv-0": "resourceVersion=0&limit=1",
    "rv-exact": "resourceVersion=$(all.metadata.resourceVersion)&resourceVersionMatch=Exact",
    "rv-not-older": "resourceVersion=$(all.metadata.resourceVersion)&resourceVersionMatch=NotOlderThan",
}.items():
    lists.get("configmaps", id=name, query=query)
for name, query in {
    "label-bad": "labelSelector=a%3D%3D%3Db",
    "label-bad-value": "labelSelector=a%3D-b",
    "label-bad-in": "labelSelector=a+in+b",
    "field-bad": "fieldSelector=data.n%3D1",
    "field-syntax": "fieldSelector=metadata.name",
    "limit-bad": "limit=x",
    "limit-negative": "limit=-1",
    "match-without-version": "resourceVersionMatch=Exact",
    "match-bad": "resourceVersion=1&resourceVersionMatch=Odd",
    "match-exact-0": "resourceVersion=0&resourceVersionMatch=Exact",
    "rv-bad": "resourceVersion=abc",
    "continue-bad": "continue=nonsense",
    "continue-and-rv": "continue=abc&resourceVersion=1",
    "rv-future": "resourceVersion=99999999&resourceVersionMatch=NotOlderThan&timeoutSeconds=1",
    "timeout-bad": "timeoutSeconds=x",
    "send-initial-list": "sendInitialEvents=true",
    "bookmarks-on-list": "allowWatchBookmarks=true",
}.items():
    lists.get("configmaps", id=name, query=query)
lists.get("configmaps", id="page-1", query="limit=2", save="page")
lists.get("configmaps", id="page-2", query="limit=2&continue=$(page.metadata.continue)", save="page")
lists.get("configmaps", id="page-3", query="limit=2&continue=$(page.metadata.continue)")
lists.raw("all-namespaces", "GET", "/api/v1/configmaps", query="labelSelector=n%3D3")
lists.patch("configmaps", "cm-1", {"data": {"n": "changed"}}, "change")
lists.patch("configmaps", "cm-1", {"metadata": {"labels": {"even": "true"}}}, "relabel")
lists.delete("configmaps", "cm-2")
since = "watch=1&timeoutSeconds=1&resourceVersion=$(all.metadata.resourceVersion)"
lists.get("configmaps", id="watch", query=since)
lists.get("configmaps", id="watch-label", query=since + "&labelSelector=even%3Dtrue")
lists.get("configmaps", id="watch-label-gone", query=since + "&labelSelector=even%3Dfalse")
lists.get("configmaps", id="watch-field", query=since + "&fieldSelector=metadata.name%3Dcm-2")
lists.get("configmaps", id="watch-all", query="watch=1&timeoutSeconds=1&labelSelector=n%3D0")
lists.get("configmaps", id="watch-rv-0", query="watch=true&timeoutSeconds=1&resourceVersion=0&labelSelector=n%3D0")
lists.get(
    "configmaps",
    id="watch-initial",
    query="watch=1&timeoutSeconds=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&labelSelector=n%3D0",
)
lists.get("configmaps", id="watch-initial-bad", query="watch=1&timeoutSeconds=1&sendInitialEvents=true")
lists.get("configmaps", id="watch-bad-version", query="watch=1&timeoutSeconds=1&resourceVersion=x")
lists.get("configmaps", id="watch-old", query="watch=1&timeoutSeconds=1&resourceVersion=1")
lists.get("configmaps", id="watch-table", query=since, accept="application/json;as=Table;v=v1;g=meta.k8s.io")
lists.get(
    "configmaps", id="watch-partial", query=since, accept="application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
)
lists.raw(
    "watch-path",
    "GET",
    "/api/v1/watch/namespaces/lists/configmaps/cm-1",
    query="timeoutSeconds=1&resourceVersion=$(all.metadata.resourceVersion)",
)
lists.raw(
    "table-include-none",
    "GET",
    lists.path("configmaps"),
    query="includeObject=None&limit=1",
    accept="application/json;as=Table;v=v1;g=meta.k8s.io",
)
lists.raw(
    "table-include-object",
    "GET",
    lists.path("configmaps", "cm-0"),
    query="includeObject=Object",
    accept="application/json;as=Table;v=v1;g=meta.k8s.io",
)
lists.raw("delete-collection-dry", "DELETE", lists.path("configmaps"), query="dryRun=All&labelSelector=n")
lists.raw("delete-collection", "DELETE", lists.path("configmaps"), query="labelSelector=n")

apply = Scenario("apply")
app = deployment("app", replicas=2)
apply.apply("deployments", "app", app, "create", save="app")
apply.apply("deployments", "app", app, "again")
apply.apply("deployments", "app", {**app, "metadata": {"name": "app", "labels": {"a": "b"}}}, "label")
apply.apply("deployments", "app", deployment("app"), "give-up-replicas-and-label")
apply.apply(
    "deployments",
    "app",
    {"metadata": {"name": "app"}, "spec": {"replicas": 4}},
    "other-owns-replicas",
    manager="scaler",
)
apply.apply("deployments", "app", deployment("app", replicas=9), "conflict")
apply.apply("deployments", "app", deployment("app", replicas=9), "force", query="force=true")
apply.patch("deployments", "app", {"spec": {"replicas": 3}}, "merge-takes", query="fieldManager=editor")
apply.apply("deployments", "app", deployment("app", replicas=5), "conflict-with-update")
apply.apply("deployments", "app", deployment("app", replicas=3), "share-same-value")
apply.patch("deployments", "app", {"apiVersion": "apps/v1", "kind": "Deployment"}, "no-manager", type=APPLY_PATCH)
apply.apply("deployments", "app", {"metadata": {"name": "other"}}, "name-differs")
apply.apply(
    "deployments", "app", {"metadata": {"name": "app", "managedFields": [{"manager": "x"}]}}, "managed-fields-given"
)
apply.apply("deployments", "app", {"metadata": {"name": "app"}, "spec": {"bogus": 1}}, "unknown-field")
apply.apply("deployments", "app", {"metadata": {"name": "app"}, "spec": {"replicas": "x"}}, "wrong-type")
apply.apply(
    "deployments",
    "app",
    {"metadata": {"name": "app"}, "spec": {"template": {"spec": {"containers": [{"name": "a"}, {"name": "a"}]}}}},
    "duplicate-key",
)
apply.apply(
    "deployments",
    "app",
    {"metadata": {"name": "app"}, "spec": {"template": {"spec": {"containers": [{"image": "x"}]}}}},
    "missing-key",
)
apply.apply("deployments", "invalid", {"metadata": {"name": "invalid"}, "spec": {"replicas": 1}}, "create-invalid")
apply.apply("deployments", "dry", deployment("dry"), "create-dry", query="dryRun=All")
apply.apply("deployments", "app", deployment("app"), "status-by-main", save="app")
apply.apply(
    "deployments",
    "app",
    {"metadata": {"name": "app"}, "status": {"replicas": 1, "conditions": [{"type": "Available", "status": "True"}]}},
    "status",
    sub="status",
    manager="controller",
)
apply.apply(
    "deployments",
    "app",
    {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "app"}, "spec": {"replicas": 8}},
    "scale",
    sub="scale",
    manager="autoscaler",
    query="force=true",
)
apply.get("deployments", "app", save="app")
apply.raw(
    "yaml",
    "PATCH",
    apply.path("configmaps", "yaml"),
    query="fieldManager=tester",
    raw="apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: yaml\ndata:\n  a: b\n",
    type=APPLY_PATCH,
)
apply.raw(
    "yaml-bad", "PATCH", apply.path("configmaps", "yaml"), query="fieldManager=tester", raw="a: [", type=APPLY_PATCH
)
apply.apply("configmaps", "cm", {"metadata": {"name": "cm"}, "data": {"a": "1", "b": "2"}}, "cm-create")
apply.apply("configmaps", "cm", {"metadata": {"name": "cm"}, "data": {"a": "1"}}, "cm-drop-key")
apply.apply("configmaps", "cm", {"metadata": {"name": "cm"}, "data": {"c": "3"}}, "cm-second", manager="second")
apply.apply("configmaps", "cm", {"metadata": {"name": "cm"}}, "cm-second-drops", manager="second")
apply.apply(
    "services",
    "svc",
    {
        "metadata": {"name": "svc"},
        "spec": {"ports": [{"port": 80, "name": "a"}, {"port": 80, "protocol": "UDP", "name": "b"}]},
    },
    "service",
)
apply.apply(
    "services",
    "svc",
    {"metadata": {"name": "svc"}, "spec": {"ports": [{"port": 80, "protocol": "UDP", "name": "b"}]}},
    "service-drop-port",
)
apply.apply("pods", "p", pod("p", tolerations=[{"key": "a", "operator": "Exists"}]), "pod")
apply.apply(
    "pods",
    "p",
    {"metadata": {"name": "p", "finalizers": ["a.b/c"], "annotations": {"x": "y"}}},
    "pod-finalizer",
    manager="second",
)
apply.apply("pods", "p", {"metadata": {"name": "p"}}, "pod-finalizer-gone", manager="second")
apply.create(
    "configmaps",
    {"metadata": {"name": "posted", "labels": {"a": "b"}}, "data": {"x": "y"}},
    id="managed-by-query",
    query="fieldManager=poster",
)
apply.apply("configmaps", "posted", {"metadata": {"name": "posted"}, "data": {"x": "z"}}, "conflict-with-create")
apply.patch(
    "configmaps",
    "posted",
    [{"op": "replace", "path": "/metadata/managedFields", "value": [{}]}],
    "clear-managed",
    type="application/json-patch+json",
)
apply.create("configmaps", {"metadata": {"name": "x"}}, id="manager-too-long", query="fieldManager=" + "m" * 129)
apply.create("configmaps", {"metadata": {"name": "x"}}, id="manager-unprintable", query="fieldManager=a%07b")

for name, body in {
    "string-number": {"data": {"a": 1}},
    "string-bool": {"data": {"a": True}},
    "string-map": {"data": {"a": {"b": "c"}}},
    "map-string": {"data": "a"},
    "map-list": {"data": ["a"]},
    "bool-string": {"immutable": "yes"},
}.items():
    apply.apply("configmaps", "typed", {"metadata": {"name": "typed"}, **body}, f"typed-{name}")
for name, body in {
    "number-string": {"replicas": "x"},
    "number-bool": {"replicas": True},
    "list-map": {"template": {"spec": {"containers": {"a": "b"}}}},
    "quantity-map": {"template": {"spec": {"containers": [{"name": "a", "resources": {"limits": {"cpu": {}}}}]}}},
    "two": {"replicas": "x", "paused": "y"},
}.items():
    apply.apply("deployments", "typed", {"metadata": {"name": "typed"}, "spec": body}, f"typed-{name}")

wire = Scenario("wire")
cm = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}}
strict = {**cm, "bogus": 1, "metadata": {"name": "strict", "nope": 2}}
wire.raw("strict", "POST", wire.path("configmaps"), body=strict, query="fieldValidation=Strict")
wire.raw(
    "warn",
    "POST",
    wire.path("configmaps"),
    body={**strict, "metadata": {"name": "warn", "nope": 2}},
    query="fieldValidation=Warn",
)
wire.raw(
    "ignore",
    "POST",
    wire.path("configmaps"),
    body={**strict, "metadata": {"name": "ignore", "nope": 2}},
    query="fieldValidation=Ignore",
)
wire.raw("default-warns", "POST", wire.path("configmaps"), body={**strict, "metadata": {"name": "default", "nope": 2}})
wire.raw("validation-bad", "POST", wire.path("configmaps"), body=cm, query="fieldValidation=Odd")
wire.raw(
    "duplicate-keys",
    "POST",
    wire.path("configmaps"),
    raw='{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"dup"},"data":{"a":"1","a":"2"}}',
    query="fieldValidation=Strict",
)
wire.raw("not-json", "POST", wire.path("configmaps"), raw="{nope")
wire.raw("empty-body", "POST", wire.path("configmaps"), raw="")
wire.raw("json-list", "POST", wire.path("configmaps"), raw="[]")
wire.raw("json-text", "POST", wire.path("configmaps"), raw='"hello"')
wire.raw("no-kind", "POST", wire.path("configmaps"), body={"metadata": {"name": "no-kind"}})
wire.raw("no-version", "POST", wire.path("configmaps"), body={"kind": "ConfigMap", "metadata": {"name": "no-version"}})
wire.raw(
    "wrong-kind",
    "POST",
    wire.path("configmaps"),
    body={"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}},
)
wire.raw(
    "unknown-kind",
    "POST",
    wire.path("configmaps"),
    body={"apiVersion": "v1", "kind": "Nothing", "metadata": {"name": "x"}},
)
wire.raw(
    "wrong-version",
    "POST",
    wire.path("configmaps"),
    body={"apiVersion": "v2", "kind": "ConfigMap", "metadata": {"name": "x"}},
)
wire.raw(
    "yaml-body",
    "POST",
    wire.path("configmaps"),
    raw="apiVersion: v1\nkind: ConfigMap\nmetadata: {name: y}\n",
    type="application/yaml",
)
wire.raw("yaml-body-bad", "POST", wire.path("configmaps"), raw="a: b: c", type="application/yaml")
wire.raw("text-body", "POST", wire.path("configmaps"), raw="hello", type="text/plain")
wire.raw("no-content-type", "POST", wire.path("configmaps"), body=cm, type="")
wire.raw("patch-no-type", "PATCH", wire.path("configmaps", "y"), body={}, type="application/json")
wire.raw("patch-unknown-type", "PATCH", wire.path("configmaps", "y"), body={}, type="application/odd")
wire.raw("accept-odd", "GET", wire.path("configmaps", "y"), accept="application/odd")
wire.raw("accept-any", "GET", wire.path("configmaps", "y"), accept="*/*")
wire.raw("accept-yaml", "GET", wire.path("serviceaccounts", "absent"), accept="application/yaml")
wire.raw("accept-table-odd", "GET", wire.path("configmaps"), accept="application/json;as=Odd;v=v1;g=meta.k8s.io")
wire.raw(
    "delete-options-bad",
    "DELETE",
    wire.path("configmaps", "y"),
    body={"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": "x"},
)
wire.raw("delete-options-kind", "DELETE", wire.path("configmaps", "y"), body={"kind": "Pod", "apiVersion": "v1"})
wire.raw(
    "delete-orphan-both",
    "DELETE",
    wire.path("configmaps", "y"),
    body={"orphanDependents": True, "propagationPolicy": "Orphan"},
)
wire.raw("dry-run-bad", "POST", wire.path("configmaps"), body=cm, query="dryRun=Some")
wire.raw("create-by-name", "POST", wire.path("configmaps", "y"), body=cm)
wire.raw("put-collection", "PUT", wire.path("configmaps"), body=cm)
wire.raw("put-name-differs", "PUT", wire.path("configmaps", "y"), body=cm)
wire.raw(
    "put-no-name", "PUT", wire.path("configmaps", "y"), body={"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}}
)
wire.raw("head", "HEAD", wire.path("configmaps", "y"))
wire.raw("options", "OPTIONS", wire.path("configmaps", "y"))
wire.raw("unknown-resource", "GET", "/api/v1/namespaces/wire/nothings")
wire.raw("unknown-group", "GET", "/apis/nothing.example.com/v1/things")
wire.raw("unknown-version", "GET", "/apis/apps/v9/deployments")
wire.raw("unknown-path", "GET", "/nothing")
wire.raw("unknown-subresource", "GET", wire.path("configmaps", "y", "nothing"))
wire.raw("absent", "GET", wire.path("configmaps", "absent"))
wire.raw("absent-deployment", "GET", wire.path("deployments", "absent"))
wire.raw("delete-absent", "DELETE", wire.path("configmaps", "absent"))
wire.raw(
    "generate-long",
    "POST",
    wire.path("configmaps"),
    body={"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "g" * 260}},
)
wire.raw(
    "resource-version-on-create",
    "POST",
    wire.path("configmaps"),
    body={**cm, "metadata": {"name": "rv", "resourceVersion": "5"}},
)
wire.raw(
    "null-labels",
    "POST",
    wire.path("configmaps"),
    body={**cm, "metadata": {"name": "nulls", "labels": None, "annotations": {"a": None}}, "data": None},
)
wire.raw("labels-number", "POST", wire.path("configmaps"), body={**cm, "metadata": {"name": "num", "labels": {"a": 1}}})
wire.raw(
    "deep-type",
    "POST",
    wire.path("deployments"),
    body={
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "d"},
        "spec": {"template": {"spec": {"containers": [{"name": "a", "ports": [{"containerPort": "80"}]}]}}},
    },
)
wire.raw(
    "int-overflow",
    "POST",
    wire.path("deployments"),
    body={"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {"replicas": 99999999999}},
)
wire.raw(
    "time-bad",
    "POST",
    wire.path("leases"),
    body={
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "t"},
        "spec": {"renewTime": "yesterday"},
    },
)
wire.raw(
    "unknown-field-case",
    "POST",
    wire.path("configmaps"),
    body={**cm, "metadata": {"name": "case"}, "Data": {"a": "b"}},
    query="fieldValidation=Strict",
)
for path in (
    "/api",
    "/apis",
    "/api/v1",
    "/apis/apps",
    "/apis/apps/v1",
    "/apis/batch/v1",
    "/apis/policy/v1",
    "/apis/autoscaling/v2",
    "/apis/authorization.k8s.io/v1",
    "/healthz",
    "/livez",
    "/readyz",
    "/healthz/ping",
):
    wire.raw(f"discovery{path.replace('/', '-')}", "GET", path)
wire.raw(
    "discovery-aggregated-core",
    "GET",
    "/api",
    accept="application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json",
)

SCENARIOS = [lists, apply, wire]
