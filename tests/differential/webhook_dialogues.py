"""Dialogues between a client, an API server and webhooks: configurations, then requests, and what each side then saw.

`DIALOGUES` says them; `hold` has one on any API server. tests/real/record_webhooks.py writes what the real
kube-apiserver does into webhook_dialogues.json, test_webhook_dialogues.py has them on ours.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from webhook_server import Object, WebhookServer

Ask = Callable[[str, str, Any, str], Awaitable[tuple[int, Any, list[str]]]]
"""(method, path, body, content type) → (status, body, warnings)."""
NAMESPACE = "dialogue"
_HOOKS = "/apis/admissionregistration.k8s.io/v1/"
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_MERGE = "application/merge-patch+json"


@dataclass(frozen=True)
class Hook:
    """One webhook in a configuration of its own; `config` may replace any field."""

    path: str
    kind: str = "Validating"
    rules: Sequence[Object] = ({"groups": [""], "resources": ["configmaps"]},)
    config: Object = field(default_factory=dict)

    def configuration(self, index: int, server: WebhookServer) -> Object:
        rules = [
            {
                "apiGroups": rule.get("groups", ["*"]),
                "apiVersions": rule.get("versions", ["*"]),
                "operations": rule.get("operations", ["*"]),
                "resources": rule["resources"],
                **({"scope": rule["scope"]} if "scope" in rule else {}),
            }
            for rule in self.rules
        ]
        hook = {
            "name": f"{self.path}.{index}.example.com",
            "clientConfig": {"url": server.url(self.path), "caBundle": server.ca_bundle},
            "rules": rules,
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": NAMESPACE}},
            **self.config,
        }
        return {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": f"{self.kind}WebhookConfiguration",
            "metadata": {"name": f"dialogue-{index}"},
            "webhooks": [{name: value for name, value in hook.items() if value is not None}],
        }


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    body: Any = None
    content_type: str = "application/json"


def config_map(name: str, **more: Any) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, **more}


def pod(name: str) -> Object:
    container = {"name": "main", "image": "busybox:1"}
    spec = {"containers": [container], "automountServiceAccountToken": False}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def deployment(name: str) -> Object:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "main", "image": "busybox:1"}]}}
    spec = {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


_CORE = f"/api/v1/namespaces/{NAMESPACE}"
_MAPS = f"{_CORE}/configmaps"
_APPS = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"


def make(obj: Object, path: str = _MAPS) -> Request:
    return Request("POST", path, obj)


def remove(name: str, path: str = _MAPS) -> Request:
    return Request("DELETE", f"{path}/{name}")


def _refusals() -> dict[str, tuple[list[Hook], list[Request]]]:
    """One bad answer each, failing closed and failing open."""
    validating = (
        "allow", "deny", "deny-message", "deny-code", "deny-reason", "deny-low-code", "warn", "wrong-uid", "no-kind",
        "other-version", "no-response", "text", "boom", "missing", "busy", "status", "label",
    )  # fmt: skip
    mutating = (
        "deny-message", "not-a-patch", "patch-no-type", "type-no-patch", "bad-path", "bad-test", "bad-type", "uid",
        "unknown-field", "data", "warn", "label", "boom",
    )  # fmt: skip
    out: dict[str, tuple[list[Hook], list[Request]]] = {}
    for kind, paths in (("Validating", validating), ("Mutating", mutating)):
        for path in paths:
            for policy in ("Fail", "Ignore"):
                hook = Hook(path, kind, config={"failurePolicy": policy})
                out[f"{kind}-{path}-{policy}"] = ([hook], [make(config_map("a", data={"k": "v"})), remove("a")])
    return out


def _beta(path: str, kind: str = "Validating") -> Hook:
    return Hook(path, kind, config={"admissionReviewVersions": ["v1beta1"]})


_ALL = ({"resources": ["*/*"]},)
_SCALE = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "d", "namespace": NAMESPACE}}
DIALOGUES: dict[str, tuple[list[Hook], list[Request]]] = {
    **_refusals(),
    "v1beta1": ([_beta("allow"), _beta("beta-lax")], [make(config_map("a")), remove("a")]),
    "v1beta1-patch": ([_beta("patch-no-type", "Mutating"), _beta("label", "Mutating")], [make(config_map("a"))]),
    "unknown-then-beta": (
        [Hook("allow", config={"admissionReviewVersions": ["v2", "v1beta1", "v1"]})],
        [make(config_map("a"))],
    ),
    "operations": (
        [Hook("allow", "Mutating"), Hook("allow")],
        [
            Request("POST", f"{_MAPS}?fieldManager=me&fieldValidation=Strict", config_map("a", data={"k": "v"})),
            Request("PUT", f"{_MAPS}/a", config_map("a", data={"k": "w"})),
            Request("PATCH", f"{_MAPS}/a", {"data": {"k": "x"}}, _MERGE),
            Request(
                "PATCH", f"{_MAPS}/b?fieldManager=me&force=true", config_map("b", data={"k": "v"}),
                "application/apply-patch+yaml",
            ),
            Request("DELETE", f"{_MAPS}/a", {"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 5,
                                             "propagationPolicy": "Background"}),
            Request("DELETE", _MAPS + "?labelSelector=none=such"),
            Request("POST", f"{_MAPS}?dryRun=All", config_map("c")),
            Request("POST", _MAPS, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "g-"}}),
        ],
    ),
    "only-update": (
        [Hook("deny-message", rules=({"groups": [""], "resources": ["configmaps"], "operations": ["UPDATE"]},))],
        [make(config_map("a")), Request("PATCH", f"{_MAPS}/a", {"data": {"k": "v"}}, _MERGE), remove("a")],
    ),
    "delete-denied": (
        [Hook("deny-message", rules=({"groups": [""], "resources": ["configmaps"], "operations": ["DELETE"]},))],
        [make(config_map("a")), remove("a"), Request("DELETE", _MAPS)],
    ),
    "delete-patched": (
        [Hook("bad-path", "Mutating", ({"groups": [""], "resources": ["configmaps"], "operations": ["DELETE"]},))],
        [make(config_map("a")), remove("a")],
    ),
    "order-and-reinvocation": (
        [
            Hook("count", "Mutating", config={"reinvocationPolicy": "IfNeeded"}),
            Hook("label", "Mutating"),
            Hook("second", "Mutating", config={"reinvocationPolicy": "Never"}),
        ],
        [make(config_map("a"))],
    ),
    "no-reinvocation": (
        [Hook("count", "Mutating"), Hook("label", "Mutating")],
        [make(config_map("a"))],
    ),
    "defaults-after-a-patch": (
        [Hook("sidecar", "Mutating", ({"groups": [""], "resources": ["pods"], "operations": ["CREATE"]},))],
        [make(pod("p"), f"{_CORE}/pods"), Request("DELETE", f"{_CORE}/pods/p?gracePeriodSeconds=0")],
    ),
    "object-selector": (
        [Hook("deny-message", config={"objectSelector": {"matchLabels": {"watched": "yes"}}})],
        [
            make(config_map("free")),
            make({**config_map("held"), "metadata": {"name": "held", "labels": {"watched": "yes"}}}),
            Request("PATCH", f"{_MAPS}/free", {"metadata": {"labels": {"watched": "yes"}}}, _MERGE),
        ],
    ),
    "namespace-selector": (
        [Hook("deny-message", config={"namespaceSelector": {"matchExpressions": [
            {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["elsewhere"]}]}})],
        [make(config_map("a"))],
    ),
    "namespaces-themselves": (
        [Hook("allow", rules=({"groups": [""], "resources": ["namespaces"]},),
              config={"namespaceSelector": {"matchLabels": {"mark": "me"}}})],
        [
            Request("POST", "/api/v1/namespaces",
                    {"apiVersion": "v1", "kind": "Namespace",
                     "metadata": {"name": "marked", "labels": {"mark": "me"}}}),
            Request("POST", "/api/v1/namespaces",
                    {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "plain"}}),
            Request("PATCH", "/api/v1/namespaces/marked", {"metadata": {"labels": {"mark": None}}}, _MERGE),
        ],
    ),
    "scope": (
        [
            Hook("allow", rules=({"resources": ["configmaps", "priorityclasses"], "scope": "Namespaced"},),
                 config={"namespaceSelector": {}}),
            Hook("warn", rules=({"resources": ["configmaps", "priorityclasses"], "scope": "Cluster"},),
                 config={"namespaceSelector": {}}),
        ],
        [
            make(config_map("a")),
            Request("POST", "/apis/scheduling.k8s.io/v1/priorityclasses",
                    {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "dialogue"},
                     "value": 7}),
        ],
    ),
    "scale": (
        [
            Hook("replicas", "Mutating", ({"groups": ["apps"], "resources": ["deployments/scale"]},)),
            Hook("allow", rules=({"groups": ["apps"], "resources": ["deployments/*"]},)),
        ],
        [
            make(deployment("d"), _APPS),
            Request("PUT", f"{_APPS}/d/scale", {**_SCALE, "spec": {"replicas": 2}}),
            Request("PATCH", f"{_APPS}/d/scale", {"spec": {"replicas": 5}}, _MERGE),
            remove("d", _APPS),
        ],
    ),
    "status": (
        [Hook("allow", rules=({"groups": ["apps"], "resources": ["deployments/status"]},))],
        [
            make(deployment("d"), _APPS),
            Request("PATCH", f"{_APPS}/d/status", {"status": {"observedGeneration": 9}}, _MERGE),
            remove("d", _APPS),
        ],
    ),
    "equivalent": (
        [
            Hook("allow", rules=({"groups": ["autoscaling"], "versions": ["v1"],
                                  "resources": ["horizontalpodautoscalers"]},)),
            Hook("warn", rules=({"groups": ["autoscaling"], "versions": ["v1"],
                                 "resources": ["horizontalpodautoscalers"]},), config={"matchPolicy": "Exact"}),
            Hook("label", "Mutating", ({"groups": ["autoscaling"], "versions": ["v1"],
                                        "resources": ["horizontalpodautoscalers"]},)),
        ],
        [
            Request("POST", f"/apis/autoscaling/v2/namespaces/{NAMESPACE}/horizontalpodautoscalers",
                    {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
                     "spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "d",
                                                                   "apiVersion": "apps/v1"}}}),
            Request("DELETE", f"/apis/autoscaling/v2/namespaces/{NAMESPACE}/horizontalpodautoscalers/h"),
        ],
    ),
    "equivalent-events": (
        [Hook("allow", rules=({"groups": ["events.k8s.io"], "versions": ["v1"], "resources": ["events"]},))],
        [
            Request("POST", f"{_CORE}/events",
                    {"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "reason": "R", "message": "m",
                     "type": "Normal", "involvedObject": {"kind": "Pod", "name": "p", "namespace": NAMESPACE}}),
        ],
    ),
    "subresources-that-create": (
        [Hook("allow", rules=({"groups": [""], "resources": ["pods/*"], "operations": ["CREATE"]},))],
        [
            make(pod("p"), f"{_CORE}/pods"),
            Request("POST", f"{_CORE}/pods/p/binding",
                    {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"name": "n"}}),
            Request("POST", f"{_CORE}/pods/p/eviction",
                    {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p", "namespace": NAMESPACE}}),
            Request("DELETE", f"{_CORE}/pods/p?gracePeriodSeconds=0"),
        ],
    ),
    "connect": (
        [
            Hook("allow", "Mutating", ({"groups": [""], "resources": ["pods/*"], "operations": ["CONNECT"]},)),
            Hook("deny-message", rules=({"groups": [""], "resources": ["pods/*"], "operations": ["CONNECT"]},)),
        ],
        [
            make(pod("p"), f"{_CORE}/pods"),
            Request("POST", f"{_CORE}/pods/p/exec?stdin=true&stdout=1&tty=false&container=main&command=sh&command=-c"),
            Request("POST", f"{_CORE}/pods/p/attach?stdout=true"),
            Request("POST", f"{_CORE}/pods/p/portforward?ports=80"),
            Request("GET", f"{_CORE}/pods/p/proxy/some/path?a=b"),
            Request("DELETE", f"{_CORE}/pods/p?gracePeriodSeconds=0"),
        ],
    ),
    "reviews": (
        [Hook("deny-message", rules=_ALL, config={"namespaceSelector": None,
                                                  "matchPolicy": "Exact"})],
        [
            Request("POST", "/apis/authentication.k8s.io/v1/tokenreviews",
                    {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": "x"}}),
            Request("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
                    {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
                     "spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}}}),
            Request("DELETE", f"{_HOOKS}mutatingwebhookconfigurations/none"),
            Request("POST", f"{_HOOKS}mutatingwebhookconfigurations",
                    {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
                     "metadata": {"name": "dialogue-free"}}),
            Request("DELETE", f"{_HOOKS}mutatingwebhookconfigurations/dialogue-free"),
        ],
    ),
    "bad-ca": (
        [Hook("allow", config={"clientConfig": {"url": "https://127.0.0.1:PORT/allow"}})],
        [make(config_map("a"))],
    ),
    "nobody-listens": (
        [Hook("allow", config={"clientConfig": {"url": "https://127.0.0.1:9/allow"}})],
        [make(config_map("a"))],
    ),
    "no-such-service": (
        [Hook("allow", config={"clientConfig": {"service": {"namespace": NAMESPACE, "name": "nosuch"}}})],
        [make(config_map("a"))],
    ),
    "timeout": (
        [Hook("slow", config={"timeoutSeconds": 1})],
        [make(config_map("a"))],
    ),
    "timeout-ignored": (
        [Hook("slow", "Mutating", config={"timeoutSeconds": 1, "failurePolicy": "Ignore"})],
        [make(config_map("a"))],
    ),
    "conditions": (
        [
            Hook("warn", config={"matchConditions": [
                {"name": "b", "expression": "object.metadata.name.startsWith('b')"}]}),
            Hook("deny-message", config={"matchConditions": [
                {"name": "c", "expression": "request.operation == 'CREATE' && object.metadata.name == 'c'"},
                {"name": "d", "expression": "!has(object.data)"}]}),
            Hook("deny-message", config={"failurePolicy": "Fail", "matchConditions": [
                {"name": "e", "expression": "object.metadata.name == 'err' && object.data.nosuch == 'x'"}]}),
            Hook("label", "Mutating", config={"failurePolicy": "Ignore", "matchConditions": [
                {"name": "e", "expression": "object.metadata.name == 'err2' && object.data.nosuch == 'x'"}]}),
        ],
        [make(config_map("a")), make(config_map("b")), make(config_map("c")), make(config_map("c", data={"k": "v"})),
         make(config_map("err", data={"k": "v"})), make(config_map("err2", data={"k": "v"}))],
    ),
}  # fmt: skip


_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_GROUP = "/apis/dialogue.example.com"


def _crd(path: str, versions: Sequence[str] = ("v1",), selectable: bool = False, **changes: Any) -> Object:
    """Of boats, stored as v1. `path`: at which they are converted. `selectable`: by their strings."""
    one = {"type": "object", "properties": {"hostPort": {"type": "string"}, "size": {"type": "integer", "default": 1}}}
    two = {"type": "object", "properties": {"host": {"type": "string"}, "port": {"type": "string"}}}
    webhook = {"clientConfig": {"url": f"@{path}", "caBundle": "@"}, "conversionReviewVersions": list(versions)}
    served = [
        {
            "name": name,
            "served": True,
            "storage": name == "v1",
            "schema": {"openAPIV3Schema": schema},
            **({"selectableFields": [{"jsonPath": f".{field}"} for field in fields]} if selectable else {}),
        }
        for name, schema, fields in (("v1", one, ("hostPort",)), ("v2", two, ("host", "port")))
    ]
    names = {"plural": "boats", "singular": "boat", "kind": "Boat", "listKind": "BoatList"}
    spec = {"group": "dialogue.example.com", "scope": "Namespaced", "names": names, "versions": served,
            "conversion": {"strategy": "Webhook", "webhook": webhook}, **changes}  # fmt: skip
    return {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "boats.dialogue.example.com"}, "spec": spec}  # fmt: skip


def _boat(version: str, name: str, **fields: Any) -> Object:
    return {"apiVersion": f"dialogue.example.com/{version}", "kind": "Boat", "metadata": {"name": name}, **fields}


def _boats(version: str) -> str:
    return f"{_GROUP}/{version}/namespaces/{NAMESPACE}/boats"


def _conversions() -> dict[str, tuple[list[Hook], list[Request]]]:
    """One bad converter each."""
    paths = (
        "convert-fails", "convert-silent", "convert-none", "convert-renames", "convert-moves", "convert-uid",
        "convert-kind", "convert-version", "convert-no-metadata", "convert-labels", "convert-bad-labels",
        "convert-odd-labels", "convert-extra", "convert-wrong-uid", "convert-boom",
    )  # fmt: skip
    asked = [
        make(_boat("v1", "a", hostPort="h:1"), _boats("v1")),
        Request("GET", f"{_boats('v1')}/a"),
        Request("GET", f"{_boats('v2')}/a"),
        make(_boat("v2", "b", host="h", port="2"), _boats("v2")),
    ]
    return {path: ([], [make(_crd(path), _CRDS), *asked]) for path in paths}


def _bad_definitions() -> list[Request]:
    def webhook(**changes: Any) -> Request:
        whole = {"clientConfig": {"url": "https://x/y"}, "conversionReviewVersions": ["v1"], **changes}
        kept = {key: value for key, value in whole.items() if value is not None}
        return make(_crd("x", conversion={"strategy": "Webhook", "webhook": kept}), _CRDS)

    service = {"namespace": "n", "name": "s"}
    return [
        make(_crd("x", conversion={"strategy": "Webhook"}), _CRDS),
        make(_crd("x", conversion={"strategy": "Other"}), _CRDS),
        make(_crd("x", conversion={"strategy": "None", "webhook": {"conversionReviewVersions": ["v1"]}}), _CRDS),
        webhook(conversionReviewVersions=None),
        webhook(conversionReviewVersions=[]),
        webhook(conversionReviewVersions=["v7"]),
        webhook(conversionReviewVersions=["v1", "v1"]),
        webhook(conversionReviewVersions=["-bad-"]),
        webhook(clientConfig=None),
        webhook(clientConfig={}),
        webhook(clientConfig={"url": "https://x", "service": service}),
        webhook(clientConfig={"url": "http://user@x?a=b#c"}),
        webhook(clientConfig={"service": {**service, "port": 70000}}),
        webhook(clientConfig={"service": {"name": "", "namespace": ""}}),
        webhook(clientConfig={"service": {**service, "path": "no-slash"}}),
        webhook(clientConfig={"service": {**service, "path": "/a//b"}}),
        webhook(clientConfig={"url": "https://x", "caBundle": "bm90IHBlbQ=="}),
        Request("PATCH", f"{_CRDS}/boats.dialogue.example.com", {"spec": {"preserveUnknownFields": False}}, _MERGE),
    ]


def _bad_hooks() -> list[Request]:
    """Of admission: what the client's address, conditions and other fields may not be."""

    def hook(**changes: Any) -> Request:
        whole = {
            "name": "a.example.com", "clientConfig": {"url": "https://x/y"}, "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
            **changes,
        }  # fmt: skip
        kept = {key: value for key, value in whole.items() if value is not None}
        body = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
                "metadata": {"name": "bad"}, "webhooks": [kept]}  # fmt: skip
        return make(body, f"{_HOOKS}validatingwebhookconfigurations?dryRun=All")

    service = {"namespace": "n", "name": "s"}
    conditions: list[list[Object]] = [
        [{"name": "", "expression": ""}],
        [{"name": "a b", "expression": "true"}],
        [{"name": "a", "expression": "true"}, {"name": "a", "expression": "false"}],
        [{"name": "a", "expression": "'text'"}],
        [{"name": "a", "expression": "object.metadata.name =="}],
        [{"name": "a", "expression": "nosuch.thing"}],
        [{"name": f"a{index}", "expression": "true"} for index in range(65)],
        [{"name": "ok", "expression": "!authorizer.group('').resource('pods').check('get').allowed()"}],
    ]
    return [
        hook(clientConfig={}),
        hook(clientConfig={"url": "https://x", "service": service}),
        hook(clientConfig={"url": "http://user:word@x?a=b#c"}),
        hook(clientConfig={"url": "https:///path"}),
        hook(clientConfig={"service": {**service, "port": 0}}),
        hook(clientConfig={"service": {"name": "", "namespace": ""}}),
        hook(clientConfig={"service": {**service, "path": "no-slash"}}),
        hook(clientConfig={"service": {**service, "path": "//"}}),
        hook(clientConfig={"service": {**service, "path": "/a/_/"}}),
        hook(timeoutSeconds=31),
        hook(sideEffects="Some"),
        hook(matchPolicy="Never", failurePolicy="Never"),
        *[hook(matchConditions=item) for item in conditions],
    ]


