"""Policies, overrides and placement on plain values."""

from typing import Any

import pytest
import yaml

from atoll.base.errors import UserError
from atoll.fleet import names
from atoll.fleet.model import ClusterView, NodeRoom, Requirements
from atoll.fleet.propagation import manifests, overrides, policy
from atoll.fleet.propagation.placement import Question, place

Object = dict[str, Any]


def template(**metadata: Any) -> Object:
    spec = {"replicas": 2, "template": {"spec": {"containers": [{"name": "web", "image": "quay.io/org/nginx:1.2"}]}}}
    meta = {"name": "web", "namespace": "default", "labels": {"app": "web"}, **metadata}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec}


def a_policy(name: str, namespace: str | None = "default", *, selector: Object | None = None, **spec: Any) -> Object:
    chosen = {"apiVersion": "apps/v1", "kind": "Deployment", **(selector or {})}
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"metadata": metadata, "spec": {"resourceSelectors": [chosen], **spec}}


def chosen(obj: Object, *policies: Object) -> str:
    found = policy.select(obj, policies)
    return found.policy["metadata"]["name"] if found else ""


def test_namespaced_policies_come_before_cluster_wide_ones() -> None:
    assert chosen(template(), a_policy("wide", None, priority=9), a_policy("own")) == "own"
    assert chosen(template(), a_policy("wide", None), a_policy("other", "elsewhere")) == "wide"


def test_priority_then_precision_then_name() -> None:
    by_name = a_policy("z", selector={"name": "web"})
    by_label = a_policy("y", selector={"labelSelector": {"matchLabels": {"app": "web"}}})
    assert chosen(template(), a_policy("a"), by_label, by_name) == "z"
    assert chosen(template(), a_policy("a"), by_label) == "y"
    assert chosen(template(), a_policy("b"), a_policy("a")) == "a"
    assert chosen(template(), a_policy("a", priority=1), by_name) == "a"
    assert chosen(template(), a_policy("a", selector={"name": "other"})) == ""


def test_a_claim_holds_until_a_higher_priority_may_preempt() -> None:
    claimed = template(annotations={names.POLICY_NAMESPACE: "default", names.POLICY_NAME: "old"})
    assert chosen(claimed, a_policy("old"), a_policy("new", priority=5)) == "old"
    assert chosen(claimed, a_policy("old"), a_policy("new", priority=5, preemption="Always")) == "new"
    assert chosen(claimed, a_policy("old", priority=5), a_policy("new", priority=5, preemption="Always")) == "old"
    assert chosen(claimed, a_policy("new")) == "new"


@pytest.mark.parametrize(
    ("image", "rule", "wanted"),
    [
        ("nginx", ("Registry", "add", "registry.example:5000"), "registry.example:5000/nginx"),
        ("quay.io/org/nginx:1.2", ("Registry", "replace", "r.example"), "r.example/org/nginx:1.2"),
        ("quay.io/org/nginx:1.2", ("Registry", "remove", ""), "org/nginx:1.2"),
        ("quay.io/org/nginx:1.2", ("Repository", "add", "-slim"), "quay.io/org/nginx-slim:1.2"),
        ("quay.io/org/nginx:1.2", ("Tag", "replace", "1.3"), "quay.io/org/nginx:1.3"),
        ("quay.io/org/nginx:1.2", ("Tag", "add", "-alpine"), "quay.io/org/nginx:1.2-alpine"),
        ("quay.io/org/nginx:1.2", ("Tag", "remove", ""), "quay.io/org/nginx"),
        ("nginx", ("Tag", "replace", "sha256:abc"), "nginx@sha256:abc"),
        ("localhost/nginx", ("Registry", "remove", ""), "nginx"),
        ("org/nginx", ("Registry", "add", "r.example"), "r.example/org/nginx"),
    ],
)
def test_images(image: str, rule: tuple[str, str, str], wanted: str) -> None:
    component, operator, value = rule
    assert overrides.change_image(image, {"component": component, "operator": operator, "value": value}) == wanted


def overridden(rules: Object, cluster: str = "member1", obj: Object | None = None) -> Object:
    one = {"metadata": {"name": "o", "namespace": "default"}, "spec": {"overrideRules": [{"overriders": rules}]}}
    obj = obj or template()
    found, _ = overrides.override(obj, overrides.matching(obj, [one]), ClusterView(cluster))
    return found


