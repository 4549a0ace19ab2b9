"""The API server's socket, and the kubeconfig that leads to it."""

from __future__ import annotations

import errno
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from atoll.app.api_health import check_start, check_store
from atoll.app.api_metrics import observe_api, page
from atoll.app.assembly import Assembly
from atoll.app.flow_control import debug_pages, flow_control
from atoll.app.pki import ClusterKeys
from atoll.app.tasks import Tasks
from atoll.base.errors import UserError
from atoll.client import kubeconfig
from atoll.client.kubeconfig import Access
from atoll.cluster.apiserver.access.issuer import issuer_pages
from atoll.cluster.apiserver.gate import Gate
from atoll.cluster.apiserver.http import Streaming, Translator, http_handler
from atoll.cluster.apiserver.refusals import LIMITS
from atoll.wire.messages import Handler, Immediate
from atoll.wire.server import serve
from atoll.wire.tls import server_context

if TYPE_CHECKING:
    from atoll.cluster.apiserver.audit.auditor import Auditor

HOST = "127.0.0.1"


def handler_of(assembly: Assembly, streaming: Streaming | None = None) -> Translator:
    """The HTTP form of an assembled API, with nothing in front."""
    check_store(assembly.health, assembly.store)
    handler = http_handler(assembly.api, assembly.identify, assembly.authorizer, streaming=streaming)
    handler.nonresource.health = assembly.health
    if assembly.tokens is not None:
        handler.nonresource.more.update(issuer_pages(assembly.tokens))
    return handler


def guarded_handler(
    assembly: Assembly,
    tasks: Tasks,
    streaming: Streaming | None = None,
    store_file: Path | None = None,
    auditor: Auditor | None = None,
    server_limit: int = 600,
) -> Translator:
    """The same behind priority and fairness and deadlines, with /metrics; who keeps their configuration runs among
    the tasks."""
    flow = flow_control(assembly, server_limit)
    tasks.keep("flow-control", flow.keeper.run)
    handler = http_handler(
        assembly.api,
        assembly.identify,
        assembly.authorizer,
        streaming=streaming,
        gate=Gate(flow.filter, assembly.clock, assembly.metrics, assembly.api.registry, auditor),
    )
    observe_api(assembly, assembly.metrics, store_file)
    if assembly.tokens is not None:
        handler.nonresource.more.update(issuer_pages(assembly.tokens))
    handler.nonresource.more.update(debug_pages(assembly, flow))
    handler.nonresource.more["/metrics"] = page(assembly.metrics)
    check_store(assembly.health, assembly.store)
    check_start(assembly.health, assembly, flow.keeper)
    handler.nonresource.health = assembly.health
    return handler


async def serve_api(
    stack: AsyncExitStack,
    handler: Handler,
    keys: ClusterKeys,
    name: str,
    folder: Path,
    port: int,
    immediate: Immediate | None = None,
) -> int:
    """Listen, on the port of the last run where none is asked for; writes admin.kubeconfig; returns the port."""
    context = server_context(keys.server_pem, keys.server_key_pem, keys.ca_pem, unverified=True)
    remembered = folder / "port"
    wanted = port or (int(remembered.read_text()) if remembered.exists() else 0)
    try:
        server = await serve(handler, HOST, wanted, ssl_context=context, limits=LIMITS, immediate=immediate)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        if port:
            raise UserError(
                f"port {port} is in use", hint="stop what listens there, or name another port in the fleet file"
            ) from None
        server = await serve(handler, HOST, 0, ssl_context=context, limits=LIMITS, immediate=immediate)
    stack.push_async_callback(server.close)
    remembered.write_text(str(server.port))
    access = Access(server=f"https://{HOST}:{server.port}", ca_pem=keys.ca_pem, token=keys.admin_token)
    kubeconfig.write_own(folder / "admin.kubeconfig", kubeconfig.entry(f"atoll-{name}", access))
    return server.port
