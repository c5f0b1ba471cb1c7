"""Our name server beside Apache's: the same requests to both, and the same answers.

Each test plays brokers of its own (names and topics that no other test uses), so that one name server of each kind serves
them all. Compared are the code, the header's fields and the body as JSON; remarks are free text. Where we differ on purpose
the test says so.
"""
import json
import re
import struct
import zlib

import pytest

from apache import ApacheNamesrv
from cluster import Cluster, wait_for
from remoting import Connection

OK, ERROR, UNSUPPORTED, NO_PERMISSION, NO_TOPIC, NOT_FOUND = 0, 1, 3, 16, 17, 22
PUT, GET, DELETE, REGISTER, LEAVE, ROUTE, CLUSTERS = 100, 101, 102, 103, 104, 105, 106
WIPE, ALL_TOPICS, DELETE_TOPIC, PUT_TOPIC, LIST, OF_CLUSTER, SYSTEM = 205, 206, 216, 217, 219, 224, 304
UNITS, UNIT_SUBS, UNIT_SUBS_UNUNIT, SET_OWN, GET_OWN, VERSION, ADD = 311, 312, 313, 318, 319, 322, 327
MEMBERS, HEARTBEAT = 901, 904


@pytest.fixture(scope="module")
def servers():
    """Addresses by name."""
    with Cluster("1m") as ours, ApacheNamesrv() as theirs:
        yield {"pintle": ours.namesrv.split(";")[0], "apache": theirs.address}


@pytest.fixture
def both(servers):
    pair = Both(servers)
    yield pair
    pair.close()


def parse(body: bytes):
    """JSON of fastjson: bare numbers as keys. Lists of names have no order."""
    if not body:
        return None
    return unordered(json.loads(re.sub(rb"([{,])(\d+):", rb'\1"\2":', body)))


def unordered(value):
    if isinstance(value, dict):
        return {k: unordered(v) for k, v in value.items()}
    if isinstance(value, list):
        return sorted((unordered(v) for v in value), key=lambda v: json.dumps(v, sort_keys=True))
    return value


class Both:
    """A connection to each; what is asked of one is asked of the other."""

    def __init__(self, servers: dict):
        self.servers = servers
        self.connections = {name: Connection(address) for name, address in servers.items()}

    def close(self):
        for connection in self.connections.values():
            connection.close()

    def again(self):
        """Closes both and connects anew."""
        self.close()
        self.connections = {name: Connection(address) for name, address in self.servers.items()}

    def each(self, code: int, ext: dict = None, body: bytes = b"") -> dict:
        return {name: c.ask(code, ext, body) for name, c in self.connections.items()}

    def ask(self, code: int, ext: dict = None, body: bytes = b"", keep=lambda body: body):
        """(code, fields, body), the same of both; `keep` takes from the body what is comparable."""
        answers = {name: (a.code, a.ext, keep(parse(a.body))) for name, a in self.each(code, ext, body).items()}
        assert answers["pintle"] == answers["apache"], (code, ext)
        return answers["pintle"]

    def route(self, topic: str, **more):
        return self.ask(ROUTE, {"topic": topic, "acceptStandardJsonOnly": "true", **more})

    def wait_route(self, topic: str, code: int):
        """Apache takes farewells and lost connections up a little later."""
        wait_for(lambda: all(a.code == code for a in self.each(ROUTE, {"topic": topic}).values()), 20,
                 f"{topic}: {code}", 0.02)


def version(counter: int, state: int = 0) -> dict:
    return {"counter": counter, "stateVersion": state, "timestamp": 1700000000000}


def topic(name: str, queues: int = 4, perm: int = 6, flag: int = 0) -> dict:
    return {"attributes": {}, "order": False, "perm": perm, "readQueueNums": queues, "topicFilterType": "SINGLE_TAG",
            "topicName": name, "topicSysFlag": flag, "writeQueueNums": queues}


