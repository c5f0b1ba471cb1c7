"""Requests that are small for who sends them and large for who takes them: refused by name, memory bounded, others served.
What the fuzzers (tests/fuzz) are blind to, because it takes megabytes."""
import json
import pathlib
import struct
import sys
import zlib

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from cluster import Cluster  # noqa: E402
from remoting import HEARTBEAT, OK, ROUTE, SYSTEM_ERROR, TOPIC_NOT_EXIST, Connection  # noqa: E402

REGISTER_BROKER, MEMBERS = 103, 38
GROUPS_MAX = 4096  # of one connection, broker/front/member.c
MEMORY_MAX = 1 << 30


@pytest.fixture(scope="module")
def cluster():
    with Cluster(preset="1m") as running:
        yield running


def namesrv_address(cluster):
    return cluster.namesrv.split(";")[0]


def front_address(cluster):
    front = next(w for w in cluster.status()["workers"] if w["role"] == "front")
    return f"127.0.0.1:{front['ports'][0]}"


def largest_memory(cluster, role):
    status = pathlib.Path(f"/proc/{cluster.pids(role)[0]}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM:")).split()[1]) * 1024


def register(connection, body, compressed=False, **more):
    fields = {"brokerName": "stranger", "brokerAddr": "10.0.0.1:10911", "clusterName": "C", "brokerId": 0,
              "haServerAddr": "", "compressed": "true" if compressed else "false", **more}
    return connection.ask(REGISTER_BROKER, fields, body)


def topics(*names):
    table = {name: {"topicName": name, "readQueueNums": 1, "writeQueueNums": 1, "perm": 6} for name in names}
    return json.dumps({"topicConfigSerializeWrapper": {"dataVersion": {}, "topicConfigTable": table}}).encode()


def heartbeat(groups):
    return json.dumps({"clientID": "c@1", "producerDataSet": [], "heartbeatFingerprint": 1, "consumerDataSet": [
        {"groupName": group, "subscriptionDataSet": []} for group in groups]}).encode()


def test_body_of_empty_objects(cluster):
    before = cluster.pids()
    bomb = b'{"clientID":"c","producerDataSet":[' + b"{}," * 5_000_000 + b"{}]}"
    with Connection(front_address(cluster)) as client:
        answer = client.ask(HEARTBEAT, {}, bomb)
        assert (answer.code, "too much" in answer.remark) == (SYSTEM_ERROR, True), answer
        assert client.put_topic("after-bomb").code == OK
    assert largest_memory(cluster, "front") < MEMORY_MAX
    assert cluster.pids() == before


def test_compressed_registration(cluster):
    before = cluster.pids()
    objects = b'{"a":[' + b"{}," * 15_000_000 + b"{}]}"
    with Connection(namesrv_address(cluster)) as client:
        answer = register(client, zlib.compress(struct.pack(">I", len(objects)) + objects, 9), True)
        assert (answer.code, "too much" in answer.remark) == (SYSTEM_ERROR, True), answer
        many = struct.pack(">I", 2) + b"{}" + struct.pack(">I", 15_000_000)
        assert register(client, zlib.compress(many + bytes(60_000_000), 9), True).code == SYSTEM_ERROR
        assert client.ask(ROUTE, {"topic": "nowhere"}).code == TOPIC_NOT_EXIST
    assert largest_memory(cluster, "namesrv") < MEMORY_MAX
    assert cluster.pids() == before


def test_names_in_a_registration(cluster):
    with Connection(namesrv_address(cluster)) as client:
        assert register(client, topics("t" * 256, "u")).code == SYSTEM_ERROR
        assert register(client, topics("t", "u"), brokerName="b" * 256).code == SYSTEM_ERROR
        assert register(client, topics("t", "u"), clusterName="b" * 256).code == SYSTEM_ERROR
        assert register(client, topics("t" * 255, "u")).code == OK
        for number in range(1, 256):
            assert register(client, topics(), brokerId=number, brokerAddr=f"10.0.0.1:{number}").code == OK
        assert register(client, topics(), brokerId=256, brokerAddr="10.0.0.1:256").code == SYSTEM_ERROR
        assert register(client, topics(), brokerId=255, brokerAddr="10.0.0.1:255").code == OK  # it was there


def test_groups_of_one_connection(cluster):
    per_beat, made = 512, 0
    with Connection(front_address(cluster)) as client, Connection(front_address(cluster)) as other:
        while made < GROUPS_MAX:
            assert client.ask(HEARTBEAT, {}, heartbeat(f"many-{made + i}" for i in range(per_beat))).code == OK
            made += per_beat
        answer = client.ask(HEARTBEAT, {}, heartbeat(["one-more"]))
        assert (answer.code, "too many groups" in answer.remark) == (SYSTEM_ERROR, True), answer
        assert client.ask(HEARTBEAT, {}, heartbeat(["many-0"])).code == OK  # one that it told before
        assert other.ask(HEARTBEAT, {}, heartbeat(["elsewhere"])).code == OK
        # Half a million times the same group: refused before anybody looks for each of them.
        answer = client.ask(HEARTBEAT, {}, heartbeat(["many-4000"] * 200_000))
        assert (answer.code, "too many groups" in answer.remark) == (SYSTEM_ERROR, True), answer
