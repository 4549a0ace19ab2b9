"""Patches, selectors and field sets: what must hold for any input."""

import copy
import json

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from atoll.cluster.apiserver.extensions.structure import Structure, take
from atoll.kinds.decode import decode
from atoll.kinds.schemas import schema_for
from atoll.objects.apply import apply
from atoll.objects.compare import compare
from atoll.objects.fields import difference, intersection, of_value, paths, union
from atoll.objects.managed import Schema, update
from atoll.objects.patch_json import apply_json_patch, diff_json_patch, same
from atoll.objects.patch_merge import apply_merge_patch, diff_merge_patch
from atoll.objects.patch_strategic import apply_strategic_patch
from atoll.objects.paths import get, parse, show, with_value, without

keys = st.text(alphabet="ab~/.0", min_size=1, max_size=3)
scalars = st.none() | st.booleans() | st.integers(-3, 3) | st.text(alphabet="ab", max_size=2)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3))
objects = st.dictionaries(keys, values, max_size=4)


def has_null(value):
    if isinstance(value, dict):
        return any(item is None or has_null(item) for item in value.values())
    return isinstance(value, list) and any(has_null(item) for item in value)


@given(values, values)
def test_json_patch_round_trip(old, new):
    before = copy.deepcopy(old)
    patch = diff_json_patch(old, new)
    if any(item["path"] == "" for item in patch) and not isinstance(new, dict | list):
        return  # a whole document is an object or a list
    assert same(apply_json_patch(old, patch), new)
    assert old == before


@given(objects, objects)
def test_merge_patch_round_trip(old, new):
    before = copy.deepcopy(old)
    if has_null(new):
        return  # merge patches can't say null
    assert same(apply_merge_patch(old, diff_merge_patch(old, new)), new)
    assert old == before


@given(objects, objects)
def test_merge_patch_is_idempotent(old, patch):
    once = apply_merge_patch(old, patch)
    assert same(apply_merge_patch(once, patch), once)


