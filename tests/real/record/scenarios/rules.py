"""CEL rules of custom resources: what a definition is refused for, and what rules say of values."""

from typing import Any

from steps import Scenario

rules = Scenario("crd-rules")


def definition(spec: dict[str, Any], name: str = "gadgets", kind: str = "Gadget") -> dict[str, Any]:
    schema = {"type": "object", "properties": {"spec": spec}}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"plural": name, "singular": kind.lower(), "kind": kind, "listKind": f"{kind}List"}
    group = "rules.example.com"
    body = {"group": group, "scope": "Namespaced", "names": names, "versions": [version]}
    return {"metadata": {"name": f"{name}.{group}"}, "spec": body}


def text(**more: Any) -> dict[str, Any]:
    return {"type": "string", "maxLength": 20, **more}


PROPERTIES: dict[str, Any] = {
    "n": {"type": "integer"}, "share": {"type": "number"}, "on": {"type": "boolean"}, "name": text(),
    "when": text(format="date-time"), "for": text(format="duration"), "data": text(format="byte"),
    "list": {"type": "array", "maxItems": 5, "items": {"type": "integer"}},
    "names": {"type": "array", "maxItems": 5, "items": text()},
    "map": {"type": "object", "maxProperties": 5, "additionalProperties": text()},
    "any": {"x-kubernetes-int-or-string": True}, "a-b": {"type": "integer"},
    "items": {"type": "array", "maxItems": 5, "items": {"type": "object", "properties": {"key": text(),
                                                                                         "n": {"type": "integer"}}}},
    "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    "address": text(),
}  # fmt: skip


def ruled(*found: Any) -> dict[str, Any]:
    listed = [rule if isinstance(rule, dict) else {"rule": rule} for rule in found]
    return {"type": "object", "properties": PROPERTIES, "x-kubernetes-validations": listed}


for label, found in {
    "undefined": ["self.nope", "self.n > 1 && self.items.all(i, i.nope == 'x')", "self.open.x == 1",
                  "self.list['n'] == 1"],
    "types": ["self.n == 'a'", "self.name > 1", "self.n", "self.when == '2024'", "self.list.all(x, x == 'a')",
              "self.map.a == 1", "self.share > self.n", "self.for > duration('1h')", "self.__for__ > duration('1h')"],
    "functions": ["self.name.nope()", "size(self.n) > 1", "self.names.join(',') == 1", "nope(self)", "self.name +",
                  "self.items.map(i, i.key).exists(k, k == 1)", "object.x == 1", "authorizer.path('/x')"],
    "escaped": ["self.a-b == 1", "self.a__dash__b == 'x'", "self.metadata.name == 'x'"],
    "old": [{"rule": "self.n > 1", "optionalOldSelf": True}, {"rule": "oldSelf.n > 1", "optionalOldSelf": True},
            {"rule": "oldSelf.nope > 1"}],
    "messages": [{"rule": "true", "messageExpression": "1"}, {"rule": "true", "messageExpression": "self.nope"},
                 {"rule": "true", "message": " "}, {"rule": "true", "reason": "Nope"}],
}.items():  # fmt: skip
    rules.create("customresourcedefinitions", definition(ruled(*found)), id=f"refuse-{label}")

