"""Name servers of other hosts, played by a cluster of ours that has no broker: brokers register with them over TCP (namesrvAddr)."""
import json
import signal

import pytest

from cluster import Cluster, wait_for
from remoting import Connection

ROUTE, CLUSTERS, DELETE_TOPIC, DROP_IN_BROKER, UPDATE_CONFIG = 105, 106, 216, 215, 25
DEAD = "127.0.0.1:1;no-such-host.invalid:9876"  # these delay nobody


@pytest.fixture(scope="module")
def far(tmp_path_factory):
    conf = tmp_path_factory.mktemp("far") / "cluster.conf"
    conf.write_text("[namesrv far]\n")
    with Cluster(file=conf) as opened:
        yield opened


@pytest.fixture(scope="module")
def near(far, tmp_path_factory):
    """A broker without name servers of its own host, and with dead ones."""
    conf = tmp_path_factory.mktemp("near") / "cluster.conf"
    conf.write_text(f"[cluster]\nnamesrvAddr = {DEAD};localhost:{far.namesrv.rsplit(':', 1)[1]}\n[broker near]\nfronts = 2\n")
    with Cluster(file=conf, args=["--set", "enableSplitRegistration=true", "--set", "splitRegistrationSize=2"]) as opened:
        yield opened


def topic(cluster, name: str) -> dict:
    """{broker: (read queues, perm)}, of the name server's answer."""
    with Connection(cluster.namesrv) as connection:
        answer = connection.ask(ROUTE, {"topic": name, "acceptStandardJsonOnly": "true"})
    return {q["brokerName"]: (q["readQueueNums"], q["perm"]) for q in json.loads(answer.body or b'{"queueDatas":[]}')["queueDatas"]}


def broker(cluster) -> Connection:
    return Connection(f"127.0.0.1:{cluster.workers('front')[0].ports[0]}")


def wait_topic(cluster, name: str, wanted: dict):
    wait_for(lambda: topic(cluster, name) == wanted, 30, f"{name}: {wanted}", 0.01)


def configure(cluster, text: str):
    with broker(cluster) as connection:
        assert connection.ask(UPDATE_CONFIG, body=text.encode()).code == 0


def test_topics(far, near):
    """All that there is (in parts of two topics), a new one at once, a changed one, one that is gone."""
    address = f"127.0.0.1:{near.workers('front')[0].ports[0]}"
    wait_for(lambda: "near" in topic(far, "TBW102"), 30, "the first registration", 0.01)
    for name in ("near", "SELF_TEST_TOPIC", "DefaultCluster", "OFFSET_MOVED_EVENT"):
        assert "near" in topic(far, name), name
    with Connection(far.namesrv) as connection:
        assert f'"brokerAddrs":{{0:"{address}"}},"brokerName":"near"' in connection.ask(CLUSTERS).body.decode()
    with broker(near) as connection:
        assert connection.put_topic("made", 3).code == 0
        wait_topic(far, "made", {"near": (3, 6)})
        assert connection.put_topic("made", 5).code == 0
        wait_topic(far, "made", {"near": (5, 6)})
        # As mqadmin deletes: at the brokers, then at the name servers; nobody brings it back.
        assert connection.ask(DROP_IN_BROKER, {"topic": "made"}).code == 0
        with Connection(far.namesrv) as names:
            assert names.ask(DELETE_TOPIC, {"topic": "made"}).code == 0
        assert connection.put_topic("after", 1).code == 0
        wait_topic(far, "after", {"near": (1, 6)})
        assert topic(far, "made") == {}


def test_permission(far, near):
    with broker(near) as connection:
        assert connection.put_topic("permitted", 4).code == 0
    wait_topic(far, "permitted", {"near": (4, 6)})
    configure(near, "brokerPermission=4")
    wait_topic(far, "permitted", {"near": (4, 4)})
    configure(near, "brokerPermission=6")
    wait_topic(far, "permitted", {"near": (4, 6)})


def test_orders(far, near):
    """A name server that has an order for a topic makes it ordered at its brokers."""
    with broker(near) as connection, Connection(far.namesrv) as names:
        assert connection.put_topic("ordered", 4).code == 0
        assert names.ask(100, {"namespace": "ORDER_TOPIC_CONFIG", "key": "ordered", "value": "near:4"}).code == 0
        configure(near, "brokerPermission=4")  # whatever brings a whole registration
        configure(near, "brokerPermission=6")
        wait_for(lambda: b'"order":true' in connection.ask(351, {"topic": "ordered"}).body, 30, "an ordered topic", 0.05)


def test_list_changes(far, near):
    configure(near, f"namesrvAddr={DEAD}")
    wait_for(lambda: "near" not in topic(far, "TBW102"), 30, "the farewell", 0.01)
    configure(near, f"namesrvAddr={DEAD};{far.namesrv}")
    wait_for(lambda: "near" in topic(far, "TBW102"), 30, "the registration", 0.01)
    with broker(near) as connection:
        for bad in ("nowhere", "host:", "host:70000", ":9876", "a b:1"):
            answer = connection.ask(UPDATE_CONFIG, body=f"namesrvAddr={bad}".encode())
            assert answer.code == 1 and "host:port" in answer.remark, bad


def test_deaths(far, near):
    """Name server, front, store: it is registered again, and with its topics."""
    with broker(near) as connection:
        assert connection.put_topic("lasting", 2).code == 0
    far.wait_restarted(far.kill("namesrv"))
    wait_topic(far, "lasting", {"near": (2, 6)})
    for role in ("front", "store"):
        near.wait_restarted(near.kill(role))
        wait_topic(far, "lasting", {"near": (2, 6)})
        with broker(near) as connection:
            assert connection.put_topic(f"after-{role}", 2).code == 0
        wait_topic(far, f"after-{role}", {"near": (2, 6)})


def test_end(far, near):
    """A clean stop says so; and one name server that hangs does not keep it."""
    near.down()
    assert "near" not in topic(far, "TBW102")
    near.up()
    wait_topic(far, "lasting", {"near": (2, 6)})
    hanging = far.kill("namesrv", sig=signal.SIGSTOP)
    near.down(timeout_s=30)
    far.wait_restarted(hanging)  # who is stopped is taken for hung
    assert "near" not in topic(far, "TBW102")
