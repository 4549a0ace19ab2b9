"""A binding that is taken as it was sent is one that decoding leaves as it is."""

from __future__ import annotations

import itertools
from typing import Any

from atoll.base.errors import BadRequest
from atoll.cluster.apiserver.ports import SYSTEM_ADMIN
from atoll.cluster.apiserver.request import Context
from atoll.cluster.apiserver.verbs.subresources import _BINDING, decoded, is_plain
from atoll.objects.meta import copy

_METADATA: list[Any] = [{"name": "a"}, {"name": "a", "namespace": "d", "uid": "u"}, {"name": ""}, {"name": 1}, {}, None]
_METADATA += [{"name": "a", "labels": {"x": "y"}}, {"name": "a", "nothing": "b"}]
_TARGETS: list[Any] = [{"kind": "Node", "name": "n"}, {"name": "n"}, {"kind": "", "name": "n"}, {"name": None}, "n", {}]
_TARGETS += [{"name": "n", "uid": "u"}]
_HEADS: list[Any] = [
    {"apiVersion": "v1", "kind": "Binding"},
    {"apiVersion": "v2", "kind": "Binding"},
    {"kind": "Binding"},
]


def test_plain_bindings() -> None:
    plain = 0
    for head, metadata, target in itertools.product(_HEADS, _METADATA, _TARGETS):
        sent = {**head, "metadata": metadata, "target": target}
        try:
            whole = decoded(Context(SYSTEM_ADMIN, "test"), _BINDING, copy(sent), ())
        except BadRequest:
            whole = None
        if is_plain(sent):
            plain += 1
            assert whole == sent
    assert plain == 9  # of three objects' names and three targets
