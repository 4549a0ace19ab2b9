"""h2spec, the conformance suite of HTTP/2 (RFC 9113, RFC 7541), against our server: all its cases, strict ones too."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import uvloop

from atoll.base.clock import SystemClock
from atoll.wire.ca import CertificateAuthority
from atoll.wire.messages import HttpRequest, HttpResponse
from atoll.wire.server import serve
from atoll.wire.tls import server_context

sys.path.insert(0, str(Path(__file__).parent))
from build import program

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(program("h2spec") is None, reason="h2spec is not built (tests/real/build.py)"),
]
CASES = 146
TIMEOUT_SECONDS = 5  # for one answer: a connection that failed lingers a second or two before it closes


async def hello(request: HttpRequest) -> HttpResponse:
    return HttpResponse(200, [("Content-Type", "text/plain")], b"hello\n")


def test_every_case_passes(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"

    async def main() -> str:
        made = CertificateAuthority.create("ca", SystemClock()).server("server", addresses=["127.0.0.1"])
        server = await serve(hello, ssl_context=server_context(made.certificate_pem, made.key_pem))
        arguments = ["-h", "127.0.0.1", "-p", str(server.port), "--tls", "--insecure", "--strict"]
        arguments += ["--timeout", str(TIMEOUT_SECONDS), "--junit-report", str(report)]
        process = await asyncio.create_subprocess_exec(
            str(program("h2spec")), *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        output, _ = await process.communicate()
        await server.close()
        return output.decode()

    output = uvloop.run(main())
    cases = ElementTree.parse(report).getroot().findall(".//testcase")
    unhappy = [case.get("classname") for case in cases if len(case)]
    assert not unhappy and len(cases) == CASES, output[output.find("Failures:") :]
