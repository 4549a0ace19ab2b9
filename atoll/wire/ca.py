"""A small certificate authority: EC P-256 keys, certificates for servers and clients, PEM in and out.

Time is a parameter. Serial numbers and keys come from the system's generator, as they must.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from atoll.base.clock import Clock
from atoll.base.errors import UserError

DAY_SECONDS = 86400.0
_BACKDATE_SECONDS = 300.0  # clocks of clients differ


@dataclass(frozen=True, slots=True)
class Certified:
    """A certificate and its private key, PEM."""

    certificate_pem: bytes
    key_pem: bytes = field(repr=False)


def new_key_pem() -> bytes:
    """A fresh EC P-256 private key (PKCS #8)."""
    return _key_pem(ec.generate_private_key(ec.SECP256R1()))


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _name(common_name: str, organizations: Sequence[str]) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, item) for item in organizations]
    return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _moment(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(int(seconds), datetime.UTC)


class CertificateAuthority:
    """Signs. Made by `create`, or `load` from what `certificate_pem` and `key_pem` gave before."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, clock: Clock) -> None:
        self._certificate = certificate
        self._key = key
        self._clock = clock

    @classmethod
    def create(cls, common_name: str, clock: Clock, *, days: float = 3650) -> CertificateAuthority:
        """A new self-signed authority."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name(common_name, ())
        now = clock.wall()
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_moment(now - _BACKDATE_SECONDS))
            .not_valid_after(_moment(now + days * DAY_SECONDS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_key_usage(ca=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        return cls(certificate, key, clock)

    @classmethod
    def load(cls, certificate_pem: bytes, key_pem: bytes, clock: Clock) -> CertificateAuthority:
        """Raises UserError if the two can't be read or don't belong together."""
        try:
            certificate = x509.load_pem_x509_certificate(certificate_pem)
            key = serialization.load_pem_private_key(key_pem, None)
        except (ValueError, TypeError) as error:
            raise UserError(f"the CA can't be read: {error}", hint="both files must be PEM") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or certificate.public_key() != key.public_key():
            raise UserError("the CA's key does not belong to its certificate")
        return cls(certificate, key, clock)

    @property
    def certificate_pem(self) -> bytes:
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return _key_pem(self._key)

    def server(
        self,
        common_name: str,
        *,
        names: Sequence[str] = (),
        addresses: Sequence[str] = (),
        organizations: Sequence[str] = (),
        days: float = 365,
        client_too: bool = False,
    ) -> Certified:
        """A server's certificate for DNS names and IP addresses; `client_too` for kubelets and peers."""
        usages = [ExtendedKeyUsageOID.SERVER_AUTH] + ([ExtendedKeyUsageOID.CLIENT_AUTH] if client_too else [])
        return self._issue(common_name, organizations, names, addresses, usages, days)

    def client(self, common_name: str, *, organizations: Sequence[str] = (), days: float = 365) -> Certified:
        """A client's certificate: to Kubernetes CN is the user, each O a group."""
        return self._issue(common_name, organizations, (), (), [ExtendedKeyUsageOID.CLIENT_AUTH], days)

    def sign_request(self, request_pem: bytes, usages: Sequence[str], seconds: float) -> bytes:
        """The PEM certificate that a signing request asks for: its subject, key and names, with these Kubernetes
        usages. Raises UserError for a request that can't be read or whose signature is wrong.
        """
        try:
            request = x509.load_pem_x509_csr(request_pem)
        except ValueError as error:
            raise UserError(f"the certificate request can't be read: {error}") from None
        if not request.is_signature_valid:
            raise UserError("the certificate request's signature does not fit its key")
        now = self._clock.wall()
        builder = (
            x509.CertificateBuilder()
            .subject_name(request.subject)
            .issuer_name(self._certificate.subject)
            .public_key(request.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_moment(now - _BACKDATE_SECONDS))
            .not_valid_after(_moment(now - _BACKDATE_SECONDS + seconds))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(ca=False, encipherment="key encipherment" in usages), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        purposes = [_PURPOSES[usage] for usage in usages if usage in _PURPOSES]
        if purposes:
            builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        for extension in request.extensions:
            if isinstance(extension.value, x509.SubjectAlternativeName):
                builder = builder.add_extension(extension.value, critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def _issue(
        self,
        common_name: str,
        organizations: Sequence[str],
        names: Sequence[str],
        addresses: Sequence[str],
        usages: list[x509.ObjectIdentifier],
        days: float,
    ) -> Certified:
        key = ec.generate_private_key(ec.SECP256R1())
        now = self._clock.wall()
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(common_name, organizations))
            .issuer_name(self._certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_moment(now - _BACKDATE_SECONDS))
            .not_valid_after(_moment(now + days * DAY_SECONDS))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(ca=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
        alternatives += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        return Certified(certificate.public_bytes(serialization.Encoding.PEM), _key_pem(key))


_PURPOSES = {"client auth": ExtendedKeyUsageOID.CLIENT_AUTH, "server auth": ExtendedKeyUsageOID.SERVER_AUTH}


def _key_usage(*, ca: bool, encipherment: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=encipherment,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


@dataclass(frozen=True, slots=True)
class Subject:
    """Who a certificate names."""

    common_name: str
    organizations: tuple[str, ...]
    not_after: float


def subject_of(der: bytes) -> Subject:
    """The subject of a DER certificate, e.g. HttpRequest.peer_certificate. Raises ValueError."""
    certificate = x509.load_der_x509_certificate(der)
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    organizations = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return Subject(
        str(names[0].value) if names else "",
        tuple(str(item.value) for item in organizations),
        certificate.not_valid_after_utc.timestamp(),
    )


def certificate_end(encoded: str) -> float | None:
    """Wall seconds at which a certificate (base64 of PEM, as the API has it) ends; None for what can't be read."""
    try:
        return x509.load_pem_x509_certificate(base64.b64decode(encoded)).not_valid_after_utc.timestamp()
    except (ValueError, binascii.Error):
        return None


def is_signed_by(der: bytes, ca_pem: bytes) -> bool:
    """Whether one of the CA certificates in `ca_pem` signed this DER certificate."""
    certificate = x509.load_der_x509_certificate(der)
    for authority in x509.load_pem_x509_certificates(ca_pem):
        try:
            certificate.verify_directly_issued_by(authority)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return True
    return False
