"""Checks of a WebhookClientConfig, which admission, CRD conversion and others have alike (pkg/util/webhook)."""

from __future__ import annotations

from urllib.parse import urlsplit

from atoll.cluster.apiserver import names
from atoll.cluster.apiserver.behaviour import checks
from atoll.cluster.apiserver.behaviour.checks import Errors
from atoll.cluster.apiserver.behaviour.defaulting import Object
from atoll.cluster.apiserver.problems import bad_value, not_allowed, required

_FORM = "; desired format: https://host[/path]"
_ACCEPTED = ("v1", "v1beta1")


def client_config(errors: Errors, path: str, client: Object) -> None:
    """`path`: the config's."""
    url: str | None = client.get("url")
    service: Object | None = client.get("service")
    if (url is None) == (service is None):
        errors.append(required(path, "exactly one of url or service is required"))
    elif url is not None:
        _url(errors, f"{path}.url", url)
    elif service is not None:
        _service(errors, f"{path}.service", service)


def _url(errors: Errors, path: str, url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme != "https":
        errors.append(bad_value(path, parts.scheme, f"'https' is the only allowed URL scheme{_FORM}"))
    host = parts.netloc.rpartition("@")[2]
    if not host:
        errors.append(bad_value(path, host, f"host must be specified{_FORM}"))
    if parts.username is not None:
        user = parts.netloc.rpartition("@")[0]
        errors.append(bad_value(path, user, "user information is not permitted in the URL"))
    if parts.fragment:
        errors.append(bad_value(path, parts.fragment, "fragments are not permitted in the URL"))
    if parts.query:
        errors.append(bad_value(path, parts.query, "query parameters are not permitted in the URL"))


def _service(errors: Errors, path: str, service: Object) -> None:
    for field in ("name", "namespace"):
        if not service.get(field):
            errors.append(required(f"{path}.{field}"))
    port = service.get("port", 443)
    if not 1 <= port <= 65535:
        why = "port is not valid: " + checks.inclusive_range(1, 65535)
        errors.append(bad_value(f"{path}.port", port, why))
    _path(errors, f"{path}.path", service.get("path") or "")


def _path(errors: Errors, field: str, path: str) -> None:
    if path in ("", "/"):
        return
    if path == "//":
        errors.append(bad_value(field, path, "segment[0] may not be empty"))
        return
    if not path.startswith("/"):
        errors.append(bad_value(field, path, "must start with a '/'"))
    for index, step in enumerate(path[1:].removesuffix("/").split("/")):
        if not step:
            errors.append(bad_value(field, path, f"segment[{index}] may not be empty"))
            continue
        for failure in names.dns_subdomain(step):
            errors.append(bad_value(field, path, f"segment[{index}]: {failure}"))


def conversion(errors: Errors, given: Object) -> None:
    """spec.conversion of a CRD, whose webhook upstream names by its internal fields."""
    webhook = given.get("webhook") or {}
    client, versions = webhook.get("clientConfig"), webhook.get("conversionReviewVersions") or []
    path = "spec.conversion.webhookClientConfig"
    if given.get("strategy") != "Webhook":
        why = "should not be set when strategy is not set to Webhook"
        if client is not None:
            errors.append(not_allowed(path, why))
        if versions:
            errors.append(not_allowed("spec.conversion.conversionReviewVersions", why))
        return
    if client is None:
        errors.append(required(path, "required when strategy is set to Webhook"))
    else:
        client_config(errors, path, client)
    _review_versions(errors, "spec.conversion.conversionReviewVersions", versions)


def _review_versions(errors: Errors, path: str, versions: list[str]) -> None:
    if not versions:
        errors.append(required(path))
        return
    seen: set[str] = set()
    for index, version in enumerate(versions):
        if version in seen:
            errors.append(bad_value(f"{path}[{index}]", version, "duplicate version"))
            continue
        seen.add(version)
        checks.named(errors, f"{path}[{index}]", version, names.dns_1035_label)
    if not seen & set(_ACCEPTED):
        errors.append(bad_value(path, versions, "must include at least one of v1, v1beta1"))