DIALOGUES |= {
    **_conversions(),
    "conversion": (
        [],
        [
            make(_crd("convert"), _CRDS),
            make(_boat("v1", "a", hostPort="h:1"), _boats("v1")),
            make(_boat("v2", "b", host="i", port="2", unknown="x"), _boats("v2")),
            Request("GET", f"{_boats('v1')}/b"),
            Request("GET", f"{_boats('v2')}/a"),
            Request("GET", _boats("v2")),
            Request("PUT", f"{_boats('v2')}/a", _boat("v2", "a", host="j", port="3")),
            Request("PATCH", f"{_boats('v2')}/b", {"port": "9"}, _MERGE),
            Request("GET", f"{_boats('v1')}/b"),
            Request("PATCH", f"{_boats('v2')}/b", {"host": 7}, _MERGE),
            Request("POST", f"{_boats('v2')}?dryRun=All", _boat("v2", "c", host="k", port="4")),
            Request("DELETE", f"{_boats('v2')}/a"),
            Request("DELETE", _boats("v2")),
            Request("GET", _boats("v1")),
        ],
    ),
    "conversion-v1beta1": (
        [],
        [
            make(_crd("convert", ["v1beta1", "v1"]), _CRDS),
            make(_boat("v1", "a", hostPort="h:1"), _boats("v1")),
            Request("GET", f"{_boats('v2')}/a"),
        ],
    ),
    "conversion-selected": (
        [],
        [
            make(_crd("convert", selectable=True), _CRDS),
            make(_boat("v2", "a", host="one", port="80"), _boats("v2")),
            make(_boat("v2", "b", host="one", port="8080"), _boats("v2")),
            make(_boat("v2", "c", host="two"), _boats("v2")),
            Request("GET", f"{_boats('v2')}?fieldSelector=host%3Done"),
            Request("GET", f"{_boats('v2')}?fieldSelector=host%3Done,port!%3D80"),
            Request("GET", f"{_boats('v2')}?fieldSelector=host%3Done&limit=1"),
            Request("GET", f"{_boats('v1')}?fieldSelector=hostPort%3Done:8080"),
            Request("GET", f"{_boats('v1')}?fieldSelector=host%3Done"),
            Request("DELETE", f"{_boats('v2')}?fieldSelector=host%3Done,port%3D80"),
            Request("GET", _boats("v1")),
        ],
    ),
    "conversion-selected-by-label": (
        [],
        [
            make(_crd("convert-labels"), _CRDS),
            make(_boat("v1", "a", hostPort="h:1"), _boats("v1")),
            Request("GET", f"{_boats('v2')}?labelSelector=by%3Dwebhook"),
            Request("GET", f"{_boats('v1')}?labelSelector=by%3Dwebhook"),
            Request("GET", f"{_boats('v2')}?fieldSelector=metadata.name%3Da"),
        ],
    ),
    "hook-definitions": ([], _bad_hooks()),
    "conversion-definitions": ([], _bad_definitions()),
}


