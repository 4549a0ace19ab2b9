"""A real webhook server: aiohttp over TLS, whose answer is chosen by the path it is called at. It remembers what it
was asked."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from atoll.base.clock import SystemClock
from atoll.wire.ca import CertificateAuthority, Certified

Object = dict[str, Any]


def _ok(review: Object, **more: Any) -> Object:
    response = {"uid": review["request"]["uid"], "allowed": True, **more}
    return {"apiVersion": review["apiVersion"], "kind": "AdmissionReview", "response": response}


def _deny(review: Object, **status: Any) -> Object:
    return _ok(review, allowed=False, **({"status": status} if status else {}))


def _patched(review: Object, *operations: Object) -> Object:
    patch = base64.b64encode(json.dumps(operations).encode()).decode()
    return _ok(review, patchType="JSONPatch", patch=patch)


def _label(review: Object, name: str, value: str) -> Object:
    metadata = review["request"]["object"]["metadata"]
    if not metadata.get("labels"):
        return _patched(review, {"op": "add", "path": "/metadata/labels", "value": {name: value}})
    return _patched(review, {"op": "add", "path": f"/metadata/labels/{name}", "value": value})


def _count(review: Object) -> Object:
    labels = review["request"]["object"]["metadata"].get("labels") or {}
    return _label(review, "seen", str(int(labels.get("seen", "0")) + 1))


def _sidecar(review: Object) -> Object:
    added = {"name": "sidecar", "image": "side:1", "ports": [{"containerPort": 9}]}
    containers = review["request"]["object"]["spec"]["containers"]
    if any(item["name"] == "sidecar" for item in containers):
        return _ok(review)
    return _patched(review, {"op": "add", "path": "/spec/containers/-", "value": added})


def _converted(review: Object, change: Callable[[Object], Any] | None = None, **more: Any) -> Object:
    """As e2e's converter: v1 has hostPort, v2 has host and port."""
    request = review["request"]
    wanted = request["desiredAPIVersion"]
    out = []
    for obj in request["objects"]:
        obj = {**obj, "apiVersion": wanted}
        if wanted.endswith("/v2") and "hostPort" in obj:
            host, _, port = obj.pop("hostPort").partition(":")
            obj |= {"host": host, "port": port}
        elif wanted.endswith("/v1") and "host" in obj:
            obj["hostPort"] = f"{obj.pop('host')}:{obj.pop('port', '')}"
        out.append(obj if change is None else change(obj))
    response = {"uid": request["uid"], "result": {"status": "Success"}, "convertedObjects": out, **more}
    return {"apiVersion": review["apiVersion"], "kind": "ConversionReview", "response": response}


def _metadata(obj: Object, **changes: Any) -> Object:
    metadata = {key: value for key, value in {**obj["metadata"], **changes}.items() if value is not None}
    return {**obj, "metadata": metadata}


