"""Approved signing requests get a certificate of the cluster's CA; unfit ones fail; old ones go."""

import asyncio
import base64

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from atoll.base.chance import Chance
from atoll.client.port import Object
from atoll.cluster.workloads.certificates.controller import CertificateSigner, lifetime, usages_wrong
from atoll.cluster.workloads.common.context import Context
from atoll.kinds.builtin import CERTIFICATE_SIGNING_REQUESTS
from atoll.runtime.informer import Informers
from atoll.runtime.virtual import LoopClock, run_virtual
from atoll.testing.cluster import new_cluster
from atoll.wire.ca import CertificateAuthority, is_signed_by, subject_of


def csr_pem() -> bytes:
    name = x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "devs"), x509.NameAttribute(NameOID.COMMON_NAME, "alice")]
    )
    signed = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(name)
        .sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    )
    return signed.public_bytes(serialization.Encoding.PEM)


def signing_request(name: str, usages: list[str]) -> Object:
    return {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": name},
        "spec": {
            "request": base64.b64encode(csr_pem()).decode(),
            "signerName": "kubernetes.io/kube-apiserver-client",
            "expirationSeconds": 3600,
            "usages": usages,
        },
    }


def test_an_approved_request_is_signed_and_forgotten_after_an_hour() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        clock = LoopClock(loop)
        made = await new_cluster(clock=clock)
        client = made.client
        authority = CertificateAuthority.create("ca", clock)
        informers = Informers(client)
        signer = CertificateSigner(Context(lambda _: client, informers, clock, Chance(1)), authority.sign_request)
        task = loop.create_task(signer.run())
        informers.start()
        for name, usages in (("alice", ["client auth"]), ("wrong", ["client auth", "server auth"])):
            await client.create(CERTIFICATE_SIGNING_REQUESTS, signing_request(name, usages))
        await asyncio.sleep(1)
        for name in ("alice", "wrong"):
            found = await client.get(CERTIFICATE_SIGNING_REQUESTS, name)
            assert "certificate" not in (found.get("status") or {})
            approved = {"conditions": [{"type": "Approved", "status": "True", "reason": "Test", "message": ""}]}
            await client.update(CERTIFICATE_SIGNING_REQUESTS, {**found, "status": approved}, subresource="approval")
        await asyncio.sleep(1)
        status = (await client.get(CERTIFICATE_SIGNING_REQUESTS, "alice"))["status"]
        certificate = x509.load_pem_x509_certificate(base64.b64decode(status["certificate"]))
        der = certificate.public_bytes(serialization.Encoding.DER)
        assert is_signed_by(der, authority.certificate_pem)
        subject = subject_of(der)
        assert (subject.common_name, subject.organizations) == ("alice", ("devs",))
        assert 3200 < subject.not_after - clock.wall() <= 3600
        refused = (await client.get(CERTIFICATE_SIGNING_REQUESTS, "wrong"))["status"]
        assert "certificate" not in refused
        assert refused["conditions"][-1]["type"] == "Failed"
        assert refused["conditions"][-1]["message"] == "invalid usage for client certificate: server auth"
        await asyncio.sleep(3700)
        assert (await client.list(CERTIFICATE_SIGNING_REQUESTS)).items == []
        task.cancel()

    run_virtual(main())


def test_limits() -> None:
    assert [lifetime(asked) for asked in (None, 1, 3600, 10**9)] == [365 * 86400, 600, 3600, 365 * 86400]
    assert usages_wrong("kubernetes.io/kubelet-serving", ["digital signature"]).startswith("missing required usage")
