"""Approved signing requests get a certificate of the cluster's CA; unfit ones fail; old ones go."""

import asyncio
import base64

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from atoll.app.assembly import ApiOptions, assemble, bootstrap
from atoll.base.chance import Chance
from atoll.client.port import Object
from atoll.cluster.apiserver.ports import User
from atoll.cluster.store.memory import MemoryStore
from atoll.cluster.workloads.certificates.controller import CertificateSigner, lifetime
from atoll.cluster.workloads.certificates.rules import unfit
from atoll.cluster.workloads.common.context import Context
from atoll.kinds.builtin import CERTIFICATE_SIGNING_REQUESTS, CLUSTER_ROLE_BINDINGS
from atoll.runtime.informer import Informers
from atoll.runtime.virtual import LoopClock, run_virtual
from atoll.testing.cluster import new_cluster
from atoll.wire.ca import CertificateAuthority, is_signed_by, subject_of


def csr_pem(name: str = "alice", organization: str = "devs", dns: str = "") -> bytes:
    subject = x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization), x509.NameAttribute(NameOID.COMMON_NAME, name)]
    )
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if dns:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(dns)]), critical=False)
    signed = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
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
    spec = {"signerName": "kubernetes.io/kube-apiserver-client", "usages": ["digital signature"]}
    assert unfit(spec).startswith("missing required usage")


def test_what_the_kubelets_signers_refuse() -> None:
    def why(signer: str, usages: list[str], name: str, organization: str, dns: str = "") -> str:
        request = base64.b64encode(csr_pem(name, organization, dns)).decode()
        return unfit({"signerName": f"kubernetes.io/{signer}", "usages": usages, "request": request})

    client, serving = ["digital signature", "client auth"], ["digital signature", "server auth"]
    node = ("system:node:one", "system:nodes")
    kubelet = "kube-apiserver-client-kubelet"
    assert why(kubelet, client, *node) == ""
    assert why(kubelet, client, *node, "one.example") == "DNS subjectAltNames are not allowed"
    assert why(kubelet, client, "one", "system:nodes") == "subject common name does not begin with system:node:"
    assert why(kubelet, client, "system:node:one", "devs") == "subject organization is not system:nodes"
    assert why(kubelet, serving, *node).startswith("usages did not match [client auth digital signature")
    assert why("kubelet-serving", serving, *node) == "DNS or IP subjectAltName is required"
    assert why("kubelet-serving", serving, *node, "one.example") == ""
    assert why("legacy-unknown", [], "x", "y") == ""


def test_a_kubelets_own_request_is_approved_where_it_may_be() -> None:
    """Approval asks by SubjectAccessReview whether the one who asked may create .../selfnodeclient or /nodeclient."""

    async def main() -> None:
        clock = LoopClock(asyncio.get_running_loop())
        assembly = assemble(MemoryStore(clock), clock, Chance(1), ApiOptions())
        await bootstrap(assembly)
        authority = CertificateAuthority.create("ca", clock)
        informers = Informers(assembly.client())
        signer = CertificateSigner(
            Context(assembly.controller_client, informers, clock, Chance(1)), authority.sign_request
        )
        task = asyncio.get_running_loop().create_task(signer.run())
        informers.start()
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
                "name": "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient"}  # fmt: skip
        group = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:nodes"}
        await assembly.client().create(
            CLUSTER_ROLE_BINDINGS, {"metadata": {"name": "rotate"}, "roleRef": role, "subjects": [group]}
        )
        one = User("system:node:one", ("system:nodes", "system:authenticated"))
        for name, user in (("own", one), ("other", User("admin", ("system:masters",)))):
            encoded = base64.b64encode(csr_pem("system:node:one", "system:nodes")).decode()
            spec = {"signerName": "kubernetes.io/kube-apiserver-client-kubelet", "request": encoded,
                    "usages": ["client auth", "digital signature"]}  # fmt: skip
            obj = {"metadata": {"name": name}, "spec": spec}
            await assembly.client(user).create(CERTIFICATE_SIGNING_REQUESTS, obj)
        strange = User("bob", ("system:authenticated",))
        encoded = base64.b64encode(csr_pem("system:node:one", "system:nodes")).decode()
        spec = {**spec, "request": encoded}
        await assembly.client(strange).create(CERTIFICATE_SIGNING_REQUESTS, {"metadata": {"name": "bob"}, "spec": spec})
        await asyncio.sleep(5)
        own = (await assembly.client().get(CERTIFICATE_SIGNING_REQUESTS, "own"))["status"]
        assert own["conditions"][0]["reason"] == "AutoApproved" and own["certificate"]
        assert "self kubelet" in own["conditions"][0]["message"]
        other = (await assembly.client().get(CERTIFICATE_SIGNING_REQUESTS, "other"))["status"]
        assert "self kubelet" not in other["conditions"][0]["message"] and other["certificate"]
        assert not (await assembly.client().get(CERTIFICATE_SIGNING_REQUESTS, "bob")).get("status")
        task.cancel()

    run_virtual(main())
