"""Certificate signing requests: who asks, approval, signing."""

from typing import Any

from steps import Scenario

REQUEST = (
    "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUlITU1IVUNBUUF3RXpFUk1BOEdBMVVFQXd3SWNtVmpiM0prWldR"
    "d1dUQVRCZ2NxaGtqT1BRSUJCZ2dxaGtqTwpQUU1CQndOQ0FBU0lqMFVlK1dpSHlPZmtUSGpNNjFpRGdNUUw1OTRtOWhrZSsrMnZo"
    "OHdEVDlQd1VpMmJHd093CkNWaklVVkJ4ZndCUzY0cFdGZGRqK0NEOSsrYWlXNS9yb0FBd0NnWUlLb1pJemowRUF3SURSd0F3UkFJ"
    "Z1NUKzAKZTB0SzFhNVpUQjdhTlhxTGVEdTdKeDlNK1BXbEhyRUkrZFUxRjd3Q0lCeWk5SFhFdm54SXc0UHQxSFhocnpRegowaWdY"
    "emVRTUVRUSs4R2hwenNxNQotLS0tLUVORCBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0K"
)
MASTERS_REQUEST = (
    "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUlIZ01JR0hBZ0VBTUNVeEZ6QVZCZ05WQkFvTURuTjVjM1JsYlRw"
    "dFlYTjBaWEp6TVFvd0NBWURWUVFEREFGNApNRmt3RXdZSEtvWkl6ajBDQVFZSUtvWkl6ajBEQVFjRFFnQUV4UWdWcmp5Uy9lSysx"
    "a0RMWmJPbElWWWJscjdBCjQ0T2VsR0drQlpvL2lucTVkeitwbjNGZXdlZUVRajcrbDBqSGxQZ0JzMFNVcm5EYytIOUVZaFBNY3FB"
    "QU1Bb0cKQ0NxR1NNNDlCQU1DQTBnQU1FVUNJUUNnQjhTYXNrRWpYZHJneTRHTWtvckYyZDZ5WWlpMjkyeFJ2eFpsNjRmeQphZ0ln"
    "UmdudkhnRkxOQjcrTTNLSGNCa2FIUkgvdm9OamdBaFlxY3AvWG1OZyt6ND0KLS0tLS1FTkQgQ0VSVElGSUNBVEUgUkVRVUVTVC0t"
    "LS0tCg=="
)
CERTIFICATE = (
    "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1JSUJmRENDQVNPZ0F3SUJBZ0lVUmFPL2s4VXRkL1FRYUtiK1hCSFVZWXJoQm1z"
    "d0NnWUlLb1pJemowRUF3SXcKRXpFUk1BOEdBMVVFQXd3SWNtVmpiM0prWldRd0lCY05Nall4TVRJek1UYzFNREEwV2hnUE1qRXlO"
    "akV3TXpBeApOelV3TURSYU1CTXhFVEFQQmdOVkJBTU1DSEpsWTI5eVpHVmtNRmt3RXdZSEtvWkl6ajBDQVFZSUtvWkl6ajBECkFR"
    "Y0RRZ0FFeFFnVnJqeVMvZUsrMWtETFpiT2xJVllibHI3QTQ0T2VsR0drQlpvL2lucTVkeitwbjNGZXdlZUUKUWo3K2wwakhsUGdC"
    "czBTVXJuRGMrSDlFWWhQTWNxTlRNRkV3SFFZRFZSME9CQllFRkNTaTlYUmprMm5la0ZEeAprUitHSkRnakhYTTBNQjhHQTFVZEl3"
    "UVlNQmFBRkNTaTlYUmprMm5la0ZEeGtSK0dKRGdqSFhNME1BOEdBMVVkCkV3RUIvd1FGTUFNQkFmOHdDZ1lJS29aSXpqMEVBd0lE"
    "UndBd1JBSWdCMS9COXAyK3F2OHI2MFNyY3NFV3Nib28Ka2VsK3dTdGNzQ3JOQmRJRmRyOENJQXZXYUszZlJJOUpHSi80QTRBczJX"
    "YjRLaUhjMi9EVHZXWkM0c1pmb1NwZgotLS0tLUVORCBDRVJUSUZJQ0FURS0tLS0tCg=="
)
KIND = "certificatesigningrequests"
NAME = "certificates-good"

csr = Scenario("certificates")


def asked(name: str, **spec: Any) -> dict[str, Any]:
    spec = {"request": REQUEST, "signerName": "example.com/signer", "usages": ["client auth"], **spec}
    return {"metadata": {"name": name}, "spec": spec}


def change(id: str, sub: str, *, save: bool = False, user: str = "", **fields: Any) -> None:
    """`fields` of the status, written through a subresource."""
    body = {"$from": "csr", "$set": {f"status.{name}": value for name, value in fields.items()}}
    options: dict[str, Any] = {"sub": sub}
    if save:
        options["save"] = "csr"
    if user:
        options["user"] = user
    csr.update(KIND, NAME, body, id, **options)


