"""Admission policies in CEL: what is refused when one is written, and what policies deny, warn of and change."""

from typing import Any

from steps import Scenario

RULE = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["configmaps"]}
HERE = {"matchLabels": {"kubernetes.io/metadata.name": "policies"}}


def policy(name: str, *validations: Any, **spec: Any) -> dict[str, Any]:
    rules = spec.pop("rules", [RULE])
    found = [v if isinstance(v, dict) else {"expression": v} for v in validations]
    body = {"matchConstraints": {"resourceRules": rules}, **spec}
    if found:
        body["validations"] = found
    return {"metadata": {"name": name}, "spec": body}


written = Scenario("policies-written")
for label, spec in {
    "undeclared": policy("p", "nope.spec > 1"),
    "no-bool": policy("p", "object.x"),
    "int": policy("p", "1"),
    "syntax": policy("p", "object.x ==", "1 +", "(", "object.foo..bar"),
    "unknown-function": policy("p", "object.x.foo()", "foo(object)"),
    "request-field": policy("p", "request.nope == 'x'", "request.userInfo.name == 'x'", "request.kind == 1"),
    "namespace-field": policy("p", "namespaceObject.spec.nope == 'x'", "namespaceObject.metadata.name == 1"),
    "no-overload": policy("p", "'a' + 1 == 'b'", "1 + 'a' == 2", "size(1) > 0", "'a'.startsWith(1)", "!1"),
    "wrong-range": policy("p", "request.name.all(x, true)", "1.exists(x, x)"),
    "mixed-list": policy("p", "[1, 'a'] == []", "{'a': 1, 2: 3} == {}"),
    "no-params": policy("p", "params.x == 1"),
    "params": policy("p", "params.x == 1", paramKind={"apiVersion": "v1", "kind": "ConfigMap"}),
    "variables": policy(
        "p",
        "variables.a > 1 && variables.b == 'x'",
        "variables.c",
        variables=[{"name": "a", "expression": "1 + 1"}, {"name": "b", "expression": "'x'"}],
    ),
    "variable-types": policy(
        "p",
        "variables.a == 'x'",
        "variables.l.all(x, x == 'a')",
        variables=[{"name": "a", "expression": "1"}, {"name": "l", "expression": "[1, 2].map(x, x * 2)"}],
    ),
    "variables-order": policy(
        "p",
        "true",
        variables=[
            {"name": "a", "expression": "variables.b"},
            {"name": "b", "expression": "1"},
            {"name": "for", "expression": "1"},
            {"name": "", "expression": ""},
            {"name": "x-y", "expression": "nope"},
        ],
    ),
    "no-variables": policy("p", "variables.a"),
    "message-expression": policy(
        "p",
        {"expression": "true", "messageExpression": "1"},
        {"expression": "true", "messageExpression": "'a' + string(object.x)"},
        {"expression": "true", "messageExpression": "authorizer.path('/x').check('get').reason()"},
        {"expression": "true", "messageExpression": "  ", "message": " "},
        {"expression": "true", "message": "a\nb", "reason": "Nope"},
    ),
    "match-conditions": policy(
        "p",
        "true",
        matchConditions=[
            {"name": "a", "expression": "1"},
            {"name": "a", "expression": "object.x == 1"},
            {"name": "", "expression": ""},
            {"name": "b c", "expression": "variables.x"},
        ],
    ),
    "audit": policy(
        "p",
        auditAnnotations=[
            {"key": "a", "valueExpression": "'x'"},
            {"key": "a", "valueExpression": "1"},
            {"key": "b c", "valueExpression": ""},
            {"key": "n", "valueExpression": "null"},
        ],
    ),
    "nothing": policy("p"),
    "no-match": {"metadata": {"name": "p"}, "spec": {"validations": [{"expression": "true"}]}},
    "bad-match": policy(
        "p",
        "true",
        rules=[
            {
                **RULE,
                "operations": ["*", "CREATE"],
                "resources": [],
                "resourceNames": ["a", "a/b", "a"],
                "scope": "Nope",
            }
        ],
        failurePolicy="Nope",
        paramKind={"apiVersion": "a/b/c", "kind": ""},
    ),
    "param-kind": policy("p", "true", paramKind={"apiVersion": "A_b/V1", "kind": "x y"}),
    "libraries": policy(
        "p",
        "quantity('1').isGreaterThan(1)",
        "ip('10.0.0.1').nope()",
        "url('https://a').getHost() == 1",
        "[1, 2].sum() == 'a'",
        "authorizer.group('').resource('pods').check('get')",
        "semver('1.0.0') > 1",
        "format.dns1123Label().validate('a') == 'x'",
        "sets.contains([1], ['a'])",
        "cidr('10.0.0.0/8')",
    ),
}.items():
    written.create("validatingadmissionpolicies", spec, id=f"refuse-{label}")
