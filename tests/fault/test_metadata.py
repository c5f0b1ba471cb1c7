"""Everything dies by -9 right after an answer: topics with all their queues, groups and offsets are there at the next start.
(The machine lives on; what a power cut may take is a unit test's to say.) And a store that is killed in its own stop."""
import json
import os
import signal

import remoting
from cluster import wait_for
from cluster_faults import FaultCluster, holds_files

ROUNDS = 4
GROUP = "meta-group"


def connect(cluster):
    return remoting.Connection(f"127.0.0.1:{cluster.workers('front')[0].ports[0]}")


def queues_of(connection, topic: str) -> int:
    """As an administrator is told: write queues, or 0 if there is no such topic."""
    answer = connection.ask(351, {"topic": topic})  # GET_TOPIC_CONFIG
    return json.loads(answer.body)["writeQueueNums"] if answer.code == remoting.OK else 0


def commit(connection, topic: str, queue: int, offset: int):
    answer = connection.ask(15, {"consumerGroup": GROUP, "topic": topic, "queueId": queue, "commitOffset": offset})
    assert answer.code == remoting.OK, answer


def offset_of(connection, topic: str, queue: int) -> int:
    answer = connection.ask(14, {"consumerGroup": GROUP, "topic": topic, "queueId": queue, "setZeroIfNotFound": "false"})
    return int(answer.ext["offset"]) if answer.code == remoting.OK else -1


def put_group(connection):
    answer = connection.ask(200, body=b'{"groupName":"%s","consumeEnable":true,"retryMaxTimes":7}' % GROUP.encode())
    assert answer.code == remoting.OK, answer


def test_all_die_behind_an_answer(seeded, rounds, figures):
    topics, offsets = {}, {}
    with FaultCluster("1m", "flushConsumerOffsetInterval=300") as cluster:
        file = cluster.dir / "store/broker-a/config/consumerOffset.json"
        try:
            for n in range(rounds(ROUNDS)):
                with connect(cluster) as connection:
                    for name, count in topics.items():
                        assert queues_of(connection, name) == count, f"round {n}: {name}"
                    for name, offset in offsets.items():
                        assert offset_of(connection, name, 0) == offset, f"round {n}: {name}"
                    if n == 0:
                        put_group(connection)
                    auto, made, last = f"auto-{n}", f"made-{n}", f"last-{n}"
                    assert connection.send(auto, 3, b"makes its topic").code == remoting.OK
                    topics[auto] = queues_of(connection, auto)
                    topics[made] = seeded.randrange(1, 40)
                    assert connection.put_topic(made, topics[made]).code == remoting.OK
                    offsets[made] = seeded.randrange(1, 9)  # a start lets none be beyond its queue's end
                    for _ in range(offsets[made]):
                        assert connection.send(made, 0, b"read").code == remoting.OK
                    commit(connection, made, 0, offsets[made])
                    # A commit is promised to those who die with the store's memory within flushConsumerOffsetInterval.
                    wait_for(lambda: file.exists() and f"{made}@{GROUP}" in file.read_text(), 30, "the offset in its file")
                    topics[last] = seeded.randrange(1, 40)
                    assert connection.put_topic(last, topics[last]).code == remoting.OK
                    cluster.kill_everything(seeded)
                cluster.up(cluster.settings)
        except BaseException:
            print(cluster.log_tail(60))
            raise
        figures(f"{rounds(ROUNDS)} times: {len(topics)} topics and {len(offsets)} offsets kept")


def test_store_killed_in_its_stop(figures):
    """Its offsets are in memory alone: a successor writes them before the cluster is down."""
    with FaultCluster("1m") as cluster:
        try:
            with connect(cluster) as connection:
                put_group(connection)
                assert connection.put_topic("kept", 2).code == remoting.OK
                assert [connection.send("kept", 1, b"read").code for _ in range(3)] == [remoting.OK] * 3
                store, supervisor = cluster.workers("store")[0], cluster.supervisor_pid
                fronts = [w.pid for w in cluster.workers("front")]
                commit(connection, "kept", 1, 3)
                os.kill(store.pid, signal.SIGSTOP)  # so that it cannot see the end coming
                os.kill(supervisor, signal.SIGTERM)
                wait_for(lambda: not any(map(holds_files, fronts)), 30, "the end of the fronts")
                os.kill(store.pid, signal.SIGKILL)
            wait_for(lambda: not holds_files(supervisor), 60, "the end of the supervisor")
            cluster.up(cluster.settings)
            with connect(cluster) as connection:
                assert offset_of(connection, "kept", 1) == 3
                assert queues_of(connection, "kept") == 2
        except BaseException:
            print(cluster.log_tail(60))
            raise
        figures("a store killed in its stop: its successor wrote what only its memory knew")
