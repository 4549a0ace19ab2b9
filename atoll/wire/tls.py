"""TLS contexts, from PEM in memory where Python allows it. TLS 1.2 and later only."""

from __future__ import annotations

import functools
import os
import ssl
import sys
import tempfile
from pathlib import Path
from typing import Any

from atoll.base.errors import UserError

_NO_CHECK_TIME = 0x200000  # OpenSSL's X509_V_FLAG_NO_CHECK_TIME, which Python does not name
_VERIFY_PEER = 1  # OpenSSL's SSL_VERIFY_PEER


def server_context(
    certificate_pem: bytes, key_pem: bytes, client_ca_pem: bytes | None = None, *, unverified: bool = False
) -> ssl.SSLContext:
    """A server's context. With `client_ca_pem` a client may show a certificate, which must be signed by one of those.

    `unverified` lets in certificates whose time is over and of any other CA: the handler MUST look, and can say so
    where a broken handshake tells the client nothing. Raises UserError when the certificate and key don't fit.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    _load_chain(context, certificate_pem, key_pem)
    if client_ca_pem:
        _load_ca(context, client_ca_pem)
        context.verify_mode = ssl.CERT_OPTIONAL
        if unverified:
            context.verify_flags |= ssl.VerifyFlags(_NO_CHECK_TIME)
            accept_any_signer(context)
    return context


def accept_any_signer(context: ssl.SSLContext) -> bool:
    """Let OpenSSL ask for a client's certificate and take any, as Go's RequestClientCert does.

    Python has no name for that: OpenSSL's callback is set through the pointer that CPython keeps first in its context.
    Where that can't be done (another Python, an OpenSSL without symbols) nothing changes, and a foreign certificate
    breaks the handshake.
    """
    if sys.implementation.name != "cpython" or not (3, 11) <= sys.version_info[:2] <= (3, 14):
        return False
    import _ssl
    import ctypes

    try:
        library = ctypes.CDLL(getattr(_ssl, "__file__", None))
        set_verify, get_mode = library.SSL_CTX_set_verify, library.SSL_CTX_get_verify_mode
    except (AttributeError, OSError):
        return False
    pointer = ctypes.c_void_p.from_address(id(context) + object.__basicsize__)
    get_mode.argtypes, get_mode.restype = [ctypes.c_void_p], ctypes.c_int
    if not pointer.value or get_mode(pointer) != _VERIFY_PEER:
        return False
    set_verify.argtypes, set_verify.restype = [ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p], None
    set_verify(pointer, _VERIFY_PEER, ctypes.cast(_accept_callback(), ctypes.c_void_p))
    return True


@functools.cache
def _accept_callback() -> Any:
    """int (*)(int, X509_STORE_CTX *), kept for as long as the process."""
    import ctypes

    return ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p)(lambda good, store: 1)


def client_context(
    *,
    ca_pem: bytes | None = None,
    certificate_pem: bytes | None = None,
    key_pem: bytes | None = None,
    insecure: bool = False,
) -> ssl.SSLContext:
    """A client's context: the given CAs or the system's; a client certificate; `insecure` trusts any server.

    Raises UserError.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif ca_pem:
        _load_ca(context, ca_pem)
    else:
        context.load_default_certs()
    if certificate_pem and key_pem:
        _load_chain(context, certificate_pem, key_pem)
    elif certificate_pem or key_pem:
        raise UserError("a client certificate needs both a certificate and a key")
    return context


def _load_ca(context: ssl.SSLContext, pem: bytes) -> None:
    try:
        context.load_verify_locations(cadata=pem.decode("ascii"))
    except (ssl.SSLError, UnicodeDecodeError) as error:
        raise UserError(f"the CA certificate can't be read: {error}", hint="it must be PEM") from None


def _load_chain(context: ssl.SSLContext, certificate_pem: bytes, key_pem: bytes) -> None:
    """OpenSSL reads these from files only: a private one that is gone again at once."""
    descriptor, name = tempfile.mkstemp(prefix="atoll-", suffix=".pem")  # 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(certificate_pem.rstrip() + b"\n" + key_pem)
        context.load_cert_chain(name)
    except ssl.SSLError as error:
        raise UserError(
            f"the certificate and key can't be used: {error}", hint="both must be PEM and belong together"
        ) from None
    finally:
        Path(name).unlink()
