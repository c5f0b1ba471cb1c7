"""One data folder, in turn under Pintle and under a real Apache broker: each finds the topics, groups and offsets that the
other left, ended in order or killed; and what Pintle alone knows (its journal) never hides what Apache wrote later."""
import json
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "fault"))

import remoting  # noqa: E402
from apache import ApacheBroker, ApacheNamesrv  # noqa: E402
from cluster import wait_for  # noqa: E402
from cluster_faults import FaultCluster  # noqa: E402

GROUP = "both-ways"
LOG_FILE = f"mappedFileSizeCommitLog={256 << 20}"  # as the Apache broker's of these tests


def told(address: str, topics: list) -> dict:
    """Queues and offset of each topic, and how often the group retries."""
    found = {}
    with remoting.Connection(address) as connection:
        for topic in topics:
            answer = connection.ask(351, {"topic": topic})
            queues = json.loads(answer.body)["writeQueueNums"] if answer.code == remoting.OK else 0
            answer = connection.ask(14, {"consumerGroup": GROUP, "topic": topic, "queueId": 1, "setZeroIfNotFound": "false"})
            found[topic] = (queues, int(answer.ext["offset"]) if answer.code == remoting.OK else -1)
        answer = connection.ask(352, {"group": GROUP})
        found["retries"] = json.loads(answer.body)["retryMaxTimes"] if answer.code == remoting.OK else None
    return found


def make(address: str, topic: str, queues: int, offset: int):
    """A topic with messages in its queue 1, and the group's place among them."""
    with remoting.Connection(address) as connection:
        assert connection.put_topic(topic, queues).code == remoting.OK
        for n in range(offset + 1):
            assert connection.send(topic, 1, b"message %d" % n).code == remoting.OK
        move(connection, topic, offset)


def move(connection, topic: str, offset: int):
    answer = connection.ask(15, {"consumerGroup": GROUP, "topic": topic, "queueId": 1, "commitOffset": offset})
    assert answer.code == remoting.OK, answer


def put_group(address: str, retries: int):
    with remoting.Connection(address) as connection:
        body = {"groupName": GROUP, "consumeEnable": True, "retryMaxTimes": retries}
        assert connection.ask(200, body=json.dumps(body).encode()).code == remoting.OK


def front_of(cluster) -> str:
    return f"127.0.0.1:{cluster.workers('front')[0].ports[0]}"


def offsets_say(store: Path, topic: str, offset: int) -> bool:
    file = store / "config/consumerOffset.json"
    text = "".join(file.read_text().split()) if file.exists() else ""
    return f'"{topic}@{GROUP}":{{1:{offset}' in text


@pytest.mark.parametrize("how", ["killed", "ended"] if os.environ.get("PINTLE_LONG") == "1" else ["killed"])
def test_in_turn(how):
    with FaultCluster("1m", LOG_FILE) as cluster:
        store = cluster.dir / "store" / "broker-a"
        put_group(front_of(cluster), 7)
        make(front_of(cluster), "first-ours", 5, 2)
        expected = {"first-ours": (5, 2), "retries": 7}
        cluster.down()
        with ApacheNamesrv() as names, ApacheBroker("broker-a", names.address, 120, store) as apache:
            assert told(apache.address, ["first-ours"]) == expected
            make(apache.address, "then-theirs", 6, 3)
            put_group(apache.address, 9)
            with remoting.Connection(apache.address) as connection:
                move(connection, "first-ours", 1)  # backwards, as a reset does
            expected = {"first-ours": (5, 1), "then-theirs": (6, 3), "retries": 9}
            wait_for(lambda: offsets_say(store, "first-ours", 1) and offsets_say(store, "then-theirs", 3), 60,
                     "Apache's file of offsets")
            apache.end() if how == "ended" else apache.kill()
        cluster.up(cluster.settings)
        assert told(front_of(cluster), ["first-ours", "then-theirs"]) == expected
        make(front_of(cluster), "again-ours", 3, 1)
        expected["again-ours"] = (3, 1)
        cluster.down()
        cluster.up(cluster.settings)
        assert told(front_of(cluster), ["first-ours", "then-theirs", "again-ours"]) == expected
