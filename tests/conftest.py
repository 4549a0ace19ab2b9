"""Options for all tests."""

import os

import pytest
from hypothesis import HealthCheck, settings

# No test fails because the machine is slow; CI tries the same examples each time.
settings.register_profile(
    "atoll",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=bool(os.environ.get("CI")),
)
settings.load_profile("atoll")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-goldens", action="store_true", help="write what the tests give as what they expect")


@pytest.fixture
def update_goldens(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--update-goldens"))
