# ruff: noqa: E501 (tables of odd values)
"""Whole requests: methods, paths, queries, headers and bodies, decided by a seed."""

from __future__ import annotations

import base64
import copy
import random
import urllib.parse
from dataclasses import dataclass
from typing import Any

from atoll.client.port import APPLY_PATCH, JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH
from atoll.cluster.apiserver.builtins import builtin_registry
from atoll.cluster.apiserver.served import Served
from atoll.testing.fuzz import bodies

JSON, YAML, PROTOBUF = "application/json", "application/yaml", "application/vnd.kubernetes.protobuf"
_NAMES = ("a", "b", "default", "kube-root-ca.crt", "A", "a%2fb", "..", ".", "x" * 260, "%00", "%ff", "a b", "-", "ü")
_SPACES = ("default", "default", "default", "kube-system", "none", "..", "%2e%2e", "", "A")
_ACCEPTS = (
    JSON, JSON, "*/*", "", PROTOBUF, "application/yaml", "text/html", "application/json;as=Table;v=v1;g=meta.k8s.io",
    "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1", "application/json;as=PartialObjectMetadataList;"
    "g=meta.k8s.io;v=v1", "a/b;q=x", ",,,", "application/json;as=Nothing", "application/cbor",
)  # fmt: skip
_PATCHES = (JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, APPLY_PATCH, "application/apply-patch+cbor", JSON, "")
_SELECTORS = (
    "a=b", "a in (b,c)", "a notin (", "!a", "a!=b,c", "=", "a==", "a>1", "a<x", "x" * 300, "a=b,", "metadata.name=a",
    "spec.nodeName=", "status.phase!=Running", "metadata.name=a,metadata.namespace=default", "a\\,b=c", "(", "%",
)  # fmt: skip
_VERSIONS = ("", "0", "1", "5", "100", "-1", "x", "18446744073709551616", "999999999999", "1.5", "00")
_MATCHES = ("", "Exact", "NotOlderThan", "exact", "x")
_VALUES = ("", "0", "1", "-1", "true", "false", "All", "Strict", "Ignore", "Warn", "x", "Foreground", "99999999999999")
_ROOTS = (
    "/", "/api", "/apis", "/apis/", "/version", "/openapi/v2", "/openapi/v3", "/openapi/v3/api/v1", "/healthz", "/livez",
    "/readyz", "/metrics", "/logs", "/debug/pprof/", "/api/v2", "/apis/apps", "/apis/apps/v9", "/api/v1/namespaces/a/b/c/d",
    "/.well-known/openid-configuration", "/openid/v1/jwks", "//", "/api//v1", "/api/v1/", "/%2e%2e/", "/apis/metrics.k8s.io",
    "/readyz/etcd", "/readyz?exclude=x&verbose", "/openapi/v3/apis/apps/v1?hash=x", "*", "/api/v1/watch/pods?timeoutSeconds=1",
    "/api/v1/proxy/nodes/a", "/validate-token", "/api/v1/namespaces/default/pods/a/log?tailLines=x",
)  # fmt: skip
_OPTIONS = (
    "dryRun", "fieldManager", "fieldValidation", "force", "gracePeriodSeconds", "propagationPolicy", "orphanDependents",
    "pretty", "limit", "continue", "labelSelector", "fieldSelector", "resourceVersion", "resourceVersionMatch",
    "sendInitialEvents", "allowWatchBookmarks", "timeoutSeconds", "timeout", "includeObject", "watch", "x", "shardSelector",
    "ignoreStoreReadErrorWithClusterBreakingPotential",
)  # fmt: skip
_WATCH_OPTIONS = (
    "resourceVersion", "resourceVersionMatch", "sendInitialEvents", "allowWatchBookmarks", "timeoutSeconds", "labelSelector",
    "fieldSelector", "limit", "continue", "includeObject", "pretty", "timeout",
)  # fmt: skip
_UPGRADES = (
    [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Key", "eA==")],
    [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Protocol", "x"),
     ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")],
    [("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1")],
    [("Connection", "Upgrade"), ("Upgrade", "h2c")],
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Request:
    """One request; `index` and the run's seed make it again."""

    index: int
    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    stays: bool = False  # a watch: its answer goes on until somebody ends it

    def head(self, token: str) -> bytes:
        lines = [f"{self.method} {self.target} HTTP/1.1", "Host: fuzz", f"Authorization: Bearer {token}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        lines.append(f"Content-Length: {len(self.body)}")
        return "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n"

    def __str__(self) -> str:
        return f"{self.index}: {self.method} {self.target[:200]} {dict(self.headers)} {self.body[:300]!r}"


class Maker:
    """Requests by number. `tokens`: continue tokens that the server gave, to be bent."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._served = [served for served in builtin_registry() if served.resource.plural]
        self._pool: dict[tuple[str, str, str, int], Any] = {}
        self.tokens: list[str] = []

    def make(self, index: int) -> Request:
        """The request of that number: the same for the same seed, but for continue tokens."""
        chance = random.Random(f"{self._seed}/{index}")
        if chance.random() < 0.03:
            return self._elsewhere(index, chance)
        served = chance.choice(self._served)
        if chance.random() < 0.02:
            return self._watch(index, served, chance)
        method = chance.choice(("POST", "POST", "POST", "PUT", "PATCH", "PATCH", "GET", "GET", "DELETE"))
        content_type, body = self._body(served, method, chance)
        headers = []
        if content_type:
            headers.append(("Content-Type", content_type))
        if chance.random() < 0.5:
            headers.append(("Accept", chance.choice(_ACCEPTS)))
        if chance.random() < 0.05:
            headers.append(self._odd_header(chance))
        target = self._target(served, method, chance)
        return Request(index, method, target, tuple(headers), body)

    def _elsewhere(self, index: int, chance: random.Random) -> Request:
        target = chance.choice(_ROOTS)
        if chance.random() < 0.3:
            target += chance.choice(("/", "//", "?", "%", "%zz", "/..", "/%2e", ";x", "#x", "?a=%ff", "?&&=&"))
        method = chance.choice(("GET", "GET", "GET", "POST", "HEAD", "OPTIONS", "PUT", "TRACE", "get", "DELETE"))
        return Request(index, method, target, (("Accept", chance.choice(_ACCEPTS)),), b"")

    def _watch(self, index: int, served: Served, chance: random.Random) -> Request:
        resource = served.resource
        path = resource.path((chance.choice(_SPACES) or None) if resource.namespaced else None)
        if chance.random() < 0.2:
            path += "/" + chance.choice(_NAMES)
        if chance.random() < 0.2:
            path = path.replace("/v1/", "/v1/watch/", 1)
        options = {"watch": chance.choice(("1", "true", "1", "true", "x", ""))}
        for name in chance.sample(_WATCH_OPTIONS, chance.choice((0, 1, 2, 3, 5))):
            options[name] = self._option(name, chance)
        headers = [("Accept", chance.choice((*_ACCEPTS, "application/json;stream=watch", f"{PROTOBUF};stream=watch")))]
        if chance.random() < 0.1:
            headers += chance.choice(_UPGRADES)
        target = path + "?" + urllib.parse.urlencode(options, safe="=,()!%")
        return Request(index, "GET", target, tuple(headers), b"", stays=True)

    def _odd_header(self, chance: random.Random) -> tuple[str, str]:
        return chance.choice(
            (
                ("Accept-Encoding", chance.choice(("gzip", "br;q=1", "gzip;q=0", "*"))),
                ("If-None-Match", '"x"'),
                ("Impersonate-User", chance.choice(("a", "system:serviceaccount:x:y", ""))),
                ("Impersonate-Extra-a%ff", "b"),
                ("Content-Encoding", "gzip"),
                ("X-Remote-User", "admin"),
                ("Audit-Id", "x" * 100),
                ("Connection", "keep-alive, x"),
                ("Traceparent", "00-zz"),
                ("Range", "bytes=0-1"),
            )
        )

    def _target(self, served: Served, method: str, chance: random.Random) -> str:
        resource = served.resource
        namespace = chance.choice(_SPACES) if resource.namespaced and chance.random() < 0.95 else None
        path = resource.path(namespace or None)
        if method != "POST" and chance.random() < 0.85:
            path += "/" + chance.choice(_NAMES[:2] if chance.random() < 0.7 else _NAMES)
        if chance.random() < 0.15:
            known = [item.name for item in served.entry.subresources]
            path += "/" + chance.choice([*known, "status", "scale", "x"])
        options = {}
        for _ in range(chance.choice((0, 0, 1, 1, 2, 4))):
            name = chance.choice(_OPTIONS)
            options[name] = self._option(name, chance)
        if options.get("watch") not in (None, "0", "false"):
            options.pop("watch")  # it would not end: `run` watches on connections of their own
        if path.endswith(("/exec", "/attach", "/portforward", "/proxy", "/log")):
            options.pop("follow", None)
        return path + ("?" + urllib.parse.urlencode(options, safe="=,()!%") if options else "")

    def _option(self, name: str, chance: random.Random) -> str:
        if name in ("labelSelector", "fieldSelector"):
            return chance.choice(_SELECTORS)
        if name == "resourceVersion":
            return chance.choice(_VERSIONS)
        if name == "resourceVersionMatch":
            return chance.choice(_MATCHES)
        if name == "continue":
            return self._token(chance)
        return chance.choice(_VALUES)

    def _token(self, chance: random.Random) -> str:
        if self.tokens and chance.random() < 0.7:
            token = chance.choice(self.tokens)
            raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
            bent = bodies.bend(raw, chance) if chance.random() < 0.7 else raw
            return base64.urlsafe_b64encode(bent).decode().rstrip("=")
        return chance.choice(
            ("x", "=", "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6LTEsInN0YXJ0IjoiLi4ifQ", "e30", "bnVsbA", "W10")
        )

    def _object(self, served: Served, chance: random.Random) -> Any:
        """One of six of each kind, made when first asked for, spoiled."""
        resource = served.resource
        which = (resource.group, resource.version, resource.plural, chance.randrange(6))
        made = self._pool.get(which)
        if made is None:
            made = bodies.make(served.schema, random.Random(f"{self._seed}/{which}"))
            if not isinstance(made, dict):
                made = {}
            made["apiVersion"], made["kind"] = resource.api_version, resource.kind
            self._pool[which] = made
        obj = copy.deepcopy(made)
        metadata: dict[str, Any] = {"name": chance.choice(("a", "b", "c"))}
        if chance.random() < 0.2:
            metadata |= {"labels": {"a": "b"}, "annotations": {"c": "d"}, "finalizers": ["x/y"]}
        obj["metadata"] = metadata
        if chance.random() < 0.7:
            bodies.spoil(obj, chance, chance.randint(1, 3))
        return obj

    def _body(self, served: Served, method: str, chance: random.Random) -> tuple[str, bytes]:
        if method == "GET":
            return "", b""
        if method == "DELETE":
            if chance.random() < 0.5:
                return "", b""
            options = {"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0, "propagationPolicy": "Orphan",
                       "preconditions": {"uid": "x", "resourceVersion": "1"}}  # fmt: skip
            return JSON, bodies.to_json(bodies.spoil(options, chance, chance.randint(0, 2)))
        obj = self._object(served, chance)
        if method == "PATCH":
            return self._patch(obj, chance)
        encoding = chance.choice((JSON, JSON, YAML, PROTOBUF))
        if encoding == PROTOBUF:
            resource = served.resource
            data = bodies.to_protobuf(resource.api_version, resource.kind, obj)
        elif encoding == YAML:
            data = bodies.to_yaml(obj, chance)
        else:
            data = bodies.to_json(obj)
        if chance.random() < 0.15:
            data = bodies.bend(data, chance)
        return encoding, data

    def _patch(self, obj: Any, chance: random.Random) -> tuple[str, bytes]:
        kind = chance.choice(_PATCHES)
        if kind == APPLY_PATCH:
            return kind, bodies.to_yaml(obj, chance) if chance.random() < 0.3 else bodies.to_json(obj)
        if kind != JSON_PATCH:
            return kind, bodies.to_json(obj)
        steps: list[Any] = []
        for _ in range(chance.randint(0, 3)):
            operation = chance.choice(("add", "remove", "replace", "move", "copy", "test", "x", None))
            path = chance.choice(
                ("/metadata/labels/a", "/spec", "/spec/x/0", "/metadata", "", "/", "x", "/data/-", "/~2", None)
            )
            steps.append({"op": operation, "path": path, "from": "/metadata", "value": bodies.odd(chance)})
        return kind, bodies.to_json(steps if chance.random() < 0.95 else bodies.odd(chance))