def body_of(topics: list, data_version: dict) -> bytes:
    return json.dumps({"filterServerList": [], "topicConfigSerializeWrapper": {
        "dataVersion": data_version, "mappingDataVersion": version(0),
        "topicConfigTable": {t["topicName"]: t for t in topics},
        "topicQueueMappingDetailMap": {}, "topicQueueMappingInfoMap": {}}}).encode()


def packed_body_of(topics: list, data_version: dict) -> bytes:
    """The compressed form of old brokers."""
    parts = [json.dumps(data_version).encode(), len(topics)]
    parts += [f"{t['topicName']} {t['readQueueNums']} {t['writeQueueNums']} {t['perm']} SINGLE_TAG {{}}".encode()
              for t in topics]
    parts += [b"[]", 0]
    plain = b"".join(struct.pack(">i", p) if isinstance(p, int) else struct.pack(">i", len(p)) + p for p in parts)
    return zlib.compress(plain)


def broker(name: str, number: int = 0, port: int = 1, **more) -> dict:
    return {"brokerName": name, "brokerAddr": f"10.9.9.9:{port}", "clusterName": f"C-{name}", "brokerId": number,
            "haServerAddr": f"10.9.9.9:{port + 1}", "compressed": "false", **more}


def register(both: Both, who: dict, topics: list, counter: int = 1, state: int = 0, **more):
    body = body_of(topics, version(counter, state))
    return both.ask(REGISTER, {**who, "bodyCrc32": zlib.crc32(body) & 0x7FFFFFFF, **more}, body)


def queues(route) -> dict:
    return {q["brokerName"]: (q["readQueueNums"], q["perm"]) for q in route[2]["queueDatas"]}


def test_registration(both):
    a = broker("reg")
    assert both.route("reg-1")[0] == NO_TOPIC
    assert register(both, a, [topic("reg-1"), topic("reg-2", 8, 4)]) == (OK, {}, None)
    assert queues(both.route("reg-1")) == {"reg": (4, 6)}
    # The same version: what it says of known topics is not looked at, new ones are taken.
    register(both, a, [topic("reg-1", 16), topic("reg-3")])
    assert queues(both.route("reg-1")) == {"reg": (4, 6)}
    assert queues(both.route("reg-3")) == {"reg": (4, 6)}
    # A new version: changed, and what it does not name stays (deleteTopicWithBrokerRegistration is false).
    register(both, a, [topic("reg-1", 16)], counter=2)
    assert queues(both.route("reg-1")) == {"reg": (16, 6)}
    assert queues(both.route("reg-2")) == {"reg": (8, 4)}
    assert both.ask(MEMBERS, {"clusterName": "C-reg", "brokerName": "reg"})[0] == OK
    mine = lambda body: (body["brokerAddrTable"]["reg"], body["clusterAddrTable"]["C-reg"])  # noqa: E731
    assert both.ask(CLUSTERS, keep=mine)[0] == OK
    assert both.ask(OF_CLUSTER, {"cluster": "C-reg"})[2] == {"topicList": ["reg-1", "reg-2", "reg-3"]}
    assert both.ask(LEAVE, a) == (OK, {}, None)
    both.wait_route("reg-1", NO_TOPIC)
    both.wait_route("reg-2", NO_TOPIC)


def test_first_word(both):
    """One topic alone is a change, and a change cannot be the first that is heard of a broker."""
    a = broker("first")
    assert register(both, a, [topic("first-1")])[0] == ERROR
    assert both.route("first-1")[0] == NO_TOPIC
    assert register(both, a, []) == (OK, {}, None)
    assert register(both, a, [topic("first-1")], counter=2) == (OK, {}, None)
    assert both.route("first-1")[0] == OK


