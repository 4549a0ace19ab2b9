"""A cluster's keys: its CA, the API server's certificate, the service-account key, the administrator's token.

Made once in the cluster's folder, readable by the user only; the server's certificate is renewed when it is close to
its end or lacks a name that is asked for. Keys that are good are opened without cryptography, whose import takes as
long as a good part of a cluster's start: a helper process makes new ones (`make_keys`) while the rest is imported.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from atoll.base.clock import Clock

if TYPE_CHECKING:
    from atoll.wire.ca import CertificateAuthority, Certified

_RENEW_SECONDS = 30 * 86400
FRONT_PROXY = "front-proxy-client"
_DAYS = 365


@dataclass(frozen=True, slots=True)
class ClusterKeys:
    """PEM. Nodes know the API server by `kubelet_client()`."""

    ca_pem: bytes
    server_pem: bytes
    server_key_pem: bytes = field(repr=False)
    service_account_key: bytes = field(repr=False)
    admin_token: str = field(repr=False)
    ca_key_pem: bytes = field(repr=False)
    front_proxy_ca_pem: bytes
    front_proxy_ca_key_pem: bytes = field(repr=False)
    clock: Clock = field(repr=False)

    def authority(self) -> CertificateAuthority:
        """To sign with. Raises UserError if the CA's files are damaged."""
        from atoll.wire.ca import CertificateAuthority

        return CertificateAuthority.load(self.ca_pem, self.ca_key_pem, self.clock)

    def front_proxy_client(self) -> Certified:
        """A fresh client certificate by which aggregated servers know the API server that names users to them."""
        from atoll.wire.ca import CertificateAuthority

        authority = CertificateAuthority.load(self.front_proxy_ca_pem, self.front_proxy_ca_key_pem, self.clock)
        return authority.client(FRONT_PROXY)

    def kubelet_client(self) -> Certified:
        """A fresh client certificate for the API server towards its nodes."""
        return self.authority().client("kube-apiserver-kubelet-client", organizations=["system:masters"])


def open_keys(folder: Path, name: str, addresses: Sequence[str], clock: Clock) -> ClusterKeys:
    """Load the keys in `folder`, making what is missing. Raises UserError if they are damaged."""
    wanted = sorted({"127.0.0.1", *addresses})
    if not _good(folder, wanted, clock):
        make_keys(folder, name, wanted, clock)
    return ClusterKeys(
        ca_pem=(folder / "ca.crt").read_bytes(),
        server_pem=(folder / "apiserver.crt").read_bytes(),
        server_key_pem=(folder / "apiserver.key").read_bytes(),
        service_account_key=(folder / "sa.key").read_bytes(),
        admin_token=(folder / "admin.token").read_text(),
        ca_key_pem=(folder / "ca.key").read_bytes(),
        front_proxy_ca_pem=(folder / "front-proxy-ca.crt").read_bytes(),
        front_proxy_ca_key_pem=(folder / "front-proxy-ca.key").read_bytes(),
        clock=clock,
    )


def make_keys(folder: Path, name: str, addresses: Sequence[str], clock: Clock) -> None:
    """Make what is missing or old. Raises UserError if the CA is damaged."""
    from atoll.wire.ca import CertificateAuthority, new_key_pem

    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    certificate, key = folder / "ca.crt", folder / "ca.key"
    if certificate.exists() and key.exists():
        authority = CertificateAuthority.load(certificate.read_bytes(), key.read_bytes(), clock)
    else:
        authority = CertificateAuthority.create(f"atoll-{name}", clock)
        _write(certificate, authority.certificate_pem)
        _write(key, authority.key_pem)
    if not all((folder / f"front-proxy-ca.{part}").exists() for part in ("crt", "key")):
        front = CertificateAuthority.create(f"atoll-{name}-front-proxy", clock)
        _write(folder / "front-proxy-ca.crt", front.certificate_pem)
        _write(folder / "front-proxy-ca.key", front.key_pem)
    _once(folder / "sa.key", new_key_pem)
    _once(folder / "admin.token", lambda: secrets.token_urlsafe(32).encode())
    wanted = sorted({"127.0.0.1", *addresses})
    if not _good(folder, wanted, clock):
        names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]
        names.append("kubernetes.default.svc.cluster.local")
        made = authority.server("kube-apiserver", names=names, addresses=wanted, days=_DAYS)
        _write(folder / "apiserver.key", made.key_pem)
        _write(folder / "apiserver.crt", made.certificate_pem)
        stamp = {"addresses": wanted, "ends": clock.wall() + _DAYS * 86400}
        _write(folder / "apiserver.json", json.dumps(stamp).encode())


def _good(folder: Path, addresses: list[str], clock: Clock) -> bool:
    """Whether all is there and the server's certificate, by the note beside it, lasts and has these addresses."""
    files = ("ca.crt", "ca.key", "apiserver.crt", "apiserver.key", "sa.key", "admin.token",
             "front-proxy-ca.crt", "front-proxy-ca.key")  # fmt: skip
    if not all((folder / name).exists() for name in files):
        return False
    try:
        stamp = json.loads((folder / "apiserver.json").read_bytes())
        return stamp["ends"] - clock.wall() > _RENEW_SECONDS and set(stamp["addresses"]).issuperset(addresses)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _once(path: Path, make: Callable[[], bytes]) -> None:
    if not path.exists():
        _write(path, make())


def _write(path: Path, data: bytes) -> None:
    draft = path.with_name(path.name + ".tmp")
    draft.touch(mode=0o600)
    draft.write_bytes(data)
    draft.replace(path)
