"""Conversion of custom resources by webhook (spec.conversion.strategy Webhook; ConversionReview v1 and v1beta1).

What a record is in another version is asked once: records never change, and a converter lives no longer than the CRD
as it is. (kube-apiserver likewise converts once, into the watch cache of each version.) A webhook may change all but
the identity of an object: of its metadata only labels and annotations are taken.
"""

from __future__ import annotations

import ssl
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from atoll.base.chance import Chance
from atoll.base.errors import Unreachable
from atoll.cluster.apiserver.admission.webhooks.failures import refused
from atoll.cluster.apiserver.admission.webhooks.model import target_of
from atoll.cluster.apiserver.metadata import annotation_causes, validate_labels
from atoll.cluster.apiserver.ports import HookCaller, Object
from atoll.cluster.apiserver.problems import plain_fault
from atoll.cluster.store.port import Record

_GROUP = "apiextensions.k8s.io"
_KNOWN = ("v1", "v1beta1")
_TIMEOUT_SECONDS = 30.0
_MOST_KEPT = 10_000
_MAPS = (("labels", "labels"), ("annotations", "annotation"))
Finish = Callable[[Object], Object]
"""A converted object as its version's schema has it: pruned, defaulted."""


class Converter:
    """Of one CRD. `finish`: by API version."""

    def __init__(
        self, conversion: Object, kind: str, finish: dict[str, Finish], caller: HookCaller, chance: Chance
    ) -> None:
        webhook = conversion.get("webhook") or {}
        self._target = target_of(webhook.get("clientConfig") or {})
        self._review_versions: Sequence[str] = webhook.get("conversionReviewVersions") or ()
        self._kind = kind
        self._finish = finish
        self._caller = caller
        self._chance = chance
        self._known: OrderedDict[tuple[bytes, str], Object] = OrderedDict()

    async def prepare(self, records: Sequence[Record], api_version: str) -> None:
        """From now until the next await `shown` knows these. Raises ApiError (500) in upstream's words."""
        wanted = [record for record in records if record.object.get("apiVersion") != api_version]
        if not wanted:
            return
        found: dict[bytes, Object] = {}
        missing: dict[bytes, Object] = {}
        for record in wanted:
            known = self._known.get((record.data, api_version))
            if known is None:
                missing[record.data] = record.object
            else:
                found[record.data] = known
        if missing:
            converted = await self._convert(list(missing.values()), api_version)
            found |= dict(zip(missing, converted, strict=True))
        for data, obj in found.items():
            self._known[data, api_version] = obj
            self._known.move_to_end((data, api_version))
        while len(self._known) > max(_MOST_KEPT, len(found)):
            self._known.popitem(last=False)

    def shown(self, record: Record, api_version: str) -> Object:
        """A record that has been prepared; shared."""
        obj = record.object
        return obj if obj.get("apiVersion") == api_version else self._known[record.data, api_version]

    async def converted(self, obj: Object, api_version: str) -> Object:
        """Another version of an object that is not stored (yet). Raises ApiError."""
        if obj.get("apiVersion") == api_version:
            return obj
        return (await self._convert([obj], api_version))[0]

    async def _convert(self, objects: list[Object], api_version: str) -> list[Object]:
        group, _, version = str(objects[0].get("apiVersion")).rpartition("/")
        head = f"conversion webhook for {group}/{version}, Kind={self._kind}"
        review = next((item for item in self._review_versions if item in _KNOWN), None)
        if review is None:
            raise plain_fault("no supported conversion review versions")
        uid = self._chance.uuid()
        try:
            answered = _answered(await self._ask(_question(objects, api_version, review, uid)), review, uid)
        except _Failed as error:
            raise plain_fault(f"{head} failed: {error}") from None
        if len(answered) != len(objects):
            raise plain_fault(f"{head} returned {len(answered)} objects, expected {len(objects)}")
        out = []
        for original, given in zip(objects, answered, strict=True):
            _check_version(head, original, given, api_version)
            taken = _with_own_metadata(head, original, given)
            out.append(self._finish[api_version](taken) if api_version in self._finish else taken)
        return out

    async def _ask(self, body: bytes) -> bytes:
        try:
            status, content_type, answer = await self._caller.post(self._target, body, _TIMEOUT_SECONDS)
        except Unreachable as error:
            raise _Failed(f'Post "{_shown_url(self._target.url)}": {error.message}') from None
        if not 200 <= status <= 206:
            raise _Failed(refused(status, content_type, answer))
        return answer