for place, actions in enumerate(([], ["Deny", "Warn"], ["Nope"], ["Deny", "Deny"])):
    body = {"metadata": {"name": "b"}, "spec": {"policyName": "p", "validationActions": actions}}
    written.create("validatingadmissionpolicybindings", body, id=f"binding-{place}")
for place, reference in enumerate(
    (
        {},
        {"name": "a", "selector": {}},
        {"name": "a/b", "parameterNotFoundAction": "Nope"},
        {"selector": {"matchLabels": {"a b": "c"}}, "parameterNotFoundAction": "Allow"},
    )
):
    body = {"metadata": {"name": "b"}, "spec": {"policyName": "p", "validationActions": ["Deny"],
                                                "paramRef": reference}}  # fmt: skip
    written.create("validatingadmissionpolicybindings", body, id=f"param-ref-{place}")


def mutating(name: str, *mutations: Any, **spec: Any) -> dict[str, Any]:
    body = {"matchConstraints": {"resourceRules": [RULE]}, "reinvocationPolicy": "Never", **spec}
    return {"metadata": {"name": name}, "spec": {**body, "mutations": list(mutations)}}


def apply(expression: str) -> dict[str, Any]:
    return {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}


def patch(expression: str) -> dict[str, Any]:
    return {"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}


for label, spec in {
    "none": mutating("m"),
    "types": mutating("m", apply("1"), patch("1"), apply("[Object{}]"), patch("JSONPatch{}"), apply("{'a': 1}")),
    "fields": mutating(
        "m",
        patch("[JSONPatch{op: 1, nope: 2}]"),
        apply("Object{data: {'a': 'b'}}"),
        apply("Foo{}"),
        apply("Object{} == 1"),
    ),
    "both": mutating("m", {**apply("Object{}"), "jsonPatch": {"expression": "[]"}}, {"patchType": "Nope"}, {}),
    "again": mutating("m", apply("Object{}"), reinvocationPolicy="Nope"),
    "no-again": mutating("m", apply("Object{}"), reinvocationPolicy=""),
    "operations": mutating(
        "m", apply("Object{}"), matchConstraints={"resourceRules": [{**RULE, "operations": ["DELETE", "*"]}]}
    ),
}.items():
    written.create("mutatingadmissionpolicies", spec, id=f"mutating-{label}")
written.create(
    "mutatingadmissionpolicybindings",
    {"metadata": {"name": "b"}, "spec": {"policyName": "", "matchResources": {"resourceRules": [
        {**RULE, "operations": ["CONNECT"]}]}}},
    id="mutating-binding",
)  # fmt: skip

acting = Scenario("policies")
acting.create("namespaces", {"metadata": {"name": "policies-other"}})


def bind(scenario: Scenario, kind: str, name: str, **spec: Any) -> None:
    """Of what carries the policy's name as its label `case`, so that policies do not meet."""
    case = {"matchLabels": {"case": name}}
    place = {"matchLabels": {"kubernetes.io/metadata.name": scenario.name}}
    body = {"policyName": name, "matchResources": {"objectSelector": case, "namespaceSelector": place}, **spec}
    scenario.create(f"{kind}admissionpolicybindings", {"metadata": {"name": f"{name}-b"}, "spec": body})


def enforce(found: dict[str, Any], actions: list[str] | None = None, **spec: Any) -> None:
    acting.create("validatingadmissionpolicies", found)
    bind(acting, "validating", found["metadata"]["name"], validationActions=actions or ["Deny"], **spec)


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, **({"data": data} if data else {})}


