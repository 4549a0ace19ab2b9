"""Differences, health, conversion and patches of single objects."""

import pytest

from atoll.base.errors import BadRequest, Invalid, ServerError
from atoll.kinds.convert import convert
from atoll.kinds.schemas import schema_for
from atoll.objects.diff import diff
from atoll.objects.hashing import digest
from atoll.objects.health import health
from atoll.objects.patch_json import apply_json_patch
from atoll.objects.patch_merge import apply_merge_patch
from atoll.objects.patch_strategic import apply_strategic_patch
from atoll.objects.reset import reset_fields

NODE = schema_for("apps", "v1", "Deployment")


def deployment(containers, **spec):
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "d", "resourceVersion": "1", "generation": 2},
        "spec": {"replicas": 2, "template": {"spec": {"containers": containers}}, **spec},
        "status": {"replicas": 2},
    }


def test_diff_names_fields_and_ignores_the_servers():
    old = deployment([{"name": "a", "image": "x:1"}, {"name": "b", "image": "y"}])
    new = deployment(
        [{"name": "b", "image": "y"}, {"name": "a", "image": "x:2"}, {"name": "c"}], replicas=3, paused=True
    )
    new["metadata"]["resourceVersion"] = "2"
    new["metadata"]["labels"] = {"app.kubernetes.io/name": "x"}
    new["status"] = {}
    found = {str(change) for change in diff(old, new, NODE)}
    assert found == {
        "~ spec.replicas: 2 → 3",
        "+ spec.paused: true",
        "~ spec.template.spec.containers[name=a].image: x:1 → x:2",
        '+ spec.template.spec.containers[name=c]: {"name":"c"}',
        '+ metadata.labels: {"app.kubernetes.io/name":"x"}',
    }
    assert diff(old, old, NODE) == []
    assert [change.kind for change in diff({"a": 1}, {})] == ["removed"]


def status_of(kind, status, spec=None, group="apps/v1", **metadata):
    return health(
        {
            "apiVersion": group,
            "kind": kind,
            "metadata": {"generation": 1, **metadata},
            "spec": spec or {},
            "status": status,
        }
    )


@pytest.mark.parametrize(
    ("found", "state"),
    [
        (status_of("Deployment", {"observedGeneration": 0}, {"replicas": 1}), "Progressing"),
        (status_of("Deployment", {"observedGeneration": 1, "updatedReplicas": 1, "replicas": 1, "availableReplicas": 1},
                   {"replicas": 1}), "Ready"),
        (status_of("Deployment", {"observedGeneration": 1, "updatedReplicas": 1, "replicas": 2, "availableReplicas": 1},
                   {"replicas": 1}), "Progressing"),
        (status_of("Deployment", {"observedGeneration": 1, "conditions": [
            {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "slow"}]},
            {"replicas": 1}), "Degraded"),
        (status_of("Job", {"conditions": [{"type": "Failed", "status": "True", "message": "x"}]}, group="batch/v1"),
         "Degraded"),
        (status_of("Pod", {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}, group="v1"),
         "Ready"),
        (status_of("Pod", {"phase": "Pending", "containerStatuses": [
            {"name": "c", "state": {"waiting": {"reason": "ImagePullBackOff"}}}]}, group="v1"), "Degraded"),
        (status_of("PersistentVolumeClaim", {"phase": "Pending"}, group="v1"), "Progressing"),
        (status_of("ConfigMap", {}, group="v1"), "Ready"),
        (status_of("Widget", {"conditions": [{"type": "Ready", "status": "False", "message": "m"}]}, group="e.x/v1"),
         "Progressing"),
        (status_of("Widget", {"conditions": [{"type": "Ready", "status": "True"}]}, group="e.x/v1"), "Ready"),
        (status_of("Deployment", {}, deletionTimestamp="x", finalizers=["a.b/c"]), "Deleting"),
    ],
)  # fmt: skip
def test_health(found, state):
    assert found.state == state


CPU_TARGET = {"type": "Utilization", "averageUtilization": 50}
PODS_TARGET = {"type": "AverageValue", "averageValue": "1k"}


