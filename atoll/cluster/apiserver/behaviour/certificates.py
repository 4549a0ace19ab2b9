"""Certificate signing requests: what a write keeps, and upstream's checks (pkg/apis/certificates/validation).

Who asked and the times of conditions are written by admission, which knows the user and the time.
"""

from __future__ import annotations

import base64
import binascii
import re

from atoll.cluster.apiserver import names
from atoll.cluster.apiserver.behaviour import checks, strategy
from atoll.cluster.apiserver.behaviour.checks import Errors
from atoll.cluster.apiserver.behaviour.defaulting import Object
from atoll.cluster.apiserver.problems import bad_value, duplicate, not_allowed, not_supported, required

_USAGES = (
    "any", "cert sign", "client auth", "code signing", "content commitment", "crl sign", "data encipherment",
    "decipher only", "digital signature", "email protection", "encipher only", "ipsec end system", "ipsec tunnel",
    "ipsec user", "key agreement", "key encipherment", "microsoft sgc", "netscape sgc", "ocsp signing", "s/mime",
    "server auth", "signing", "timestamping",
)  # fmt: skip
_APPROVAL = ("Approved", "Denied")
_FINAL = ("Approved", "Denied", "Failed")
_TRUE = ("True",)
_STATUSES = ("False", "True", "Unknown")
_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]*)-----\r?\n(.*?)-----END \1-----", re.DOTALL)


def prepare_update(new: Object, old: Object) -> None:
    strategy.keep(new, old, "spec")
    strategy.keep_status(new, old)
    strategy.keep_generation(new, old)


def prepare_status(new: Object, old: Object) -> None:
    """Conditions of approval stay as they are; adding or taking one is left for the check to refuse."""
    strategy.status_only(new, old)
    conditions = _conditions(new)
    for kind in _APPROVAL:
        before = _of(old, kind)
        places = [index for index, item in enumerate(conditions) if item.get("type") == kind]
        if len(places) == len(before):
            for place, item in zip(places, before, strict=True):
                conditions[place] = item


def prepare_approval(new: Object, old: Object) -> None:
    """Only the conditions are taken."""
    conditions = _conditions(new)
    strategy.keep(new, old, "spec")
    status = dict(old.get("status") or {})
    status.pop("conditions", None)
    if conditions:
        status["conditions"] = conditions
    new["status"] = status
    strategy.keep_generation(new, old)


def validate(obj: Object) -> Errors:
    errors: Errors = []
    spec = obj.get("spec") or {}
    request, usages, signer = spec.get("request") or "", spec.get("usages") or [], spec.get("signerName", "")
    if not _is_request(request):
        errors.append(bad_value("spec.request", request, "PEM block type must be CERTIFICATE REQUEST"))
    if not usages:
        errors.append(required("spec.usages"))
    for index, usage in enumerate(usages):
        if usage not in _USAGES:
            errors.append(not_supported(f"spec.usages[{index}]", usage, _USAGES))
    for index, usage in checks.duplicates(usages):
        errors.append(duplicate(f"spec.usages[{index}]", usage))
    if signer == "kubernetes.io/legacy-unknown":
        errors.append(bad_value("spec.signerName", signer, "the legacy signerName is not allowed via this API version"))
    elif not signer:
        errors.append(required("spec.signerName"))
    else:
        _signer(errors, "spec.signerName", signer)
    seconds = spec.get("expirationSeconds")
    if seconds is not None and seconds < 600:
        why = "may not specify a duration less than 600 seconds (10 minutes)"
        errors.append(bad_value("spec.expirationSeconds", seconds, why))
    return errors


def _is_request(encoded: str) -> bool:
    try:
        return b"-----BEGIN CERTIFICATE REQUEST-----" in base64.b64decode(encoded)
    except (ValueError, binascii.Error):
        return False