client = "kubernetes.io/kube-apiserver-client"
for label, spec in {
    "bad-request": {"request": "bm90IGEgcmVxdWVzdA==", "signerName": client},
    "bad-all": {"request": "", "signerName": "nope", "usages": ["flying"]},
    "masters": {"request": MASTERS_REQUEST, "signerName": client},
    "legacy": {"signerName": "kubernetes.io/legacy-unknown"},
    "duplicate-usage": {"usages": ["client auth", "client auth"]},
    "no-usages": {"usages": []},
    "short": {"expirationSeconds": 60},
    "signer-path": {"signerName": "example.com/a/b"},
    "signer-domain": {"signerName": "Example/a"},
    "signer-labels": {"signerName": "example..com/A.b_c"},
    "signer-labels-two": {"signerName": "A.B/C.D"},
    "signer-underscore": {"signerName": "example.com/a.b_c"},
    "signer-empty": {"signerName": "/"},
    "signer-missing": {"signerName": ""},
    "not-base64": {"request": "*"},
}.items():
    csr.create(KIND, asked("certificates-x", **spec), id=label, query="dryRun=All")
csr.create(
    KIND, asked(NAME, username="ignored", groups=["ignored"], uid="ignored", extra={"a": ["b"]}), id="made", save="csr"
)
csr.update(KIND, NAME, {"$from": "csr", "$set": {"spec.usages": ["any"]}}, "spec-kept", save="csr")
csr.update(KIND, NAME, {"$from": "csr", "$set": {"metadata.labels": {"a": "b"}}}, "labelled", save="csr")


def condition(kind: str, status: str = "True", **fields: Any) -> dict[str, Any]:
    return {"type": kind, "status": status, "reason": "Tested", "message": "m", **fields}


change("approve-untyped", "approval", conditions=[condition("")])
change("approve-no-status", "approval", conditions=[{"type": "Approved"}])
change("approve-false", "approval", conditions=[condition("Approved", "False")])
change("approve-odd", "approval", conditions=[condition("Other", "Perhaps")])
change("approve-twice", "approval", conditions=[condition("Approved"), condition("Approved")])
change("approve-and-deny", "approval", conditions=[condition("Approved"), condition("Denied")])
change("approve-with-certificate", "approval", certificate=CERTIFICATE)
change("approve-by-status", "status", conditions=[condition("Approved")])

# who may do what: bob updates approval and status, but approves and signs only for example.org
rules = [
    {
        "apiGroups": ["certificates.k8s.io"],
        "resources": [KIND, f"{KIND}/approval", f"{KIND}/status"],
        "verbs": ["get", "update", "create"],
    },
    {
        "apiGroups": ["certificates.k8s.io"],
        "resources": ["signers"],
        "resourceNames": ["example.org/*"],
        "verbs": ["approve", "sign"],
    },
]
csr.create("clusterroles", {"metadata": {"name": "certificates-bob"}, "rules": rules})
csr.create(
    "clusterrolebindings",
    {
        "metadata": {"name": "certificates-bob"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "certificates-bob"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "bob"}],
    },
)
csr.get(KIND, NAME, "bob-reads", user="bob", settle=True)
change("bob-approves", "approval", user="bob", conditions=[condition("Approved")])
change("bob-signs", "status", user="bob", certificate=CERTIFICATE)
csr.create(KIND, asked("certificates-bob", signerName="example.org/s"), id="bob-asks", user="bob", save="bobs")
csr.update(
    KIND,
    "certificates-bob",
    {"$from": "bobs", "$set": {"status.conditions": [condition("Approved")]}},
    "bob-approves-own",
    sub="approval",
    user="bob",
)

change("approve", "approval", save=True, conditions=[condition("Approved")])
change("approve-again", "approval", save=True, conditions=[condition("Approved", message="other")])
change("approve-and-note", "approval", save=True, conditions=[condition("Approved"), condition("Noted", "False")])
change("unapprove", "approval", conditions=[])
change("deny-too", "approval", conditions=[condition("Approved"), condition("Denied")])
change("status-changes-approval", "status", save=True, conditions=[condition("Approved", message="third")])
change("status-denies", "status", conditions=[condition("Approved"), condition("Denied")])
change("status-fails", "status", save=True, conditions=[condition("Approved"), condition("Failed")])
change("status-unfails", "status", conditions=[condition("Approved")])
change("bad-certificate", "status", certificate="bm90")
change("request-as-certificate", "status", certificate=REQUEST)
change("empty-block", "status", certificate="LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCi0tLS0tRU5EIENFUlRJRklDQVRFLS0tLS0K")
change("certificate", "status", save=True, certificate=CERTIFICATE)
change("certificate-gone", "status", certificate=None)
change("certificate-other", "status", certificate=REQUEST)
csr.raw("table", "GET", csr.path(KIND, NAME), accept="application/json;as=Table;v=v1;g=meta.k8s.io")
for name in (NAME, "certificates-bob"):
    csr.delete(KIND, name)
csr.delete("clusterrolebindings", "certificates-bob")
csr.delete("clusterroles", "certificates-bob")

SCENARIOS = [csr]
