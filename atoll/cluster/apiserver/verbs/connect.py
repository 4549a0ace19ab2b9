"""CONNECT: the options of exec, attach, port-forward and the proxies pass admission before anything is connected."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import parse_qs, urlencode

from atoll.cluster.apiserver.api import Api
from atoll.cluster.apiserver.paths import Path
from atoll.cluster.apiserver.ports import AdmissionRequest, Object
from atoll.cluster.apiserver.request import Context
from atoll.cluster.apiserver.served import Served

_FLAGS = ("stdin", "stdout", "stderr", "tty")
_KINDS = {"exec": "PodExecOptions", "attach": "PodAttachOptions", "portforward": "PodPortForwardOptions"}
_PROXIES = {"pods": "PodProxyOptions", "services": "ServiceProxyOptions", "nodes": "NodeProxyOptions"}


async def admit(api: Api, context: Context, served: Served, path: Path, query: str) -> str:
    """The query to connect with: as it came, or as a mutating plugin left it. Raises what admission does."""
    kind = _PROXIES.get(path.plural, "") if path.subresource == "proxy" else _KINDS[path.subresource]
    options = _options(kind, path, parse_qs(query, keep_blank_values=True))
    before = dict(options)
    namespace = path.namespace if served.resource.namespaced else ""
    request = AdmissionRequest(
        "CONNECT", served.resource, path.subresource, namespace, path.name, options, None, context.user,
        False, {}, context.warnings, kind, context.annotations,
    )  # fmt: skip
    await api.hooks.admission.mutate(request)
    await api.hooks.admission.validate(request)
    return query if options == before or path.subresource == "proxy" else _query(options)


def _options(kind: str, path: Path, query: dict[str, list[str]]) -> Object:
    options: Object = {"kind": kind, "apiVersion": "v1"}
    if path.subresource == "proxy":
        return {**options, "path": path.rest} if path.rest else options
    if path.subresource == "portforward":
        ports = [int(port) for value in query.get("ports") or () for port in value.split(",") if port.isdigit()]
        return {**options, "ports": ports} if ports else options
    options |= {name: True for name in _FLAGS if _is_set(query.get(name))}
    container = (query.get("container") or [""])[-1]
    if container:
        options["container"] = container
    if path.subresource == "exec":
        options["command"] = query.get("command")
    return options


def _is_set(values: Sequence[str] | None) -> bool:
    return bool(values) and (values or ("",))[-1].lower() in ("1", "true", "t")


def _query(options: Object) -> str:
    pairs: list[tuple[str, str]] = [(name, "true") for name in _FLAGS if options.get(name)]
    if options.get("container"):
        pairs.append(("container", options["container"]))
    pairs += [("command", part) for part in options.get("command") or ()]
    pairs += [("ports", str(port)) for port in options.get("ports") or ()]
    return urlencode(pairs)
