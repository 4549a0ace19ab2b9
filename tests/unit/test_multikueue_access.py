"""MultiKueue: what kubeconfigs of workers may say and where they may lie, and to whom a workload is offered."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from atoll.base.errors import UserError
from atoll.capacity.queueing.dispatch import ALL_AT_ONCE, INCREMENTAL, nominated
from atoll.capacity.queueing.worker_access import InsecureKubeconfig, kubeconfig_at, worker_access

NAMES = ["w5", "w4", "w3", "w2", "w1"]


def kubeconfig(cluster: object = None, user: object = None) -> str:
    return yaml.safe_dump(
        {
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
            "clusters": [{"name": "k", "cluster": {"server": "https://10.0.0.1:6443", **dict(cluster or {})}}],
            "users": [{"name": "u", "user": {"token": "t", **dict(user or {})}}],
        }
    )


def test_a_kubeconfig_that_holds_all_it_needs_is_taken() -> None:
    access = worker_access(kubeconfig({"certificate-authority-data": "UEVN"}))
    assert (access.server, access.token, access.ca_pem) == ("https://10.0.0.1:6443", "t", b"PEM")


@pytest.mark.parametrize(
    ("cluster", "user", "why"),
    [
        ({}, {"exec": {"command": "/bin/sh"}}, "user u: exec plugins are not allowed"),
        ({}, {"tokenFile": "/etc/shadow"}, "user u: tokenFile is not allowed"),
        ({}, {"username": "a", "password": "b"}, "user u: basic auth is not allowed"),
        ({}, {"client-key": "/root/key"}, "client-key file paths are not allowed"),
        ({}, {"auth-provider": {"name": "gcp"}}, "auth providers are not allowed"),
        ({"insecure-skip-tls-verify": True}, {}, "cluster k: insecure TLS verification is not allowed"),
        ({"certificate-authority": "/etc/shadow"}, {}, "use certificate-authority-data"),
        ({"server": "https://:bad:99"}, {}, "untrusted server endpoint https://:bad:99"),
        ({"server": "https://[::1"}, {}, "untrusted server endpoint"),
    ],
)
def test_a_kubeconfig_that_names_programs_or_files_is_refused(cluster: object, user: object, why: str) -> None:
    with pytest.raises(InsecureKubeconfig, match=why) as raised:
        worker_access(kubeconfig(cluster, user))
    assert "kubectl config view --flatten" in str(raised.value.hint) or "as in https" in str(raised.value.hint)


def test_kubeconfigs_by_path_lie_in_one_folder(tmp_path: Path) -> None:
    folder, other = tmp_path / "kubeconfigs", tmp_path / "kubeconfigs-other"
    for made in (folder, other):
        made.mkdir()
        (made / "east").write_text("text")
    (folder / "link").symlink_to(other / "east")
    assert kubeconfig_at(str(folder / "east"), [tmp_path / "missing", folder]) == "text"
    for location, why in (
        (str(other / "east"), "is not under"),
        (str(folder / "link"), "is not under"),
        (str(folder / ".." / "kubeconfigs-other" / "east"), "without '..'"),
        ("kubeconfigs/east", "must be absolute"),
        (str(folder / "west"), "No such file"),
        (str(folder), "Is a directory"),
    ):
        with pytest.raises(UserError, match=why) as raised:
            kubeconfig_at(location, [folder])
        assert str(folder) in str(raised.value.hint)


def test_all_at_once_are_those_that_answer_in_the_configs_order() -> None:
    assert nominated(ALL_AT_ONCE, NAMES, ["w9"], {"w1", "w4", "w9"}, False) == ["w4", "w1"]


def test_increments_are_of_three_by_name_each_round() -> None:
    first = nominated(INCREMENTAL, NAMES, [], NAMES, False)
    assert first == ["w1", "w2", "w3"]
    assert nominated(INCREMENTAL, NAMES, first, NAMES, False) == first
    assert nominated(INCREMENTAL, NAMES, first, NAMES, True) == ["w1", "w2", "w3", "w4", "w5"]


@given(st.lists(st.sampled_from(NAMES), unique=True), st.booleans())
def test_another_dispatcher_is_left_to_itself(before: list[str], over: bool) -> None:
    assert nominated("example.com/mine", NAMES, before, NAMES, over) == before