def test_autoscaler_versions_go_there_and_back():
    new = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "h", "annotations": {"mine": "x"}},
        "spec": {
            "maxReplicas": 5,
            "scaleTargetRef": {"kind": "Deployment", "name": "w"},
            "metrics": [
                {
                    "type": "Resource",
                    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}},
                },
                {
                    "type": "Pods",
                    "pods": {"metric": {"name": "q"}, "target": {"type": "AverageValue", "averageValue": "1k"}},
                },
            ],
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 3}},
        },
        "status": {"desiredReplicas": 1, "currentReplicas": 1, "currentMetrics": None},
    }
    old = convert(new, "autoscaling/v1")
    assert old["spec"]["targetCPUUtilizationPercentage"] == 50
    assert "metrics" not in old["spec"]
    assert set(old["metadata"]["annotations"]) == {
        "mine",
        "autoscaling.alpha.kubernetes.io/metrics",
        "autoscaling.alpha.kubernetes.io/behavior",
    }
    assert convert(old, "autoscaling/v2") == new
    assert convert(new, "autoscaling/v2") is new


def test_event_versions_go_there_and_back():
    event = {"apiVersion": "v1", "kind": "Event", "metadata": {}, "message": "m", "involvedObject": {"kind": "Pod"}}
    shown = convert(event, "events.k8s.io/v1")
    assert shown["note"] == "m"
    assert shown["regarding"] == {"kind": "Pod"}
    assert convert(shown, "v1") == event


def test_patch_faults_have_upstreams_status():
    with pytest.raises(Invalid, match="the server rejected our request due to an error in our request"):
        apply_json_patch({"a": 1}, [{"op": "test", "path": "/a", "value": 2}])
    with pytest.raises(BadRequest, match="cannot unmarshal object into Go value of type"):
        apply_json_patch({}, {"op": "add"})
    doubling = [{"op": "copy", "from": "/a", "path": f"/a/{number}"} for number in range(60)]
    with pytest.raises(Invalid) as refused:
        apply_json_patch({"a": {"b": "x" * 100}}, doubling)
    assert "exceeding the limit 3145728" in str(refused.value.__cause__)
    assert (
        len(
            apply_json_patch({"a": {}, "b": 1}, [{"op": "copy", "from": "/b", "path": f"/a/{n}"} for n in range(99)])[
                "a"
            ]
        )
        == 99
    )
    with pytest.raises(BadRequest, match="cannot unmarshal array into Go value of type map"):
        apply_merge_patch({}, [])
    with pytest.raises(BadRequest, match="invalid patch format of retainKeys"):
        apply_strategic_patch({}, {"$retainKeys": ["a"], "b": 1}, NODE)
    with pytest.raises(ServerError, match="unknown patch type: foo in map"):
        apply_strategic_patch({}, {"$patch": "foo"}, NODE)
    with pytest.raises(ServerError, match="does not contain declared merge key: name"):
        bad = {"spec": {"template": {"spec": {"containers": [{"image": "x"}]}}}}
        apply_strategic_patch(deployment([{"name": "a"}]), bad, NODE)


def test_strategic_directives():
    base = deployment(
        [{"name": "a", "env": [{"name": "X", "value": "1"}]}], strategy={"type": "R", "rollingUpdate": {}}
    )
    patch = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}
    assert apply_strategic_patch(base, patch, NODE)["spec"]["strategy"] == {"type": "Recreate"}
    env = [{"$patch": "replace"}, {"name": "Y", "value": "2"}]
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "a", "env": env}]}}}}
    patched = apply_strategic_patch(base, patch, NODE)
    assert patched["spec"]["template"]["spec"]["containers"][0]["env"] == [{"name": "Y", "value": "2"}]
    finalizers = {**base, "metadata": {**base["metadata"], "finalizers": ["a", "b"]}}
    patch = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "$setElementOrder/finalizers": ["c", "b"],
                          "finalizers": ["c"]}}  # fmt: skip
    assert apply_strategic_patch(finalizers, patch, NODE)["metadata"]["finalizers"] == ["c", "b"]


def test_reset_fields():
    assert reset_fields("pods") == {"f:status": {}}
    assert "f:metadata" in reset_fields("widgets.example.com", "status", custom=True)
    assert reset_fields("configmaps", has_status=False) == {}


def test_digest_does_not_depend_on_order():
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1}) != digest({"a": 1, "b": [3]})