def test_bodies(both):
    a, topics = broker("bodies"), [topic("bodies-1"), topic("bodies-2", 3)]
    body = body_of(topics, version(1))
    assert both.ask(REGISTER, {**a, "bodyCrc32": 12345}, body)[0] == ERROR
    assert both.ask(REGISTER, {**a, "bodyCrc32": 0}, b"{nonsense")[0] == ERROR
    assert both.ask(REGISTER, {**a, "compressed": "true"}, b"nonsense")[0] == ERROR
    for key in ("brokerId", "brokerName"):  # not to Apache's: what it keeps of these spoils its lists
        assert both.connections["pintle"].ask(REGISTER, {k: v for k, v in a.items() if k != key}, body).code == ERROR
    assert both.route("bodies-1")[0] == NO_TOPIC
    packed = packed_body_of(topics, version(1))
    assert both.ask(REGISTER, {**a, "compressed": "true", "bodyCrc32": zlib.crc32(packed) & 0x7FFFFFFF}, packed)[0] == OK
    assert queues(both.route("bodies-1")) == {"bodies": (4, 6)}
    assert queues(both.route("bodies-2")) == {"bodies": (3, 6)}
    for cut in range(0, len(packed), 7):
        assert both.connections["pintle"].ask(REGISTER, {**a, "compressed": "true"}, packed[:cut]).code == \
            (OK if cut == 0 else ERROR)


def test_ids_and_addresses(both):
    two = [topic("ids-1"), topic("ids-2")]
    register(both, broker("ids", 0, 100), two, state=5)
    # The id belongs to another address with a newer state: an empty answer, nothing changes.
    assert register(both, broker("ids", 0, 200), two, state=4) == (OK, {}, None)
    route = both.route("ids-1")
    assert route[2]["brokerDatas"][0]["brokerAddrs"] == {"0": "10.9.9.9:100"}
    # A slave brings no topics and is told of its master.
    answer = register(both, broker("ids", 2, 300), [topic("ids-3"), topic("ids-4")], state=5)
    assert answer == (OK, {"haServerAddr": "10.9.9.9:101", "masterAddr": "10.9.9.9:100"}, None)
    assert both.route("ids-3")[0] == NO_TOPIC
    # The same address under another id has left the old one; a newer state takes an id over.
    register(both, broker("ids", 3, 300), two, state=5)
    register(both, broker("ids", 0, 200), two, state=6)
    route = both.route("ids-1")
    assert route[2]["brokerDatas"][0]["brokerAddrs"] == {"0": "10.9.9.9:200", "3": "10.9.9.9:300"}
    # With the master the routes stay as long as a slave is there.
    both.ask(LEAVE, broker("ids", 0, 200))
    wait_for(lambda: all(b'"10.9.9.9:200"' not in a.body for a in both.each(ROUTE, {"topic": "ids-1"}).values()), 20,
             "the master's end")
    assert queues(both.route("ids-1")) == {"ids": (4, 6)}
    both.ask(LEAVE, broker("ids", 3, 300))
    both.wait_route("ids-1", NO_TOPIC)


def test_lost_connection(both):
    """A broker is as alive as the connection on which it registered last."""
    two = [topic("lost-1"), topic("lost-2")]
    register(both, broker("lost"), two)
    assert both.route("lost-1")[0] == OK
    both.again()
    both.wait_route("lost-1", NO_TOPIC)
    register(both, broker("lost"), two)
    register(both, broker("lost-other", port=50), two)
    old = both.connections
    both.connections = {name: Connection(address) for name, address in both.servers.items()}
    register(both, broker("lost"), [*two, topic("lost-3")], counter=2)
    for connection in old.values():
        connection.close()
    wait_for(lambda: all(b"lost-other" not in a.body for a in both.each(ROUTE, {"topic": "lost-1"}).values()), 20,
             "the end of the old connection")
    assert set(queues(both.route("lost-1"))) == {"lost"}


def test_expiry(both):
    who = broker("expire", heartbeatTimeoutMillis=1500)
    register(both, who, [topic("expire-1"), topic("expire-2")])
    assert both.route("expire-1")[0] == OK
    both2 = Both(both.servers)  # an expired broker's connection is closed
    both2.wait_route("expire-1", NO_TOPIC)
    for connection in both.connections.values():
        with pytest.raises(ConnectionError):
            connection.ask(GET_OWN)
    both2.close()
    both.again()


