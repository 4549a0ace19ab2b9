"""Small pods, as the load posts them."""

from __future__ import annotations

from bench.targets import NAMESPACE

PATH = f"/api/v1/namespaces/{NAMESPACE}/pods"
_BODY = (
    b'{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p-%d","labels":{"app":"bench"}},"spec":{"containers":['
    b'{"name":"c","image":"registry.example/app:1","resources":{"requests":{"cpu":"100m","memory":"64Mi"}}}]}}'
)


def body(number: int) -> bytes:
    return _BODY % number


def differing(number: int) -> bytes:
    """Pods of which no two have the same image."""
    return (_BODY % number).replace(b"app:1", b"app:%d" % number)
