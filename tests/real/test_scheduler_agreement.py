"""The real kube-scheduler's placements and why-not messages, pod by pod, against our planner on the same objects.

Where it binds a pod, its choice must be among those that we score best (it draws among equals); where it can't, the
message in PodScheduled must be ours word for word.
"""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from control_plane import available, control_plane

from atoll.base.chance import Chance
from atoll.objects.meta import condition
from atoll.scheduling.matching import label_selector
from atoll.scheduling.plan import Planner
from atoll.scheduling.preemption import plan_preemption

pytestmark = [pytest.mark.real, pytest.mark.skipif(not available(), reason="tests/real/build.py was not run")]

HOST, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"
SERVICE_SELECTOR = {"app": "svc"}


def nodes():
    found = []
    for number in range(6):
        labels = {HOST: f"n{number}", ZONE: f"z{number % 3}", "disk": "ssd" if number % 2 else "hdd"}
        spec = {}
        if number == 4:
            spec["taints"] = [{"key": "soft", "effect": "PreferNoSchedule"}]
        if number == 5:
            spec["taints"] = [{"key": "hard", "value": "x", "effect": "NoSchedule"}]
        if number == 3:
            del labels[ZONE]
        amounts = {
            "cpu": str(8 + number % 3),
            "memory": f"{16 + number}Gi",
            "pods": "40",
            "example.com/gpu": str(number % 2),
        }
        if number == 2:
            amounts["pods"] = "3"
        found.append(
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": f"n{number}", "labels": labels},
                "spec": spec,
                "status": {
                    "capacity": amounts,
                    "allocatable": amounts,
                    "conditions": [{"type": "Ready", "status": "True"}],
                    "images": [{"names": ["big/image:1"], "sizeBytes": 900 << 20}] if number < 2 else [],
                },
            }
        )
    return found


def required(*items):
    return {"requiredDuringSchedulingIgnoredDuringExecution": list(items)}


def term(key, app):
    return {"topologyKey": key, "labelSelector": {"matchLabels": {"app": app}}}


def expression(key, operator, *values):
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


def spread(key, action, app, skew=1, **more):
    found = {"topologyKey": key, "whenUnsatisfiable": action, "maxSkew": skew}
    return {**found, "labelSelector": {"matchLabels": {"app": app}}, **more}


def fixed_specs():
    """(labels, spec, requests): cases that a random draw would seldom make."""
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}]}}}  # fmt: skip
    conflict = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]},
                         {"key": "metadata.name", "operator": "In", "values": ["n2"]}]}]}}}  # fmt: skip
    gone = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}]}}}  # fmt: skip
    return [
        ({}, {}, {"cpu": "100"}),
        ({}, {}, {"example.com/none": "1"}),
        ({}, {}, {"example.com/gpu": "1"}),
        ({}, {"nodeSelector": {"disk": "none"}}, {}),
        ({}, {"affinity": affinity}, {}),
        ({}, {"affinity": conflict}, {}),
        ({}, {"affinity": gone, "nodeSelector": {"disk": "hdd"}}, {}),
        ({}, {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "missing"}}]}, {}),
        ({}, {"priorityClassName": "meek"}, {"cpu": "50"}),
        ({"app": "port"}, {"ports": 8080}, {}),
        ({"app": "port"}, {"ports": 8080, "nodeSelector": {"disk": "ssd"}}, {}),
        ({"app": "near"}, {"affinity": {"podAffinity": required(term(ZONE, "near"))}}, {}),
        ({"app": "x"}, {"affinity": {"podAffinity": required(term(ZONE, "nobody"))}}, {}),
        ({"app": "alone"}, {"affinity": {"podAntiAffinity": required(term(ZONE, "alone"))}}, {}),
        ({"app": "alone"}, {"affinity": {"podAntiAffinity": required(term(ZONE, "alone"))}}, {}),
        ({"app": "alone"}, {"affinity": {"podAntiAffinity": required(term(HOST, "alone"))}}, {}),
        ({"app": "even"}, {"topologySpreadConstraints": [spread(ZONE, "DoNotSchedule", "even", minDomains=5)]}, {}),
        ({"app": "even"}, {"topologySpreadConstraints": [spread(ZONE, "DoNotSchedule", "even", minDomains=5)]}, {}),
    ]  # fmt: skip


