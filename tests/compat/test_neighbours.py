"""Apache 5.3.3 and Pintle in one cluster: an Apache broker registers with our name servers beside a broker of ours.

Stock Java clients, who know our name servers only, use both brokers through them: every scenario here makes topics with
queues on each broker of the cluster and wants all that was sent.
"""
import json
import subprocess

import pytest

import java
from apache import ApacheBroker
from cluster import Cluster, wait_for
from remoting import Connection

ROUTE, ALL_TOPICS, CLUSTERS, MEMBERS, NO_TOPIC = 105, 206, 106, 901, 17
SCENARIOS = ["sync", "batch", "tags", "restart", "offsets", "once", "orderly", "share"]
TIMEOUT_S = 300  # a net for a hanging client, not a measure
APACHE = "broker-apache"


@pytest.fixture(scope="module")
def mixed():
    """Our cluster of one broker, and Apache's broker in it."""
    with Cluster("1m") as ours, ApacheBroker(APACHE, ours.namesrv) as theirs:
        wait_for(lambda: all(set(route(n, "TBW102")) == {"broker-a", APACHE} for n in ours.namesrv.split(";")), 30,
                 "a route of TBW102 with both brokers", 0.05)
        yield ours, theirs


def route(namesrv: str, topic: str) -> dict:
    """{broker: its addresses}"""
    with Connection(namesrv) as connection:
        answer = connection.ask(ROUTE, {"topic": topic, "acceptStandardJsonOnly": "true"})
        if answer.code == NO_TOPIC:
            return {}
        return {b["brokerName"]: b["brokerAddrs"] for b in json.loads(answer.body)["brokerDatas"]}


def test_registration(mixed):
    """What Apache's broker says of itself is what our name servers tell."""
    ours, theirs = mixed
    for namesrv in ours.namesrv.split(";"):
        assert route(namesrv, "TBW102")[APACHE] == {"0": theirs.address}
        assert set(route(namesrv, APACHE)) == {APACHE}  # every broker has a topic of its own name
        with Connection(namesrv) as connection:
            members = connection.ask(MEMBERS, {"clusterName": "DefaultCluster", "brokerName": APACHE}).body.decode()
            assert f'{{0:"{theirs.address}"}}' in members
            clusters = connection.ask(CLUSTERS).body.decode()
            assert '"clusterAddrTable":{"DefaultCluster":["broker-a","broker-apache"]}' in clusters


@pytest.fixture(scope="module")
def results(mixed, tmp_path_factory):
    ours, _ = mixed
    command = java.driver_command(",".join(SCENARIOS), "--namesrv", ours.namesrv,
                                  logs=tmp_path_factory.mktemp("client-log"))
    done = subprocess.run(command, text=True, capture_output=True, timeout=TIMEOUT_S)
    found = {line["scenario"]: line for line in map(json.loads, done.stdout.splitlines())}
    found["end"] = f"driver ended with {done.returncode}: {done.stderr[-2000:]}"
    return found


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_clients(scenario, results):
    assert scenario in results, results["end"]
    line = results[scenario]
    print(json.dumps(line))
    assert line["ok"], "\n".join(line["reasons"])


def test_new_topic_is_there_at_once(mixed):
    """Apache's broker registers a new topic with that topic alone; our name servers add it to what they have."""
    ours, theirs = mixed
    with Connection(theirs.address) as connection:
        assert connection.put_topic("OnApacheOnly", 2).code == 0
    for namesrv in ours.namesrv.split(";"):
        wait_for(lambda: set(route(namesrv, "OnApacheOnly")) == {APACHE}, 20, "the new topic's route")
        assert set(route(namesrv, "TBW102")) == {"broker-a", APACHE}


def test_restart_of_a_name_server(mixed):
    """Killed, it has our broker at once and Apache's with its next registration, at the latest after 30 s."""
    ours, _ = mixed
    ours.wait_restarted(ours.kill("namesrv"))
    for namesrv in ours.namesrv.split(";"):
        wait_for(lambda: set(route(namesrv, "TBW102")) == {"broker-a", APACHE}, 60, "both brokers again", 0.1)


def test_death_of_the_broker(mixed):
    """Its connection ends and its routes are gone; ours go on."""
    ours, theirs = mixed
    theirs.kill()
    for namesrv in ours.namesrv.split(";"):
        wait_for(lambda: set(route(namesrv, "TBW102")) == {"broker-a"}, 10, "the route without Apache's broker")
        assert route(namesrv, "OnApacheOnly") == {}