def test_every_overrider() -> None:
    found = overridden({
        "labelsOverrider": [
            {"operator": "add", "value": {"env": "dev"}}, {"operator": "replace", "value": {"no": "x"}}],
        "annotationsOverrider": [{"operator": "remove", "value": {"bom": "bom"}}],
        "commandOverrider": [{"containerName": "web", "operator": "add", "value": ["run"]}],
        "argsOverrider": [{"containerName": "other", "operator": "add", "value": ["x"]}],
        "plaintext": [{"path": "/spec/replicas", "operator": "replace", "value": 7}],
    })  # fmt: skip
    assert found["metadata"]["labels"] == {"app": "web", "env": "dev"}
    assert "annotations" not in found["metadata"]
    assert found["spec"]["template"]["spec"]["containers"][0]["command"] == ["run"]
    assert "args" not in found["spec"]["template"]["spec"]["containers"][0]
    assert found["spec"]["replicas"] == 7


def test_a_document_in_a_field() -> None:
    data = {"db.yaml": "host: a\nports:\n- 1\n", "db.json": '{"host":"a"}'}
    obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "default"}, "data": data}
    found = overridden({"fieldOverrider": [
        {"fieldPath": "/data/db.yaml", "yaml": [{"subPath": "/host", "operator": "replace", "value": "b"}]},
        {"fieldPath": "/data/db.json", "json": [{"subPath": "/port", "operator": "add", "value": 5}]},
    ]}, obj=obj)  # fmt: skip
    assert yaml.safe_load(found["data"]["db.yaml"]) == {"host": "b", "ports": [1]}
    assert found["data"]["db.json"] == '{"host":"a","port":5}'


def test_a_rule_that_cannot_be_carried_out_names_its_policy() -> None:
    with pytest.raises(UserError, match=r"OverridePolicy default/o.*nothing to replace at /spec/nothing"):
        overridden({"plaintext": [{"path": "/spec/nothing", "operator": "replace", "value": 1}]})


def test_cluster_wide_then_less_precise_then_name() -> None:
    def one(named: str, namespace: str | None, **selector: Any) -> Object:
        return a_policy(named, namespace, selector=selector)

    policies = [one("b", "default"), one("a", "default", name="web"), one("c", "default"), one("z", None)]
    assert [item["metadata"]["name"] for item in overrides.matching(template(), policies)] == ["z", "b", "c", "a"]


def clusters(count: int = 3, **changes: Any) -> list[ClusterView]:
    regions = ("eu", "us", "eu", "asia")
    return [
        ClusterView(f"member{number + 1}", region=regions[number], provider="p", labels={"n": str(number)}, **changes)
        for number in range(count)
    ]


def question(placement: Object, replicas: int | None = 9, **more: Any) -> Question:
    return Question("apps/v1", "Deployment", placement, replicas, **more)


WEIGHTED = {"replicaScheduling": {"replicaSchedulingType": "Divided", "replicaDivisionPreference": "Weighted"}}
DYNAMIC = {
    "replicaScheduling": {**WEIGHTED["replicaScheduling"], "weightPreference": {"dynamicWeight": "AvailableReplicas"}}
}
AGGREGATED = {"replicaScheduling": {"replicaSchedulingType": "Divided", "replicaDivisionPreference": "Aggregated"}}


def rooms(*cpus: int) -> list[ClusterView]:
    return [
        ClusterView(f"member{number + 1}", nodes=(NodeRoom({"cpu": cpu, "pods": 100}),))
        for number, cpu in enumerate(cpus)
    ]


NEEDS = Requirements({"cpu": 100})


def test_duplicated_is_the_default() -> None:
    assert place(question({}), clusters()).targets == {"member1": 9, "member2": 9, "member3": 9}


def test_static_division() -> None:
    assert place(question(WEIGHTED), clusters()).targets == {"member1": 3, "member2": 3, "member3": 3}
    weighted = {"replicaScheduling": {**WEIGHTED["replicaScheduling"], "weightPreference": {"staticWeightList": [
        {"targetCluster": {"clusterNames": ["member1"]}, "weight": 2},
        {"targetCluster": {"fieldSelector": {"matchExpressions": [
            {"key": "region", "operator": "In", "values": ["us"]}]}}, "weight": 1}]}}}  # fmt: skip
    assert place(question(weighted), clusters()).targets == {"member1": 6, "member2": 3}