def labelled(case: str, obj: dict[str, Any]) -> dict[str, Any]:
    metadata = obj["metadata"]
    return {**obj, "metadata": {**metadata, "labels": {"case": case, **metadata.get("labels", {})}}}


def trial(case: str, id: str, obj: dict[str, Any], resource: str = "configmaps", **options: Any) -> None:
    acting.create(resource, labelled(case, obj), id=f"{case}-{id}", query="dryRun=All", **options)


enforce(
    policy(
        "data",
        {"expression": "!has(object.data) || !('bad' in object.data)", "message": " bad is bad "},
        {
            "expression": "!has(object.data.ugly)",
            "messageExpression": "object.metadata.name + ' is ' + string(object.data.ugly)",
            "reason": "Forbidden",
        },
        {"expression": "!has(object.data.lines)", "messageExpression": "'a\\nb'"},
        {"expression": "!has(object.data.lost)", "messageExpression": "string(object.data.nope)", "message": "lost"},
        {"expression": "!has(object.data.missing) || object.data.nope == 'x'"},
        {"expression": "!has(object.data.big)", "reason": "RequestEntityTooLarge"},
        {"expression": "!has(object.data.divided) || 1 / (size(object.data) - size(object.data)) == 1"},
        {"expression": "!has(object.data.parsed) || int(object.data.parsed) > 1"},
        {"expression": "!has(object.data.listed) || object.data.listed.all(x, x == 'a')"},
        {"expression": "!has(object.data.index) || [1, 2][5] == 1"},
        {"expression": "!has(object.data.typed) || object.data == 1 || object.data.typed > 1"},
        {"expression": "!has(object.data.quantity) || quantity(object.data.quantity).isLessThan(quantity('1Gi'))"},
        {"expression": "!has(object.data.address) || ip(object.data.address).family() == 4"},
        {"expression": "!has(object.data.url) || url(object.data.url).getHost() == 'a'"},
        {"expression": "!has(object.data.when) || timestamp(object.data.when) < timestamp('2020-01-01T00:00:00Z')"},
        {"expression": "!has(object.data.pattern) || 'a'.matches(object.data.pattern)"},
        {"expression": "!has(object.data.version) || semver(object.data.version).major() == 1"},
        {"expression": "!has(object.data.network) || cidr(object.data.network).prefixLength() == 8"},
        {"expression": "!has(object.data.sub) || object.data.sub.substring(5) == ''"},
        {"expression": "!has(object.data.costly) || [1,2,3,4,5,6,7,8,9,10].all(a, [1,2,3,4,5,6,7,8,9,10].all(b,"
                       " [1,2,3,4,5,6,7,8,9,10].all(c, [1,2,3,4,5,6,7,8,9,10].all(d, [1,2,3,4,5,6,7,8,9,10].all(e,"
                       " [1,2,3,4,5,6,7,8,9,10].all(f, true))))))"},
    ),
)  # fmt: skip
trial("data", "deny", config_map("a", bad="1"), settle="bad is bad")
for label in ("ugly", "lines", "lost", "missing", "big", "divided", "parsed", "listed", "index", "typed", "quantity",
              "address", "url", "when", "pattern", "version", "network", "sub", "costly"):  # fmt: skip
    trial("data", label, config_map("a", **{label: "[" if label == "pattern" else "x"}))