def test_data_version(both):
    who = broker("version")
    ask = {k: who[k] for k in ("brokerName", "brokerAddr", "clusterName", "brokerId")}
    same = json.dumps(version(7)).encode()
    assert both.ask(VERSION, ask, same) == (OK, {"changed": "true"}, None)
    register(both, who, [], counter=7)
    assert both.ask(VERSION, ask, same) == (OK, {"changed": "false"}, version(7))
    assert both.ask(VERSION, ask, json.dumps(version(8)).encode()) == (OK, {"changed": "true"}, version(7))
    assert both.ask(VERSION, {**ask, "clusterName": "other"}, same) == (OK, {"changed": "true"}, None)
    assert both.ask(HEARTBEAT, ask) == (OK, {}, None)
    assert both.ask(HEARTBEAT, {**ask, "brokerAddr": "10.0.0.0:1"}) == (OK, {}, None)


def test_write_permission(both):
    two = [topic("perm-1", perm=7), topic("perm-2")]
    register(both, broker("perm"), two)
    assert both.ask(WIPE, {"brokerName": "perm"}) == (OK, {"wipeTopicCount": "2"}, None)
    assert queues(both.route("perm-1")) == {"perm": (4, 5)}
    assert queues(both.route("perm-2")) == {"perm": (4, 4)}
    register(both, broker("perm"), two)  # nothing new: it stays
    assert queues(both.route("perm-2")) == {"perm": (4, 4)}
    assert both.ask(ADD, {"brokerName": "perm"}) == (OK, {"addTopicCount": "2"}, None)
    assert queues(both.route("perm-1")) == {"perm": (4, 6)}
    assert both.ask(WIPE, {"brokerName": "nobody"}) == (OK, {"wipeTopicCount": "0"}, None)
    both.ask(WIPE, {"brokerName": "perm"})
    register(both, broker("perm"), two, counter=2)
    assert queues(both.route("perm-1")) == {"perm": (4, 7)}


def test_topics_by_hand(both):
    register(both, broker("hand-a", port=10), [topic("hand-1"), topic("hand-2")])
    register(both, broker("hand-b", port=20), [topic("hand-1"), topic("hand-2")])
    assert both.ask(DELETE_TOPIC, {"topic": "hand-1", "clusterName": "C-hand-a"}) == (OK, {}, None)
    assert set(queues(both.route("hand-1"))) == {"hand-b"}
    assert both.ask(DELETE_TOPIC, {"topic": "hand-1", "clusterName": "none"}) == (OK, {}, None)
    assert both.ask(DELETE_TOPIC, {"topic": "hand-2"}) == (OK, {}, None)
    assert both.route("hand-2")[0] == NO_TOPIC
    route = {"brokerDatas": [], "filterServerTable": {}, "queueDatas": [
        {"brokerName": "hand-a", "perm": 6, "readQueueNums": 2, "topicSysFlag": 0, "writeQueueNums": 2}]}
    assert both.ask(PUT_TOPIC, {"topic": "hand-3"}, json.dumps(route).encode()) == (OK, {}, None)
    assert queues(both.route("hand-3")) == {"hand-a": (2, 6)}
    route["queueDatas"][0]["brokerName"] = "hand-c"
    # Apache says 0 and does nothing; we say that the broker is not there.
    answers = both.each(PUT_TOPIC, {"topic": "hand-4"}, json.dumps(route).encode())
    assert (answers["pintle"].code, answers["apache"].code) == (ERROR, OK)
    assert both.route("hand-4")[0] == NO_TOPIC


def test_lists(both):
    register(both, broker("unit"), [topic("unit-0"), topic("unit-1", flag=1), topic("unit-2", flag=2),
                                    topic("unit-3", flag=3)])
    ours = lambda body: [t for t in body["topicList"] if t.startswith("unit-")]  # noqa: E731
    assert both.ask(ALL_TOPICS, keep=ours)[2] == ["unit-0", "unit-1", "unit-2", "unit-3"]
    assert both.ask(UNITS, keep=ours)[2] == ["unit-1", "unit-3"]
    assert both.ask(UNIT_SUBS, keep=ours)[2] == ["unit-2", "unit-3"]
    assert both.ask(UNIT_SUBS_UNUNIT, keep=ours)[2] == ["unit-2"]
    named = lambda body: [t for t in body["topicList"] if t in ("unit", "C-unit")]  # noqa: E731
    assert both.ask(SYSTEM, keep=named)[2] == ["C-unit", "unit"]
    assert all(b'"brokerAddr":"' in a.body for a in both.each(SYSTEM).values())
    assert both.ask(OF_CLUSTER, {"cluster": "none"}) == (OK, {}, {"topicList": []})
    assert both.ask(MEMBERS, {"clusterName": "C", "brokerName": "none"})[0] == OK


