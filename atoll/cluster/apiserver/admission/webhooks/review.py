"""AdmissionReview v1 and v1beta1: what is asked, and what an answer must be. Pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any

import orjson
from msgspec import Struct

from atoll.cluster.apiserver.admission.matching import namespace_of
from atoll.cluster.apiserver.admission.webhooks.failures import Denied
from atoll.cluster.apiserver.ports import AdmissionRequest, Object, user_info
from atoll.kinds.resource import Resource

_GROUP = "admission.k8s.io"
KNOWN = ("v1", "v1beta1")
_OPTIONS = {"CREATE": "CreateOptions", "UPDATE": "UpdateOptions", "DELETE": "DeleteOptions"}
Kind = tuple[str, str, str]


class BadAnswer(Exception):
    """The answer is not a valid AdmissionReview; the text is upstream's."""


class UnreadableAnswer(BadAnswer):
    """It can't even be decoded: to upstream the call has failed."""


class Verdict(Struct, frozen=True):
    """A valid answer. `patch`: the JSON patch as it came, decoded from base64."""

    allowed: bool
    result: Object | None = None
    patch: bytes = b""
    warnings: Sequence[str] = ()
    annotations: dict[str, str] = {}


def version_of(review_versions: Sequence[str]) -> str | None:
    """The first version that both sides know."""
    return next((version for version in review_versions if version in KNOWN), None)


def question(
    request: AdmissionRequest,
    version: str,
    uid: str,
    *,
    asked: tuple[Kind, Resource],
    shown: tuple[Kind, Resource],
    obj: Object | None,
    old: Object | None,
) -> bytes:
    """The AdmissionReview to send. `asked`: (kind, resource) of the request, `shown`: as the webhook wants it."""
    body: Object = {"uid": uid, "kind": _kind(shown[0]), "resource": _resource(shown[1])}
    if request.subresource:
        body["subResource"] = request.subresource
    body |= {"requestKind": _kind(asked[0]), "requestResource": _resource(asked[1])}
    if request.subresource:
        body["requestSubResource"] = request.subresource
    namespace = namespace_of(request)
    if request.name:
        body["name"] = request.name
    if namespace:
        body["namespace"] = namespace
    body |= {
        "operation": request.operation,
        "userInfo": user_info(request.user),
        "object": obj,
        "oldObject": old,
        "dryRun": request.dry_run,
        "options": options_of(request),
    }
    return orjson.dumps({"kind": "AdmissionReview", "apiVersion": f"{_GROUP}/{version}", "request": body})


def options_of(request: AdmissionRequest) -> Object | None:
    """The operation's options (metav1 CreateOptions …); None for CONNECT."""
    kind = _OPTIONS.get(request.operation)
    return None if kind is None else {"kind": kind, "apiVersion": "meta.k8s.io/v1", **request.options}


def _kind(kind: Kind) -> Object:
    return {"group": kind[0], "version": kind[1], "kind": kind[2]}


def _resource(resource: Resource) -> Object:
    return {"group": resource.group, "version": resource.version, "resource": resource.plural}


def answer(body: bytes, version: str, uid: str, *, mutating: bool) -> Verdict:
    """Raises BadAnswer."""
    review = _parsed(body)
    _check_kind(review, version)
    response = review.get("response")
    if not isinstance(response, dict):
        raise BadAnswer("webhook response was absent")
    if version == "v1":
        _check_v1(review, response, uid)
    patch = _patch(response, version, mutating)
    annotations = response.get("auditAnnotations") or {}
    return Verdict(
        bool(response.get("allowed")),
        response.get("status"),
        patch,
        tuple(str(text) for text in response.get("warnings") or ()),
        {str(key): str(value) for key, value in annotations.items()},
    )


_GO_KIND = 'struct { APIVersion string "json:\\"apiVersion,omitempty\\""; Kind string "json:\\"kind,omitempty\\"" }'


def _parsed(body: bytes) -> Object:
    """What is no JSON is to upstream YAML, and mostly a string then."""
    try:
        review = orjson.loads(body)
    except orjson.JSONDecodeError:
        review = ""
    if isinstance(review, dict):
        return review
    kind = {str: "string", list: "array", bool: "bool"}.get(type(review), "number")
    why = f"json: cannot unmarshal {kind} into Go value of type {_GO_KIND}"
    raise UnreadableAnswer(f"couldn't get version/kind; json parse error: {why}")


def _check_kind(review: Object, version: str) -> None:
    """An answer of the other version can't be read as this one."""
    given = str(review.get("apiVersion") or "")
    group, _, other = given.rpartition("/")
    if group == _GROUP and other in KNOWN and other != version and review.get("kind") == "AdmissionReview":
        raise UnreadableAnswer(
            f"converting ({other}.AdmissionReview) to ({version}.AdmissionReview): unknown conversion"
        )


def _check_v1(review: Object, response: Object, uid: str) -> None:
    if response.get("uid", "") != uid:
        raise BadAnswer(f'expected response.uid="{uid}", got "{response.get("uid", "")}"')
    kind, version = str(review.get("kind") or ""), str(review.get("apiVersion") or "")
    if (version, kind) != (f"{_GROUP}/v1", "AdmissionReview"):
        shown = version if "/" in version else f"/{version}"
        raise BadAnswer(f"expected webhook response of {_GROUP}/v1, Kind=AdmissionReview, got {shown}, Kind={kind}")


def _patch(response: Object, version: str, mutating: bool) -> bytes:
    """v1beta1 was never strict about the type, and takes no patch from a validating webhook."""
    given, kind = response.get("patch"), response.get("patchType")
    try:
        patch = base64.b64decode(given or "", validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise UnreadableAnswer("illegal base64 data at input byte 0") from None
    if version != "v1":
        return patch if mutating else b""
    if not mutating:
        if patch:
            raise BadAnswer("validating webhook may not return response.patch")
        if kind is not None:
            raise BadAnswer("validating webhook may not return response.patchType")
        return b""
    if patch and kind is None:
        raise BadAnswer("webhook returned response.patch but not response.patchType")
    if not patch and kind is not None:
        raise BadAnswer("webhook returned response.patchType but not response.patch")
    if kind == "":
        raise BadAnswer('webhook returned invalid response.patchType of ""')
    if kind not in (None, "JSONPatch"):
        raise BadAnswer(f'unsupported patch type "{kind}"')
    return patch


def denial(name: str, result: Object | None) -> Denied:
    """The webhook's no, as a Status of failure with its own code and reason."""
    status: dict[str, Any] = dict(result or {})
    code = status.get("code") or 0
    message, reason = str(status.get("message") or ""), str(status.get("reason") or "")
    text = f'admission webhook "{name}" denied the request'
    text += f": {message or reason}" if message or reason else " without explanation"
    details = status.get("details")
    return Denied(text, code=code if code >= 400 else 400, reason=reason, details=details)