trial("data", "allow", config_map("a", good="1"))
trial("data", "none", config_map("a"))
trial("data", "generated", {"metadata": {"generateName": "gen-"}, "data": {"bad": "1"}})
trial("data", "elsewhere", config_map("a", bad="1"), namespace="policies-other")
acting.create("configmaps", labelled("data", config_map("standing", a="b")))
acting.patch("configmaps", "standing", {"data": {"bad": "x"}}, "deny-update")
applied = labelled("data", {"metadata": {"name": "applied"}, "data": {"ugly": "1"}})
acting.apply("configmaps", "applied", applied, "deny-apply")

enforce(
    policy(
        "variables",
        {"expression": "variables.short", "messageExpression": "'%s has %s letters'.format([variables.name, "
                                                               "string(variables.length)])"},
        {"expression": "variables.broken == 1"},
        variables=[
            {"name": "name", "expression": "object.metadata.name"},
            {"name": "length", "expression": "size(variables.name)"},
            {"name": "short", "expression": "variables.length < 5"},
            {"name": "broken", "expression": "has(object.data.broken) ? object.data.none : 1"},
        ],
        matchConditions=[
            {"name": "not-exempt", "expression": "object.metadata.name != 'exempt'"},
            {"name": "no-error", "expression": "!has(object.data.error) || object.data.nope == 'x'"},
        ],
    ),
)  # fmt: skip
trial("variables", "deny", config_map("longer", a="b"), settle="letters")
trial("variables", "allow", config_map("abc", a="b"))
trial("variables", "broken", config_map("abc", broken="1"))
trial("variables", "exempt", config_map("exempt", a="b"))
trial("variables", "error", config_map("longer", error="1"))

enforce(policy("warn", "object.data.a == 'b'", {"expression": "false", "message": "always"}), ["Warn", "Audit"])
enforce(policy("later", {"expression": "false", "message": "made later"}))
trial("later", "settled", config_map("x"), settle="made later")
trial("warn", "warn", config_map("x", a="c"))
trial("warn", "error", config_map("x"))

acting.create("configmaps", {"metadata": {"name": "one", "labels": {"p": "q"}}, "data": {"max": "3"}}, id="param-one")
acting.create("configmaps", {"metadata": {"name": "two", "labels": {"p": "q"}}, "data": {"max": "5"}}, id="param-two")
LIMIT = {
    "expression": "params == null || int(object.data.n) <= int(params.data.max)",
    "messageExpression": "string(object.data.n) + ' is more than ' + string(params.data.max)",
}
KIND = {"apiVersion": "v1", "kind": "ConfigMap"}
for name, reference in {
    "named": {"name": "one", "parameterNotFoundAction": "Deny"},
    "absent": {"name": "nope", "parameterNotFoundAction": "Deny"},
    "allowed": {"name": "nope", "parameterNotFoundAction": "Allow"},
    "other": {"name": "one", "namespace": "policies-other", "parameterNotFoundAction": "Deny"},
    "selected": {"selector": {"matchLabels": {"p": "q"}}, "parameterNotFoundAction": "Deny"},
}.items():
    enforce(policy(name, LIMIT, paramKind=KIND), paramRef=reference)
enforce(policy("unbound", LIMIT, paramKind=KIND))
unknown = policy(
    "unknown",
    "true",
    paramKind={"apiVersion": "nope.example.com/v1", "kind": "Nope"},
    matchConstraints={"resourceRules": [RULE], "objectSelector": {"matchLabels": {"case": "unknown"}}},
)
enforce(unknown, paramRef={"name": "x", "parameterNotFoundAction": "Allow"})
trial("unknown", "deny", config_map("x", n="1"), settle="failed to configure policy")
trial("named", "deny", config_map("x", n="4"), settle="is more than")
trial("named", "allow", config_map("x", n="2"))
trial("absent", "deny", config_map("x", n="2"), settle="no params found")
trial("allowed", "allow", config_map("x", n="9"))
trial("other", "deny", config_map("x", n="2"))
trial("selected", "between", config_map("x", n="4"), settle="is more than")
trial("selected", "allow", config_map("x", n="3"))
trial("unbound", "allow", config_map("x", n="9"))

