"""Apache 5.3.3 and Pintle in one cluster: a broker of each kind, registered with a name server of each kind.

Stock Java clients and mqadmin, who know one of the name servers only, use both brokers through it: every scenario here
makes topics with queues on each broker of the cluster and wants all that was sent.
"""
import json
import subprocess
import sys
from pathlib import Path

import pytest

import fastjson
import java
from apache import ApacheBroker, ApacheNamesrv
from cluster import Cluster, wait_for
from remoting import Connection

sys.path.insert(0, str(Path(__file__).resolve().parent / "mqadmin"))

from admin import Admin  # noqa: E402

ROUTE, ALL_TOPICS, CLUSTERS, MEMBERS, NO_TOPIC = 105, 206, 106, 901, 17
SCENARIOS = {"pintle": ["sync", "batch", "offsets", "orderly"], "apache": ["tags", "restart", "once", "share"]}
TIMEOUT_S = 300  # a net for a hanging client, not a measure
APACHE = "broker-apache"
BOTH = {"broker-a", APACHE}


class Mixed:
    """Our cluster of one broker and one name server, Apache's broker and name server beside it."""

    def __init__(self, ours: Cluster, theirs: ApacheBroker, their_names: ApacheNamesrv):
        self.ours, self.theirs, self.their_names = ours, theirs, their_names
        self.address = {"broker-a": f"127.0.0.1:{ours.workers('front')[0].ports[0]}", APACHE: theirs.address}

    @property
    def names(self) -> dict:
        return {"pintle": self.ours.namesrv, "apache": self.their_names.address}

    def wait_brokers(self, topic: str, wanted: set, where: str = None):
        """Until the name servers, or one of them, tell just these brokers of the topic."""
        for kind, address in self.names.items():
            if where in (None, kind):
                wait_for(lambda: set(route(address, topic)) == wanted, 60, f"{kind}: {topic} on {wanted}", 0.05)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    conf = tmp_path_factory.mktemp("ours") / "cluster.conf"
    with ApacheNamesrv() as their_names:
        conf.write_text(f"[cluster]\nnamesrvAddr = {their_names.address}\n[namesrv ns]\n[broker broker-a]\n")
        with Cluster(file=conf) as ours, ApacheBroker(APACHE, f"{ours.namesrv};{their_names.address}") as theirs:
            opened = Mixed(ours, theirs, their_names)
            opened.wait_brokers("TBW102", BOTH)
            yield opened


@pytest.fixture(scope="module")
def admin(mixed, tmp_path_factory):
    with Admin(mixed.names["apache"], tmp_path_factory.mktemp("mqadmin-log")) as opened:
        yield opened


def route(namesrv: str, topic: str) -> dict:
    """{broker: its addresses}"""
    with Connection(namesrv) as connection:
        answer = connection.ask(ROUTE, {"topic": topic, "acceptStandardJsonOnly": "true"})
        if answer.code == NO_TOPIC:
            return {}
        return {b["brokerName"]: b["brokerAddrs"] for b in json.loads(answer.body)["brokerDatas"]}


def test_registration(mixed):
    """What each broker says of itself is what each name server tells."""
    for namesrv in mixed.names.values():
        for name, address in mixed.address.items():
            assert route(namesrv, "TBW102")[name] == {"0": address}
            assert set(route(namesrv, name)) == {name}  # every broker has a topic of its own name
            with Connection(namesrv) as connection:
                members = connection.ask(MEMBERS, {"clusterName": "DefaultCluster", "brokerName": name}).body.decode()
                assert f'{{0:"{address}"}}' in members
        with Connection(namesrv) as connection:
            clusters = connection.ask(CLUSTERS).body.decode()
            assert set(json.loads(clusters.split('"clusterAddrTable":')[1][:-1])["DefaultCluster"]) == BOTH