def random_spec(draw):
    app = draw.choice(["a", "b", "svc"])
    spec = {}
    if draw.random() < 0.25:
        kind = draw.choice(["podAffinity", "podAntiAffinity"])
        chosen = term(draw.choice([HOST, ZONE, "disk"]), draw.choice(["a", "b"]))
        if draw.random() < 0.5:
            spec["affinity"] = {kind: required(chosen)}
        else:
            weighted = {"weight": draw.randint(1, 100), "podAffinityTerm": chosen}
            spec["affinity"] = {kind: {"preferredDuringSchedulingIgnoredDuringExecution": [weighted]}}
    if draw.random() < 0.2:
        preferred = {"weight": draw.randint(1, 100), "preference": expression("disk", "In", "ssd")}
        spec.setdefault("affinity", {})["nodeAffinity"] = {
            "preferredDuringSchedulingIgnoredDuringExecution": [preferred]
        }
    if draw.random() < 0.3:
        action = draw.choice(["DoNotSchedule", "ScheduleAnyway"])
        spec["topologySpreadConstraints"] = [spread(draw.choice([HOST, ZONE]), action, app, draw.randint(1, 2))]
    if draw.random() < 0.3:
        spec["tolerations"] = [{"key": draw.choice(["soft", "hard"]), "operator": "Exists"}]
    requests = draw.choice([{}, {"cpu": "300m"}, {"cpu": "1", "memory": "1Gi"}, {"memory": "500Mi"}])
    return {"app": app}, spec, requests


def pod(number, labels, spec, requests):
    spec = dict(spec)
    port = spec.pop("ports", None)
    image = "big/image:1" if number % 4 == 0 else "small/image:1"
    container = {"name": "c", "image": image, "resources": {"requests": requests, "limits": gpus(requests)}}
    if port:
        container["ports"] = [{"containerPort": port, "hostPort": port}]
    metadata = {"name": f"p{number}", "namespace": "default", "labels": labels}
    body = {"terminationGracePeriodSeconds": 0, "automountServiceAccountToken": False, "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {**body, **spec}}


def gpus(requests):
    return {name: value for name, value in requests.items() if "/" in name}


class Real:
    def __init__(self, plane):
        self.plane = plane

    def send(self, method, path, obj=None):
        body = json.dumps(obj).encode() if obj is not None else None
        answer = self.plane.request(method, path, body, {"content-type": "application/json"})
        assert answer.status < 300, answer.body
        return answer.json()

    def outcome(self, name):
        """The pod, once it is bound or was refused."""
        end = time.monotonic() + 20
        while time.monotonic() < end:
            found = self.send("GET", f"/api/v1/namespaces/default/pods/{name}")
            scheduled = condition(found, "PodScheduled")
            if found["spec"].get("nodeName") or (scheduled and scheduled["status"] == "False"):
                return found
            time.sleep(0.02)
        raise AssertionError(f"{name} was neither bound nor refused")


def default_selector(obj):
    labels = obj["metadata"].get("labels") or {}
    if labels.get("app") != "svc":
        return None
    return "svc", label_selector({"matchLabels": SERVICE_SELECTOR})


def message_of(planner, info, decision):
    failure = decision.failure
    failure.postfilter = plan_preemption(planner, info, failure, []).message
    return failure.message


def agree(planner, real, number, given):
    """Compare one pod's fate; None when it agrees, else what differs."""
    created = real.send("POST", "/api/v1/namespaces/default/pods", given)
    info = planner.pod(created)
    decision = planner.decide(info)
    found = real.outcome(created["metadata"]["name"])
    node = found["spec"].get("nodeName")
    if node is None:
        theirs = condition(found, "PodScheduled")["message"]
        assert condition(found, "PodScheduled")["reason"] == "Unschedulable"
        ours = message_of(planner, info, decision) if decision.failure else f"bound to {decision.node}"
        real.send("DELETE", f"/api/v1/namespaces/default/pods/{created['metadata']['name']}")
        return None if ours == theirs else (number, given["spec"], theirs, ours)
    evaluation = planner.evaluation(info)
    totals = evaluation.totals() if evaluation is not None else {}
    planner.state.place(planner.pod(found), node)
    if decision.node is None:
        return number, given["spec"], f"bound to {node}", message_of(planner, info, decision)
    best = max(totals.values())
    return None if totals.get(node) == best else (number, given["spec"], node, totals)


def test_the_planner_agrees_with_kube_scheduler():
    draw = random.Random(4)
    cases = fixed_specs() + [random_spec(draw) for _ in range(60)]
    with control_plane("--disable-admission-plugins=ServiceAccount,TaintNodesByCondition") as plane:
        real = Real(plane)
        planner = Planner(Chance(1), default_selector)
        service = {"metadata": {"name": "svc"}, "spec": {"selector": SERVICE_SELECTOR, "ports": [{"port": 80}]}}
        real.send("POST", "/api/v1/namespaces/default/services", service)
        meek = {"metadata": {"name": "meek"}, "value": 100, "preemptionPolicy": "Never"}
        real.send("POST", "/apis/scheduling.k8s.io/v1/priorityclasses", meek)
        for obj in nodes():
            planner.state.set_node(real.send("POST", "/api/v1/nodes", obj))
        plane.start_scheduler()
        differences = [
            found
            for number, case in enumerate(cases)
            if (found := agree(planner, real, number, pod(number, *case))) is not None
        ]
    assert not differences, "\n".join(
        f"{n}: {spec}\n  real: {theirs}\n  ours: {ours}" for n, spec, theirs, ours in differences
    )


def volume(name, node=None, zone=None, storage_class="local", claim=None):
    spec = {
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": storage_class,
        "hostPath": {"path": "/v"},
    }
    if node:
        spec["nodeAffinity"] = {"required": {"nodeSelectorTerms": [expression(HOST, "In", node)]}}
    if claim:
        spec["claimRef"] = {"kind": "PersistentVolumeClaim", "namespace": "default", "name": claim}
    labels = {ZONE: zone} if zone else {}
    return {"metadata": {"name": name, "labels": labels}, "spec": spec}


def claim(name, storage_class, volume_name=""):
    annotations = {"pv.kubernetes.io/bind-completed": "yes"} if volume_name else {}
    spec = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
        "storageClassName": storage_class,
    }
    if volume_name:
        spec["volumeName"] = volume_name
    return {"metadata": {"name": name, "annotations": annotations}, "spec": spec}


