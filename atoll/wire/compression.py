"""gzip for answers, as kube-apiserver compresses them."""

from __future__ import annotations

import asyncio
import zlib

from atoll.wire.limits import Limits
from atoll.wire.messages import HttpRequest, HttpResponse

_STEP_BYTES = 256 * 1024


def is_to_be_compressed(request: HttpRequest, response: HttpResponse, limits: Limits) -> bool:
    return (
        len(response.body) > limits.gzip_above_bytes
        and "gzip" in request.headers.get("accept-encoding", "")
        and request.method != "HEAD"
        and not any(name.lower() == "content-encoding" for name, _ in response.headers)
    )


async def compress(response: HttpResponse) -> None:
    """gzip at kube-apiserver's level 1, giving way to others between pieces."""
    body = response.body
    compressor = zlib.compressobj(1, zlib.DEFLATED, 31)
    out: list[bytes] = []
    for start in range(0, len(body), _STEP_BYTES):
        out.append(compressor.compress(body[start : start + _STEP_BYTES]))
        await asyncio.sleep(0)
    out.append(compressor.flush())
    response.body = b"".join(out)
    response.headers += [("Content-Encoding", "gzip"), ("Vary", "Accept-Encoding")]