def test_kv(both):
    item = {"namespace": "N", "key": "k é\x01\"", "value": "v:1;w=2 ü"}
    assert both.ask(GET, item)[0] == NOT_FOUND
    assert both.ask(LIST, {"namespace": "N"})[0] == NOT_FOUND
    assert both.ask(PUT, item) == (OK, {}, None)
    assert both.ask(PUT, {**item, "key": "other", "value": ""})[0] == both.ask(GET, {**item, "key": "other"})[0] == OK
    assert both.ask(GET, item) == (OK, {"value": item["value"]}, None)
    assert both.ask(LIST, {"namespace": "N"}) == (OK, {}, {"table": {item["key"]: item["value"], "other": ""}})
    assert both.ask(DELETE, item) == (OK, {}, None)
    assert both.ask(DELETE, {**item, "key": "other"}) == (OK, {}, None)
    assert both.ask(DELETE, item) == (OK, {}, None)
    assert both.ask(GET, item)[0] == NOT_FOUND
    assert both.ask(LIST, {"namespace": "N"}) == (OK, {}, {"table": {}})
    assert both.ask(PUT, {"namespace": "N", "value": "v"})[0] == ERROR
    assert both.ask(GET, {"namespace": "N"}) == (NOT_FOUND, {}, None)
    assert both.ask(LIST)[0] == NOT_FOUND


def test_order(both):
    """Orders go to every broker that registers, to clients only with orderMessageEnable."""
    space = {"namespace": "ORDER_TOPIC_CONFIG", "key": "order-1", "value": "order:4"}
    two = [topic("order-1"), topic("order-2")]
    assert register(both, broker("order"), two)[2] is None
    both.ask(PUT, space)
    assert register(both, broker("order"), two) == (OK, {}, {"table": {"order-1": "order:4"}})
    assert "orderTopicConf" not in both.route("order-1")[2]
    assert both.ask(SET_OWN, body=b"orderMessageEnable=true") == (OK, {}, None)
    assert both.route("order-1")[2]["orderTopicConf"] == "order:4"
    assert "orderTopicConf" not in both.route("order-2")[2]
    assert both.ask(SET_OWN, body=b"orderMessageEnable=false\nreturnOrderTopicConfigToBroker=false") == (OK, {}, None)
    assert "orderTopicConf" not in both.route("order-1")[2]
    assert register(both, broker("order"), two)[2] is None
    both.ask(SET_OWN, body=b"returnOrderTopicConfigToBroker=true")
    both.ask(DELETE, space)