def _addressed(value: Any, server: WebhookServer) -> Any:
    """With the webhook server's address where the dialogue says "@path"."""
    if isinstance(value, dict):
        return {key: _addressed(item, server) for key, item in value.items()}
    if isinstance(value, list):
        return [_addressed(item, server) for item in value]
    if isinstance(value, str) and value.startswith("@"):
        return server.url(value[1:]) if value[1:] else server.ca_bundle
    return value


async def hold(name: str, server: WebhookServer, ask: Ask, settled: Callable[[], Awaitable[None]]) -> list[Object]:
    """Have one dialogue; what was answered and what the webhooks were asked, told alike on any server."""
    hooks, requests = DIALOGUES[name]
    made = []
    for index, hook in enumerate(hooks):
        plural = f"{hook.kind.lower()}webhookconfigurations"
        configuration = hook.configuration(index, server)
        client = configuration["webhooks"][0]["clientConfig"]
        if "PORT" in client.get("url", ""):
            client["url"] = client["url"].replace("PORT", str(server.port))
        status, body, _ = await ask("POST", _HOOKS + plural, configuration, "application/json")
        assert status == 201, (name, body)
        made.append(f"{_HOOKS}{plural}/dialogue-{index}")
    await settled()
    server.take()
    told = []
    try:
        for request in requests:
            given = _addressed(request.body, server)
            status, body, warnings = await ask(request.method, request.path, given, request.content_type)
            if request.path == _CRDS and status == 201:
                await served(ask)
            asked = [item for item in server.take() if item[1]["kind"] == "AdmissionReview"]
            if all(hook.kind == "Validating" for hook in hooks):
                asked.sort(key=lambda item: item[0])  # they are asked all at once
            seen = [{"at": path, **review} for path, review in asked]
            own = [text for text in warnings if "by this server" not in text]  # what is not acted upon here yet
            told.append(_plain({"status": status, "body": body, "warnings": own, "asked": seen}, server))
    finally:
        if any(request.path == _CRDS for request in requests):
            await withdrawn(ask)
        for path in made:
            await ask("DELETE", path, None, "application/json")
        await settled()
        for path in (_MAPS, f"{_CORE}/events"):
            await ask("DELETE", path, None, "application/json")
        for path in ("/api/v1/namespaces/marked", "/api/v1/namespaces/plain",
                     "/apis/scheduling.k8s.io/v1/priorityclasses/dialogue"):  # fmt: skip
            if name in ("namespaces-themselves", "scope"):
                await ask("DELETE", path, None, "application/json")
    return told


