"""A client certificate that does not hold is told 401 over a whole connection, whoever signed it."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest

from atoll.app.assembly import ApiOptions, assemble, bootstrap
from atoll.app.serving import handler_of
from atoll.base.chance import Chance
from atoll.base.clock import SystemClock
from atoll.cluster.apiserver.refusals import LIMITS
from atoll.cluster.store.memory import MemoryStore
from atoll.wire.ca import CertificateAuthority, Certified
from atoll.wire.server import serve
from atoll.wire.tls import server_context


async def status(port: int, ca: bytes, shown: Certified | None, folder: Path, version: ssl.TLSVersion) -> int:
    context = ssl.create_default_context(cadata=ca.decode())
    context.maximum_version = version
    if shown is not None:
        file = folder / "client.pem"
        file.write_bytes(shown.certificate_pem + shown.key_pem)
        context.load_cert_chain(file)
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
    writer.write(b"GET /api/v1/namespaces/default HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return int(answer.split(b" ", 2)[1])


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_certificates_over_tls(tmp_path: Path, version: ssl.TLSVersion) -> None:
    async def main() -> None:
        clock = SystemClock()
        own, foreign = CertificateAuthority.create("own", clock), CertificateAuthority.create("foreign", clock)
        assembly = assemble(MemoryStore(clock), clock, Chance(1), ApiOptions(client_ca_pem=own.certificate_pem))
        await bootstrap(assembly)
        serving = own.server("localhost", names=["localhost"])
        context = server_context(serving.certificate_pem, serving.key_pem, own.certificate_pem, unverified=True)
        server = await serve(handler_of(assembly), ssl_context=context, limits=LIMITS)
        masters = ["system:masters"]
        impostor = CertificateAuthority.create("own", clock)  # the same name, another key
        shown = {
            "ours": own.client("admin", organizations=masters),
            "foreign": foreign.client("admin", organizations=masters),
            "impostor": impostor.client("admin", organizations=masters),
            "expired": own.client("admin", organizations=masters, days=-100 / 86400),
            "a server's": own.server("admin", organizations=masters),
        }
        found = {
            name: await status(server.port, own.certificate_pem, certified, tmp_path, version)
            for name, certified in shown.items()
        }
        assert found == {"ours": 200, "foreign": 401, "impostor": 401, "expired": 401, "a server's": 401}
        assert await status(server.port, own.certificate_pem, None, tmp_path, version) == 403
        await server.close()

    asyncio.run(main())