enforce(
    policy(
        "request",
        "request.operation != 'DELETE' || oldObject.metadata.name != 'held'",
        "request.operation != 'UPDATE' || oldObject.data.a == object.data.a",
        "request.name != 'named' || request.namespace != 'policies'",
        "namespaceObject.metadata.name == 'policies'",
        "request.userInfo.username != 'bob'",
        {"expression": "request.dryRun || object.metadata.name == 'held'", "message": "not dry"},
        "authorizer.group('').resource('pods').namespace('policies').check('create').allowed()",
        "authorizer.requestResource.check('create').allowed()",
        "request.resource.resource == 'configmaps' && request.requestKind.kind == 'ConfigMap'",
        rules=[{**RULE, "operations": ["*"]}],
    ),
)
trial("request", "named", config_map("named"), settle="failed expression")
acting.create("configmaps", labelled("request", config_map("held", a="b")))
acting.delete("configmaps", "held", id="request-delete", query="dryRun=All")
acting.patch("configmaps", "held", {"data": {"a": "c"}}, "request-update", query="dryRun=All")
acting.create("configmaps", labelled("request", config_map("not-dry")), id="request-not-dry")
trial("request", "allow", config_map("fine"))
trial("request", "bob", config_map("fine"), user="bob", groups="system:masters")

enforce(
    policy("scaled", "object.spec.replicas < 3", rules=[{"apiGroups": ["apps"], "apiVersions": ["v1"],
           "operations": ["*"], "resources": ["deployments/scale"]}]),
)  # fmt: skip
enforce(
    policy("beta", "object.apiVersion == 'autoscaling/v1'", {"expression": "request.kind.version == 'v1' &&"
           " request.requestKind.version == 'v2'"}, {"expression": "false", "messageExpression": "'target ' +"
           " string(object.spec.targetCPUUtilizationPercentage)"}, rules=[{"apiGroups": ["autoscaling"],
           "apiVersions": ["v1"], "operations": ["*"], "resources": ["horizontalpodautoscalers"]}]),
)  # fmt: skip
metrics = [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization",
                                                                       "averageUtilization": 60}}}]  # fmt: skip
