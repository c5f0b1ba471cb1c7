"""The broker's configuration over the wire (GET_BROKER_CONFIG 26, UPDATE_BROKER_CONFIG 25): what is changed acts at once or
says that it will, survives deaths and restarts, and what must not be changed is refused. With PINTLE_JUDGE=apache the
tests that Apache can answer too run against it."""
import json
import os
import signal

import pytest

from cluster import Cluster, open_cluster, wait_for
from remoting import OK, Connection

UPDATE_CONFIG, GET_CONFIG = 25, 26
SYSTEM_ERROR, NO_PERMISSION, TOPIC_NOT_EXIST = 1, 16, 17
APACHE = os.environ.get("PINTLE_JUDGE") == "apache"
pintle_only = pytest.mark.skipif(APACHE, reason="says how Pintle does it")


@pytest.fixture(scope="module")
def single():
    with open_cluster("1m") as opened:
        yield opened


def broker_address(cluster) -> str:
    role = "broker" if APACHE else "front"
    return f"127.0.0.1:{cluster.workers(role)[0].ports[0]}"


@pytest.fixture
def broker(single):
    with Connection(broker_address(single)) as connection:
        yield connection


@pytest.fixture
def namesrv(single):
    with Connection(single.namesrv.split(";")[0]) as connection:
        yield connection


def properties(text: str) -> dict:
    return dict(line.split("=", 1) for line in text.splitlines() if line and not line.startswith("#"))


def get(broker) -> dict:
    answer = broker.ask(GET_CONFIG)
    assert answer.code == OK, answer
    return properties(answer.body.decode())


def update(broker, **keys):
    return broker.ask(UPDATE_CONFIG, body="".join(f"{k}={v}\n" for k, v in keys.items()).encode())


def test_get_has_every_key_and_a_version(broker):
    answer = broker.ask(GET_CONFIG)
    assert answer.code == OK
    assert set(json.loads(answer.ext["version"])) == {"counter", "stateVersion", "timestamp"}
    found = properties(answer.body.decode())
    for key, value in {"brokerName": "broker-a", "brokerClusterName": "DefaultCluster", "brokerId": "0",
                       "brokerRole": "ASYNC_MASTER", "flushDiskType": "ASYNC_FLUSH", "brokerPermission": "6",
                       "autoCreateTopicEnable": "true", "autoCreateSubscriptionGroup": "true",
                       "maxMessageSize": "4194304", "defaultTopicQueueNums": "8", "brokerIP1": "127.0.0.1",
                       "regionId": "DefaultRegion", "registerNameServerPeriod": "30000"}.items():
        assert found[key] == value, key
    assert found["listenPort"] == broker_port(broker)


def broker_port(broker) -> str:
    return str(broker.socket.getpeername()[1])


def test_change_acts_at_once(broker, namesrv):
    before = json.loads(broker.ask(GET_CONFIG).ext["version"])
    assert broker.put_topic("ConfigTopic", 4).code == OK
    wait_for(lambda: namesrv.route("ConfigTopic"), 10, "the route")
    assert broker.send("ConfigTopic", 0, b"x" * 3000).code == OK
    assert update(broker, maxMessageSize=2000).code == OK
    assert get(broker)["maxMessageSize"] == "2000"
    assert broker.send("ConfigTopic", 0, b"x" * 3000).code == 13
    after = json.loads(broker.ask(GET_CONFIG).ext["version"])
    assert after["counter"] > before["counter"] and after["timestamp"] >= before["timestamp"]
    assert update(broker, maxMessageSize=4194304).code == OK
    assert broker.send("ConfigTopic", 0, b"x" * 3000).code == OK


def test_permission_reaches_pulls_and_routes(broker, namesrv):
    assert broker.put_topic("PermTopic", 2).code == OK
    wait_for(lambda: namesrv.route("PermTopic"), 10, "the route")

    def perm_is(wanted):
        body = json.loads(namesrv.ask(105, {"topic": "PermTopic", "acceptStandardJsonOnly": "true"}).body)
        return body["queueDatas"][0]["perm"] == wanted
    assert update(broker, brokerPermission=2).code == OK
    wait_for(lambda: perm_is(2), 10, "a route that cannot be read")
    pulled = broker.answer(broker.post_pull("PermTopic", "perm_group", 0, 0))
    assert pulled.code == NO_PERMISSION
    assert update(broker, brokerPermission=6).code == OK
    wait_for(lambda: perm_is(6), 10, "a route that can be read")


