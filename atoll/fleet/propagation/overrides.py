"""What override policies change in a template for one cluster. Pure.

Order: ClusterOverridePolicies before OverridePolicies; among each, the less precisely matching first, then by
name; in a policy, rule by rule; in a rule image, command, args, labels, annotations, field, plaintext.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import Any

import yaml

from atoll.base.errors import UserError
from atoll.fleet.model import ClusterView
from atoll.fleet.propagation import pointer
from atoll.fleet.propagation.interpreters.table import pod_spec
from atoll.fleet.propagation.selectors import NO_MATCH, best_precision, mismatch
from atoll.objects.meta import copy

Object = dict[str, Any]
_IMAGE = re.compile(r"^(?:(?P<registry>(?:[^/]*[.:][^/]*|localhost))/)?(?P<repository>[^:@]+)(?P<tag>[:@].*)?$")


def matching(template: Object, policies: Iterable[Object]) -> list[Object]:
    """The policies that concern the template, in the order in which they are applied."""
    space = template["metadata"].get("namespace")
    found: list[tuple[bool, int, str, Object]] = []
    for policy in policies:
        metadata = policy["metadata"]
        namespace = metadata.get("namespace")
        if "deletionTimestamp" in metadata or (namespace and namespace != space):
            continue
        precision = best_precision(policy["spec"].get("resourceSelectors"), template, namespace)
        if precision != NO_MATCH:
            found.append((bool(namespace), precision, metadata["name"], policy))
    found.sort(key=lambda item: item[:3])
    return [policy for *_, policy in found]


def override(manifest: Object, policies: list[Object], cluster: ClusterView) -> tuple[Object, list[str]]:
    """The manifest for the cluster and the names of the policies that took part.

    The manifest given is left alone. Raises UserError, naming the policy, for a rule that can't be carried out.
    """
    out: Object | None = None
    names = []
    for policy in policies:
        rules = _rules(policy["spec"], cluster)
        if not rules:
            continue
        if out is None:
            out = copy(manifest)
        name = policy_label(policy)
        try:
            for overriders in rules:
                _apply(out, overriders)
        except UserError as error:
            raise UserError(f"{name}: {error.message}", hint=error.hint) from error
        names.append(name)
    return (manifest if out is None else out), names


def concerns(policy: Object, cluster: ClusterView) -> bool:
    """Whether any rule of the policy is for the cluster."""
    return bool(_rules(policy["spec"], cluster))


def policy_label(policy: Object) -> str:
    metadata = policy["metadata"]
    if metadata.get("namespace"):
        return f"OverridePolicy {metadata['namespace']}/{metadata['name']}"
    return f"ClusterOverridePolicy {metadata['name']}"


def _rules(spec: Object, cluster: ClusterView) -> list[Object]:
    """The overriders that concern the cluster; the deprecated form counts where there are no rules."""
    if spec.get("overrideRules"):
        rules = spec["overrideRules"]
        return [rule["overriders"] for rule in rules if not mismatch(rule.get("targetCluster"), cluster)]
    if spec.get("overriders") and not mismatch(spec.get("targetCluster"), cluster):
        return [spec["overriders"]]
    return []


def _apply(obj: Object, overriders: Object) -> None:
    for field, act in _ORDER:
        for item in overriders.get(field) or ():
            act(obj, item)


def _image(obj: Object, rule: Object) -> None:
    path = (rule.get("predicate") or {}).get("path")
    if path:
        value = pointer.get(obj, path)
        pointer.operate(obj, "replace", path, change_image(value, rule))
        return
    spec = pod_spec(obj)
    for container in (spec or {}).get("containers") or ():
        if container.get("image"):
            container["image"] = change_image(container["image"], rule)


def change_image(image: str, rule: Object) -> str:
    """`[registry/]repository[:tag|@digest]` with one component added to, replaced or removed. Raises UserError."""
    match = _IMAGE.match(image)
    if match is None:
        raise UserError(f"{image!r} is not an image name")
    parts = {"Registry": match["registry"] or "", "Repository": match["repository"], "Tag": match["tag"] or ""}
    component, operator, value = rule["component"], rule["operator"], rule.get("value") or ""
    if operator != "remove" and not value:
        raise UserError(f"imageOverrider: value must not be empty when operator is {operator}")
    if operator == "remove":
        parts[component] = ""
    elif component == "Tag":
        text = parts["Tag"] + value if operator == "add" and parts["Tag"] else value
        if not text.startswith((":", "@")):
            text = f"@{text}" if text.startswith("sha256:") else f":{text}"
        parts["Tag"] = text
    else:
        parts[component] = parts[component] + value if operator == "add" else value
    registry = f"{parts['Registry']}/" if parts["Registry"] else ""
    return registry + parts["Repository"] + parts["Tag"]


def _words(field: str) -> Callable[[Object, Object], None]:
    """command or args of the container that the rule names."""

    def act(obj: Object, rule: Object) -> None:
        values = rule.get("value") or []
        for container in (pod_spec(obj) or {}).get("containers") or ():
            if container.get("name") != rule["containerName"] or not values:
                continue
            words = list(container.get(field) or ())
            if rule["operator"] == "add":
                words += values
            else:
                words = [word for word in words if word not in values]
            container[field] = words

    return act


def _texts(field: str) -> Callable[[Object, Object], None]:
    """labels or annotations: replace and remove act on what is there only."""

    def act(obj: Object, rule: Object) -> None:
        texts = obj["metadata"].setdefault(field, {})
        for key, value in (rule.get("value") or {}).items():
            if rule["operator"] == "add" or (key in texts and rule["operator"] == "replace"):
                texts[key] = value
            elif key in texts:
                del texts[key]
        if not texts:
            del obj["metadata"][field]

    return act


def _field(obj: Object, rule: Object) -> None:
    """Operations inside a JSON or YAML document that is kept as text in one field."""
    text = pointer.get(obj, rule["fieldPath"])
    if not isinstance(text, str):
        raise UserError(f"fieldOverrider: {rule['fieldPath']} is not text")
    operations = rule.get("json") or rule.get("yaml") or []
    as_json = bool(rule.get("json"))
    try:
        document = json.loads(text) if as_json else yaml.load(text, yaml.CSafeLoader)
    except (ValueError, yaml.YAMLError) as error:
        kind = "JSON" if as_json else "YAML"
        raise UserError(f"fieldOverrider: {rule['fieldPath']} is not {kind}: {error}") from error
    for operation in operations:
        pointer.operate(document, operation["operator"], operation["subPath"], copy(operation.get("value")))
    if as_json:
        result = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
    else:
        result = yaml.dump(document, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True)
    pointer.operate(obj, "replace", rule["fieldPath"], result)


def _plaintext(obj: Object, rule: Object) -> None:
    pointer.operate(obj, rule["operator"], rule["path"], copy(rule.get("value")))


_ORDER: tuple[tuple[str, Callable[[Object, Object], None]], ...] = (
    ("imageOverrider", _image),
    ("commandOverrider", _words("command")),
    ("argsOverrider", _words("args")),
    ("labelsOverrider", _texts("labels")),
    ("annotationsOverrider", _texts("annotations")),
    ("fieldOverrider", _field),
    ("plaintext", _plaintext),
)
