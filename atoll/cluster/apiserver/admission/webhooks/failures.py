"""What goes wrong between the API server and a webhook, in upstream's words (apiserver pkg/util/webhook, client-go)."""

from __future__ import annotations

from typing import Any

import orjson

from atoll.base.errors import ApiError, ServerError
from atoll.cluster.apiserver import gojson

_TEXTS = {
    400: "the server rejected our request for an unknown reason",
    401: "the server has asked for the client to provide credentials",
    404: "the server could not find the requested resource",
    405: "the server does not allow this method on the requested resource",
    409: "the server reported a conflict",
    422: "the server rejected our request due to an error in our request",
    429: "the server has received too many requests and has asked us to try again later",
    503: "the server is currently unable to handle the request",
    504: "the server was unable to return a response in the time allotted, but may still be processing the request",
}
_OWN_WORDS = (403, 406, 415)


class CallFailed(Exception):
    """The webhook could not be asked, or its answer is no answer: failurePolicy says what that means.

    `code`: the HTTP status that metrics tell it by.
    """

    def __init__(self, webhook: str, reason: str, code: int = 503) -> None:
        super().__init__(f'failed calling webhook "{webhook}": {reason}')
        self.code = code


class Denied(ApiError):
    """The webhook's no."""


def internal(text: str) -> ServerError:
    """apierrors.NewInternalError."""
    return ServerError(f"Internal error occurred: {text}", details={"causes": [{"message": text}]})


def refused(status: int, content_type: str, body: bytes) -> str:
    """The text of an answer that is no success, as client-go makes it."""
    try:
        value: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        value = None
    if isinstance(value, dict) and value.get("kind") == "Status" and value.get("status") != "Success":
        return str(value.get("message") or "unknown")
    text = "unknown"
    if content_type.startswith("text/") or not content_type:
        text = body[:2048].decode(errors="replace").strip() or "unknown"
    if status in _OWN_WORDS:
        return text
    if status in _TEXTS:
        return _TEXTS[status]
    if status >= 500:
        return f"an error on the server ({gojson.quote(text)}) has prevented the request from succeeding"
    return f"the server responded with the status code {status} but did not return more information"
