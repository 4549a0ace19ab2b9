"""Kubeconfigs: what kubectl reads, mistakes with their hints, and merging that loses nothing."""

from __future__ import annotations

import base64
import os
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from atoll.base.errors import UserError
from atoll.client.kubeconfig import Access, Kubeconfig, entry, load, load_default, merge, remove, write


def document(**changes: Any) -> dict[str, Any]:
    whole: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": "https://h:6443/", "certificate-authority": "ca.pem"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u", "namespace": "n"}}],
        "current-context": "x",
    }
    return {**whole, **changes}


def saved(folder: Path, **changes: Any) -> Path:
    path = folder / "config"
    path.write_text(yaml.safe_dump(document(**changes)))
    return path


def user(**fields: Any) -> list[dict[str, Any]]:
    return [{"name": "u", "user": fields}]


def test_the_current_context_with_relative_files(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(b"CA")
    access = load(saved(tmp_path)).access()
    assert (access.server, access.ca_pem, access.token) == ("https://h:6443", b"CA", "t")
    assert (access.namespace, access.context) == ("n", "x")
    assert "'t'" not in repr(access)


def test_inline_data_and_other_credentials(tmp_path: Path) -> None:
    encoded = base64.b64encode(b"PEM").decode()
    cluster = {"server": "https://h", "certificate-authority-data": encoded, "tls-server-name": "name"}
    plugin = {"command": "./plugin", "args": ["a"], "env": [{"name": "N", "value": "V"}], "installHint": " get it "}
    config = Kubeconfig(
        document(
            clusters=[{"name": "c", "cluster": cluster}],
            users=user(**{"client-certificate-data": encoded, "client-key-data": encoded, "exec": plugin}),
        ),
        folder=tmp_path,
    )
    access = config.access("x")
    assert access.ca_pem == access.certificate_pem == access.key_pem == b"PEM" and access.tls_server_name == "name"
    assert access.exec is not None and access.exec.command == str(tmp_path / "plugin")
    assert (access.exec.args, access.exec.env, access.exec.install_hint) == (("a",), (("N", "V"),), "get it")


CLUSTERS = [{"name": "c", "cluster": {"server": "https://h"}}]


@pytest.mark.parametrize(
    ("changes", "context", "message"),
    [
        ({"current-context": ""}, None, "no current context"),
        ({}, "nowhere", "nowhere"),
        ({"clusters": []}, None, "cluster 'c' is not there"),
        ({"users": []}, None, "user 'u' is not there"),
        ({"clusters": [{"name": "c", "cluster": {}}]}, None, "no server"),
        ({"clusters": [{"name": "c", "cluster": {"server": "h:6443"}}]}, None, "no server"),
        ({"clusters": [{"name": "c", "cluster": {"server": "https://h", "proxy-url": "p"}}]}, None, "proxy"),
        ({}, None, "ca.pem"),
        ({"users": user(**{"client-key-data": "%"}), "clusters": CLUSTERS}, None, "base64"),
    ],
)  # fmt: skip
def test_mistakes_name_the_file_and_the_entry(
    tmp_path: Path, changes: dict[str, Any], context: str | None, message: str
) -> None:
    path = saved(tmp_path, **changes)
    with pytest.raises(UserError, match=message) as caught:
        load(path).access(context)
    assert str(path) in caught.value.message


@pytest.mark.parametrize("text", ["a: [", "- 1", "hello", "clusters: 5\nusers: []", "clusters: [{}]", ""])
def test_what_is_not_a_kubeconfig(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(UserError, match=str(path)):
        load(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        load(tmp_path / "no")
    with pytest.raises(UserError, match="no kubeconfig"):
        load_default({}, tmp_path)


def test_several_files_are_merged_and_the_first_wins(tmp_path: Path) -> None:
    for name, server in (("a", "https://first"), ("b", "https://second")):
        (tmp_path / name).mkdir()
        clusters = [{"name": "c", "cluster": {"server": server}}, {"name": name, "cluster": {"server": server}}]
        saved(tmp_path / name, clusters=clusters)
    config = load_default({"KUBECONFIG": f"{tmp_path}/a/config:{tmp_path}/no:{tmp_path}/b/config"}, tmp_path)
    assert config.access().server == "https://first"


def test_merging_keeps_what_is_there(tmp_path: Path) -> None:
    path = saved(tmp_path, preferences={"colors": True})
    access = Access("https://fleet", ca_pem=b"CA", token="secret")
    merge(path, [entry("atoll-hub", access), entry("atoll-east", access)])
    merge(path, [entry("atoll-hub", Access("https://moved", token="t2"))])
    written = yaml.safe_load(path.read_text())
    assert written["preferences"] == {"colors": True} and written["current-context"] == "x"
    assert [item["name"] for item in written["contexts"]] == ["x", "atoll-east", "atoll-hub"]
    assert load(path).access("atoll-hub").server == "https://moved"
    assert load(path).access("atoll-east").ca_pem == b"CA"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    merge(path, [], current_context="atoll-hub")
    remove(path, ["atoll-hub", "atoll-east"])
    written = yaml.safe_load(path.read_text())
    assert [item["name"] for item in written["contexts"]] == ["x"] and written["current-context"] == ""
    assert sorted(item.name for item in tmp_path.iterdir()) == ["config"]


def test_a_new_file_takes_the_first_context(tmp_path: Path) -> None:
    path = tmp_path / "new" / "config"
    merge(path, [entry("atoll-hub", Access("https://h", token="t"))])
    assert load(path).access().context == "atoll-hub"
    remove(tmp_path / "nothing", ["a"])


def test_a_link_stays_a_link_and_a_lock_is_respected(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    path = saved(tmp_path / "real")
    link = tmp_path / "link"
    link.symlink_to(path)
    merge(link, [entry("n", Access("https://h"))])
    assert link.is_symlink() and "n" in load(path).contexts
    (tmp_path / "real" / "config.lock").touch()
    before = path.read_bytes()
    with pytest.raises(UserError, match="lock") as caught:
        merge(path, [entry("m", Access("https://h"))])
    assert caught.value.hint and path.read_bytes() == before


def test_a_broken_file_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text("a: [")
    with pytest.raises(UserError):
        merge(path, [entry("n", Access("https://h"))])
    assert path.read_text() == "a: ["
    assert not (tmp_path / "config.lock").exists()


def test_what_is_no_regular_file_is_written_to_and_stays(tmp_path: Path) -> None:
    """As root, a kubeconfig for /dev/null had replaced the device."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write(pipe, entry("n", Access("https://h")))
        assert b"https://h" in os.read(reader, 65536) and stat.S_ISFIFO(pipe.stat().st_mode)
    finally:
        os.close(reader)
    write(Path("/dev/null"), entry("n", Access("https://h")))
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    with pytest.raises(UserError, match="directory"):
        write(tmp_path, entry("n", Access("https://h")))