def test_own_configuration(both):
    def value(key: str) -> dict:
        return {name: dict(line.split("=", 1) for line in a.body.decode().splitlines())[key]
                for name, a in both.each(GET_OWN).items()}

    for key in ("orderMessageEnable", "supportActingMaster", "deleteTopicWithBrokerRegistration"):
        assert set(value(key).values()) == {"false"}, key
    for key in ("returnOrderTopicConfigToBroker", "enableAllTopicList", "enableTopicList"):
        assert set(value(key).values()) == {"true"}, key
    for key in ("needWaitForService", "waitSecondsForService", "scanNotActiveBrokerInterval", "configBlackList",
                "clusterTest", "enableControllerInNamesrv", "notifyMinBrokerIdChanged"):
        assert len(set(value(key).values())) == 1, key
    # Apache's own, of which nothing here depends: kept and shown.
    assert both.ask(SET_OWN, body=b"clientRequestThreadPoolNums=9\nproductEnvName=far") == (OK, {}, None)
    assert set(value("clientRequestThreadPoolNums").values()) == {"9"}
    assert set(value("productEnvName").values()) == {"far"}
    for bad in (b"waitSecondsForService=-1", b"waitSecondsForService=soon", b"needWaitForService=1"):
        assert both.connections["pintle"].ask(SET_OWN, body=bad).code == ERROR, bad
    for key in ("configBlackList", "configStorePath", "kvConfigPath", "rocketmqHome"):
        assert both.ask(SET_OWN, body=f"{key}=/tmp/x".encode())[0] == NO_PERMISSION, key
    both.ask(SET_OWN, body=b"enableTopicList=false\nenableAllTopicList=false")
    assert set(value("enableTopicList").values()) == {"false"}
    for code in (ALL_TOPICS, UNITS, UNIT_SUBS, UNIT_SUBS_UNUNIT):
        assert both.ask(code)[0] == ERROR, code
    assert both.ask(OF_CLUSTER, {"cluster": "C"})[0] == ERROR
    assert both.ask(SYSTEM, keep=lambda body: None)[0] == OK
    both.ask(SET_OWN, body=b"enableTopicList=true\nenableAllTopicList=true")
    # Apache takes any word for a change and does nothing; we say what is wrong.
    answers = both.each(SET_OWN, body=b"orderMesageEnable=true")
    assert answers["apache"].code == OK
    assert answers["pintle"].code == ERROR and "orderMessageEnable" in answers["pintle"].remark
    assert both.connections["pintle"].ask(SET_OWN, body=b"adminFrom=any").code == NO_PERMISSION


def test_waiting_for_service(both):
    """While brokers may still be missing there is no route; everything else is answered."""
    register(both, broker("wait"), [topic("wait-1"), topic("wait-2")])
    both.ask(SET_OWN, body=b"needWaitForService=true\nwaitSecondsForService=86400")
    assert both.route("wait-1")[0] == ERROR
    assert both.route("no-such-topic")[0] == ERROR
    assert both.ask(OF_CLUSTER, {"cluster": "C-wait"})[2] == {"topicList": ["wait-1", "wait-2"]}
    both.ask(SET_OWN, body=b"waitSecondsForService=0")
    assert both.route("wait-1")[0] == OK
    both.ask(SET_OWN, body=b"needWaitForService=false\nwaitSecondsForService=45")
    assert both.route("wait-1")[0] == OK


def test_whole_tables(both):
    both.ask(SET_OWN, body=b"deleteTopicWithBrokerRegistration=true")
    register(both, broker("whole"), [topic("whole-1"), topic("whole-2"), topic("whole-3")])
    register(both, broker("whole"), [topic("whole-1"), topic("whole-2")], counter=2)
    assert both.route("whole-3")[0] == NO_TOPIC
    assert both.route("whole-2")[0] == OK
    both.ask(SET_OWN, body=b"deleteTopicWithBrokerRegistration=false")


def test_acting_master(both):
    both.ask(SET_OWN, body=b"supportActingMaster=true")
    two = [topic("acting-1"), topic("acting-2")]
    master, slave = broker("acting", 0, 10), broker("acting", 1, 20)
    register(both, master, two, enableActingMaster="true")
    register(both, slave, two, enableActingMaster="true")
    assert set(both.route("acting-1")[2]["brokerDatas"][0]["brokerAddrs"]) == {"0", "1"}
    both.ask(LEAVE, master)
    wait_for(lambda: all(b'"10.9.9.9:10"' not in a.body for a in both.each(ROUTE, {"topic": "acting-1"}).values()), 20,
             "the master's end")
    route = both.route("acting-1")
    assert route[2]["brokerDatas"][0]["brokerAddrs"] == {"0": "10.9.9.9:20"}
    assert queues(route) == {"acting": (4, 4)}
    register(both, slave, [*two, topic("acting-3")], counter=2, enableActingMaster="true")
    assert queues(both.route("acting-3")) == {"acting": (4, 4)}
    both.ask(SET_OWN, body=b"supportActingMaster=false")
    assert both.route("acting-1")[2]["brokerDatas"][0]["brokerAddrs"] == {"1": "10.9.9.9:20"}


