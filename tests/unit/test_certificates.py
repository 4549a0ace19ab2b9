"""The small certificate authority."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from atoll.base.clock import ManualClock
from atoll.base.errors import UserError
from atoll.wire.ca import CertificateAuthority, is_signed_by, subject_of
from atoll.wire.tls import client_context, server_context


def der(pem: bytes) -> bytes:
    return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)


def test_a_client_certificate_says_who_it_is_and_until_when() -> None:
    clock = ManualClock()
    ca = CertificateAuthority.create("ca", clock)
    issued = ca.client("alice", organizations=["dev", "system:masters"], days=2)
    subject = subject_of(der(issued.certificate_pem))
    assert (subject.common_name, subject.organizations) == ("alice", ("dev", "system:masters"))
    assert subject.not_after == clock.wall() + 2 * 86400
    assert "PRIVATE" not in repr(issued)


def test_an_authority_is_taken_up_again_and_known_from_others() -> None:
    clock = ManualClock()
    ca = CertificateAuthority.create("ca", clock)
    again = CertificateAuthority.load(ca.certificate_pem, ca.key_pem, clock)
    other = CertificateAuthority.create("ca", clock)
    issued = der(again.server("s", names=["a.b"], addresses=["10.0.0.1", "::1"]).certificate_pem)
    assert is_signed_by(issued, other.certificate_pem + ca.certificate_pem)
    assert not is_signed_by(issued, other.certificate_pem)
    names = x509.load_der_x509_certificate(issued).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["a.b"]
    assert [str(item) for item in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.1", "::1"]


def test_what_does_not_belong_together_is_refused() -> None:
    clock = ManualClock()
    one, two = CertificateAuthority.create("one", clock), CertificateAuthority.create("two", clock)
    with pytest.raises(UserError, match="belong"):
        CertificateAuthority.load(one.certificate_pem, two.key_pem, clock)
    with pytest.raises(UserError, match="read"):
        CertificateAuthority.load(b"hello", two.key_pem, clock)
    with pytest.raises(UserError):
        server_context(one.certificate_pem, two.key_pem)
    with pytest.raises(UserError):
        server_context(b"hello", b"hello")
    with pytest.raises(UserError):
        client_context(ca_pem=b"hello")
    with pytest.raises(UserError, match="both"):
        client_context(certificate_pem=one.certificate_pem)