def test_an_unready_cluster_keeps_and_never_gets_more() -> None:
    views = [*clusters(2), ClusterView("member3", ready=False)]
    standing = {"member1": 3, "member2": 3, "member3": 3}
    assert place(question(WEIGHTED, 12, standing=standing), views).targets == {"member1": 5, "member2": 4, "member3": 3}
    assert place(question(WEIGHTED, 3, standing=standing), views).targets == dict.fromkeys(standing, 1)
    lost = question(WEIGHTED, 9, standing=standing, lost=frozenset({"member3"}))
    assert place(lost, views).targets == {"member1": 5, "member2": 4}
    assert place(question(WEIGHTED, 9), views).targets == {"member1": 5, "member2": 4}


def test_dynamic_weights_stay_within_room_and_say_what_is_missing() -> None:
    found = place(question(DYNAMIC, 10, needs=NEEDS), rooms(300, 200, 0))
    assert found.targets == {"member1": 3, "member2": 2}
    assert found.unplaced == 5
    assert "5 replicas are not placed" in found.message
    grown = place(question(DYNAMIC, 4, needs=NEEDS, standing={"member3": 2}), rooms(300, 300, 0))
    assert grown.targets == {"member1": 1, "member2": 1, "member3": 2}


def test_aggregated_fills_few_clusters() -> None:
    assert place(question(AGGREGATED, 5, needs=NEEDS), rooms(300, 900, 500)).targets == {"member2": 5}
    found = place(question(AGGREGATED, 12, needs=NEEDS), rooms(300, 900, 500))
    assert found.targets == {"member2": 9, "member3": 3}


def test_affinity_groups_in_order() -> None:
    groups = {"clusterAffinities": [
        {"affinityName": "primary", "clusterNames": ["member9"]},
        {"affinityName": "backup", "clusterNames": ["member2"]}]}  # fmt: skip
    found = place(question(groups), clusters())
    assert (found.affinity, found.targets) == ("backup", {"member2": 9})


def test_spread_by_region_and_cluster() -> None:
    by_region = {"spreadConstraints": [
        {"spreadByField": "region", "minGroups": 2, "maxGroups": 2},
        {"spreadByField": "cluster", "minGroups": 2, "maxGroups": 2}]}  # fmt: skip
    assert list(place(question(by_region), clusters(4)).targets) == ["member1", "member2"]
    too_many = {"spreadConstraints": [{"spreadByField": "region", "minGroups": 4}]}
    assert "minGroups 4" in place(question(too_many), clusters(4)).message


def test_replicas_are_divided_over_the_spread_clusters_only() -> None:
    two = {"spreadConstraints": [{"spreadByField": "cluster", "minGroups": 1, "maxGroups": 2}]}
    for scheduling in (DYNAMIC, AGGREGATED):
        found = place(question({**scheduling, **two}, 9, needs=NEEDS), rooms(300, 500, 400))
        assert sorted(found.targets) == ["member2", "member3"]
        assert found.unplaced == 0
        short = place(question({**scheduling, **two}, 12, needs=NEEDS), rooms(300, 500, 400))
        assert short.targets == {"member2": 5, "member3": 4}
        assert short.unplaced == 3


def test_every_cluster_has_its_reason() -> None:
    placement = {"clusterAffinity": {"exclude": ["member1"], "labelSelector": {"matchLabels": {"n": "1"}}}}
    found = place(question(placement), clusters())
    reasons = {verdict.cluster: (verdict.chosen, verdict.reason) for verdict in found.verdicts}
    assert reasons["member1"] == (False, "excluded by the affinity")
    assert reasons["member2"] == (True, "fits")
    assert not reasons["member3"][0]


def test_what_the_hub_filled_in_is_not_sent_to_members() -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {
        "name": "s", "namespace": "d", "uid": "u", "managedFields": [], "resourceVersion": "4",
        "annotations": {names.POLICY_NAME: "p"}}, "spec": {
            "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ports": [{"port": 80, "nodePort": 30001}]},
        "status": {"loadBalancer": {}}}  # fmt: skip
    assert manifests.prune(service) == {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "d"},
        "spec": {"ports": [{"port": 80}]}}  # fmt: skip
    assert service["spec"]["clusterIP"] == "10.0.0.1"


def test_a_divided_job_divides_its_completions() -> None:
    job = {"kind": "Job", "spec": {"completions": 10}}
    assert manifests.divide_completions(job, {"a": 1, "b": 3}) == {"a": 2, "b": 8}
