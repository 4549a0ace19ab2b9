"""What v1 shows twice: a pod's address and its addresses, a node's block and its blocks. One of the two is written."""

from steps import Scenario, pod

addresses = Scenario("addresses")
addresses.create("pods", pod("p"), save="p")
for name, status in {
    "one": {"podIP": "10.1.2.3"},
    "another": {"podIP": "10.1.2.4"},
    "several": {"podIPs": [{"ip": "10.1.2.5"}, {"ip": "fd00::5"}]},
    "several-and-one": {"podIP": "10.1.2.6", "podIPs": [{"ip": "10.1.2.6"}, {"ip": "fd00::6"}]},
    "in-disagreement": {"podIP": "10.1.2.7", "podIPs": [{"ip": "10.1.2.8"}]},
    "one-gone": {"podIP": None},
    "several-gone": {"podIPs": None},
    "gone": {"podIP": None, "podIPs": None},
    "wrong": {"podIP": "10.1.2"},
}.items():
    addresses.patch("pods", "p", {"status": status}, f"pod-{name}", sub="status")
for name, sets in {
    "put-one": {"status.podIP": "10.1.2.3"},
    "put-several": {"status.podIPs": [{"ip": "10.1.2.4"}]},
}.items():
    body = {"$from": "p", "$set": sets, "$unset": ["metadata.resourceVersion"]}
    addresses.update("pods", "p", body, f"pod-{name}", sub="status")
for name, spec in {
    "one": {"podCIDR": "10.0.0.0/24"},
    "several": {"podCIDRs": ["10.0.1.0/24", "fd00::/64"]},
    "in-disagreement": {"podCIDR": "10.0.2.0/24", "podCIDRs": ["10.0.3.0/24"]},
    "wrong": {"podCIDR": "10.0.2"},
    "none": {},
}.items():
    addresses.create("nodes", {"metadata": {"name": f"node-{name}"}, "spec": spec}, f"node-{name}")
addresses.patch("nodes", "node-none", {"spec": {"podCIDR": "10.0.4.0/24"}}, "node-given-one")
addresses.patch("nodes", "node-one", {"spec": {"podCIDRs": ["10.0.5.0/24"]}}, "node-changed")
for name in ("one", "several", "in-disagreement", "none"):
    addresses.delete("nodes", f"node-{name}")

SCENARIOS = [addresses]
