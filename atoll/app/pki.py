"""A cluster's keys: its CA, the API server's certificate, the service-account key, the administrator's token.

Made once in the cluster's folder, readable by the user only; the server's certificate is renewed when it is close to
its end or lacks a name that is asked for.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from atoll.base.clock import Clock
from atoll.wire.ca import CertificateAuthority, Certified, new_key_pem

_RENEW_SECONDS = 30 * 86400


@dataclass(frozen=True, slots=True)
class ClusterKeys:
    """Nodes know the API server by `kubelet_client()`."""

    authority: CertificateAuthority
    server: Certified
    service_account_key: bytes
    admin_token: str

    def kubelet_client(self) -> Certified:
        """A fresh client certificate for the API server towards its nodes."""
        return self.authority.client("kube-apiserver-kubelet-client", organizations=["system:masters"])


def open_keys(folder: Path, name: str, addresses: Sequence[str], clock: Clock) -> ClusterKeys:
    """Load the keys in `folder`, making what is missing. Raises UserError if they are damaged."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    certificate, key = folder / "ca.crt", folder / "ca.key"
    if certificate.exists() and key.exists():
        authority = CertificateAuthority.load(certificate.read_bytes(), key.read_bytes(), clock)
    else:
        authority = CertificateAuthority.create(f"atoll-{name}", clock)
        _write(certificate, authority.certificate_pem)
        _write(key, authority.key_pem)
    wanted = sorted({"127.0.0.1", *addresses})
    return ClusterKeys(
        authority,
        _server(folder, authority, wanted, clock),
        _once(folder / "sa.key", new_key_pem),
        _once(folder / "admin.token", lambda: secrets.token_urlsafe(32).encode()).decode(),
    )


def _server(folder: Path, authority: CertificateAuthority, addresses: list[str], clock: Clock) -> Certified:
    certificate, key = folder / "apiserver.crt", folder / "apiserver.key"
    if certificate.exists() and key.exists() and _good(certificate.read_bytes(), addresses, clock):
        return Certified(certificate.read_bytes(), key.read_bytes())
    names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]
    names.append("kubernetes.default.svc.cluster.local")
    made = authority.server("kube-apiserver", names=names, addresses=addresses)
    _write(key, made.key_pem)
    _write(certificate, made.certificate_pem)
    return made


def _good(pem: bytes, addresses: list[str], clock: Clock) -> bool:
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound):
        return False
    known = {str(address) for address in names.get_values_for_type(x509.IPAddress)}
    ends = certificate.not_valid_after_utc.timestamp()
    return ends - clock.wall() > _RENEW_SECONDS and known.issuperset(addresses)


def _once(path: Path, make: Callable[[], bytes]) -> bytes:
    if not path.exists():
        _write(path, make())
    return path.read_bytes()


def _write(path: Path, data: bytes) -> None:
    draft = path.with_name(path.name + ".tmp")
    draft.touch(mode=0o600)
    draft.write_bytes(data)
    draft.replace(path)
