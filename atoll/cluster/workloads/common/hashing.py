"""The short hash of a pod template: FNV-1a of its canonical JSON, in Kubernetes' safe alphabet.

Upstream hashes a dump of Go structs, so its letters differ; nothing compares them across implementations, since a
template is looked up by equality.
"""

from __future__ import annotations

import orjson

from atoll.objects.meta import Object

_SAFE = "bcdfghjklmnpqrstvwxz2456789"


def fnv1a(data: bytes) -> int:
    value = 0x811C9DC5
    for byte in data:
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value


def safe_encode(text: str) -> str:
    """apimachinery's rand.SafeEncodeString."""
    return "".join(_SAFE[ord(letter) % len(_SAFE)] for letter in text)


def template_hash(template: Object, collisions: int | None) -> str:
    """The value of the label pod-template-hash (or controller-revision-hash)."""
    data = orjson.dumps(template, option=orjson.OPT_SORT_KEYS)
    if collisions is not None:
        data += collisions.to_bytes(8, "little")
    return safe_encode(str(fnv1a(data)))