CONVERSIONS: dict[str, Callable[[Object], Any]] = {
    "convert": _converted,
    "convert-fails": lambda review: _converted(review, result={"status": "Failure", "message": "can't do that"}),
    "convert-silent": lambda review: _converted(review, result={}),
    "convert-none": lambda review: _converted(review, convertedObjects=[]),
    "convert-renames": lambda review: _converted(review, lambda obj: _metadata(obj, name="other")),
    "convert-moves": lambda review: _converted(review, lambda obj: _metadata(obj, namespace="other")),
    "convert-uid": lambda review: _converted(review, lambda obj: _metadata(obj, uid="other")),
    "convert-kind": lambda review: _converted(review, lambda obj: {**obj, "kind": "Other"}),
    "convert-version": lambda review: _converted(review, lambda obj: {**obj, "apiVersion": "a/v1"}),
    "convert-no-metadata": lambda review: _converted(review, lambda obj: {**obj, "metadata": None}),
    "convert-labels": lambda review: _converted(
        review, lambda obj: _metadata(obj, labels={"by": "webhook"}, annotations={"a": "b"}, finalizers=["x/y"])
    ),
    "convert-bad-labels": lambda review: _converted(review, lambda obj: _metadata(obj, labels={"-bad-": "no!"})),
    "convert-odd-labels": lambda review: _converted(review, lambda obj: _metadata(obj, labels={"a": 1})),
    "convert-extra": lambda review: _converted(review, lambda obj: {**obj, "unknown": "field", "size": 3}),
    "convert-wrong-uid": lambda review: _converted(review, uid="another"),
    "convert-boom": lambda review: (500, "text/plain", "it went boom"),
}
ANSWERS: dict[str, Callable[[Object], Any]] = {
    "allow": _ok,
    "slow": _ok,
    "deny": lambda review: _deny(review),
    "deny-message": lambda review: _deny(review, message="not on my watch"),
    "deny-code": lambda review: _deny(review, message="no teapots", code=418, reason="Teapot"),
    "deny-reason": lambda review: _deny(review, reason="Forbidden", code=403, details={"name": "x", "kind": "y"}),
    "deny-low-code": lambda review: _deny(review, message="ok?", code=200, status="Success"),
    "warn": lambda review: _ok(review, warnings=["careful", 'with "quotes"', "careful"]),
    "audit": lambda review: _ok(review, auditAnnotations={"why": "because"}),
    "label": lambda review: _label(review, "mutated", "yes"),
    "second": lambda review: _label(review, "second", "yes"),
    "count": _count,
    "sidecar": _sidecar,
    "uid": lambda review: _patched(
        review,
        {"op": "add", "path": "/metadata/uid", "value": "00000000-0000-0000-0000-00000000aaaa"},
        {"op": "add", "path": "/metadata/creationTimestamp", "value": "2001-01-01T00:00:00Z"},
    ),
    "data": lambda review: _patched(
        review, {"op": "add", "path": "/data", "value": {**(review["request"]["object"].get("data") or {}), "m": "1"}}
    ),
    "unknown-field": lambda review: _patched(review, {"op": "add", "path": "/nonsense", "value": 1}),
    "bad-type": lambda review: _patched(review, {"op": "add", "path": "/data", "value": "text"}),
    "bad-path": lambda review: _patched(review, {"op": "remove", "path": "/spec/nothing/here"}),
    "bad-test": lambda review: _patched(review, {"op": "test", "path": "/metadata/name", "value": "other"}),
    "not-a-patch": lambda review: _ok(review, patchType="JSONPatch", patch=base64.b64encode(b'{"op":"add"}').decode()),
    "patch-no-type": lambda review: _ok(review, patch=base64.b64encode(b"[]").decode()),
    "type-no-patch": lambda review: _ok(review, patchType="JSONPatch"),
    "replicas": lambda review: _patched(review, {"op": "replace", "path": "/spec/replicas", "value": 3}),
    "wrong-uid": lambda review: _ok(review, uid="another"),
    "no-kind": lambda review: {"response": _ok(review)["response"]},
    "other-version": lambda review: {**_ok(review), "apiVersion": "admission.k8s.io/v1beta1"},
    "no-response": lambda review: {"apiVersion": review["apiVersion"], "kind": "AdmissionReview"},
    "beta-lax": lambda review: {"response": {"allowed": True}},
    "text": lambda review: "nonsense",
    "boom": lambda review: (500, "text/plain", "it went boom"),
    "missing": lambda review: (404, "text/plain", "404 page not found"),
    "busy": lambda review: (503, "text/plain", "later"),
    "status": lambda review: (
        500,
        "application/json",
        json.dumps({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "a status", "code": 500}),
    ),
}


class WebhookServer:
    """`asked`: (path, review) in the order they came."""

    def __init__(self, certified: Certified, ca_pem: bytes) -> None:
        self.ca_pem = ca_pem
        self.asked: list[tuple[str, Object]] = []
        self.port = 0
        self._certified = certified

    @property
    def ca_bundle(self) -> str:
        return base64.b64encode(self.ca_pem).decode()

    def url(self, path: str) -> str:
        return f"https://127.0.0.1:{self.port}/{path}"

    def take(self) -> list[tuple[str, Object]]:
        asked, self.asked = self.asked, []
        return asked

    async def _handle(self, request: web.Request) -> web.Response:
        path, body = request.path.strip("/"), await request.read()
        review = json.loads(body)
        self.asked.append((path, {**review, "query": request.query_string}))
        if path == "slow":
            await asyncio.sleep(30)
        answer = (CONVERSIONS if path.startswith("convert") else ANSWERS)[path](review)
        if isinstance(answer, tuple):
            status, kind, text = answer
            return web.Response(status=status, content_type=kind, text=text)
        if isinstance(answer, str):
            return web.Response(text=answer, content_type="application/json")
        return web.json_response(answer)

    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.NamedTemporaryFile(suffix=".pem") as file:
            Path(file.name).write_bytes(self._certified.certificate_pem + self._certified.key_pem)
            context.load_cert_chain(file.name)
        return context


@asynccontextmanager
async def webhook_server() -> AsyncIterator[WebhookServer]:
    """On a free port of 127.0.0.1, with a certificate for it and for Services in the namespace "hooks"."""
    authority = CertificateAuthority.create("webhooks", SystemClock())
    certified = authority.server("webhook-server", names=["localhost", "hook.hooks.svc"], addresses=["127.0.0.1"])
    server = WebhookServer(certified, authority.certificate_pem)
    app = web.Application()
    app.router.add_post("/{path:.*}", server._handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server.context())
    await site.start()
    server.port = runner.addresses[0][1]
    try:
        yield server
    finally:
        await runner.cleanup()
