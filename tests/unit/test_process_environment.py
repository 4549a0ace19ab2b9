"""Environment, expansion and command lines of containers, as kubelet computes them."""

import pytest

from atoll.cluster.nodes.process.environment import (
    ConfigError,
    References,
    command_line,
    container_environment,
    expand,
    field_value,
    resource_value,
    service_variables,
)


def references(config_maps=None, secrets=None, services=()):
    return References(config_maps or {}, secrets or {}, services, {"cpu": "4", "memory": "8Gi"})


def pod(**spec):
    metadata = {
        "name": "p", "namespace": "ns", "uid": "u", "labels": {"b": "2", "a": "1"}, "annotations": {"x/y": 'say "hi"'},
    }  # fmt: skip
    return {"metadata": metadata, "spec": {"containers": [], **spec}, "status": {"podIP": "10.0.0.5"}}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("$(A)", "1"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$(UNKNOWN)-$(A)", "$(UNKNOWN)-1"),
        ("$A $(A", "$A $(A"),
        ("a$", "a$"),
        ("$$", "$"),
        ("$()", "$()"),
    ],
)
def test_expansion_is_upstreams(text, wanted):
    assert expand(text, {"A": "1"}) == wanted


def test_env_refers_to_what_stands_before_and_wins_over_env_from():
    config = {"kind": "ConfigMap", "data": {"A": "from", "B": "kept"}}
    container = {
        "name": "c",
        "envFrom": [{"prefix": "1-P_", "configMapRef": {"name": "cm"}}, {"configMapRef": {"name": "cm"}}],
        "env": [
            {"name": "A", "value": "own"},
            {"name": "C", "value": "$(A)-$(B)-$(D)"},
            {"name": "D", "value": "late"},
        ],
    }
    env = container_environment(pod(), container, references({"cm": config}))
    assert env == {"1-P_A": "from", "1-P_B": "kept", "A": "own", "B": "kept", "C": "own-kept-$(D)", "D": "late"}


def test_value_from_fields_keys_and_resources():
    container = {
        "name": "c",
        "resources": {"limits": {"memory": "100Mi"}, "requests": {"cpu": "250m"}},
        "env": [
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "L", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['a']"}}},
            {"name": "M", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
            {"name": "R", "valueFrom": {"resourceFieldRef": {"resource": "requests.cpu", "divisor": "1m"}}},
            {"name": "N", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
            {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
            {"name": "O", "valueFrom": {"configMapKeyRef": {"name": "gone", "key": "k", "optional": True}}},
        ],
    }
    secret = {"kind": "Secret", "data": {"k": "c2VjcmV0"}}
    env = container_environment(pod(), container, references({"gone": None}, {"s": secret}))
    assert env == {"IP": "10.0.0.5", "L": "1", "M": "100", "R": "250", "N": "4", "S": "secret"}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"configMapKeyRef": {"name": "gone", "key": "k"}}, 'configmap "gone" not found'),
        ({"configMapKeyRef": {"name": "cm", "key": "k"}}, "couldn't find key k in ConfigMap ns/cm"),
        ({"secretKeyRef": {"name": "gone", "key": "k"}}, 'secret "gone" not found'),
    ],
)
def test_missing_references_are_told_in_kubelets_words(source, message):
    container = {"name": "c", "env": [{"name": "A", "valueFrom": source}]}
    refs = references({"gone": None, "cm": {"kind": "ConfigMap", "data": {}}}, {"gone": None})
    with pytest.raises(ConfigError) as error:
        container_environment(pod(), container, refs)
    assert str(error.value) == message


def test_service_variables_are_docker_links():
    service = {
        "metadata": {"name": "my-db", "namespace": "ns"},
        "spec": {"clusterIP": "10.96.0.7", "ports": [{"name": "sql", "port": 5432}, {"port": 80, "protocol": "TCP"}]},
    }
    headless = {"metadata": {"name": "h", "namespace": "ns"}, "spec": {"clusterIP": "None", "ports": [{"port": 1}]}}
    other = {
        "metadata": {"name": "o", "namespace": "other"},
        "spec": {"clusterIP": "10.96.0.8", "ports": [{"port": 1}]},
    }
    found = service_variables("ns", [service, headless, other], all_services=True)
    assert found["MY_DB_SERVICE_HOST"] == "10.96.0.7"
    assert found["MY_DB_SERVICE_PORT"] == found["MY_DB_SERVICE_PORT_SQL"] == "5432"
    assert found["MY_DB_PORT"] == found["MY_DB_PORT_5432_TCP"] == "tcp://10.96.0.7:5432"
    assert found["MY_DB_PORT_80_TCP_ADDR"] == "10.96.0.7"
    assert not [name for name in found if name.startswith(("H_", "O_"))]
    assert service_variables("ns", [service], all_services=False) == {}


def test_downward_maps_are_sorted_and_quoted():
    assert field_value(pod(), "metadata.labels") == 'a="1"\nb="2"'
    assert field_value(pod(), "metadata.annotations") == 'x/y="say \\"hi\\""'
    with pytest.raises(ConfigError, match="unsupported fieldPath"):
        field_value(pod(), "spec.containers")


def test_resource_values_round_up():
    container = {"resources": {"requests": {"cpu": "1500m"}}}
    assert resource_value(container, "requests.cpu", "1", {}) == "2"
    assert resource_value(container, "requests.memory", "1", {}) == "0"


@pytest.mark.parametrize(
    ("container", "wanted"),
    [
        ({}, ["entry", "default"]),
        ({"args": ["x"]}, ["entry", "x"]),
        ({"command": ["sh"]}, ["sh"]),
        ({"command": ["sh", "-c"], "args": ["echo $(A)"]}, ["sh", "-c", "echo 1"]),
    ],
)
def test_command_and_args_replace_the_images(container, wanted):
    assert command_line(container, ["entry"], ["default"], {"A": "1"}) == wanted
