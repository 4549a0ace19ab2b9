"""What an HTTP request asks for, as authorizers, priority and fairness and audit look at it."""

from __future__ import annotations

from atoll.cluster.apiserver.paths import Path
from atoll.cluster.apiserver.ports import Attributes, User
from atoll.cluster.apiserver.request import flag, parse_query
from atoll.objects.selectors import SelectorError, parse_fields
from atoll.wire.messages import HttpRequest

_VERBS = {"GET": "get", "HEAD": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


def attributes_of(request: HttpRequest, path: Path | None, user: User) -> Attributes:
    if path is None:
        return Attributes(user, request.method.lower(), path=request.path)
    verb = _VERBS.get(request.method, request.method.lower())
    name = path.name
    field_selector = label_selector = ""
    if path.watch:
        verb = "watch"
    elif not name and verb in ("get", "delete"):
        query = parse_query(request.query)
        if verb == "delete":
            verb = "deletecollection"
        else:
            verb = "watch" if flag(query, "watch") else "list"
        field_selector = (query.get("fieldSelector") or [""])[0]
        label_selector = (query.get("labelSelector") or [""])[0]
        name = _named_by(field_selector)
    return Attributes(
        user, verb, path.group, path.version, path.plural, path.subresource, path.namespace, name,
        request.path, field_selector, label_selector,
    )  # fmt: skip


def _named_by(field_selector: str) -> str:
    """The one name that a field selector asks for; "" if none."""
    if "metadata.name" not in field_selector:
        return ""
    try:
        return parse_fields(field_selector).exact("metadata.name") or ""
    except SelectorError:
        return ""