acting = ruled(
    {"rule": "!has(self.n) || self.n < 10", "message": "n is too big"},
    {"rule": "!has(self.name) || self.name != 'bad'", "messageExpression": "'no ' + self.name", "fieldPath": ".name"},
    {"rule": "!has(self.when) || self.when < timestamp('2025-01-01T00:00:00Z')"},
    {"rule": "!has(self.__for__) || self.__for__ <= duration('1h')", "reason": "FieldValueForbidden",
     "fieldPath": ".for"},
    {"rule": "!has(self.data) || self.data == bytes('abc')"},
    {"rule": "!has(self.list) || self.list.isSorted()"},
    {"rule": "!has(self.names) || self.names.all(x, self.names.exists_one(y, x == y))"},
    {"rule": "!has(self.map) || self.map.all(k, self.map[k].startsWith(k))"},
    {"rule": "!has(self.any) || type(self.any) == int"},
    {"rule": "!has(self.a__dash__b) || 10 / self.a__dash__b == 5"},
    {"rule": "!has(self.items) || self.items.all(i, i.n > 0)"},
    {"rule": "!has(self.share) || self.share < 0.5"},
    {"rule": "!has(self.on) || self.on"},
    {"rule": "!has(self.address) || ip(self.address).family() == 4"},
    {"rule": "!has(self.n) || !has(oldSelf.n) || self.n >= oldSelf.n", "message": "n may not shrink"},
    {"rule": "!oldSelf.hasValue() || !has(oldSelf.value().on) || has(self.on)", "optionalOldSelf": True},
)  # fmt: skip
rules.create("customresourcedefinitions", definition(acting))
KIND = "rules.example.com/v1/gadgets"
rules.get(KIND, id="served", settle=True)


def gadget(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "rules.example.com/v1", "kind": "Gadget", "metadata": {"name": name}, "spec": spec}


for label, spec in {
    "n": {"n": 10}, "name": {"name": "bad"}, "when": {"when": "2025-06-01T00:00:00Z"}, "for": {"for": "2h"},
    "for-seconds": {"for": "30s"}, "data": {"data": "YWJj"}, "other-data": {"data": "YWJk"}, "list": {"list": [2, 1]},
    "names": {"names": ["a", "a"]}, "map": {"map": {"a": "ab", "b": "c"}}, "any-int": {"any": 5},
    "any-text": {"any": "5"}, "divide": {"a-b": 0}, "dash": {"a-b": 2}, "items": {"items": [{"n": 1}, {"key": "x"}]},
    "share": {"share": 1}, "share-low": {"share": 0.25}, "off": {"on": False}, "address": {"address": "::1"},
    "no-address": {"address": "x"}, "several": {"n": 11, "name": "bad", "on": False},
}.items():  # fmt: skip
    rules.create(KIND, gadget(f"g-{label}", spec), id=f"value-{label}", query="dryRun=All")
rules.create(KIND, gadget("stands", {"n": 5, "on": True}), id="stands")
rules.patch(KIND, "stands", {"spec": {"n": 4}}, "shrink")
rules.patch(KIND, "stands", {"spec": {"n": 6}}, "grow")
rules.patch(KIND, "stands", {"spec": {"on": None}}, "lose")

SCENARIOS = [rules]
# What a rule may cost at most: each stands in a list of so many elements that it is just refused, and the factor tells.
costs = Scenario("crd-rule-costs", namespace=False)
SIZED: dict[str, Any] = {
    **PROPERTIES, "free": {"type": "string"}, "frees": {"type": "array", "items": {"type": "string"}},
    "wide": {"type": "object", "additionalProperties": {"type": "integer"}},
    "pick": {"type": "string", "enum": ["a", "longer"]}, "day": text(format="date"),
    "deep": {"type": "array", "maxItems": 7, "items": {"type": "array", "maxItems": 9, "items": text()}},
    "need": {"type": "array", "items": {"type": "object", "required": ["key", "n"], "properties": {
        "key": text(), "n": {"type": "integer"}}}},
    "whole": {"type": "object", "x-kubernetes-embedded-resource": True, "x-kubernetes-preserve-unknown-fields": True},
}  # fmt: skip


def priced(rule: dict[str, Any], most: int | None, properties: dict[str, Any] = SIZED) -> dict[str, Any]:
    item = {"type": "object", "properties": properties, "x-kubernetes-validations": [rule]}
    held = {"type": "array", "items": item, **({} if most is None else {"maxItems": most})}
    return definition({"type": "object", "properties": {"held": held}}, "costly", "Costly")


