"""Literals that Kubernetes' CEL environment checks as it compiles (cel-go's ASTValidators), in devices' selectors."""

from __future__ import annotations

from steps import Scenario

literals = Scenario("cel-literals")
EXPRESSIONS = [
    '"a".matches("(")', '"a".matches("(?=x)")', 'matches("(", "a")', 'matches("a", "(")', '"a".find("(") == ""',
    'duration("x") == duration("1s")', 'duration("1h30m") > duration("1s")', 'duration("") == duration("1s")',
    'duration("9999999h") > duration("1s")', 'timestamp("y") == timestamp("2020-01-01T00:00:00Z")',
    'timestamp("2020-13-01T00:00:00Z") == timestamp("2020-01-01T00:00:00Z")', 'timestamp(-1) < timestamp(1)',
    'timestamp("2020-01-01T00:00:00+01:00") < timestamp("2020-01-01T00:00:00Z")',
    'timestamp(99999999999999) > timestamp(1)', 'duration(device.driver) == duration("1s")',
    '[1, "a"].size() == 2', '[dyn(1), "a"].size() == 2', '[1, dyn("a")].size() == 2', '[1, 2.0].size() == 2',
    '{"a": 1, "b": "x"}.size() == 2', '{1: "a", "b": "c"}.size() == 2', '[[1], ["a"]].size() == 2',
    '[null, 1].size() == 2', '[optional.of(1)].size() == 1', '"%s %d".format(["a", 1]) == "a 1"',
    '[[], [1]].size() == 2', '[{}, {"a": 1}].size() == 2', '[device.driver, device.attributes["a"].b].size() == 2',
    'quantity("x").isInteger()', 'ip("x") == ip("1.2.3.4")', 'cidr("x").prefixLength() == 3',
    'url("x").getHost() == "a"', 'semver("x").major() == 1', '"a" in ["a", 1]', 'duration("x") == duration("y")',
]  # fmt: skip
for number, text in enumerate(EXPRESSIONS):
    body = {"metadata": {"name": f"c{number}"}, "spec": {"selectors": [{"cel": {"expression": text}}]}}
    literals.create("deviceclasses", body, f"literal-{number}")

SCENARIOS = [literals]