@pintle_only  # Apache's template topic has lost its leave to inherit after the first refusal
def test_auto_create_can_be_turned_off_and_on(broker):
    assert update(broker, autoCreateTopicEnable="false").code == OK
    assert broker.send("NobodyMadeThis", 0, b"x").code == TOPIC_NOT_EXIST
    assert update(broker, autoCreateTopicEnable="true").code == OK
    assert broker.send("SomebodyMadeThis", 0, b"x").code == OK


def test_black_list(broker):
    for key in ("brokerConfigPath", "configBlackList"):
        before = get(broker).get(key)
        assert update(broker, **{key: "/tmp/elsewhere"}).code == NO_PERMISSION, key
        assert get(broker).get(key) == before


@pintle_only
def test_refusals_name_the_key_and_change_nothing(broker):
    before = get(broker)
    for key in ("storePathRootDir", "storePathCommitLog", "rocketmqHome", "brokerName", "listenPort", "authConfigPath"):
        answer = update(broker, brokerPermission=4, **{key: "1"})
        assert answer.code == NO_PERMISSION and key in answer.remark, answer
    answer = update(broker, brokerPermision=4)
    assert answer.code == SYSTEM_ERROR and "brokerPermission" in answer.remark
    answer = update(broker, brokerPermission=9)
    assert answer.code == SYSTEM_ERROR and "a number from 0 to 7" in answer.remark
    assert broker.ask(UPDATE_CONFIG, body=b"x=\\u12").code == SYSTEM_ERROR
    assert broker.ask(UPDATE_CONFIG, body=b"regionId=" + b"r" * 70000).code == SYSTEM_ERROR
    assert update(broker, regionId="r" * 40000).code == SYSTEM_ERROR
    assert broker.ask(UPDATE_CONFIG).code == OK  # nothing to change is no mistake
    assert get(broker) == before


@pintle_only
def test_restart_keys_and_unused_keys_say_so(single, broker):
    answer = update(broker, flushDiskType="SYNC_FLUSH", sendMessageThreadPoolNums=48)
    assert answer.code == OK
    assert answer.remark == ("flushDiskType kept; in force after a restart of the cluster; "
                             "sendMessageThreadPoolNums kept; not used here")
    text = broker.ask(GET_CONFIG).body.decode()
    assert properties(text)["flushDiskType"] == "ASYNC_FLUSH"  # what is in force
    assert properties(text)["sendMessageThreadPoolNums"] == "48"
    assert "# from the next start: flushDiskType=SYNC_FLUSH" in text
    assert update(broker, flushDiskType="ASYNC_FLUSH").code == OK
    assert "next start" not in broker.ask(GET_CONFIG).body.decode()


@pintle_only
def test_changes_survive_deaths_and_restarts():
    with open_cluster("1m") as cluster:
        with Connection(broker_address(cluster)) as broker:
            assert update(broker, maxMessageSize=2000, flushDiskType="SYNC_FLUSH", regionId="a b\\\\c").code == OK
            cluster.wait_restarted(cluster.kill("store", sig=signal.SIGKILL))
            assert get(broker)["maxMessageSize"] == "2000"
            assert get(broker)["flushDiskType"] == "ASYNC_FLUSH"  # one worker's death is no restart
            assert broker.send("SurviveTopic", 0, b"x" * 3000).code == 13
        cluster.wait_restarted(cluster.kill("front", sig=signal.SIGKILL))
        with Connection(broker_address(cluster)) as broker:
            assert get(broker)["maxMessageSize"] == "2000"
            assert broker.send("SurviveTopic", 0, b"x" * 3000).code == 13
        kept = cluster.dir / "store" / "broker-a" / "config" / "broker.properties"
        wait_for(kept.exists, 10, "the file")
        cluster.down()
        assert "maxMessageSize=2000" in kept.read_text()
        cluster.up()
        with Connection(broker_address(cluster)) as broker:
            found = get(broker)
            assert found["maxMessageSize"] == "2000" and found["flushDiskType"] == "SYNC_FLUSH"
            assert found["regionId"] == "a b\\\\c"
            assert broker.send("SurviveTopic", 0, b"x" * 3000).code == 13


@pintle_only
def test_only_administrators_change(tmp_path):
    file = tmp_path / "cluster.conf"
    file.write_text("[cluster]\nadminFrom = 10.1.2.3\n[namesrv n]\n[broker broker-a]\n")
    with Cluster(file=file) as cluster, Connection(broker_address(cluster)) as broker:
        answer = update(broker, brokerPermission=4)
        assert answer.code == NO_PERMISSION and "adminFrom" in answer.remark and "127.0.0.1" in answer.remark
        answer = broker.put_topic("NotAllowed")
        assert answer.code == NO_PERMISSION and "adminFrom" in answer.remark
        assert get(broker)["brokerPermission"] == "6"  # reading is for all