def storage_class(name, provisioner, mode, **more):
    return {"metadata": {"name": name}, "provisioner": provisioner, "volumeBindingMode": mode, **more}


VOLUME_CASES = [
    # (claim, node selector)
    ("immediate", {}),
    ("on-n1", {HOST: "n2"}),
    ("on-n1", {}),
    ("zoned", {"disk": "hdd"}),
    ("zoned", {HOST: "n0"}),
    ("lost", {}),
    ("waiting", {HOST: "n2"}),
    ("nowhere", {}),
]


def test_volumes_agree_too():
    with control_plane("--disable-admission-plugins=ServiceAccount,TaintNodesByCondition") as plane:
        real = Real(plane)
        planner = Planner(Chance(1), default_selector)
        volumes = planner.volumes
        for obj in nodes():
            planner.state.set_node(real.send("POST", "/api/v1/nodes", obj))
        terms = [{"matchLabelExpressions": [{"key": ZONE, "values": ["mars"]}]}]
        for obj in (
            storage_class("now", "example.com/p", "Immediate"),
            storage_class("local", "kubernetes.io/no-provisioner", "WaitForFirstConsumer"),
            storage_class("far", "example.com/p", "WaitForFirstConsumer", allowedTopologies=terms),
        ):
            made = real.send("POST", "/apis/storage.k8s.io/v1/storageclasses", obj)
            volumes.classes[made["metadata"]["name"]] = made
        for obj in (
            volume("pv-n1", node="n1", claim="on-n1"),
            volume("pv-zone", zone="z1", claim="zoned"),
            volume("pv-free", node="n3"),
        ):
            made = real.send("POST", "/api/v1/persistentvolumes", obj)
            made["status"] = {"phase": "Bound" if made["spec"].get("claimRef") else "Available"}
            path = f"/api/v1/persistentvolumes/{made['metadata']['name']}/status"
            volumes.volumes[made["metadata"]["name"]] = real.send("PUT", path, made)
        for obj in (
            claim("immediate", "now"),
            claim("on-n1", "local", "pv-n1"),
            claim("zoned", "local", "pv-zone"),
            claim("lost", "local", "pv-gone"),
            claim("waiting", "local"),
            claim("nowhere", "far"),
        ):
            made = real.send("POST", "/api/v1/namespaces/default/persistentvolumeclaims", obj)
            volumes.claims[("default", made["metadata"]["name"])] = made
        plane.start_scheduler()
        differences = []
        for number, (name, selector) in enumerate(VOLUME_CASES):
            mounted = {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": name}}]}
            given = pod(number, {}, {**mounted, "nodeSelector": selector}, {})
            found = agree(planner, real, number, given)
            differences += [found] if found else []
    assert not differences, "\n".join(
        f"{n}: {spec}\n  real: {theirs}\n  ours: {ours}" for n, spec, theirs, ours in differences
    )
