"""Two fronts of one broker: what a client sees must not depend on which of them it is connected to, and one's death is
nothing to the clients of the other."""
import json
import time

import pytest

from cluster import wait_for
from remoting import OK, PULL_NOT_FOUND, Connection, messages
from sockets import server_pid

MEMBERS, LOCK, UNLOCK, UNREGISTER, NOTIFY = 38, 41, 42, 35, 40
RUNNING_INFO, CONSUME_DIRECTLY, CONSUMER_STATUS, STATUS_OF_CLIENT, STATS = 307, 309, 223, 221, 315
SYSTEM_ERROR = 1


class Fronts:
    """Connections by front: which one takes a connection is the kernel's choice, so some are opened in vain."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.port = cluster.workers("front")[0].ports[0]

    def pids(self):
        return [w.pid for w in sorted(self.cluster.workers("front"), key=lambda w: w.number)]

    def connect(self, index: int) -> Connection:
        """A connection that the front of this index has taken."""
        pid = self.pids()[index]
        others = []
        try:
            for _ in range(1000):
                connection = Connection(f"127.0.0.1:{self.port}")
                assert connection.ask(28).code == OK  # it is accepted now
                if server_pid(connection.socket, self.pids()) == pid:
                    return connection
                others.append(connection)  # kept, so that this front has more and more to do
        finally:
            for other in others:
                other.close()
        raise AssertionError(f"front {index} takes no connection")


@pytest.fixture
def fronts(cluster):
    cluster.wait_ready()
    return Fronts(cluster)


@pytest.fixture
def pair(fronts):
    with fronts.connect(0) as a, fronts.connect(1) as b:
        yield a, b


def names(connection, group):
    answer = connection.ask(MEMBERS, {"consumerGroup": group})
    return sorted(json.loads(answer.body)["consumerIdList"]) if answer.code == OK else []


def join(connection, client, group, topic):
    assert connection.answer(connection.post_heartbeat(client, group, topic, int(time.time() * 1000))).code == OK


def lock(connection, client, group, topic, queues, code=LOCK):
    body = {"clientId": client, "consumerGroup": group, "onlyThisBroker": False,
            "mqSet": [{"topic": topic, "brokerName": "broker-a", "queueId": q} for q in queues]}
    answer = connection.ask(code, {}, json.dumps(body).encode())
    assert answer.code == OK, answer
    return sorted(q["queueId"] for q in json.loads(answer.body)["lockOKMQSet"]) if code == LOCK else []


def put_topic(connection, topic, queues):
    assert connection.put_topic(topic, queues).code == OK


def test_members_and_notices(pair):
    a, b = pair
    put_topic(a, "members", 2)
    join(a, "one", "members-g", "members")
    wait_for(lambda: names(b, "members-g") == ["one"], 10, "the member of the other front")
    join(b, "two", "members-g", "members")
    assert a.request(NOTIFY).ext["consumerGroup"] == "members-g"
    for connection in a, b:
        wait_for(lambda: names(connection, "members-g") == ["one", "two"], 10, "both members")
    assert b.ask(UNREGISTER, {"clientID": "two", "consumerGroup": "members-g"}).code == OK
    assert a.request(NOTIFY).ext["consumerGroup"] == "members-g"
    wait_for(lambda: names(a, "members-g") == ["one"], 10, "the end of the member")


def test_locks(pair):
    a, b = pair
    put_topic(a, "locks", 4)
    join(a, "one", "locks-g", "locks")
    join(b, "two", "locks-g", "locks")
    assert lock(a, "one", "locks-g", "locks", [0, 1]) == [0, 1]
    assert lock(b, "two", "locks-g", "locks", [0, 1, 2]) == [2]
    lock(a, "one", "locks-g", "locks", [1], UNLOCK)
    assert lock(b, "two", "locks-g", "locks", [0, 1, 2]) == [1, 2]


def test_long_poll_hears_of_the_other_fronts_send(pair):
    a, b = pair
    put_topic(a, "polls", 1)
    wait_for(lambda: b.max_offset("polls", 0) == 0, 10, "the topic")
    parked = b.post_pull("polls", "polls-g", 0, 0, wait_ms=60000)
    assert b.max_offset("polls", 0) == 0 and not b.answered(parked)
    assert a.send("polls", 0, b"hello").code == OK
    answer = b.answer(parked)
    assert answer.code == OK and [m.body for m in messages(answer.body)] == [b"hello"]


def test_administrator_asks_a_client_of_the_other_front(pair):
    a, b = pair
    put_topic(a, "relay", 1)
    sent = a.send("relay", 0, b"direct")
    join(a, "one", "relay-g", "relay")
    join(b, "two", "relay-g", "relay")
    wait_for(lambda: names(b, "relay-g") == ["one", "two"], 10, "both members")
    for size in 20, 1 << 20, 5 << 20:  # in one piece; in many; more than the rings hold at once
        asked = b.post(RUNNING_INFO, {"consumerGroup": "relay-g", "clientId": "one", "jstackEnable": "true"})
        request = a.request(RUNNING_INFO)
        assert request.ext["clientId"] == "one" and request.ext["jstackEnable"] == "true"
        a.respond(request, 0, b"x" * size, remark="told")
        answer = b.answer(asked)
        assert (answer.code, answer.remark, len(answer.body)) == (OK, "told", size)
        assert answer.body == b"x" * size

    asked = b.post(CONSUME_DIRECTLY, {"consumerGroup": "relay-g", "clientId": "one", "msgId": sent.ext["msgId"],
                                      "topic": "relay", "brokerName": "broker-a"})
    request = a.request(CONSUME_DIRECTLY)
    assert [m.body for m in messages(request.body)] == [b"direct"] and request.ext["clientId"] == "one"
    a.respond(request, 0, b'{"consumeResult":"CR_SUCCESS"}')
    assert b.answer(asked).body == b'{"consumeResult":"CR_SUCCESS"}'

    asked = b.post(CONSUMER_STATUS, {"group": "relay-g", "topic": "relay", "clientAddr": ""})
    for client, offset in (a, 1), (b, 2):
        client.respond(client.request(STATUS_OF_CLIENT), 0,
                       b'{"messageQueueTable":{{"brokerName":"broker-a","queueId":0,"topic":"relay"}:%d}}' % offset)
    body = b.answer(asked).body.decode()
    assert '"one":{' in body and '"two":{' in body and body.count('"topic":"relay"') == 2

    answer = b.ask(RUNNING_INFO, {"consumerGroup": "relay-g", "clientId": "one", "x": "y" * 60000})
    assert answer.code == SYSTEM_ERROR and "too large" in answer.remark


def test_client_that_goes_is_not_waited_for(fronts):
    with fronts.connect(1) as b:
        with fronts.connect(0) as a:
            put_topic(a, "goes", 1)
            join(a, "one", "goes-g", "goes")
            wait_for(lambda: names(b, "goes-g") == ["one"], 10, "the member")
            asked = b.post(RUNNING_INFO, {"consumerGroup": "goes-g", "clientId": "one"})
            a.request(RUNNING_INFO)
        answer = b.answer(asked)
        assert answer.code == SYSTEM_ERROR and "closed its connection" in answer.remark


def test_windows_hold_all_fronts(pair):
    a, b = pair
    put_topic(a, "windows", 1)
    for _ in range(10):
        assert a.send("windows", 0, b"x").code == OK
    wait_for(lambda: b.max_offset("windows", 0) == 10, 10, "the messages")
    for connection, times in (a, 1), (b, 2):
        for _ in range(times):
            pulled = connection.answer(connection.post_pull("windows", "windows-g", 0, 0))
            assert pulled.code == OK and len(messages(pulled.body)) == 10

    def told(connection):
        answer = connection.ask(STATS, {"statsName": "GROUP_GET_NUMS", "statsKey": "windows@windows-g"})
        return answer.code == OK and json.loads(answer.body)["statsHour"]["sum"]
    for connection in a, b:
        wait_for(lambda: told(connection) == 30, 60, "what both fronts delivered", 0.2)


def test_death_of_one_front(cluster, fronts):
    with fronts.connect(0) as a, fronts.connect(1) as b:
        put_topic(a, "death", 4)
        join(a, "one", "death-g", "death")
        join(b, "two", "death-g", "death")
        wait_for(lambda: names(b, "death-g") == ["one", "two"], 10, "both members")
        assert lock(a, "one", "death-g", "death", [0, 1]) == [0, 1]
        assert lock(b, "two", "death-g", "death", [0, 1, 2]) == [2]
        parked = b.post_pull("death", "death-g", 3, 0, wait_ms=60000)
        before = fronts.pids()
        victim = next(w for w in cluster.workers("front") if w.pid == before[0])
        cluster.kill_pid(victim.pid)

        # The survivor's clients: told, alone in the group, heirs of the locks, their poll untouched.
        while b.request(NOTIFY).ext["consumerGroup"] != "death-g":
            pass
        wait_for(lambda: names(b, "death-g") == ["two"], 10, "the end of the dead front's member")
        assert lock(b, "two", "death-g", "death", [0, 1, 2]) == [0, 1, 2]
        assert not b.answered(parked)
        assert b.send("death", 3, b"after").code == OK
        answer = b.answer(parked)
        assert answer.code == OK and [m.body for m in messages(answer.body)] == [b"after"]
        assert fronts.pids()[1] == before[1]

        # The client of the dead one comes back, to whichever front takes it.
        cluster.wait_restarted(victim)
        with fronts.connect(0) as again:
            join(again, "one", "death-g", "death")
            for connection in again, b:
                wait_for(lambda: names(connection, "death-g") == ["one", "two"], 10, "both members again")
            pull = again.answer(again.post_pull("death", "death-g", 3, 1))
            assert pull.code == PULL_NOT_FOUND
    assert [w.restarts for w in cluster.workers("store")] == [0]


def test_death_of_the_store(cluster, fronts):
    """Both fronts tell the new store their members before anybody is told anything about the group."""
    with fronts.connect(0) as a, fronts.connect(1) as b:
        put_topic(a, "store", 4)
        join(a, "one", "store-g", "store")
        join(b, "two", "store-g", "store")
        wait_for(lambda: names(b, "store-g") == ["one", "two"], 10, "both members")
        assert lock(a, "one", "store-g", "store", [0, 1]) == [0, 1]
        victim = cluster.kill("store")
        for connection in a, b:
            assert names(connection, "store-g") == ["one", "two"]
        assert lock(b, "two", "store-g", "store", [0, 1, 2]) == [2]
        asked = a.post(RUNNING_INFO, {"consumerGroup": "store-g", "clientId": "two"})
        b.respond(b.request(RUNNING_INFO), 0, b"{}")
        assert a.answer(asked).body == b"{}"
        cluster.wait_restarted(victim)
