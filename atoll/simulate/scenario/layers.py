"""Policies are laid over the scenario as its own YAML, so that a mistake in one is told with the policy's line."""

from __future__ import annotations

import yaml


def laid_over(base: yaml.Node, patch: yaml.Node) -> yaml.Node:
    """JSON merge patch (RFC 7386) on composed YAML: mappings are merged, null takes a key out, the rest replaces."""
    if not isinstance(patch, yaml.MappingNode) or not isinstance(base, yaml.MappingNode):
        return patch
    pairs = {str(name.value): (name, value) for name, value in base.value}
    for name, value in patch.value:
        key = str(name.value)
        if value.tag == "tag:yaml.org,2002:null":
            pairs.pop(key, None)
        elif key in pairs:
            pairs[key] = (name, laid_over(pairs[key][1], value))
        else:
            pairs[key] = (name, value)
    return yaml.MappingNode(base.tag, list(pairs.values()), base.start_mark, base.end_mark)


def child(node: yaml.Node, key: str) -> yaml.Node | None:
    """The value of a key, None where there is none."""
    if not isinstance(node, yaml.MappingNode):
        return None
    return next((value for name, value in node.value if name.value == key), None)


def without(node: yaml.Node, key: str) -> yaml.Node:
    if not isinstance(node, yaml.MappingNode):
        return node
    kept = [(name, value) for name, value in node.value if name.value != key]
    return yaml.MappingNode(node.tag, kept, node.start_mark, node.end_mark)
