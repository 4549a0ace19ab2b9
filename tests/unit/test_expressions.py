"""CEL: parsed, checked and run, with cel-go's words and costs that end every run."""

from __future__ import annotations

from typing import Any

import pytest

from atoll.cluster.apiserver.expressions import admission, texts
from atoll.cluster.apiserver.expressions.environment import Environment
from atoll.cluster.apiserver.expressions.errors import CompileError, CostExceeded, EvaluationError
from atoll.cluster.apiserver.expressions.types import BOOL, DYN, INT, STRING, list_of, struct
from atoll.cluster.apiserver.expressions.values import plain
from atoll.cluster.apiserver.ports import AdmissionRequest, Attributes, Decision, User
from atoll.kinds.resource import Resource

OBJECT = {
    "spec": {"replicas": 3, "items": [1, 2, 3], "map": {"a": "x", "b": "y"}},
    "metadata": {"name": "foo", "labels": {"a": "b"}},
}
ENVIRONMENT = Environment({"object": DYN, "n": INT, "r": struct("kubernetes.R", {"name": STRING})})
NAMES = {"object": OBJECT, "n": 1, "r": {"name": "q"}}


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("object.spec.replicas > 2 && object.metadata.name == 'foo'", True),
        ("object.spec.items.exists(x, x.missing > 0 || x == 3)", True),
        ("object.spec.items.all(x, x > 1)", False),
        ("object.spec.items.map(x, x * 2)", [2, 4, 6]),
        ("object.spec.items.filter(x, x > 1)", [2, 3]),
        ("object.spec.items.exists_one(x, x == 2)", True),
        ("has(object.spec.missing)", False),
        ("object.?spec.?missing.orValue(7)", 7),
        ("object[?'status'].hasValue()", False),
        ("object.spec.map.transformMap(k, v, v + k)", {"a": "xa", "b": "yb"}),
        ("object.spec.items.transformList(i, v, i > 0, v)", [2, 3]),
        ("object.spec.map.all(k, v, v in ['x', 'y'])", True),
        ("object.spec.items.sortBy(x, -x)", [3, 2, 1]),
        ("[1, 2, 3].sum() == 6 && [2, 1].max() == 2 && ['a'].indexOf('b') == -1", True),
        ("[[1], [2, 3]].flatten()", [1, 2, 3]),
        ("sets.contains([1, 2], [2]) && sets.intersects([1], [1, 3]) && sets.equivalent([1], [1, 1])", True),
        ("quantity('1Gi').isGreaterThan(quantity('100Mi')) && quantity('50k').add(20) == quantity('50020')", True),
        ("ip('10.0.0.1').family() == 4 && cidr('10.0.0.0/8').containsIP('10.1.1.1')", True),
        ("cidr('10.0.0.0/8').containsCIDR(cidr('10.1.0.0/16')) && !isIP('10.0.0')", True),
        ("format.dns1123Label().validate('A_b').hasValue()", True),
        ("format.named('uuid').value().validate('x').value()", ["does not match the UUID format"]),
        ("url('https://a.b:80/c?x=1').getPort() + url('https://a.b/c?x=1').getQuery()['x'][0]", "801"),
        ("semver('1.2.3-rc.1').isLessThan(semver('1.2.3')) && semver('v1.2', true).patch() == 0", True),
        ("1 / 0 == 1 || true", True),
        ("true == dyn(1)", False),
        ("1 == dyn(1.0) && 1u < 2", True),
        ("type(1) == int && type(quantity('1')) == kubernetes.Quantity", True),
        ("duration('1h30m') > duration('90s') && duration('1h30m').getMinutes() == 90", True),
        ("timestamp('2024-02-01T00:00:00Z') - timestamp('2024-01-31T23:00:00Z') == duration('1h')", True),
        ("'baac'.findAll('a*') == ['', 'aa', ''] && 'abc'.findAll('', 2) == ['', '']", True),
        ("'abc'.matches('^a.c$') && 'a1b22'.findAll('[0-9]+') == ['1', '22']", True),
        ("'%s has %s'.format(['a', 'b'])", "a has b"),
        ("'a,b'.split(',').join('-')", "a-b"),
        ("string(1.0) + string(true) + string(b'x')", "1truex"),
        ("-7 / 2 == -3 && -7 % 2 == -1", True),
        ("optional.of(1).optMap(x, x + 1).value()", 2),
        ("{'a': 1, ?'b': optional.none()}", {"a": 1}),
    ],
)  # fmt: skip
def test_values(source: str, value: Any) -> None:
    assert plain(ENVIRONMENT.compile(source).run(NAMES)) == value


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("r.nam", "compilation failed: ERROR: <input>:1:2: undefined field 'nam'\n | r.nam\n | .^"),
        ("nope + 1", "undeclared reference to 'nope' (in container '')"),
        ("n + 'a'", "1:3: found no matching overload for '_+_' applied to '(int, string)'"),
        ("'a'.size(1)", "found no matching overload for 'size' applied to 'string.(int)'"),
        ("'abc'.foo()", "undeclared reference to 'foo' (in container '')"),
        ("[1, 'a']", "expected type 'int' but found 'string'"),
        ("n.x", "type 'int' does not support field selection"),
        ("n.all(x, true)", "expression of type 'int' cannot be range of a comprehension (must be list, map,"),
        ("n && true", "expected type 'bool' but found 'int'"),
        ("1 +", "Syntax error: mismatched input '<EOF>'"),
        ("n", "must evaluate to bool but got int"),
        ("[n]", "must evaluate to bool but got list(int)"),
        ("object.x", "must evaluate to bool but got dyn"),
    ],
)  # fmt: skip
def test_compile_errors(source: str, error: str) -> None:
    with pytest.raises(CompileError) as caught:
        ENVIRONMENT.compile(source, BOOL)
    assert error in str(caught.value)


