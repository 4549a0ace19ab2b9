"""Whatever is asked, in whatever order claims come and go: no device is given twice, counters and capacities are never
overdrawn, and a claim is refused only where no choice of devices would do (a plain search over all of them says so)."""

from __future__ import annotations

import itertools
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.scheduling.dra.allocate import Site, Wanted, search
from atoll.scheduling.dra.ledger import Ledger
from atoll.scheduling.dra.model import DeviceClass
from atoll.scheduling.dra.pools import Inventory
from atoll.scheduling.dra.results import allocations

DRIVER, TOTAL = "d.example.com", 4
CLASSES = {"any": DeviceClass("any"), "even": DeviceClass("even", ("even",))}


class Parity:
    """The selector `even`: devices with an even number; no CEL is needed to try the search."""

    def matches(self, expression, device):
        return expression == "even" and device.attributes["number"][1] % 2 == 0


devices = st.lists(
    st.fixed_dictionaries(
        {
            "group": st.integers(0, 1),  # an attribute to match
            "draws": st.integers(0, 2),  # of the shared counter, which has TOTAL
            "shared": st.booleans(),
            "tainted": st.booleans(),
        }
    ),
    min_size=1,
    max_size=5,
)
requests = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["any", "even"]),
        "count": st.integers(1, 3),
        "tolerant": st.booleans(),
        "part": st.sampled_from([None, 1, 3]),
    }
)
claims = st.lists(
    st.fixed_dictionaries(
        {"requests": st.lists(requests, min_size=1, max_size=2), "match": st.booleans(), "distinct": st.booleans()}
    ),
    min_size=1,
    max_size=2,
)


def inventory_of(found):
    listed = []
    for number, item in enumerate(found):
        device = {
            "name": f"d{number}",
            "attributes": {"number": {"int": number}, "group": {"int": item["group"]}},
            "capacity": {"size": {"value": "4"}},
        }
        if item["draws"]:
            counters = {"slots": {"value": str(item["draws"])}}
            device["consumesCounters"] = [{"counterSet": "all", "counters": counters}]
        if item["shared"]:
            device["allowMultipleAllocations"] = True
        if item["tainted"]:
            device["taints"] = [{"key": "bad", "effect": "NoSchedule"}]
        listed.append(device)
    pool = {"name": "p", "generation": 1, "resourceSliceCount": 2}
    counters = [{"name": "all", "counters": {"slots": {"value": str(TOTAL)}}}]
    made = Inventory()
    for name, more in (("a", {"devices": listed}), ("b", {"sharedCounters": counters})):
        made.put({"metadata": {"name": name}, "spec": {"driver": DRIVER, "pool": pool, "nodeName": "n", **more}})
    return made


def wanted_of(claim):
    listed = []
    for number, request in enumerate(claim["requests"]):
        exactly = {"deviceClassName": request["kind"], "count": request["count"]}
        if request["tolerant"]:
            exactly["tolerations"] = [{"operator": "Exists"}]
        if request["part"]:
            exactly["capacity"] = {"requests": {"size": str(request["part"])}}
        listed.append({"name": f"r{number}", "exactly": exactly})
    constraints = [{"matchAttribute": f"{DRIVER}/group"}] if claim["match"] else []
    constraints += [{"distinctAttribute": f"{DRIVER}/number"}] if claim["distinct"] else []
    return Wanted("ns/c", {"devices": {"requests": listed, "constraints": constraints}})


def allowed(found, request, number):
    item = found[number]
    return (request["kind"] == "any" or number % 2 == 0) and (request["tolerant"] or not item["tainted"])


def drawn(found, whole, shares):
    """Slots of the counter: a shared device draws once, however many have a part of it."""
    return sum(found[number]["draws"] for number in set(whole) | set(shares))


def holds(found, wanted, chosen, taken):
    """Whether a choice of devices (by claim and request) is allowed; `taken`: what was given before."""
    whole, shares, size = Counter(taken["whole"]), Counter(taken["shares"]), Counter(taken["size"])
    for claim, per_request in zip(wanted, chosen, strict=True):
        picked = [number for each in per_request for number in each]
        if claim["match"] and len({found[number]["group"] for number in picked}) > 1:
            return False
        if claim["distinct"] and len(set(picked)) < len(picked):
            return False
        for request, each in zip(claim["requests"], per_request, strict=True):
            for number in each:
                if not allowed(found, request, number):
                    return False
                if found[number]["shared"]:
                    shares[number] += 1
                    size[number] += request["part"] or 4
                else:
                    whole[number] += 1
    if any(count > 1 for count in whole.values()) or any(amount > 4 for amount in size.values()):
        return False
    return drawn(found, whole, shares) <= TOTAL


def brute_force(found, wanted, taken):
    """Whether any choice will do. Within one request a device is given once."""
    options = [
        [list(itertools.combinations(range(len(found)), request["count"])) for request in claim["requests"]]
        for claim in wanted
    ]
    per_claim = [list(itertools.product(*choices)) for choices in options]
    return any(holds(found, wanted, chosen, taken) for chosen in itertools.product(*per_claim))


def book(taken, found, results, sign=1):
    for result in results:
        number = int(result["device"][1:])
        if "shareID" in result:
            taken["shares"][number] += sign
            taken["size"][number] += sign * int(result["consumedCapacity"]["size"])
        else:
            taken["whole"][number] += sign
    for counts in taken.values():
        for number in [number for number, count in counts.items() if not count]:
            del counts[number]


@settings(max_examples=250, deadline=None)
@given(devices, st.lists(st.tuples(claims, st.booleans()), min_size=1, max_size=4))
def test_what_is_given_is_allowed_and_what_is_refused_is_impossible(found, rounds):
    inventory, ledger = inventory_of(found), Ledger()
    taken = {"whole": Counter(), "shares": Counter(), "size": Counter()}
    standing = []
    for wanted, free_one in rounds:
        if free_one and standing:
            gone = standing.pop(0)
            ledger.add(gone, -1)
            book(taken, found, gone, -1)
        where = Site("n", {}, inventory.of_node("n", {}), ledger, CLASSES, Parity())
        solution = search(where, [wanted_of(claim) for claim in wanted])
        assert (solution is not None) == brute_force(found, wanted, taken)
        if solution is None:
            continue
        chosen = [
            [
                [int(item.device.id[2][1:]) for item in claim.picked if item.request is request]
                for alternatives in claim.requests
                for request in alternatives
            ]
            for claim in solution
        ]
        assert holds(found, wanted, chosen, taken)
        for allocation in allocations(solution, "n", CLASSES, iter(map(str, itertools.count())).__next__):
            results = allocation["devices"]["results"]
            ledger.add(results)
            book(taken, found, results)
            standing.append(results)
        assert max(taken["whole"].values(), default=0) <= 1
        assert max(taken["size"].values(), default=0) <= 4
        assert drawn(found, taken["whole"], taken["shares"]) <= TOTAL
    for results in standing:
        ledger.add(results, -1)
    assert not any(ledger.is_used((DRIVER, "p", f"d{number}")) for number in range(len(found)))
