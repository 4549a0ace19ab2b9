"""/livez, /readyz and /healthz: named checks, what each says now, and the pages that show them in upstream's words.

A check returns "" where all is well, else why not; the reason goes to the log, never into the answer (apiserver
pkg/server/healthz). `latched`: what a start does once; it holds from then on, whatever is deleted later.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from msgspec import Struct

from atoll.base.metrics import CONTENT_TYPE, Metrics
from atoll.cluster.apiserver.request import parse_query
from atoll.wire.messages import HttpRequest, HttpResponse

log = logging.getLogger("atoll.health")
Check = Callable[[], str]
PAGES = ("/healthz", "/livez", "/readyz")
ALWAYS = frozenset({"healthz", "livez", "readyz"})
READY = frozenset({"readyz"})
_TEXT = ("Content-Type", "text/plain; charset=utf-8")
_PLAIN = ("X-Content-Type-Options", "nosniff")


class _Named(Struct, frozen=True):
    check: Check
    pages: frozenset[str]


class Health:
    """See the module. Checks are shown in the order in which they were added."""

    def __init__(self) -> None:
        self.slis = Metrics()  # /metrics/slis
        self._checks: dict[str, _Named] = {}
        self._shutting_down = False
        self._gauge = self.slis.gauge("kubernetes_healthcheck", "[STABLE] Results of checks.", ("name", "type"))
        self._count = self.slis.counter(
            "kubernetes_healthchecks_total", "[STABLE] Checks by result.", ("name", "status", "type")
        )
        self.add("ping", lambda: "")
        self.add("log", lambda: "")

    def add(self, name: str, check: Check, pages: frozenset[str] = ALWAYS) -> None:
        """A check of that name; a later one of the same name replaces it."""
        self._checks[name] = _Named(check, pages)

    def shut_down(self) -> None:
        """The server is about to stop: it is not ready any more."""
        self._shutting_down = True

    def answer(self, request: HttpRequest) -> HttpResponse | None:
        """None where the path is no health page."""
        for page in PAGES:
            if request.path == page or request.path == f"{page}/":
                return self._page(request, page[1:])
            if request.path.startswith(f"{page}/"):
                return self._single(page[1:], request.path.removeprefix(f"{page}/"))
        if request.path == "/metrics/slis":
            return HttpResponse(200, [("Content-Type", CONTENT_TYPE)], self.slis.text().encode())
        return None

    def _of(self, page: str) -> dict[str, Check]:
        found = {name: named.check for name, named in self._checks.items() if page in named.pages}
        if page == "readyz":
            found["shutdown"] = lambda: "process is shutting down" if self._shutting_down else ""
        return found

    def _page(self, request: HttpRequest, page: str) -> HttpResponse:
        query = parse_query(request.query)
        excluded = set(query.get("exclude") or ())
        lines: list[str] = []
        failed: list[str] = []
        for name, check in self._of(page).items():
            if name in excluded:
                excluded.discard(name)
                lines.append(f"[+]{name} excluded: ok\n")
                continue
            why = check()
            self._gauge.of(name, page).set(0 if why else 1)
            self._count.of(name, "error" if why else "success", page).value += 1
            lines.append(f"[-]{name} failed: reason withheld\n" if why else f"[+]{name} ok\n")
            if why:
                failed.append(name)
                log.warning("%s: %s: %s", page, name, why)
        if excluded:
            names = ",".join(f'"{name}"' for name in sorted(excluded))
            lines.append(f"warn: some health checks cannot be excluded: no matches for {names}\n")
        if failed:
            return HttpResponse(500, [_TEXT, _PLAIN], f"{''.join(lines)}{page} check failed\n".encode())
        if "verbose" not in query:
            return HttpResponse(200, [_TEXT, _PLAIN], b"ok")
        return HttpResponse(200, [_TEXT, _PLAIN], f"{''.join(lines)}{page} check passed\n".encode())

    def _single(self, page: str, name: str) -> HttpResponse:
        check = self._of(page).get(name)
        if check is None:
            return HttpResponse(404, [_TEXT, _PLAIN], b"404 page not found\n")
        why = check()
        if why:
            return HttpResponse(500, [_TEXT, _PLAIN], f"internal server error: {why}\n".encode())
        return HttpResponse(200, [_TEXT], b"ok")


def latched(done: Callable[[], bool], what: str) -> Check:
    """Fails until `done` was true once."""
    seen = False

    def check() -> str:
        nonlocal seen
        seen = seen or done()
        return "" if seen else what

    return check
