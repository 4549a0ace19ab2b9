"""apiserver_admission_webhook_…: how long webhooks take, whom they refuse, when they fail, under upstream's names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from atoll.base.clock import Clock
from atoll.base.errors import ApiError
from atoll.base.metrics import Metrics
from atoll.cluster.apiserver.admission.webhooks.failures import CallFailed, Denied
from atoll.cluster.apiserver.admission.webhooks.model import Hook
from atoll.cluster.apiserver.ports import AdmissionRequest

Type = Literal["admit", "validating"]
_SECONDS = (0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10, 25)
_MOST_CODE = 600  # greater ones are told as this one, so that a webhook can't make series without end


class HookMetrics:
    """Of both plugins."""

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        self._now = clock.monotonic
        self._seconds = metrics.histogram(
            "apiserver_admission_webhook_admission_duration_seconds", "[STABLE] Seconds that a webhook took.",
            _SECONDS, ("name", "type", "operation", "rejected"),
        )  # fmt: skip
        self._requests = metrics.counter(
            "apiserver_admission_webhook_request_total", "[ALPHA] Requests to webhooks by what came of them.",
            ("name", "type", "operation", "code", "rejected"),
        )  # fmt: skip
        self._rejections = metrics.counter(
            "apiserver_admission_webhook_rejection_count", "[ALPHA] Requests refused by webhooks or for their failure.",
            ("name", "type", "operation", "error_type", "rejection_code"),
        )  # fmt: skip
        self._opened = metrics.counter(
            "apiserver_admission_webhook_fail_open_count", "[ALPHA] Failures of webhooks that were ignored, as asked.",
            ("name", "type"),
        )  # fmt: skip

    @contextmanager
    def asking(self, hook: Hook, request: AdmissionRequest, kind: Type) -> Iterator[None]:
        """Around one question; what it raises is told, and raised."""
        started = self._now()
        try:
            yield
        except CallFailed as error:
            self._tell(hook, request, kind, started, error.code, "" if hook.fails_open else "calling_webhook_error")
            if hook.fails_open:
                self._opened.of(hook.name, kind).value += 1
            raise
        except Denied as error:
            self._tell(hook, request, kind, started, error.code, "no_error")
            raise
        except ApiError:
            self._tell(hook, request, kind, started, 0, "apiserver_internal_error")
            raise
        self._tell(hook, request, kind, started, 200, "")

    def _tell(
        self, hook: Hook, request: AdmissionRequest, kind: Type, started: float, code: int, refused_for: str
    ) -> None:
        rejected = "true" if refused_for else "false"
        shown = str(min(code, _MOST_CODE))
        operation = request.operation
        self._seconds.of(hook.name, kind, operation, rejected).observe(self._now() - started)
        self._requests.of(hook.name, kind, operation, shown, rejected).value += 1
        if refused_for:
            self._rejections.of(hook.name, kind, operation, refused_for, shown).value += 1
