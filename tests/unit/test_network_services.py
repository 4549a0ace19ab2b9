"""What the service proxy listens on, and the cluster's DNS names."""

import pytest
from dnslib import QTYPE, RCODE, DNSRecord

from atoll.base.chance import Chance
from atoll.base.clock import ManualClock
from atoll.cluster.network.controller import NetworkConfig, process_node_cidr
from atoll.cluster.network.dns import DnsServer
from atoll.cluster.network.forwarding import Balancer
from atoll.cluster.network.records import build_zone
from atoll.cluster.network.services import Forward, Listener, NodeAddress, host_port_forwards, plan_forwards

A, B = ("10.1.0.2", 8080), ("10.1.0.3", 8080)


def service(name="web", **spec):
    spec = {"clusterIP": "10.2.0.5", "ports": [{"name": "http", "port": 80}], **spec}
    return {"metadata": {"name": name, "namespace": "ns"}, "spec": spec}


def endpoint(address, **more):
    return {"addresses": [address], "conditions": {"ready": True}, **more}


def slices(*endpoints, name="web", port=8080, port_name="http"):
    found = {
        "metadata": {"name": f"{name}-x", "namespace": "ns"},
        "addressType": "IPv4",
        "ports": [{"name": port_name, "port": port, "protocol": "TCP"}],
        "endpoints": list(endpoints),
    }
    return {("ns", name): [found]}


def plan(found, by_service, **more):
    nodes = [NodeAddress(f"node-{address}", address) for address in more.pop("nodes", [])]
    return plan_forwards([found], by_service, nodes=nodes, pods=more.pop("pods", {}), **more)


def test_cluster_ip_and_node_port_lead_to_ready_endpoints():
    found = plan(
        service(ports=[{"name": "http", "port": 80, "nodePort": 30080}], type="NodePort"),
        slices(endpoint(B[0]), endpoint(A[0]), endpoint("10.1.0.4", conditions={"ready": False})),
        nodes=["10.1.9.1"],
    )
    assert set(found) == {Listener("TCP", "10.2.0.5", 80), Listener("TCP", "10.1.9.1", 30080)}
    assert {forward.endpoints for forward in found.values()} == {(A, B)}


def test_without_endpoints_nothing_listens():
    assert plan(service(), {}) == {}
    assert plan(service(clusterIP="None"), slices(endpoint(A[0]))) == {}
    assert plan(service(type="ExternalName", externalName="x.y"), slices(endpoint(A[0]))) == {}


def test_terminating_endpoints_serve_where_no_other_does():
    leaving = endpoint(A[0], conditions={"ready": False, "serving": True, "terminating": True})
    (forward,) = plan(service(), slices(leaving)).values()
    assert forward.endpoints == (A,)
    (forward,) = plan(service(), slices(leaving, endpoint(B[0]))).values()
    assert forward.endpoints == (B,)


def test_ports_are_matched_by_name():
    assert plan(service(), slices(endpoint(A[0]), port_name="other")) == {}


def test_ports_chosen_in_host_mode_replace_the_containers():
    target = endpoint(A[0], targetRef={"kind": "Pod", "namespace": "ns", "name": "p"})
    pods = {("ns", "p"): {"metadata": {"annotations": {"atoll.dev/host-ports": "8080=43210"}}}}
    (forward,) = plan(service(), slices(target), pods=pods).values()
    assert forward.endpoints == ((A[0], 43210),)


def test_the_api_server_is_where_the_cluster_says():
    (forward,) = plan(service(), {}, overrides={("ns", "web"): ("127.0.0.1", 6443)}).values()
    assert forward.endpoints == (("127.0.0.1", 6443),)


def test_host_ports_are_the_nodes():
    container = {"ports": [{"containerPort": 80, "hostPort": 8081}]}
    pod = {
        "metadata": {"name": "p", "namespace": "ns"},
        "spec": {"containers": [container]},
        "status": {"hostIP": "10.1.9.1", "podIP": "10.1.9.7", "phase": "Running"},
    }
    (found,) = host_port_forwards([pod], ["10.1.9.1"]).items()
    assert found[0] == Listener("TCP", "10.1.9.1", 8081)
    assert found[1].endpoints == (("10.1.9.7", 80),)
    assert host_port_forwards([pod], ["10.1.8.1"]) == {}


def test_balancing_goes_round_and_affinity_stays():
    clock = ManualClock()
    even = Balancer(Forward("s", (A, B)), clock, Chance(1))
    assert {even.order("c")[0], even.order("c")[0]} == {A, B}
    sticky = Balancer(Forward("s", (A, B), affinity_seconds=60), clock, Chance(1))
    sticky.chosen("c", B)
    assert [sticky.order("c")[0] for _ in range(4)] == [B] * 4
    clock.advance(61)
    assert {sticky.order("c")[0], sticky.order("c")[0]} == {A, B}