def test_several_results() -> None:
    with pytest.raises(CompileError, match=r"must evaluate to one of \[string bool\] but got int"):
        ENVIRONMENT.compile("n", STRING, BOOL)


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("object.missing", "no such key: missing"),
        ("object.spec.items[9]", "index out of bounds: 9"),
        ("object.spec.replicas.x", "no such overload"),
        ("!object.spec", "no such overload"),
        ("1 / 0 == 1", "division by zero"),
        ("9223372036854775807 + n == 1", "integer overflow"),
        ("quantity('x') == quantity('1')", "quantities must match the regular expression"),
        ("dyn([]).min()", "min called on empty list"),
        ("int('x')", "type conversion error from 'string' to 'int'"),
        ("object.spec.items.all(x, x.y)", "no such overload"),
        ("optional.none().value()", "optional.none() dereference"),
    ],
)
def test_evaluation_errors(source: str, error: str) -> None:
    with pytest.raises(EvaluationError) as caught:
        ENVIRONMENT.compile(source).run(NAMES)
    assert error in str(caught.value)


def test_a_loop_of_loops_is_stopped() -> None:
    program = ENVIRONMENT.compile("lists.range(5000).all(x, lists.range(5000).all(y, x + y >= 0))")
    with pytest.raises(CostExceeded, match="actual cost limit exceeded"):
        program.run(NAMES)


def test_names_of_outer_loops_come_back() -> None:
    assert ENVIRONMENT.compile("[1, 2].all(x, [3].all(x, x == 3) && x < 3)").run(NAMES) is True


class _Pods:
    """Allows reading pods, to the user bob and one service account."""

    def __init__(self) -> None:
        self.asked: list[Attributes] = []

    def authorize(self, attributes: Attributes) -> Decision:
        self.asked.append(attributes)
        known = attributes.user.name in ("bob", "system:serviceaccount:a:b")
        return Decision(known and attributes.resource == "pods", "because")


def _request() -> AdmissionRequest:
    pods = Resource("", "v1", "pods", "Pod")
    return AdmissionRequest("CREATE", pods, "", "a", "p", {"x": 1}, None, User("bob", ("g",)), False, {}, [], "Pod")


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("authorizer.group('').resource('pods').namespace('a').check('get').allowed()", True),
        ("authorizer.group('').resource('nodes').check('get').allowed()", False),
        ("authorizer.serviceAccount('a', 'b').group('').resource('pods').check('get').reason() == 'because'", True),
        ("authorizer.path('/x').check('get').allowed()", False),
        ("authorizer.requestResource.check('create').allowed()", True),
        ("request.userInfo.username == 'bob' && request.kind.kind == 'Pod' && request.operation == 'CREATE'", True),
        ("oldObject == null && object.x == 1 && request.resource.resource == 'pods'", True),
        ("namespaceObject.metadata.labels['k'] == 'v'", True),
    ],
)
def test_admission_variables(source: str, value: bool) -> None:
    namespace = {"metadata": {"name": "a", "labels": {"k": "v"}}}
    authorizer = _Pods()
    names = admission.bindings(_request(), namespace=namespace, authorizer=authorizer)
    assert admission.environment().compile(source, BOOL).run(names) is value


def test_a_third_authorization_is_too_dear() -> None:
    check = "authorizer.group('').resource('pods').check('get').allowed()"
    names = admission.bindings(_request(), authorizer=_Pods())
    with pytest.raises(CostExceeded):
        admission.environment().compile(f"{check} && {check} && {check}").run(names)


@pytest.mark.parametrize(
    ("sources", "policy", "match"),
    [
        (["true", "object.x == 1"], "Fail", admission.Match(True)),
        (["object.y", "object.x == 2"], "Fail", admission.Match(False, failed="1")),
        (
            ["object.y == 1"],
            "Fail",
            admission.Match(False, "expression 'object.y == 1' resulted in error: no such key: y"),
        ),
        (["object.y == 1"], "Ignore", admission.Match(False)),
    ],
)
def test_match_conditions(sources: list[str], policy: str, match: admission.Match) -> None:
    conditions = [{"name": str(place), "expression": source} for place, source in enumerate(sources)]
    compiled = admission.compile_conditions(conditions, admission.environment())
    assert admission.matches(compiled, admission.bindings(_request()), policy) == match


def test_results_may_be_lists() -> None:
    assert ENVIRONMENT.compile("['a']", list_of(STRING)).run({}) == ["a"]


def test_a_pattern_that_backtracks_elsewhere_takes_linear_time() -> None:
    assert texts._find("a" * 20_000 + "b", "(a+)+$") == ""  # by backtracking it would not end
    assert texts._find_all("a" * 2_000 + "b", "(a|aa)+$") == []
