"""The Kubernetes objects that a scenario brings: inline or by file, with where each was written; queues are checked.

What is told here is told before anything runs: a LocalQueue without its ClusterQueue, a flavour that is not there,
cohorts that are their own parents. The API server's own checks come on top, when the objects are created.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from atoll.base.errors import UserError
from atoll.base.yamlfile import YamlReader, check_keys, plain
from atoll.client.port import Object
from atoll.cluster.gpus.settings import NAMESPACE as OPERATOR
from atoll.kinds import kueue
from atoll.objects.patch_merge import apply_merge_patch
from atoll.simulate.scenario.layers import child
from atoll.simulate.scenario.model import Given

_SERVERS = ("uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink")
"""What an API server writes into metadata: of a copy from another cluster it means nothing here."""


class ObjectReader(YamlReader):
    """Reads lists of objects."""

    def given(self, node: yaml.Node, key: str, at_seconds: float = 0.0) -> list[Given]:
        """One item: an object, or `file:` with any number of them."""
        if isinstance(node, yaml.MappingNode) and [str(name.value) for name, _ in node.value] == ["file"]:
            return self.from_file(node.value[0][1], f"{key}.file", at_seconds)
        return [self._one(node, key, self._source, at_seconds)]

    def from_file(self, node: yaml.Node, key: str, at_seconds: float = 0.0) -> list[Given]:
        """All documents of a file, and all items of those that are a List, as `kubectl get -o yaml` writes it."""
        path = self.path(node, key)
        try:
            documents = list(yaml.compose_all(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader))
        except OSError as error:
            raise self.fail(node, key, f"{path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise UserError(f"{path}: is not UTF-8 text", hint="name a YAML file of Kubernetes objects") from None
        except yaml.MarkedYAMLError as error:
            line = (error.problem_mark.line + 1) if error.problem_mark else 1
            raise UserError(f"{path}:{line}: not YAML: {error.problem}") from None
        except yaml.YAMLError as error:
            raise UserError(f"{path}: not YAML: {error}") from None
        found: list[Given] = []
        for item in documents:
            if item is not None:
                check_keys(item, str(path))
                found += [self._one(inner, "", str(path), at_seconds) for inner in _listed_in(item)]
        if not found:
            raise self.fail(node, key, f"{path}: there is no object in it")
        return found

    def path(self, node: yaml.Node, key: str) -> Path:
        """A file, seen from the scenario's own folder."""
        path = Path(self._source).parent / self.text(node, key)
        if not path.is_file():
            raise self.fail(node, key, f"there is no file {path}")
        return path

    def _one(self, node: yaml.Node, key: str, source: str, at_seconds: float) -> Given:
        where = f"{source}:{node.start_mark.line + 1}"
        obj = plain(node, source)
        if not isinstance(obj, dict):
            raise UserError(f"{where}: {key or 'the document'}: must be a Kubernetes object")
        for path in ("apiVersion", "kind"):
            if not isinstance(obj.get(path), str):
                raise UserError(f"{where}: {key or 'the object'}.{path}: missing")
        if not isinstance(obj.get("metadata"), dict) or not isinstance(obj["metadata"].get("name"), str):
            raise UserError(f"{where}: {key or 'the object'}.metadata.name: missing")
        metadata = {name: value for name, value in obj["metadata"].items() if name not in _SERVERS}
        return Given(at_seconds, {**obj, "metadata": metadata}, where)


def _listed_in(node: yaml.Node) -> list[yaml.Node]:
    """The items of a v1 List; else the object itself."""
    kind, items = child(node, "kind"), child(node, "items")
    listed = kind is not None and kind.value == "List" and isinstance(items, yaml.SequenceNode)
    return list(items.value) if listed and items is not None else [node]


def is_operators(obj: Object) -> bool:
    """Whether it is a ConfigMap of the GPU operator's namespace."""
    return bool(obj["kind"] == "ConfigMap" and obj["metadata"].get("namespace") == OPERATOR)


def operators_map(plugins: Mapping[str, Object]) -> Object:
    """With the device plugin's configurations by name; who names none has the plugin's defaults."""
    data = {name: yaml.safe_dump(found) for name, found in sorted({"default": {"version": "v1"}, **plugins}.items())}
    metadata = {"name": "atoll-simulate", "namespace": OPERATOR}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def patched(given: Iterable[Given], kind: str, name: str, patch: Object) -> tuple[list[Given], int]:
    """The objects with a merge patch on those of that kind and name, and how many those were."""
    found, hits = [], 0
    for item in given:
        if item.obj["kind"] == kind and item.obj["metadata"]["name"] == name:
            hits += 1
            item = Given(item.at_seconds, apply_merge_patch(item.obj, patch), item.where)
        found.append(item)
    return found, hits


def check_queues(given: Iterable[Given]) -> dict[str, set[str]]:
    """LocalQueues by namespace. Raises UserError naming file, line and what to do."""
    kinds: dict[str, dict[str, Given]] = {}
    for item in given:
        if item.obj["apiVersion"].startswith(f"{kueue.GROUP}/"):
            kinds.setdefault(item.obj["kind"], {})[item.obj["metadata"]["name"]] = item
    queues, flavors = kinds.get("ClusterQueue", {}), kinds.get("ResourceFlavor", {})
    for queue in queues.values():
        for name in _flavors(queue.obj):
            if name not in flavors:
                raise UserError(
                    f"{queue.where}: ClusterQueue {queue.obj['metadata']['name']}: there is no ResourceFlavor {name!r}",
                    hint=f"add it to queues, or use one of: {_listed(flavors)}",
                )
    _check_cycle(kinds.get("Cohort", {}))
    spaces: dict[str, set[str]] = {}
    for local in (item for item in given if item.obj["kind"] == "LocalQueue"):
        wanted = _spec(local.obj).get("clusterQueue")
        if not isinstance(wanted, str) or wanted not in queues:
            raise UserError(
                f"{local.where}: LocalQueue {local.obj['metadata']['name']}: there is no ClusterQueue {wanted!r}",
                hint=f"add it to queues, or use one of: {_listed(queues)}",
            )
        spaces.setdefault(local.obj["metadata"].get("namespace") or "default", set()).add(local.obj["metadata"]["name"])
    return spaces


def _flavors(queue: Object) -> Iterable[str]:
    """Those that it names; whatever else is written in their place is told by the API server."""
    for group in _mappings(_spec(queue).get("resourceGroups")):
        for flavor in _mappings(group.get("flavors")):
            if isinstance(flavor.get("name"), str):
                yield flavor["name"]


def _mappings(value: Any) -> Iterable[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _check_cycle(cohorts: Mapping[str, Given]) -> None:
    for start in cohorts:
        path = [start]
        while True:
            item = cohorts.get(path[-1])
            spec = _spec(item.obj) if item is not None else {}
            parent = spec.get("parentName") or spec.get("parent")
            if not parent or not isinstance(parent, str):
                break
            path.append(parent)
            if parent == start:
                raise UserError(
                    f"{cohorts[start].where}: cohorts {' → '.join(path)} are their own parents",
                    hint="take one parentName out: quota can only be borrowed along a tree",
                )
            if path.count(parent) > 1:
                break  # a circle further up: told at one of its own cohorts


def _spec(obj: Object) -> dict[str, Any]:
    spec = obj.get("spec")
    return spec if isinstance(spec, dict) else {}


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "(there are none)"