scaler = {"metadata": {"name": "h"}, "spec": {"maxReplicas": 3, "metrics": metrics, "scaleTargetRef": {
    "apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}}}  # fmt: skip
trial("beta", "equivalent", scaler, "horizontalpodautoscalers", settle="target 60")
enforce(policy("ignore", "object.data.nope == 'x'", {"expression": "false", "message": "no"}, failurePolicy="Ignore"))
trial("ignore", "deny", config_map("x", a="b"), settle='no"')
enforce(
    policy("excluded", {"expression": "false", "message": "no, excluded"}, matchConstraints={
        "resourceRules": [RULE], "excludeResourceRules": [{**RULE, "resourceNames": ["free"]}]}),
)  # fmt: skip
trial("excluded", "deny", config_map("x"), settle="no, excluded")
trial("excluded", "free", config_map("free"))

changing = Scenario("policies-mutating")


def change(name: str, *mutations: Any, resource: str = "configmaps", **spec: Any) -> None:
    constraints = {"resourceRules": [{**RULE, "resources": [resource]}]}
    changing.create("mutatingadmissionpolicies", mutating(name, *mutations, matchConstraints=constraints, **spec))
    bind(changing, "mutating", name)


def attempt(case: str, id: str, obj: dict[str, Any], resource: str = "configmaps", **options: Any) -> None:
    changing.create(resource, labelled(case, obj), id=f"{case}-{id}", query="dryRun=All", **options)


change(
    "labels",
    apply("Object{metadata: Object.metadata{labels: {'added': object.metadata.name + variables.suffix}}}"),
    patch("has(object.data) ? [JSONPatch{op: 'add', path: '/data/patched', value: 'yes'}] : []"),
    patch(
        "has(object.data) && has(object.data.when) ? [JSONPatch{op: 'test', path: '/data/when', value: 'now'},"
        " JSONPatch{op: 'replace', path: '/data/when', value: 'then'}] : []"
    ),
    variables=[{"name": "suffix", "expression": "'-x'"}],
    matchConditions=[{"name": "c", "expression": "object.metadata.name != 'exempt'"}],
)
attempt("labels", "data", config_map("a", b="c"), settle="a-x")
attempt("labels", "none", config_map("a"))
attempt("labels", "when", config_map("a", when="now"))
attempt("labels", "not-now", config_map("a", when="later"))
attempt("labels", "exempt", config_map("exempt", b="c"))
changing.create("configmaps", labelled("labels", config_map("stands", b="c")))
changing.patch("configmaps", "stands", {"data": {"b": "d"}}, "labels-update")

change(
    "faulty",
    apply(
        "object.metadata.name == 'wrong' ? Object{metadata: Object.wrong{labels: {'a': 'b'}}} :"
        " object.metadata.name == 'unknown' ? Object{nope: 'a'} : object.metadata.name == 'type' ?"
        " Object{data: ['a']} : Object{data: {'fine': 'yes'}}"
    ),
    patch(
        "object.metadata.name == 'absent' ? [JSONPatch{op: 'remove', path: '/data/absent'}] :"
        " object.metadata.name == 'bad' ? [JSONPatch{op: 'add', path: '/metadata/labels', value: 'x'}] :"
        " object.metadata.name == 'error' ? [JSONPatch{op: 'add', path: string(object.data.nope), value: 'x'}] : []"
    ),
)
attempt("faulty", "fine", config_map("fine", b="c"), settle='"fine":"yes"')
for name in ("wrong", "unknown", "type", "absent", "bad", "error"):
    attempt("faulty", name, config_map(name, b="c"))
change("open", patch("[JSONPatch{op: 'add', path: '/data/x', value: string(object.data.nope)}]"),
       patch("[JSONPatch{op: 'add', path: '/data/y', value: 'z'}]"), failurePolicy="Ignore")  # fmt: skip
attempt("open", "fails", config_map("x", b="c"), settle='"y":"z"')

change(
    "sidecar",
    apply(
        "Object{spec: Object.spec{initContainers: [Object.spec.initContainers{name: 'side', image: 'i',"
        " restartPolicy: 'Always'}], containers: object.spec.containers.filter(c, !has(c.env)).map(c,"
        " Object.spec.containers{name: c.name, env: [Object.spec.containers.env{name: 'A', value: 'b'}]})}}"
    ),
    resource="pods",
)
CONTAINERS = [{"name": "one", "image": "i"}, {"name": "two", "image": "j", "env": [{"name": "X"}]}]
attempt(
    "sidecar", "pod", {"metadata": {"name": "p"}, "spec": {"containers": CONTAINERS}}, "pods", settle='"name":"side"'
)
change(
    "atomic",
    apply("Object{spec: Object.spec{containers: [Object.spec.containers{name: 'one',"
          " args: ['x']}]}}"),
    resource="pods",
)  # fmt: skip
attempt("atomic", "pod", {"metadata": {"name": "p"}, "spec": {"containers": CONTAINERS}}, "pods", settle="atomic ")

change("again", patch("has(object.data.b) ? [JSONPatch{op: 'add', path: '/data/a', value: 'saw b'}] : []"),
       reinvocationPolicy="IfNeeded")  # fmt: skip
again = mutating("then", patch("[JSONPatch{op: 'add', path: '/data/b', value: string(size(object.data))}]"))
changing.create("mutatingadmissionpolicies", again)
changing.create(
    "mutatingadmissionpolicybindings",
    {"metadata": {"name": "then-b"}, "spec": {"policyName": "then", "matchResources": {
        "objectSelector": {"matchLabels": {"case": "again"}}}}},
)  # fmt: skip
attempt("again", "both", config_map("x", z="1"), settle="saw b")

SCENARIOS = [written, acting, changing]