def test_zones(both):
    two = [topic("zone-1"), topic("zone-2")]
    register(both, broker("zone-a", 0, 10), two, __ZONE_NAME="A")
    register(both, broker("zone-b", 0, 20), two, __ZONE_NAME="B")
    assert set(queues(both.route("zone-1"))) == {"zone-a", "zone-b"}
    assert set(queues(both.route("zone-1", __ZONE_MODE="true", __ZONE_NAME="a"))) == {"zone-a"}
    assert set(queues(both.route("zone-1", __ZONE_NAME="a"))) == {"zone-a", "zone-b"}


def test_strangers(both):
    """What a store of this host says counts more than a stranger: its id cannot be taken, nor can it be sent away."""
    ours = both.connections["pintle"]
    before = json.loads(ours.ask(ROUTE, {"topic": "TBW102", "acceptStandardJsonOnly": "true"}).body)
    addr = before["brokerDatas"][0]["brokerAddrs"]["0"]
    thief = {**broker("broker-a"), "clusterName": "DefaultCluster"}
    body = body_of([topic("stolen-1"), topic("stolen-2")], version(99, 99))
    assert ours.ask(REGISTER, thief, body).code == OK
    assert ours.ask(REGISTER, {**thief, "brokerAddr": addr}, body).code == OK
    assert ours.ask(LEAVE, {**thief, "brokerAddr": addr}).code == OK
    assert ours.ask(REGISTER, {**thief, "brokerAddr": ":1", "brokerName": "other"}, body).code == ERROR
    after = json.loads(ours.ask(ROUTE, {"topic": "TBW102", "acceptStandardJsonOnly": "true"}).body)
    assert after == before
    assert ours.ask(ROUTE, {"topic": "stolen-1"}).code == NO_TOPIC


def test_unknown(both):
    # 905 goes to brokers; 1001 and on are a controller's, which neither is.
    for code in (0, 10, 34, 902, 905, *range(1001, 1018), 4711):
        assert both.ask(code)[0] == UNSUPPORTED, code


def test_restart_and_peers(tmp_path):
    """KV configuration and switches survive a kill; who is not in adminFrom may ask, not change."""
    conf = tmp_path / "cluster.conf"
    conf.write_text("[cluster]\nadminFrom = 10.0.0.0/8\n[namesrv ns]\nport = 0\n[broker b]\nport = 0\n")
    with Cluster("1m") as cluster:
        with Connection(cluster.namesrv.split(";")[0]) as connection:
            assert connection.ask(PUT, {"namespace": "N", "key": "k", "value": "v"}).code == OK
            assert connection.ask(SET_OWN, body=b"enableTopicList=false").code == OK
        cluster.wait_restarted(cluster.kill("namesrv"))
        with Connection(cluster.namesrv.split(";")[0]) as connection:
            assert connection.ask(GET, {"namespace": "N", "key": "k"}).ext == {"value": "v"}
            assert b"enableTopicList=false\n" in connection.ask(GET_OWN).body
        cluster.down()
        cluster.remove()
    with Cluster(file=conf) as cluster, Connection(cluster.namesrv.split(";")[0]) as connection:
        asked = {PUT: {"namespace": "N", "key": "k", "value": "v"}, DELETE: {"namespace": "N", "key": "k"},
                 WIPE: {"brokerName": "b"}, DELETE_TOPIC: {"topic": "TBW102"}, PUT_TOPIC: {"topic": "T"}, SET_OWN: {},
                 ADD: {"brokerName": "b"}}
        for code, ext in asked.items():
            answer = connection.ask(code, ext, b"")
            assert answer.code == NO_PERMISSION and "adminFrom" in answer.remark, code
        assert connection.ask(GET, {"namespace": "N", "key": "k"}).code == NOT_FOUND
        assert connection.ask(ROUTE, {"topic": "TBW102"}).code == OK
        assert connection.ask(REGISTER, broker("x"), body_of([], version(1))).code == OK
