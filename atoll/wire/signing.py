"""What a PEM certificate signing request asks for, as far as those who approve and sign need to know it."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from cryptography import x509
from cryptography.x509.oid import NameOID


@dataclass(frozen=True, slots=True)
class SigningRequest:
    common_name: str
    organizations: tuple[str, ...]
    dns_names: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    emails: tuple[str, ...] = ()
    uris: tuple[str, ...] = ()


def read_request(encoded: str) -> SigningRequest | None:
    """From base64 of PEM, as the API has it; None for what is no request."""
    try:
        request = x509.load_pem_x509_csr(base64.b64decode(encoded))
    except (ValueError, binascii.Error):
        return None
    names = request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    organizations = request.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    found = SigningRequest(str(names[0].value) if names else "", tuple(str(item.value) for item in organizations))
    try:
        other = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return found
    return SigningRequest(
        found.common_name,
        found.organizations,
        tuple(other.get_values_for_type(x509.DNSName)),
        tuple(str(item) for item in other.get_values_for_type(x509.IPAddress)),
        tuple(other.get_values_for_type(x509.RFC822Name)),
        tuple(other.get_values_for_type(x509.UniformResourceIdentifier)),
    )
