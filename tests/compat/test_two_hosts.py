"""Two hosts of Pintle form one cluster: a name server and a broker on each, one list of name servers for both.

Played once by two addresses of this machine and once, where root may make them, by two network namespaces on a bridge,
in which everything listens on 0.0.0.0 and nobody is told its own address.
"""
import json
import os
import subprocess
from dataclasses import dataclass

import pytest

from apache import free_port_block
from cluster import Cluster, wait_for
from remoting import PULL_NOT_FOUND, Connection, messages

ROUTE = 105


@dataclass
class Host:
    name: str  # of its broker
    address: str
    listen: str
    prefix: tuple = ()
    cluster: Cluster = None
    names: str = ""  # of its name server
    broker: str = ""


def network(*command, check: bool = True):
    return subprocess.run(["ip", *command], capture_output=True, text=True, check=check)


def make_namespaces() -> list:
    """A bridge with this process on it and two namespaces behind it; skips where that is not allowed."""
    tag, net = f"pn{os.getpid()}", f"10.231.{os.getpid() % 250}"
    try:
        network("link", "add", f"{tag}br", "type", "bridge")
    except (OSError, subprocess.CalledProcessError) as e:
        pytest.skip(f"no network namespaces here: {getattr(e, 'stderr', e)}")
    network("addr", "add", f"{net}.1/24", "dev", f"{tag}br")
    network("link", "set", f"{tag}br", "up")
    hosts = []
    for i, letter in enumerate("ab"):
        inside = f"{tag}{letter}"
        network("netns", "add", inside)
        network("link", "add", f"{inside}0", "type", "veth", "peer", "name", "eth0", "netns", inside)
        network("link", "set", f"{inside}0", "master", f"{tag}br", "up")
        network("-n", inside, "addr", "add", f"{net}.{i + 2}/24", "dev", "eth0")
        network("-n", inside, "link", "set", "eth0", "up")
        network("-n", inside, "link", "set", "lo", "up")
        hosts.append(Host(f"broker-{letter}", f"{net}.{i + 2}", "0.0.0.0", ("ip", "netns", "exec", inside)))
    return hosts


def remove_namespaces():
    tag = f"pn{os.getpid()}"
    for letter in "ab":
        network("netns", "del", f"{tag}{letter}", check=False)  # takes its end of the pair along
    network("link", "del", f"{tag}br", check=False)


def start(hosts: list, folder) -> None:
    port = free_port_block(8)
    servers = ";".join(f"{h.address}:{port}" for h in hosts)
    for host in hosts:
        conf = folder / f"{host.name}.conf"
        conf.write_text(f"[cluster]\nlisten = {host.listen}\nadminFrom = any\nnamesrvAddr = {servers}\n"
                        f"[namesrv ns]\nport = {port}\n[broker {host.name}]\nport = {port + 4}\n")
        host.cluster = Cluster(file=conf, ports=(), prefix=host.prefix)
        host.names, host.broker = f"{host.address}:{port}", f"{host.address}:{port + 4}"


@pytest.fixture(scope="module", params=["addresses", "namespaces"])
def hosts(request, tmp_path_factory):
    if request.param == "addresses":
        made = [Host(f"broker-{c}", f"127.0.0.{i + 2}", f"127.0.0.{i + 2}") for i, c in enumerate("ab")]
    else:
        request.addfinalizer(remove_namespaces)
        made = make_namespaces()
    try:
        start(made, tmp_path_factory.mktemp("hosts"))
        yield made
    finally:
        for host in made:
            if host.cluster:
                host.cluster.stop()
                host.cluster.remove()


def brokers(namesrv: str, topic: str) -> dict:
    """{broker: address of its master}"""
    with Connection(namesrv) as connection:
        answer = connection.ask(ROUTE, {"topic": topic, "acceptStandardJsonOnly": "true"})
    told = json.loads(answer.body or b'{"brokerDatas":[]}')
    return {b["brokerName"]: b["brokerAddrs"]["0"] for b in told["brokerDatas"]}


def wait_brokers(hosts: list, topic: str, wanted: list):
    for host in hosts:
        wait_for(lambda: brokers(host.names, topic) == {h.name: h.broker for h in wanted}, 30,
                 f"{topic} on {[h.name for h in wanted]} at {host.names}", 0.02)


def test_routes(hosts):
    """Each name server tells of both brokers where they can be reached."""
    wait_brokers(hosts, "TBW102", hosts)
    for host in hosts:  # what is its own it was told over the bus, and by nobody else
        assert "one of this cluster" in host.cluster.log_tail(1000)


def test_traffic(hosts):
    """A topic on both, found through either name server."""
    for host in hosts:
        with Connection(host.broker) as connection:
            assert connection.put_topic("everywhere", 2).code == 0
    wait_brokers(hosts, "everywhere", hosts)
    for asked in hosts:
        for name, address in brokers(asked.names, "everywhere").items():
            with Connection(address) as connection:
                assert connection.send("everywhere", 0, f"{asked.name} to {name}".encode()).code == 0
    for host in hosts:
        with Connection(host.broker) as connection:
            def both_there():
                pulled = connection.answer(connection.post_pull("everywhere", "G", 0, 0))
                found = messages(pulled.body) if pulled.code != PULL_NOT_FOUND else []
                return len(found) == 2 and found
            bodies = {m.body for m in wait_for(both_there, 30, "both messages", 0.02)}
        assert bodies == {f"{h.name} to {host.name}".encode() for h in hosts}


def test_deaths(hosts):
    """A name server comes back, a host goes and comes back."""
    a, b = hosts
    a.cluster.wait_restarted(a.cluster.kill("namesrv"))
    wait_brokers(hosts, "everywhere", hosts)
    b.cluster.down()
    wait_brokers([a], "everywhere", [a])
    b.cluster.up()
    wait_brokers(hosts, "everywhere", hosts)