def test_process_nodes_take_ranges_from_the_end():
    assert process_node_cidr("10.244.0.0/16", 0) == "10.244.255.0/24"
    assert process_node_cidr("10.244.0.0/16", 2) == "10.244.253.0/24"
    with pytest.raises(ValueError, match="no room"):
        process_node_cidr("10.244.0.0/24", 1)


def test_the_name_servers_address_is_the_tenth(tmp_path):
    config = NetworkConfig("c", "bridge", "10.244.0.0/16", "10.96.0.0/16", tmp_path)
    assert (config.dns_address, config.gateway) == ("10.96.0.10", "10.244.0.1")


@pytest.fixture
def server():
    headless = service("db", clusterIP="None", ports=[{"name": "sql", "port": 5432}])
    external = service("ext", type="ExternalName", externalName="example.com")
    by_service = slices(endpoint(A[0], hostname="db-0"), endpoint(B[0]), name="db", port=5432, port_name="sql")
    zone = build_zone("cluster.local", [service(), headless, external], by_service)
    return DnsServer(zone, Chance(1))


def ask(server, name, kind="A"):
    return DNSRecord.parse(server.answer(DNSRecord.question(name, kind).pack()))


def texts(reply):
    return sorted(str(record.rdata) for record in reply.rr)


@pytest.mark.parametrize(
    ("name", "kind", "wanted"),
    [
        ("web.ns.svc.cluster.local", "A", ["10.2.0.5"]),
        ("WEB.ns.svc.Cluster.Local", "A", ["10.2.0.5"]),
        ("web.ns.svc.cluster.local", "AAAA", []),
        ("db.ns.svc.cluster.local", "A", ["10.1.0.2", "10.1.0.3"]),
        ("db-0.db.ns.svc.cluster.local", "A", ["10.1.0.2"]),
        ("10-1-0-3.db.ns.svc.cluster.local", "A", ["10.1.0.3"]),
        ("10-9-8-7.ns.pod.cluster.local", "A", ["10.9.8.7"]),
        ("ext.ns.svc.cluster.local", "A", ["example.com."]),
        ("_http._tcp.web.ns.svc.cluster.local", "SRV", ["0 100 80 web.ns.svc.cluster.local."]),
        ("5.0.2.10.in-addr.arpa", "PTR", ["web.ns.svc.cluster.local."]),
        ("2.0.1.10.in-addr.arpa", "PTR", ["db-0.db.ns.svc.cluster.local."]),
        ("ns.svc.cluster.local", "A", []),
        ("dns-version.cluster.local", "TXT", ['"1.1.0"']),
    ],
)
def test_names_that_exist(server, name, kind, wanted):
    reply = ask(server, name, kind)
    assert RCODE[reply.header.rcode] == "NOERROR"
    assert texts(reply) == wanted


@pytest.mark.parametrize(
    "name", ["nope.ns.svc.cluster.local", "web.other.svc.cluster.local", "example.org", "web.ns.svc.cluster.local.x"]
)
def test_names_that_do_not(server, name):
    assert RCODE[ask(server, name).header.rcode] == "NXDOMAIN"


def test_srv_of_a_headless_service_names_each_endpoint(server):
    reply = ask(server, "_sql._tcp.db.ns.svc.cluster.local", "SRV")
    assert [str(record.rdata.target) for record in reply.rr] == [
        "db-0.db.ns.svc.cluster.local.",
        "10-1-0-3.db.ns.svc.cluster.local.",
    ]
    assert {str(record.rdata) for record in reply.ar} == {"10.1.0.2", "10.1.0.3"}


def test_what_is_no_query_is_refused_or_dropped(server):
    assert server.answer(b"short") is None
    broken = DNSRecord.question("web.ns.svc.cluster.local").pack()[:-3]
    assert DNSRecord.parse(server.answer(broken)).header.rcode == RCODE.FORMERR


def test_a_large_answer_over_udp_is_cut(server):
    many = [endpoint(f"10.1.1.{number}") for number in range(1, 200)]
    server.zone = build_zone("cluster.local", [service("db", clusterIP="None")], slices(*many, name="db"))
    query = DNSRecord.question("db.ns.svc.cluster.local").pack()
    cut = DNSRecord.parse(server.answer(query, most_bytes=512))
    assert cut.header.tc == 1
    whole = DNSRecord.parse(server.answer(query))
    assert len(whole.rr) == 199
    assert QTYPE[whole.rr[0].rtype] == "A"
