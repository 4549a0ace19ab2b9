"""TLS contexts, from PEM in memory where Python allows it. TLS 1.2 and later only."""

from __future__ import annotations

import os
import ssl
import tempfile
from pathlib import Path

from atoll.base.errors import UserError

_NO_CHECK_TIME = 0x200000  # OpenSSL's X509_V_FLAG_NO_CHECK_TIME, which Python does not name


def server_context(
    certificate_pem: bytes, key_pem: bytes, client_ca_pem: bytes | None = None, *, expired_too: bool = False
) -> ssl.SSLContext:
    """A server's context. With `client_ca_pem` a client may show a certificate, which must be signed by one of those.

    `expired_too` lets in certificates whose time is over or has not come: the handler must look, and can say so,
    where a broken handshake tells the client nothing. Raises UserError when the certificate and key don't fit.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    _load_chain(context, certificate_pem, key_pem)
    if client_ca_pem:
        _load_ca(context, client_ca_pem)
        context.verify_mode = ssl.CERT_OPTIONAL
        if expired_too:
            context.verify_flags |= ssl.VerifyFlags(_NO_CHECK_TIME)
    return context


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