def _signer(errors: Errors, path: str, signer: str) -> None:
    domain, slash, rest = signer.partition("/")
    if not slash or "/" in rest:
        why = "must be a fully qualified domain and path of the form 'example.com/signer-name'"
        errors.append(bad_value(path, signer, why))
        return
    _labels(errors, path, domain, names.dns_label)
    if "." not in domain:
        errors.append(bad_value(path, domain, "should be a domain with at least two segments separated by dots"))
    _labels(errors, path, rest, names.dns_subdomain)


def _labels(errors: Errors, path: str, part: str, check: names.NameCheck) -> None:
    """Only the first bad label is told."""
    for label in part.split("."):
        for message in check(label):
            errors.append(bad_value(path, part, f'validating label "{label}": {message}'))
            return


def validate_update(new: Object, old: Object) -> Errors:
    """A plain update keeps spec and status, so nothing is left to check."""
    return []


def validate_status(new: Object, old: Object) -> Errors:
    before_data, data = _certificate(old), _certificate(new)
    problem = "" if data == before_data else _certificate_problem(data)
    errors: Errors = []
    if problem:
        errors.append(bad_value("status.certificate", "<certificate data>", problem))
    errors += _validate_conditions(new, old)
    for kind in _APPROVAL:
        before, after = _of(old, kind), _of(new, kind)
        if len(after) > len(before):
            errors.append(not_allowed("status.conditions", f'updates may not add a condition of type "{kind}"'))
    if before_data and data != before_data:
        errors.append(not_allowed("status.certificate", "updates may not modify existing certificate content"))
    return errors


def validate_approval(new: Object, old: Object) -> Errors:
    return _validate_conditions(new, old)


def _validate_conditions(new: Object, old: Object) -> Errors:
    errors: Errors = []
    seen: set[str] = set()
    for index, item in enumerate(_conditions(new)):
        path = f"status.conditions[{index}]"
        kind, status = item.get("type", ""), item.get("status", "")
        if not kind:
            errors.append(required(f"{path}.type"))
        allowed = _TRUE if kind in _FINAL else _STATUSES
        if not status:
            errors.append(required(f"{path}.status"))
        elif status not in allowed:
            errors.append(not_supported(f"{path}.status", status, allowed))
        other = {"Approved": "Denied", "Denied": "Approved"}.get(kind)
        if other in seen:
            why = "Approved and Denied conditions are mutually exclusive"
            errors.append(bad_value("status.conditions", kind, why))
        if kind in seen:
            errors.append(duplicate(f"{path}.type", kind))
        seen.add(kind)
    for kind in _FINAL:
        if len(_of(new, kind)) < len(_of(old, kind)):
            why = f'updates may not remove a condition of type "{kind}"'
            errors.append(not_allowed("status.conditions", why))
    return errors


def _conditions(obj: Object) -> list[Object]:
    found: list[Object] = (obj.get("status") or {}).get("conditions") or []
    return found


def _of(obj: Object, kind: str) -> list[Object]:
    return [item for item in _conditions(obj) if item.get("type") == kind]


def _certificate(obj: Object) -> str:
    found: str = (obj.get("status") or {}).get("certificate") or ""
    return found


def _certificate_problem(encoded: str) -> str:
    """ "" for one or more PEM certificates, or none at all."""
    from cryptography import x509

    if not encoded:
        return ""
    blocks = 0
    try:
        for label, body in _BLOCK.findall(base64.b64decode(encoded)):
            if label != b"CERTIFICATE":
                return f'only CERTIFICATE PEM blocks are allowed, found "{label.decode()}"'
            if b":" in body:
                return "no PEM block headers are permitted"
            blocks += 1
            der = base64.b64decode(body)
            if not der:
                return "found CERTIFICATE PEM block containing 0 certificates"
            x509.load_der_x509_certificate(der)
    except (ValueError, binascii.Error):
        return "x509: malformed certificate"
    return "" if blocks else "must contain at least one CERTIFICATE PEM block"
