"""Who a client certificate names, and whether it holds: signed by the cluster's CA, in its time, meant for clients.

The TLS layer lets certificates of any CA through (a broken handshake would tell the client nothing), so all of it is
looked at here. What does not depend on the time is looked at once per certificate.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

from atoll.cluster.apiserver.ports import User

_UID_OID = "1.3.6.1.4.1.57683.2"  # KEP-5295


@lru_cache(maxsize=1024)
def user_of_certificate(der: bytes) -> User:
    """CN is the name, each O a group (who signed it has been looked at)."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID, ObjectIdentifier

    subject = x509.load_der_x509_certificate(der).subject
    names = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    groups = [str(item.value) for item in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
    uids = subject.get_attributes_for_oid(ObjectIdentifier(_UID_OID))
    credential = {"authentication.kubernetes.io/credential-id": (f"X509SHA256={hashlib.sha256(der).hexdigest()}",)}
    uid = str(uids[0].value) if len(uids) == 1 else ""
    return User(str(names[0].value) if names else "", (*groups, "system:authenticated"), uid, credential)


@lru_cache(maxsize=1024)
def validity(der: bytes) -> tuple[float, float]:
    """Wall seconds from and until when it holds."""
    from cryptography import x509

    certificate = x509.load_der_x509_certificate(der)
    return certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()


@lru_cache(maxsize=1024)
def is_trusted(der: bytes, ca_pem: bytes) -> bool:
    """Whether one of these CAs signed it, for clients, and it names somebody."""
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    from atoll.wire.ca import is_signed_by

    try:
        if not is_signed_by(der, ca_pem):
            return False
        certificate = x509.load_der_x509_certificate(der)
        purposes = list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        purposes = [ExtendedKeyUsageOID.CLIENT_AUTH]
    except ValueError:
        return False
    wanted = {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
    return not wanted.isdisjoint(purposes) and bool(user_of_certificate(der).name)
