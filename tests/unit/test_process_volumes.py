"""Whose the files of volumes are, what they may take, and which classes volumes go by."""

import os

from atoll.cluster.nodes.process.environment import ConfigError, References
from atoll.cluster.nodes.process.localstorage import excess, limited_volumes
from atoll.cluster.nodes.process.podfiles import checked_sub_path, fqdn, hosts_file
from atoll.cluster.nodes.process.volumes import NOBODY, Owner, file_payload, owner_of, write_payload
from atoll.cluster.workloads.volumes.class_protection import classes_of

REFERENCES = References(config_maps={}, secrets={}, services=[], allocatable={})


def pod(*containers, **spec):
    return {"metadata": {"name": "p", "namespace": "n"}, "spec": {"containers": list(containers) or [{}], **spec}}


def test_files_belong_to_the_group_and_tokens_to_the_one_user():
    security = {"fsGroup": 2000, "runAsUser": 1000}
    assert owner_of(pod(securityContext=security), rootful=True) == Owner(2000, 1000)
    other = {"securityContext": {"runAsUser": 7}}
    assert owner_of(pod({}, other, securityContext=security), rootful=True) == Owner(2000, None)
    assert owner_of(pod(securityContext=security), rootful=False) == NOBODY


def test_a_token_is_private_where_its_user_is_known():
    volume = {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}

    def mode(owner):
        return file_payload(volume, pod(), REFERENCES, {"token": "x"}, owner)["token"][1]

    assert (mode(NOBODY), mode(Owner(user=1000)), mode(Owner(group=5))) == (0o644, 0o600, 0o600)


def test_the_group_may_read_what_is_its_own(tmp_path):
    group = os.getgid()
    write_payload(tmp_path / "v", {"f": (b"x", 0o400)}, "1", Owner(group=group))
    assert (tmp_path / "v" / "f").stat().st_mode & 0o777 == 0o440
    assert (tmp_path / "v").stat().st_gid == group


def test_volumes_over_their_limit(tmp_path):
    volumes = [
        {"name": "d", "emptyDir": {"sizeLimit": "4Ki"}},
        {"name": "m", "emptyDir": {"sizeLimit": "4Ki", "medium": "Memory"}},
        {"name": "free", "emptyDir": {}},
    ]
    found = pod(volumes=volumes)
    assert limited_volumes(found) == {"d": "4Ki"}
    (tmp_path / "d" / "inner").mkdir(parents=True)
    (tmp_path / "d" / "inner" / "f").write_bytes(os.urandom(100_000))
    assert excess(found, tmp_path) == 'Usage of EmptyDir volume "d" exceeds the limit "4Ki". '


def refused(mount, env):
    try:
        checked_sub_path(mount, env)
    except ConfigError as error:
        return str(error)
    return ""


def test_sub_paths_stay_within_their_volume():
    assert checked_sub_path({"subPathExpr": "$(A)/x"}, {"A": "a"}) == "a/x"
    assert refused({"subPathExpr": "$(A)"}, {"A": ".."}) == "unable to provision SubPath `..`: must not contain '..'"
    assert refused({"subPathExpr": "$(A)/x"}, {"A": ""}) == "error SubPath `/x` must not be an absolute path"
    assert "missing value" in refused({"subPathExpr": "$(B)"}, {})


def test_hosts_on_the_hosts_network_are_the_hosts_with_the_pods_aliases():
    aliases = [{"ip": "10.0.0.9", "hostnames": ["a", "b"]}]
    text = hosts_file(pod(hostNetwork=True, hostAliases=aliases), "10.0.0.1", "cluster.local", "127.0.0.1 machine\n")
    assert text.splitlines()[:2] == ["# Kubernetes-managed hosts file (host network).", "127.0.0.1 machine"]
    assert text.endswith("10.0.0.9\ta\tb\n")
    assert fqdn(pod(subdomain="s"), "cluster.local") == "p.s.n.svc.cluster.local"


def test_classes_that_claims_and_volumes_go_by():
    claim = {
        "spec": {"volumeAttributesClassName": "new"},
        "status": {
            "currentVolumeAttributesClassName": "old",
            "modifyVolumeStatus": {"targetVolumeAttributesClassName": "next"},
        },
    }
    assert classes_of(claim) == {"new", "old", "next"}
    assert classes_of({"spec": {}}) == set()