def has_usable_bundle(conversion: Object) -> bool:
    """Whether a webhook's caBundle, if it has one, is a bundle of certificates."""
    client = (conversion.get("webhook") or {}).get("clientConfig") or {}
    ca_pem = target_of(client).ca_pem.strip() if client.get("caBundle") else b""
    if not ca_pem:
        return True
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=ca_pem.decode("ascii"))
    except (ssl.SSLError, UnicodeDecodeError):
        return False
    return True


class _Failed(Exception):
    """The text is upstream's."""


def _shown_url(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return url if "/" in rest else f"{scheme}://{rest}/"


def _question(objects: list[Object], api_version: str, review: str, uid: str) -> bytes:
    request = {"uid": uid, "desiredAPIVersion": api_version, "objects": objects}
    empty: Object = {"uid": "", "convertedObjects": None, "result": {"metadata": {}}}
    return orjson.dumps(
        {"kind": "ConversionReview", "apiVersion": f"{_GROUP}/{review}", "request": request, "response": empty}
    )


def _answered(body: bytes, review: str, uid: str) -> list[Any]:
    """Raises _Failed."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _Failed(f"couldn't get version/kind; json parse error: {error}") from None
    if not isinstance(answer, dict):
        raise _Failed("couldn't get version/kind; json parse error: not an object")
    version, kind = str(answer.get("apiVersion") or ""), str(answer.get("kind") or "")
    if review == "v1" and (version, kind) != (f"{_GROUP}/v1", "ConversionReview"):
        shown = version if "/" in version else f"/{version}"
        raise _Failed(f"expected webhook response of {_GROUP}/v1, Kind=ConversionReview, got {shown}, Kind={kind}")
    response = answer.get("response")
    if not isinstance(response, dict):
        raise _Failed("no response provided")
    if review == "v1" and response.get("uid", "") != uid:
        raise _Failed(f'expected response.uid="{uid}", got "{response.get("uid", "")}"')
    result = response.get("result") or {}
    if result.get("status") != "Success":
        if result.get("message"):
            raise _Failed(str(result["message"]))
        raise _Failed(f"response.result.status was '{result.get('status') or ''}', not 'Success'")
    return response.get("convertedObjects") or []


def _check_version(head: str, original: Object, given: Any, api_version: str) -> None:
    """Raises ApiError."""
    if not isinstance(given, dict):
        raise plain_fault(f"{head} returned invalid object at index 0: not an object")
    if given.get("apiVersion") != api_version:
        got = given.get("apiVersion") or ""
        why = f"invalid groupVersion (expected {api_version}, received {got})"
        raise plain_fault(f"{head} returned invalid object at index 0: {why}")
    if given.get("kind") != original.get("kind"):
        why = f"invalid kind (expected {original.get('kind')}, received {given.get('kind') or ''})"
        raise plain_fault(f"{head} returned invalid object at index 0: {why}")


def _with_own_metadata(head: str, original: Object, given: Object) -> Object:
    """Raises ApiError where the identity was changed."""
    metadata = given.get("metadata")
    before: Object = original.get("metadata") or {}
    shown = metadata if isinstance(metadata, dict) else {}
    for field, title in (("name", "name"), ("namespace", "namespace"), ("uid", "UID")):
        old, new = before.get(field) or "", shown.get(field) or ""
        if old != new:
            raise plain_fault(f"{head} returned invalid object: must have the same {title}: {old} != {new}")
    if "metadata" not in given:
        raise plain_fault(f"{head} returned invalid metadata: missing metadata in converted object")
    kept = dict(before)
    for field, path in _MAPS:
        value = shown.get(field)
        if value is None:
            kept.pop(field, None)
            continue
        _check_map(head, field, path, value, before.get(field) or {})
        kept[field] = value
    return {**given, "metadata": kept}


def _check_map(head: str, field: str, path: str, value: Any, before: Object) -> None:
    fault = f"{head} returned invalid metadata: "
    if not isinstance(value, dict):
        raise plain_fault(f"{fault}invalid metadata.{field} of type {_go_type(value)} in converted object")
    for key, item in value.items():
        if not isinstance(item, str):
            text = f"metadata.{field}[{key}] must be a string, but is {_go_type(item)} in converted object"
            raise plain_fault(fault + text)
    if value == before:
        return
    check = validate_labels if field == "labels" else annotation_causes
    causes = check(value, f"metadata.{path}")
    if causes:
        texts = list(dict.fromkeys(f"{cause.field}: {cause.message}" for cause in causes))
        raise plain_fault(fault + (texts[0] if len(texts) == 1 else "[" + ", ".join(texts) + "]"))


def _go_type(value: Any) -> str:
    if value is None:
        return "<nil>"
    names = {bool: "bool", int: "int64", float: "float64", str: "string", list: "[]interface {}"}
    return names.get(type(value), "map[string]interface {}")
