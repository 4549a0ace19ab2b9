"""Each function of Kubernetes' CEL libraries for quantities and versions, by their documentation, and near it."""

from __future__ import annotations

import pytest

from atoll.cluster.apiserver.expressions.environment import Environment
from atoll.cluster.apiserver.expressions.errors import CompileError, EvaluationError
from atoll.cluster.apiserver.expressions.types import BOOL, STRING

ENVIRONMENT = Environment({"text": STRING})
TRUE = [
    "isQuantity('1.3G')", "isQuantity('1.3Gi')", "!isQuantity('1,3G')", "isQuantity('10000k')", "!isQuantity('200K')",
    "!isQuantity('Three')", "!isQuantity('Mi')", "isQuantity('-1e3')", "!isQuantity('')",
    "quantity('50000000G').isInteger()", "quantity('50k').isInteger()", "!quantity('1500m').isInteger()",
    "!quantity('9999999999999999999999999999999999999G').isInteger()",
    "quantity('50k').asInteger() == 50000", "quantity('0.5k').asInteger() == 500",
    "quantity('50.703').asApproximateFloat() == 50.703",
    "quantity('9999999999999999999999999999999999999G').asApproximateFloat() > 9e18",
    "sign(quantity('-50')) == -1", "sign(quantity('0')) == 0", "sign(quantity('1m')) == 1",
    "quantity('50k').add(quantity('20')) == quantity('50020')", "quantity('50k').add(20) == quantity('50020')",
    "quantity('50k').sub(20000) == quantity('30k')", "quantity('50k').sub(quantity('50')) == quantity('49950')",
    "quantity('50k').add(20).sub(quantity('100k')).sub(-50000) == quantity('20')",
    "quantity('150Mi').isGreaterThan(quantity('100Mi'))", "!quantity('50M').isGreaterThan(quantity('100M'))",
    "quantity('50M').isLessThan(quantity('100M'))", "!quantity('100M').isLessThan(quantity('50M'))",
    "quantity('200M').compareTo(quantity('0.2G')) == 0", "quantity('50M').compareTo(quantity('50Mi')) == -1",
    "quantity('50Mi').compareTo(quantity('50M')) == 1", "quantity('1k') == quantity('1000')",
    "quantity('1k') != quantity('1Ki')", "quantity(text) == quantity('1Gi')",
    "isSemver('1.0.0')", "!isSemver('hello')", "!isSemver('v1.0')", "isSemver('v1.0', true)", "!isSemver('1.0')",
    "isSemver('1.0', true)", "!isSemver('01.0.0')", "isSemver('01.01.01', true)", "!isSemver('1.0.0', false) == false",
    "isSemver('1.2.3-alpha.1+build')", "!isSemver('1.2.3-01')",
    "semver('1.2.3').major() == 1", "semver('1.2.3').minor() == 2", "semver('1.2.3').patch() == 3",
    "semver('v1.0', true).patch() == 0", "semver('01.01.01', true) == semver('1.1.1')",
    "semver('1.2.3').compareTo(semver('1.2.3')) == 0", "semver('1.2.3').compareTo(semver('2.0.0')) == -1",
    "semver('1.2.3').compareTo(semver('0.1.2')) == 1", "semver('1.2.3').isLessThan(semver('1.10.0'))",
    "!semver('1.2.3').isLessThan(semver('1.2.3'))", "semver('1.2.3').isGreaterThan(semver('1.2.3-rc.1'))",
    "!semver('0.9.9').isGreaterThan(semver('1.0.0'))", "semver('1.0.0-alpha.2').isLessThan(semver('1.0.0-alpha.10'))",
    "semver('1.0.0-1').isLessThan(semver('1.0.0-alpha'))", "semver('1.0.0+a') == semver('1.0.0+b')",
    "[semver('1.0.0'), semver('0.1.0')].exists(it, it.major() == 0)",
]  # fmt: skip


@pytest.mark.parametrize("source", TRUE)
def test_what_is_true(source: str) -> None:
    assert ENVIRONMENT.compile(source, BOOL).run({"text": "1Gi"}) is True


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("quantity('1500m').asInteger() == 1", "cannot convert value to integer"),
        ("quantity('9999999999999999999999999999999999999G').asInteger() == 1", "cannot convert value to integer"),
        ("quantity('200K') == quantity('1')", "quantities must match the regular expression"),
        ("quantity('') == quantity('1')", "quantities must match the regular expression"),
        ("semver('200K').major() == 1", "No Major.Minor.Patch elements found"),
        ("semver('1.x.0').major() == 1", 'Invalid character\\(s\\) found in minor number "x"'),
        ("semver('1.0.0-').major() == 1", "Prerelease is empty"),
        ("semver('1.0.0+a_b').major() == 1", 'Invalid character\\(s\\) found in build meta data "a_b"'),
        ("semver('1.0-rc', true).major() == 1", "short version cannot contain PreRelease/Build meta data"),
        ("semver('').major() == 1", "Version string empty"),
        ("semver('01.0.0').major() == 1", 'Major number must not contain leading zeroes "01"'),
    ],
)
def test_what_fails_on_its_values(source: str, told: str) -> None:
    with pytest.raises(EvaluationError, match=told):
        ENVIRONMENT.compile(source, BOOL).run({"text": "1Gi"})


@pytest.mark.parametrize(
    "source",
    ["quantity(1) == quantity('1')", "quantity('1') == 1", "quantity('1').add(1.5) == quantity('1')", "isQuantity(1)",
     "semver('1.0.0', 1).major() == 1", "semver('1.0.0').compareTo('1.0.0') == 0", "semver('1.0.0') < semver('2.0.0')"],
)  # fmt: skip
def test_what_has_no_such_types(source: str) -> None:
    with pytest.raises(CompileError, match="found no matching overload"):
        ENVIRONMENT.compile(source, BOOL)
