"""Addresses of load balancers, mirrored Endpoints, and what the proxies rewrite."""

import ipaddress

from atoll.base.addresses import load_balancer_addresses, load_balancer_offsets
from atoll.base.chance import Chance
from atoll.base.clock import ManualClock
from atoll.cluster.apiserver.proxy_rewrite import rewritten_page, rewritten_url
from atoll.cluster.network.forwarding import Balancer
from atoll.cluster.network.services import Forward, Listener, NodeAddress, plan_forwards
from atoll.cluster.workloads.endpoints.mirroring import is_mirrored, mirrored_slices
from atoll.cluster.workloads.loadbalancers.plan import Refused, choose, is_ours

POOL = ["10.0.255.0", "10.0.255.1"]
WEB = frozenset({("TCP", 80)})


def balanced(address=None, port=80, **spec):
    status = {"loadBalancer": {"ingress": [{"ip": address}]}} if address else {}
    return {
        "metadata": {"name": "s", "namespace": "n", "uid": "u"},
        "spec": {"type": "LoadBalancer", "ports": [{"port": port}], **spec},
        "status": status,
    }


def test_the_pool_is_the_end_of_the_service_range():
    assert load_balancer_offsets("10.0.0.0/16") == range(65280, 65535)
    found = load_balancer_addresses("10.0.0.0/24")
    assert (len(found), found[0], found[-1]) == (7, "10.0.0.248", "10.0.0.254")
    assert load_balancer_addresses("10.0.0.0/28") == []
    assert all(ipaddress.ip_address(item) in ipaddress.ip_network("10.0.0.0/24") for item in found)


def test_a_service_keeps_its_address_and_a_new_one_gets_a_free_one():
    assert choose(balanced("10.0.255.1"), POOL, {}, shared=False) == "10.0.255.1"
    assert choose(balanced(), POOL, {POOL[0]: [WEB]}, shared=False) == POOL[1]
    assert choose(balanced("192.0.2.1"), POOL, {}, shared=False) == POOL[0]
    assert isinstance(choose(balanced(), POOL, {POOL[0]: [WEB], POOL[1]: [WEB]}, shared=False), Refused)


def test_a_wanted_address_is_had_or_refused():
    assert choose(balanced(loadBalancerIP=POOL[1]), POOL, {}, shared=False) == POOL[1]
    assert isinstance(choose(balanced(loadBalancerIP=POOL[1]), POOL, {POOL[1]: [WEB]}, shared=False), Refused)
    assert isinstance(choose(balanced(loadBalancerIP="192.0.2.1"), POOL, {}, shared=False), Refused)


def test_the_machines_own_address_is_shared_by_ports():
    assert choose(balanced(port=81), POOL[:1], {POOL[0]: [WEB]}, shared=True) == POOL[0]
    assert isinstance(choose(balanced(), POOL[:1], {POOL[0]: [WEB]}, shared=True), Refused)


def test_other_classes_are_others():
    assert is_ours(balanced())
    assert not is_ours(balanced(loadBalancerClass="example.com/lb"))
    assert not is_ours({"spec": {"type": "NodePort"}})


def endpoint(address, node=None):
    return {"addresses": [address], "conditions": {"ready": True}, **({"nodeName": node} if node else {})}


def forwards(spec, *, status=None):
    service = {"metadata": {"name": "w", "namespace": "n"}, "spec": spec, "status": status or {}}
    found = {"addressType": "IPv4", "ports": [{"name": "", "port": 8080}]}
    found["endpoints"] = [endpoint("10.1.1.2", "one"), endpoint("10.1.2.2", "two")]
    nodes = [NodeAddress("one", "10.1.1.1", "10.1.1.0/24"), NodeAddress("three", "10.1.3.1", "10.1.3.0/24")]
    return plan_forwards([service], {("n", "w"): [found]}, nodes=nodes, pods={})


BOTH = (("10.1.1.2", 8080), ("10.1.2.2", 8080))


def test_a_load_balancers_address_and_external_ones_are_listened_on():
    spec = {"type": "LoadBalancer", "clusterIP": "10.2.0.5", "externalIPs": ["192.0.2.7"], "ports": [{"port": 80}]}
    found = forwards(spec, status={"loadBalancer": {"ingress": [{"ip": POOL[0]}]}})
    assert {listener.address for listener in found} == {"10.2.0.5", "192.0.2.7", POOL[0]}
    assert {forward.endpoints for forward in found.values()} == {BOTH}


