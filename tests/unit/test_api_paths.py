"""Paths as upstream's RequestInfo reads them."""

from __future__ import annotations

import pytest

from atoll.cluster.apiserver.paths import Path, parse


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/api/v1/pods", Path("", "v1", "", "pods")),
        ("/api/v1/namespaces/a/pods", Path("", "v1", "a", "pods")),
        ("/api/v1/namespaces/a/pods/p", Path("", "v1", "a", "pods", "p")),
        ("/api/v1/namespaces/a/pods/p/status", Path("", "v1", "a", "pods", "p", "status")),
        ("/api/v1/namespaces", Path("", "v1", "", "namespaces")),
        ("/api/v1/namespaces/a", Path("", "v1", "a", "namespaces", "a")),
        ("/api/v1/namespaces/a/finalize", Path("", "v1", "a", "namespaces", "a", "finalize")),
        ("/apis/apps/v1/namespaces/a/deployments/d/scale", Path("apps", "v1", "a", "deployments", "d", "scale")),
        ("/api/v1/watch/namespaces/a/pods/p", Path("", "v1", "a", "pods", "p", watch=True)),
        ("/api/v1/nodes/n/proxy/stats/summary", Path("", "v1", "", "nodes", "n", "proxy", "/stats/summary")),
        ("/api/v1/namespaces/a/services/s:80/proxy/", Path("", "v1", "a", "services", "s:80", "proxy", "/")),
    ],
)
def test_resource_paths(path: str, expected: Path) -> None:
    assert parse(path) == expected


@pytest.mark.parametrize(
    "path", ["/", "/healthz", "/api", "/api/v1", "/apis", "/apis/apps", "/apis/apps/v1", "/version"]
)
def test_other_paths(path: str) -> None:
    assert parse(path) is None