def test_mqadmin(mixed, admin):
    """clusterList and topicRoute are the same whichever name server is asked."""
    admin.topic("seen-by-all", queues=3)
    seen = {}
    for kind, admin.namesrv in mixed.names.items():
        listed = admin.run("clusterList").lines("DefaultCluster")
        assert {(line[1], line[2], line[3]) for line in listed} == {(n, "0", a) for n, a in mixed.address.items()}, kind
        told = fastjson.loads(admin.run("topicRoute", "-t", "seen-by-all").out)
        seen[kind] = {key: sorted(told[key], key=lambda row: row["brokerName"]) for key in ("brokerDatas", "queueDatas")}
        assert [(q["brokerName"], q["readQueueNums"], q["perm"]) for q in seen[kind]["queueDatas"]] == \
            [("broker-a", 3, 6), (APACHE, 3, 6)]
    assert seen["pintle"] == seen["apache"]


@pytest.fixture(scope="module")
def results(mixed, tmp_path_factory):
    found = {}
    for kind, scenarios in SCENARIOS.items():
        command = java.driver_command(",".join(scenarios), "--namesrv", mixed.names[kind],
                                      logs=tmp_path_factory.mktemp("client-log"))
        done = subprocess.run(command, text=True, capture_output=True, timeout=TIMEOUT_S)
        found |= {line["scenario"]: line for line in map(json.loads, done.stdout.splitlines())}
        found[kind] = f"driver ended with {done.returncode}: {done.stderr[-2000:]}"
    return found


@pytest.mark.parametrize("kind,scenario", [(k, s) for k, scenarios in SCENARIOS.items() for s in scenarios])
def test_clients(kind, scenario, results):
    """Through one name server, with both brokers."""
    assert scenario in results, results[kind]
    line = results[scenario]
    print(json.dumps(line))
    assert line["ok"], "\n".join(line["reasons"])


def test_new_topic_is_there_at_once(mixed):
    """Each broker registers a new topic with that topic alone; the name servers add it to what they have."""
    for name, topic in (("broker-a", "OnPintleOnly"), (APACHE, "OnApacheOnly")):
        with Connection(mixed.address[name]) as connection:
            assert connection.put_topic(topic, 2).code == 0
        mixed.wait_brokers(topic, {name})
    mixed.wait_brokers("TBW102", BOTH)


def test_list_changes(mixed, admin):
    """mqadmin takes Apache's name server from our broker, and gives it back."""
    admin.namesrv = mixed.names["pintle"]
    where = ("-b", mixed.address["broker-a"], "-k", "namesrvAddr")
    admin.run("updateBrokerConfig", *where, "-v", "127.0.0.1:1")
    mixed.wait_brokers("TBW102", {APACHE}, "apache")
    mixed.wait_brokers("TBW102", BOTH, "pintle")
    admin.run("updateBrokerConfig", *where, "-v", f"127.0.0.1:1;{mixed.names['apache']}")
    mixed.wait_brokers("TBW102", BOTH)
    mixed.wait_brokers("OnPintleOnly", {"broker-a"})


def test_restart_of_our_name_server(mixed):
    """Killed, it has our broker at once and Apache's with its next registration, at the latest after 30 s."""
    mixed.ours.wait_restarted(mixed.ours.kill("namesrv"))
    mixed.wait_brokers("TBW102", BOTH)


def test_restart_of_their_name_server(mixed):
    """Killed and started again, it has our broker as soon as it listens."""
    mixed.their_names.kill()
    with Connection(mixed.address["broker-a"]) as connection:  # meanwhile all goes on
        assert connection.put_topic("MadeMeanwhile", 2).code == 0
        assert connection.send("MadeMeanwhile", 0, b"goes on").code == 0
    mixed.their_names.start_again()
    wait_for(lambda: "broker-a" in route(mixed.names["apache"], "TBW102"), 30, "our broker again", 0.05)
    assert set(route(mixed.names["apache"], "MadeMeanwhile")) == {"broker-a"}


def test_death_of_their_broker(mixed):
    """Its connection ends and its routes are gone; ours go on."""
    mixed.theirs.kill()
    mixed.wait_brokers("TBW102", {"broker-a"})
    assert route(mixed.names["pintle"], "OnApacheOnly") == {}


def test_end_of_our_broker(mixed):
    """It says farewell to Apache's name server."""
    theirs = mixed.their_names.address
    mixed.ours.down()
    wait_for(lambda: route(theirs, "TBW102") == {}, 30, "the end of the last route", 0.05)
    mixed.ours.up()
    wait_for(lambda: set(route(theirs, "OnPintleOnly")) == {"broker-a"}, 30, "our broker again", 0.05)