PRICES: dict[str, int] = {
    "self.n == 1": 2,
    "self.name == 'abc'": 3,
    "self.name != self.address": 12,
    "self.on": 2,
    "!self.on": 3,
    "has(self.n) && self.n > 3": 4,
    "has(self.n) || self.on": 3,
    "self.name < self.address": 12,
    "self.when < timestamp('2025-01-01T00:00:00Z')": 4,
    "self.day == self.day": 6,
    "self.for > duration('1h')": 4,
    "self.data == b'abc'": 3,
    "self.share > 1.5": 3,
    "self.name.startsWith('a')": 3,
    "self.name.endsWith(self.address)": 12,
    "self.name.contains(self.address)": 68,
    "self.name.matches('^[a-z]+$')": 20,
    "matches(self.name, self.address)": 184,
    "self.name.size() > 3": 4,
    "size(self.names) > 3": 4,
    "'a' in self.names": 7,
    "'a' in self.map": 3,
    "self.name in ['a', 'b', 'c']": 15,
    "self.list[0] == 1": 3,
    "self.names[0] == self.name": 13,
    "self.map['a'] == self.name": 13,
    "self.list.all(x, x > 1)": 28,
    "self.list.exists(x, x > 1)": 33,
    "self.list.exists_one(x, x > 1)": 24,
    "self.names.all(x, x == self.name)": 73,
    "self.names.map(x, x + 'a').all(y, y != 'b')": 144,
    "self.names.filter(x, x != 'a').size() == 2": 90,
    "self.list.map(x, x * 2).sum() > 3": 89,
    "self.map.all(k, k != 'a' && self.map[k] == 'b')": 48,
    "self.items.all(i, i.n > 0 && i.key.startsWith('x'))": 48,
    "self.items.all(i, self.items.exists(j, j.key == i.key))": 433,
    "self.items.map(i, i.key).exists(k, k == 'a')": 109,
    "self.deep.all(d, d.all(e, e == 'x'))": 353,
    "self.deep[0][1] == 'x'": 5,
    "self.any == 5": 3,
    "type(self.any) == int ? self.any < 5 : self.any == 'x'": 7,
    "self.on ? self.name == 'a' : self.names.all(x, x == 'b')": 30,
    "(self.on ? self.name : self.address) == 'abcdefghijklmnopqrstuvwxyz'": 7,
    "(self.name + self.address) == self.name": 30,
    "(self.names + ['x']).all(x, x == 'y')": 38,
    "self.pick == 'abcdefghijklm'": 3,
    "self.name.lowerAscii() == self.address.upperAscii()": 28,
    "self.name.substring(1, 3) == self.address.trim()": 28,
    "self.name.replace('a', 'bcd') == self.address": 28,
    "self.name.replace(self.address, 'b') == 'x'": 21,
    "self.name.split(',').all(p, p == 'a')": 339,
    "self.name.split(',', 3).all(p, p == 'a')": 31,
    "self.names.join(',') == self.name": 53,
    "self.names.join() == 'x'": 43,
    "self.name.find('[0-9]+') == 'x'": 21,
    "self.name.findAll('[0-9]+').size() > 1": 22,
    "self.name.indexOf('a') > 1": 11,
    "self.names.indexOf('a') > 1": 48,
    "self.list.lastIndexOf(2) > 1": 8,
    "self.list.isSorted() && self.list.min() > 1 && self.names.max() == 'x'": 63,
    "self.name.charAt(2) == 'x'": 4,
    "self.list.sum() > 3": 8,
    "isURL(self.name) && url(self.name).getScheme() == 'https'": 15,
    "url(self.name) == url(self.address)": 28,
    "isQuantity(self.name) && quantity(self.name).isGreaterThan(quantity('1Mi'))": 22,
    "quantity(self.name) == quantity(self.address)": 21,
    "sign(quantity(self.name).add(quantity('1'))) == 1": 14,
    "isIP(self.address) && ip(self.address).family() == 4": 22,
    "ip.isCanonical(self.address)": 18,
    "ip(self.address) == ip(self.name)": 21,
    "isCIDR(self.address) && cidr(self.address).prefixLength() > 8": 22,
    "cidr(self.address).containsIP(self.name)": 24,
    "cidr(self.address).containsIP(ip(self.name))": 24,
    "cidr(self.address).containsCIDR(self.name)": 27,
    "cidr(self.address).ip().isLoopback()": 12,
    "isSemver(self.name) && semver(self.name).major() > 1": 22,
    "!format.dns1123Label().validate(self.name).hasValue()": 261,
    "format.named('uuid').value().validate(self.name).hasValue()": 261,
    "sets.contains(self.names, ['a', 'b'])": 23,
    "sets.intersects(self.list, [1, 2])": 23,
    "sets.equivalent(self.names, self.names)": 55,
    "self.list.distinct().size() == self.list.size()": 68,
    "self.names.sort() == self.names": 69,
    "self.items.sortBy(i, i.key)[0].n == 1": 161,
    "self.list.slice(0, 3).size() == 3": 18,
    "self.deep.flatten().size() > 3": 22,
    "self.list.reverse()[0] == 1": 19,
    "lists.range(5).all(i, self.list[i] > 1)": 57,
    "self.names.all(i, v, v != string(i))": 73,
    "self.map.exists(k, v, k == v)": 33,
    "self.names.transformList(i, v, v + 'a').size() > 1": 125,
    "self.map.transformMap(k, v, v + 'x').all(k, k == 'z')": 119,
    "self.names.transformMapEntry(i, v, {v: i}).size() > 1": 205,
    "string(self.data) == self.name": 8,
    "bytes(self.name) == self.data": 14,
    "int(self.name) > 1": 4,
    "string(self.n) == self.name": 13,
    "dyn(self.name) == dyn(self.address)": 14,
    "cel.bind(x, self.names, x.all(y, y == 'a') && x.size() > 2)": 42,
    "cel.bind(x, self.name + 'a', x == self.name)": 32,
    "{'a': self.name, 'b': 'c'}.all(k, k == 'a')": 41,
    "[self.name, 'b'].all(x, x == 'abcdefg')": 21,
    "[1, 2, 3].all(x, x == self.n)": 29,
    "self.?name.orValue('x') == 'y'": 4,
    "optional.of(self.name).hasValue()": 4,
    "self.names[?0].orValue('') == 'x'": 5,
    "self.whole.metadata.name == self.whole.kind": 314580,
    "self.free.size() > 3 && self.n == 2": 6,
    "[self.name.size(), self.n].max() > 3": 18,
}
for index, (rule, price) in enumerate(PRICES.items()):
    costs.create("customresourcedefinitions", priced({"rule": rule}, 12_000_000 // price), id=f"price-{index}")
for label, (rule, most) in {
    "twice-free": ("self.free == self.free + 'a'", 10), "free-in-free": ("self.free.contains(self.free)", 1),
    "frees": ("self.frees.all(x, x == 'a')", 1), "frees-free": ("self.frees.all(x, x == self.free)", 1),
    "pairs": ("self.need.all(x, self.need.exists(y, y.key == x.key))", 1), "needed": ("self.need.all(x, x.n > 1)", 1),
    "wide": ("self.wide.all(k, self.wide[k] > 2)", 1), "unbounded": ("self.n > 1 || self.name == 'abc'", None),
    "cheap-unbounded": ("self.n > 1", None), "int-or-string": ("string(self.any) == self.free", 1),
    "pattern": ("self.free.matches('^([a-z]+[0-9]*)+$')", 1), "split": ("self.free.split('').all(x, x == '')", 1),
    "keys": ("self.wide.map(k, k).join(',') == self.free", 1), "distinct": ("self.need.distinct().size() > 1", 1),
    "joined": ("self.frees.join('').size() > 1", 1), "replaced": ("self.free.replace('a', 'bb') == self.free", 30),
}.items():  # fmt: skip
    costs.create("customresourcedefinitions", priced({"rule": rule}, most), id=f"limit-{label}")
dear = {"rule": "self.name == 'a'", "messageExpression": "self.free + self.free + self.free + string(self.data)"}
costs.create("customresourcedefinitions", priced(dear, 3), id="message")
costs.create("customresourcedefinitions", priced({**dear, "messageExpression": "self.frees.join(',')"}, 3), id="long")
shared = {"type": "object", "properties": {"n": {"type": "integer"}}, "x-kubernetes-validations": [
    {"rule": f"self.n > {index}"} for index in range(6)]}  # fmt: skip
for label, held in {
    "each-fits": {"type": "array", "items": shared, "maxItems": 4_000_000},
    "map-bounded": {"type": "object", "additionalProperties": shared, "maxProperties": 4_900_000},
    "map": {"type": "object", "additionalProperties": shared},
    "nested": {"type": "array", "maxItems": 3000, "items": {"type": "array", "maxItems": 1500, "items": shared}},
    "nested-unbounded": {"type": "array", "maxItems": 30, "items": {"type": "array", "items": shared}},
}.items():
    whole = definition({"type": "object", "properties": {"held": held}}, "costly", "Costly")
    costs.create("customresourcedefinitions", whole, id=f"total-{label}", query="dryRun=All")
root = definition({"type": "object", "properties": {"held": {"type": "string"}}}, "costly", "Costly")
schema = root["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
schema["x-kubernetes-validations"] = [{"rule": "self.metadata.name.matches('^([a-z]+[0-9]*)+([a-z]+[0-9]*)+$')"}]
costs.create("customresourcedefinitions", root, id="whole-resource", query="dryRun=All")

SCENARIOS = [rules, costs]

# A rule that goes wrong on a value, and messages that do: upstream shows the rule's message in place of the rule.
faults = Scenario("crd-rule-faults")
LONG = "'" + "m" * 5121 + "'"
FAULTS: dict[str, dict[str, Any]] = {
    "key": {"rule": "self.n > 0"},
    "key-told": {"rule": "self.n > 0", "message": " n is there and above 0 "},
    "key-expression": {"rule": "self.n > 0", "messageExpression": "'n'"},
    "key-reason": {"rule": "self.n > 0", "message": "no", "reason": "FieldValueForbidden", "fieldPath": ".n"},
    "index": {"rule": "self.list[3] == 1", "message": "the fourth is 1"},
    "index-rule": {"rule": "self.list[3] == 1"},
    "zero": {"rule": "1 / self.share2 == 1"},
    "zero-told": {"rule": "1 / self.share2 == 1", "message": "divides"},
    "map": {"rule": "self.map['x'] == 'y'", "message": "x is y"},
    "overload": {"rule": "self.any > 5"},
    "overload-told": {"rule": "self.any > 5", "message": "above 5"},
    "convert": {"rule": "int(self.name) > 5", "message": "a number"},
    "pattern": {"rule": "self.name.matches(self.address)", "message": "matches"},
    "fallback": {"rule": "self.share2 == 1", "message": "is 1", "messageExpression": "'is ' + self.names[0]"},
    "fallback-rule": {"rule": "self.share2 == 1", "messageExpression": "'is ' + self.names[0]"},
    "blank": {"rule": "self.share2 == 1", "message": "is 1", "messageExpression": "'  '"},
    "lines": {"rule": "self.share2 == 1", "message": "is 1", "messageExpression": "'a\\nb'"},
    "long": {"rule": "self.share2 == 1", "message": "is 1", "messageExpression": LONG},
}
for number, (label, rule) in enumerate(FAULTS.items()):
    kind = f"faulty{number}"
    schema = {"type": "object", "properties": {**PROPERTIES, "share2": {"type": "integer"}},
              "x-kubernetes-validations": [rule]}  # fmt: skip
    faults.create("customresourcedefinitions", definition(schema, f"{kind}s", kind.capitalize()), id=f"define-{label}")
    faults.get(f"rules.example.com/v1/{kind}s", id=f"served-{label}", settle=True)
    body = {"apiVersion": "rules.example.com/v1", "kind": kind.capitalize(), "metadata": {"name": label}}
    spec = {"list": [1], "map": {"a": "b"}, "any": "text", "name": "text", "address": "(", "share2": 0}
    faults.create(f"rules.example.com/v1/{kind}s", body | {"spec": spec}, id=f"value-{label}", query="dryRun=All")
SCENARIOS.append(faults)
