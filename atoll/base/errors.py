"""The error tree: whose fault it is, whether a retry helps, what the user can do.

AtollError
├── UserError            the input is wrong; `hint` says what to do; never retried
├── ApiError             a Kubernetes Status: code, reason, message, details
│   ├── NotFound 404 · AlreadyExists 409 · Conflict 409 · Invalid 422 · BadRequest 400
│   ├── Unauthorized 401 · Forbidden 403 · MethodNotAllowed 405 · NotAcceptable 406
│   ├── Gone 410 (Expired) · TooLarge 413 · UnsupportedMediaType 415 · TooManyRequests 429
│   └── ServerError 5xx  (retry helps)
├── Unreachable          no answer, and the request was certainly not carried out; retry helps
├── OutcomeUnknown       the connection broke in mid-write: it may or may not have happened
└── InternalError        ours
"""

from __future__ import annotations

from typing import Any


class AtollError(Exception):
    """Base of all errors that Atoll raises on purpose."""

    retryable = False

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UserError(AtollError):
    """What the user gave can't be used; `hint` says what to do."""


class Unreachable(AtollError):
    """No answer; the request was certainly not carried out."""

    retryable = True


class OutcomeUnknown(AtollError):
    """The connection was lost in mid-write: read before you write again."""

    retryable = True


class InternalError(AtollError):
    """A fault of ours."""


class ApiError(AtollError):
    """A Kubernetes `Status` of failure (metav1.Status), the same in process and over HTTP."""

    code = 500
    reason = "InternalError"
    list_continue = ""
    """A 410 of a paged list may carry a token that goes on inconsistently (ListMeta.continue)."""

    def __init__(
        self,
        message: str,
        *,
        code: int | None = None,
        reason: str | None = None,
        details: dict[str, Any] | None = None,
        retry_after_seconds: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = self.code if code is None else code
        self.reason = self.reason if reason is None else reason
        self.details = details
        self.retry_after_seconds = retry_after_seconds

    def to_status(self) -> dict[str, Any]:
        """The metav1.Status body."""
        status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {"continue": self.list_continue} if self.list_continue else {},
            "status": "Failure",
            "message": self.message,
        }
        if self.reason:
            status["reason"] = self.reason
        details = dict(self.details or {})
        if self.retry_after_seconds is not None:
            details["retryAfterSeconds"] = self.retry_after_seconds
        if details or self.details is not None:
            status["details"] = details
        status["code"] = self.code
        return status


class BadRequest(ApiError):
    code, reason = 400, "BadRequest"


class Unauthorized(ApiError):
    code, reason = 401, "Unauthorized"


class Forbidden(ApiError):
    code, reason = 403, "Forbidden"


class NotFound(ApiError):
    code, reason = 404, "NotFound"


class MethodNotAllowed(ApiError):
    code, reason = 405, "MethodNotAllowed"


class NotAcceptable(ApiError):
    code, reason = 406, "NotAcceptable"


class AlreadyExists(ApiError):
    code, reason = 409, "AlreadyExists"


class Conflict(ApiError):
    """The object has changed since it was read, a precondition failed, or apply conflicts."""

    code, reason = 409, "Conflict"


class Gone(ApiError):
    """The resourceVersion or continue token is below the history: list again."""

    code, reason = 410, "Expired"


class TooLarge(ApiError):
    code, reason = 413, "RequestEntityTooLarge"


class UnsupportedMediaType(ApiError):
    code, reason = 415, "UnsupportedMediaType"


class Invalid(ApiError):
    """422 with a `causes` list in details."""

    code, reason = 422, "Invalid"


class TooManyRequests(ApiError):
    code, reason = 429, "TooManyRequests"
    retryable = True


class ServerError(ApiError):
    code, reason = 500, "InternalError"
    retryable = True


_BY_REASON: dict[str, type[ApiError]] = {
    kind.reason: kind
    for kind in (
        BadRequest, Unauthorized, Forbidden, NotFound, MethodNotAllowed, NotAcceptable,
        AlreadyExists, Conflict, Gone, TooLarge, UnsupportedMediaType, Invalid, TooManyRequests,
    )
}  # fmt: skip
_BY_REASON["Gone"] = Gone
_BY_CODE: dict[int, type[ApiError]] = {kind.code: kind for kind in _BY_REASON.values()}
_BY_CODE[409] = Conflict


def from_status(status: dict[str, Any], code: int | None = None) -> ApiError:
    """The ApiError that a metav1.Status (parsed JSON) says; unknown ones become ServerError or ApiError."""
    code = int(status.get("code") or code or 500)
    reason = str(status.get("reason") or "")
    kind = _BY_REASON.get(reason) or _BY_CODE.get(code) or (ServerError if code >= 500 else ApiError)
    details = status.get("details") or None
    retry = (details or {}).get("retryAfterSeconds")
    message = str(status.get("message") or f"the server answered {code}")
    return kind(message, code=code, reason=reason or kind.reason, details=details,
                retry_after_seconds=retry)  # fmt: skip