names = st.sampled_from("abcd")
containers = st.lists(
    st.fixed_dictionaries({"name": names}, optional={"image": names, "command": st.lists(names, max_size=2)}),
    max_size=4,
    unique_by=lambda item: item["name"],
)
pod_specs = st.fixed_dictionaries(
    {"containers": containers},
    optional={
        "nodeSelector": st.dictionaries(names, names, max_size=2),
        "hostname": names,
        "priority": st.integers(0, 2),
    },
)
pods = st.builds(
    lambda labels, spec: {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": labels}, "spec": spec},
    st.dictionaries(names, names, max_size=2),
    pod_specs,
)
NODE = schema_for("", "v1", "Pod")
SCHEMA = Schema(NODE, "v1")
NOW = "2026-01-01T00:00:00Z"


@given(pods, pods)
def test_strategic_patch_merges_containers_by_name(old, patch):
    before = copy.deepcopy(old)
    result = apply_strategic_patch(old, patch, NODE)
    assert old == before
    have = {item["name"]: item for item in result["spec"]["containers"]}
    assert len(have) == len(result["spec"]["containers"])
    assert set(have) == {item["name"] for item in (*old["spec"]["containers"], *patch["spec"]["containers"])}
    for item in patch["spec"]["containers"]:
        assert item.items() <= have[item["name"]].items()


@given(pods, st.permutations("abcd"))
def test_set_element_order_orders(old, order):
    assume(old["spec"]["containers"])  # upstream refuses to order an empty list
    listed = [{"name": name} for name in order]
    result = apply_strategic_patch(old, {"spec": {"$setElementOrder/containers": listed}}, NODE)
    found = [item["name"] for item in result["spec"]["containers"]]
    assert found == [name for name in order if name in found]


@given(pods, names)
def test_strategic_delete_directive(old, name):
    patch = {"spec": {"containers": [{"name": name, "$patch": "delete"}]}}
    left = [item["name"] for item in apply_strategic_patch(old, patch, NODE)["spec"]["containers"]]
    assert left == [item["name"] for item in old["spec"]["containers"] if item["name"] != name]


@given(pods, pods)
@settings(max_examples=200)
def test_apply_takes_what_it_says_and_owns_it(first, second):
    one = apply(None, first, SCHEMA, manager="one", now=NOW)
    two = apply(one, second, SCHEMA, manager="two", now=NOW, force=True)
    assert apply(two, second, SCHEMA, manager="two", now="later", force=True) == two
    mine = {
        path
        for entry in two["metadata"]["managedFields"]
        if entry["manager"] == "two"
        for path in paths(entry["fieldsV1"])
    }
    asked = set(paths(of_value(second, NODE))) - {".apiVersion", ".kind", ".metadata", ".metadata.name"}
    assert asked == mine
    for path in set(paths(of_value(second, NODE))) & {".spec.hostname", ".spec.priority"}:
        assert get(two, parse(path)) == get(second, parse(path))


@given(pods, pods)
def test_what_one_manager_drops_is_gone(first, second):
    one = apply(None, first, SCHEMA, manager="one", now=NOW)
    two = apply(one, second, SCHEMA, manager="one", now=NOW)
    assert settled(two) == settled(reordered(two, second))


def settled(obj):
    """The spec as the server keeps it; an empty list of containers is none."""
    spec = decode(obj, NODE)[0]["spec"]
    return {**spec, "containers": spec["containers"] or None}


def reordered(result, wanted):
    """`wanted` with its containers in the order of the result: apply keeps the order of what stays."""
    kept = (result.get("spec") or {}).get("containers") or ()
    order = {item["name"]: at for at, item in enumerate(kept)}
    spec = {**wanted["spec"], "containers": sorted(wanted["spec"]["containers"], key=lambda item: order[item["name"]])}
    return {**wanted, "spec": spec}


@given(pods, pods, pods)
def test_no_field_is_left_without_an_owner(first, second, third):
    assume(all(pod["spec"]["containers"] for pod in (first, second, third)))
    created = decode(first, NODE)[0]
    update(None, created, SCHEMA, manager="m0", now=NOW)
    for index, wanted in enumerate((second, third)):
        if not created["metadata"].get("managedFields"):
            return  # an object that nobody manages is not tracked, as upstream
        new = decode(wanted, NODE)[0]
        new["metadata"]["managedFields"] = created["metadata"].get("managedFields")
        update(created, new, SCHEMA, manager=f"m{index + 1}", now=NOW)
        created = new
    owned = {}
    for entry in created["metadata"].get("managedFields") or ():
        owned = union(owned, entry["fieldsV1"])
    bare = {"metadata": {}, "spec": {"containers": None}, "status": {}}
    assert owned == compare(bare, created, NODE)[0]


sets = st.recursive(
    st.just({}),
    lambda inner: st.dictionaries(st.sampled_from(["f:a", "f:b", 'k:{"name":"x"}', "."]), inner, max_size=3),
)


def members(fields):
    return set(paths(fields))


def clean(fields):
    """Keys on the way to nothing are not sets that anything writes."""
    return {key: clean(value) if key != "." else {} for key, value in fields.items()} if fields else {}


@given(sets, sets)
def test_set_algebra(left, right):
    left, right = clean({**left}), clean({**right})
    left.pop(".", None)
    right.pop(".", None)
    assert members(union(left, right)) == members(left) | members(right)
    assert members(difference(left, right)) == members(left) - members(right)
    assert members(intersection(left, right)) == members(left) & members(right)


@given(objects, st.lists(keys, min_size=1, max_size=3), scalars)
def test_values_at_paths(obj, steps, value):
    before = json.dumps(obj)
    path = tuple(steps)
    try:
        changed = with_value(obj, path, value)
    except ValueError:
        return  # the path leads into a scalar
    assert get(changed, path) == value
    assert get(without(changed, path), path, "gone") == "gone" or isinstance(get(changed, path[:-1]), list)
    assert json.dumps(obj) == before


@given(st.lists(st.text(alphabet="ab.", min_size=1, max_size=4) | st.integers(0, 9), min_size=1, max_size=4))
def test_paths_parse_as_shown(steps):
    assert parse(show(tuple(steps))) == tuple(steps)


CRD = Structure(
    {
        "type": "object",
        "properties": {
            "a": {"type": "object", "properties": {"b": {"type": "string", "default": "x"}}, "default": {}},
            "ab": {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string"}}}},
            "b": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        },
    }
)


@given(objects)
def test_pruning_and_defaulting_settle(obj):
    before = json.dumps(obj)
    taken = take(obj, CRD, [])
    dropped: list[str] = []
    assert take(taken, CRD, dropped) == taken
    assert dropped == []
    assert json.dumps(obj) == before