def test_external_traffic_stays_on_the_node_where_the_policy_says_so():
    spec = {"type": "NodePort", "clusterIP": "10.2.0.5", "ports": [{"port": 80, "nodePort": 30000}]}
    found = forwards({**spec, "externalTrafficPolicy": "Local"})
    assert found[Listener("TCP", "10.1.1.1", 30000)].endpoints == BOTH[:1]
    assert Listener("TCP", "10.1.3.1", 30000) not in found
    assert forwards(spec)[Listener("TCP", "10.1.3.1", 30000)].endpoints == BOTH


def test_internal_traffic_stays_on_the_clients_node_where_the_policy_says_so():
    found = forwards({"clusterIP": "10.2.0.5", "internalTrafficPolicy": "Local", "ports": [{"port": 80}]})
    balancer = Balancer(found[Listener("TCP", "10.2.0.5", 80)], ManualClock(), Chance(1))
    assert balancer.order("10.1.1.9") == list(BOTH[:1])
    assert balancer.order("10.1.3.9") == []
    assert sorted(balancer.order("127.0.0.1")) == list(BOTH)


def test_clients_stay_with_their_endpoint_when_others_come():
    balancer = Balancer(Forward("s", BOTH[:1], 100), ManualClock(), Chance(1))
    balancer.chosen("10.1.1.9", BOTH[0])
    more = (*BOTH, ("10.1.4.2", 8080))
    assert {balancer.changed(Forward("s", more, 100)).order("10.1.1.9")[0] for _ in range(5)} == {BOTH[0]}


def endpoints(**more):
    return {
        "metadata": {"name": "e", "namespace": "n", "uid": "u", "labels": {"team": "a"}, **more.pop("metadata", {})},
        "subsets": [
            {
                "addresses": [{"ip": "10.0.0.1", "nodeName": "x"}, {"ip": "2001:db8::1"}],
                "notReadyAddresses": [{"ip": "10.0.0.2"}],
                "ports": [{"name": "p", "port": 80, "protocol": "UDP"}],
            }
        ],
        **more,
    }


def test_custom_endpoints_are_mirrored_by_family():
    four, six = mirrored_slices(endpoints())
    assert (four["addressType"], six["addressType"]) == ("IPv4", "IPv6")
    assert [item["addresses"][0] for item in four["endpoints"]] == ["10.0.0.1", "10.0.0.2"]
    assert [item["conditions"]["ready"] for item in four["endpoints"]] == [True, False]
    assert four["ports"] == [{"name": "p", "port": 80, "protocol": "UDP"}]
    assert four["metadata"]["labels"] == {
        "team": "a",
        "kubernetes.io/service-name": "e",
        "endpointslice.kubernetes.io/managed-by": "endpointslicemirroring-controller.k8s.io",
    }
    assert four["metadata"]["ownerReferences"][0]["kind"] == "Endpoints"


def test_what_has_no_mirror():
    service = {"metadata": {}, "spec": {}}
    assert is_mirrored(endpoints(), service)
    assert not is_mirrored(endpoints(), {"metadata": {}, "spec": {"selector": {"a": "b"}}})
    assert not is_mirrored(endpoints(), None)
    skip = {"labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}}
    assert not is_mirrored(endpoints(metadata=skip), service)


PREFIX, TARGET, ASKED = "/api/v1/namespaces/n/pods/p/proxy", "10.1.1.2:80", "127.0.0.1:6443"


def test_redirects_lead_through_the_proxy():
    def url(text):
        return rewritten_url(text, PREFIX, TARGET, ASKED)

    assert url("/a/b/") == f"{PREFIX}/a/b/"
    assert url(f"http://{TARGET}/a?q=1") == f"{PREFIX}/a?q=1"
    assert url("https://example.com/a") == "https://example.com/a"
    assert url("relative") == "relative"
    assert url(f"{PREFIX}/a") == f"{PREFIX}/a"


def test_links_of_a_page_lead_through_the_proxy():
    page = '<a class="x" href="/rewriteme">test</a><p href="/no">/a</p><img src=\'/i.png\'><a href="rel">'
    assert rewritten_page(page, PREFIX, TARGET, ASKED) == (
        f'<a class="x" href="{PREFIX}/rewriteme">test</a><p href="/no">/a</p><img src="{PREFIX}/i.png"><a href="rel">'
    )
