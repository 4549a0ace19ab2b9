"""The image catalogue, bubblewrap's arguments, and the files of a pod."""

import pytest

from atoll.base.errors import UserError
from atoll.cluster.nodes.process.environment import ConfigError, References
from atoll.cluster.nodes.process.images import Catalogue, UnknownImage, normalize, repository
from atoll.cluster.nodes.process.podfiles import hosts_file, resolv_conf
from atoll.cluster.nodes.process.sandbox import Mount, Sandbox, arguments
from atoll.cluster.nodes.process.volumes import file_payload, references_of, write_payload


@pytest.mark.parametrize(
    ("reference", "short", "name"),
    [
        ("docker.io/library/python:3.12", "python:3.12", "python"),
        ("docker.io/bitnami/redis@sha256:00", "bitnami/redis@sha256:00", "bitnami/redis"),
        ("localhost:5000/a/b:1", "localhost:5000/a/b:1", "localhost:5000/a/b"),
        ("busybox", "busybox", "busybox"),
    ],
)
def test_names(reference, short, name):
    assert normalize(reference) == short
    assert repository(short) == name


def test_own_entries_come_before_the_defaults():
    catalogue = Catalogue([{"image": "python:2*", "program": ["/opt/py2"]}])
    assert catalogue.resolve("python:2.7").program == ("/opt/py2",)
    assert catalogue.resolve("docker.io/library/python:3").program[0].endswith(tuple("0123456789"))
    assert catalogue.resolve("registry.k8s.io/pause:3.10").program == ("sleep", "infinity")


def test_an_unknown_image_says_how_to_map_it():
    with pytest.raises(UnknownImage) as error:
        Catalogue().resolve("quay.io/x/y:1")
    assert 'matches "quay.io/x/y:1"' in str(error.value)
    assert "{image: quay.io/x/y, program: [/path/to/program]}" in str(error.value)


@pytest.mark.parametrize("entry", [{"program": ["x"]}, {"image": "a", "programm": ["x"]}])
def test_a_wrong_entry_is_refused(entry):
    with pytest.raises(UserError):
        Catalogue([entry])


def test_bubblewrap_mounts_outer_folders_first_and_ends_with_the_working_directory():
    mounts = [Mount("/s/deep", "/a/b/c", True), Mount("/s/top", "/a")]
    args = arguments(Sandbox(hostname="h", root="/img", mounts=mounts, working_dir="/w", user=(7, 8)))
    assert args.index("/a") < args.index("/a/b/c")
    assert args[args.index("/a/b/c") - 2] == "--ro-bind"
    assert args[args.index("/a") - 2] == "--bind"
    assert args[-2:] == ["--chdir", "/w"]
    assert args[args.index("--uid") + 1] == "7"
    assert args[args.index("--overlay-src") :][:4] == ["--overlay-src", "/img", "--tmp-overlay", "/"]


def test_capabilities():
    dropped = arguments(
        Sandbox(hostname="h", root=None, drop_capabilities=("ALL",), add_capabilities=("NET_BIND_SERVICE",))
    )
    assert [dropped[i + 1] for i, arg in enumerate(dropped) if arg == "--cap-add"] == ["CAP_NET_BIND_SERVICE"]
    assert "CAP_CHOWN" in arguments(Sandbox(hostname="h", root=None))


def pod(**spec):
    return {"metadata": {"name": "p", "namespace": "ns", "uid": "u"}, "spec": {"containers": [], **spec}}


def test_resolv_conf_by_dns_policy():
    cluster = resolv_conf(pod(), "10.96.0.10", "cluster.local", "nameserver 1.1.1.1\n")
    assert cluster.splitlines() == [
        "search ns.svc.cluster.local svc.cluster.local cluster.local",
        "nameserver 10.96.0.10",
        "options ndots:5",
    ]
    host = resolv_conf(pod(dnsPolicy="Default"), "10.96.0.10", "cluster.local", "search x.y\nnameserver 1.1.1.1\n")
    assert host.splitlines() == ["search x.y", "nameserver 1.1.1.1"]
    own = pod(dnsPolicy="None", dnsConfig={"nameservers": ["9.9.9.9"], "options": [{"name": "edns0"}]})
    assert resolv_conf(own, "10.96.0.10", "cluster.local", "").splitlines() == ["nameserver 9.9.9.9", "options edns0"]


def test_hosts_file_has_the_subdomain_and_aliases():
    text = hosts_file(
        pod(hostname="h", subdomain="s", hostAliases=[{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]), "10.0.0.9", "c.l"
    )
    assert "10.0.0.9\th.s.ns.svc.c.l\th" in text
    assert "1.2.3.4\ta\tb" in text


def references(**objects):
    return References(objects, objects, (), {})


def test_items_choose_paths_and_modes():
    config = {"kind": "ConfigMap", "data": {"a": "1", "b": "2"}, "binaryData": {"c": "AAE="}}
    volume = {"configMap": {"name": "cm", "defaultMode": 0o400, "items": [{"key": "b", "path": "x/y", "mode": 0o755}]}}
    assert file_payload(volume, pod(), references(cm=config), {}) == {"x/y": (b"2", 0o755)}
    whole = file_payload({"configMap": {"name": "cm"}}, pod(), references(cm=config), {})
    assert whole["c"] == (b"\x00\x01", 0o644)
    missing = {"configMap": {"name": "cm", "items": [{"key": "z", "path": "z"}]}}
    with pytest.raises(ConfigError, match="references non-existent config key: z"):
        file_payload(missing, pod(), references(cm=config), {})


def test_projected_sources_come_together():
    config = {"kind": "ConfigMap", "data": {"ca.crt": "CA"}}
    sources = [
        {"serviceAccountToken": {"path": "token"}},
        {"configMap": {"name": "root", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
    ]
    volume = {"projected": {"defaultMode": 0o644, "sources": sources}}
    found = file_payload(volume, pod(), references(root=config), {"token": "T"})
    assert {path: content for path, (content, _) in found.items()} == {
        "token": b"T",
        "ca.crt": b"CA",
        "namespace": b"ns",
    }
    names = references_of(pod(volumes=[{"name": "v", **volume}, {"name": "s", "secret": {"secretName": "q"}}]))
    assert names == ({"root"}, {"q"})


def test_an_update_replaces_all_at_once(tmp_path):
    folder = tmp_path / "v"
    assert write_payload(folder, {"a": (b"1", 0o644), "d/b": (b"2", 0o600)}, "1")
    assert not write_payload(folder, {"a": (b"1", 0o644), "d/b": (b"2", 0o600)}, "2")
    assert (folder / "d" / "b").read_bytes() == b"2"
    assert (folder / "a").is_symlink()
    assert write_payload(folder, {"a": (b"3", 0o644)}, "3")
    assert (folder / "a").read_bytes() == b"3"
    assert sorted(path.name for path in folder.iterdir()) == ["..3", "..data", "a"]
