"""What a plan calls no difference, and what of a Secret it shows."""

import pytest

from atoll.fleet.plan.settled import is_settled, shown, with_data
from atoll.objects.diff import Change

ROLLING = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}}


@pytest.mark.parametrize(
    ("path", "old", "new", "same"),
    [
        ("spec.template.spec.containers[name=web].imagePullPolicy", "IfNotPresent", None, True),
        ("spec.template.spec.containers[name=web].imagePullPolicy", "Never", None, False),
        ("spec.strategy", ROLLING, None, True),
        ("spec.revisionHistoryLimit", 10, 3, False),
        ("spec.clusterIP", "10.0.0.7", None, True),
        ("metadata.labels.app", "web", None, False),
    ],
)  # fmt: skip
def test_what_the_server_fills_in_again_is_no_difference(path: str, old: object, new: object, same: bool) -> None:
    assert is_settled(Change(path, "removed" if new is None else "changed", old, new)) is same


def test_a_secret_is_compared_as_kept_and_never_shown() -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"p": "q"}}
    assert with_data(secret)["data"] == {"p": "cQ=="}
    assert "stringData" not in with_data(secret)
    assert "cQ==" not in str(shown("Secret", Change("data.p", "changed", "cQ==", "cg==")))
    assert "data.p" in str(shown("Secret", Change("data.p", "added", None, "cg==")))
    assert shown("ConfigMap", Change("data.p", "added", None, "x")).new == "x"