async def served(ask: Ask) -> None:
    """Wait until boats are served in both versions."""
    for version in ("v1", "v2"):
        while (await ask("GET", _boats(version), None, ""))[0] == 404:
            await asyncio.sleep(0.05)


async def withdrawn(ask: Ask) -> None:
    await ask("DELETE", f"{_CRDS}/boats.dialogue.example.com", None, "")
    while (await ask("GET", f"{_CRDS}/boats.dialogue.example.com", None, ""))[0] != 404:
        await asyncio.sleep(0.05)


_DROPPED = ("managedFields", "resourceVersion", "userInfo", "selfLink")
_NAMED_BY_CHANCE = re.compile(r"^g-[a-z0-9]{5}$")


def _plain(value: Any, server: WebhookServer) -> Any:
    """Without what differs from run to run."""
    if isinstance(value, dict):
        plain = {key: _plain(item, server) for key, item in value.items() if key not in _DROPPED}
        return {**plain, "continue": "TOKEN"} if plain.get("continue") else plain
    if isinstance(value, list):
        return [_plain(item, server) for item in value]
    if isinstance(value, str):
        value = value.replace(f":{server.port}", ":PORT").replace(server.ca_bundle, "CA")
        value = _NAMED_BY_CHANCE.sub("g-NAME", value)
        return _TIME.sub("TIME", _UUID.sub("UUID", value))
    return value
