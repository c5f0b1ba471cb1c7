"""SYNC_FLUSH: what is in the log but not flushed is neither acknowledged nor delivered, also when the store dies just then;
its successor flushes it, acknowledges it and delivers it, once."""
import contextlib
import os
import signal

import remoting
from cluster import wait_for
from cluster_faults import FaultCluster

ROUNDS = 8
TOPIC = "flush"
GROUP = "flush-group"
FOREVER_MS = 60000


def in_log(cluster, text: bytes) -> bool:
    log = cluster.dir / "store" / "broker-a" / "commitlog"
    for file in log.iterdir():
        size = os.stat(file).st_size
        fd = os.open(file, os.O_RDONLY)
        try:
            at = 0
            while at < size:  # the data regions of a sparse file only
                try:
                    at = os.lseek(fd, at, os.SEEK_DATA)
                except OSError:
                    break
                end = os.lseek(fd, at, os.SEEK_HOLE)
                if text in os.pread(fd, end - at, at):
                    return True
                at = end
        finally:
            os.close(fd)
    return False


def all_messages(connection, queue: int) -> list:
    found, end = [], connection.max_offset(TOPIC, queue)
    while len(found) < end:
        answer = connection.answer(connection.post_pull(TOPIC, GROUP, queue, len(found)))
        assert answer.code == remoting.OK, answer
        found += remoting.messages(answer.body)
    return found


def test_nothing_unflushed_is_told(seeded, rounds, figures, tmp_path):
    held = 0
    sent = {0: [], 1: []}
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(FaultCluster("1m", "flushDiskType=SYNC_FLUSH", "syncFlushTimeout=600000"))
        front = f"127.0.0.1:{cluster.workers('front')[0].ports[0]}"
        producer, consumer, asker = (stack.enter_context(remoting.Connection(front)) for _ in range(3))
        assert asker.put_topic(TOPIC, 2).code == remoting.OK
        try:
            for n in range(rounds(ROUNDS)):
                store = cluster.workers("store")[0]
                for queue in sent:
                    body = f"flushed-{n}-{queue}.".encode()
                    assert producer.send(TOPIC, queue, body).code == remoting.OK
                    sent[queue].append(body)
                ends = {q: len(sent[q]) for q in sent}
                # Queues follow the answer, as with Apache.
                wait_for(lambda: {q: asker.max_offset(TOPIC, q) for q in sent} == ends, 10, f"queues to end at {ends}")
                pulls = [consumer.post_pull(TOPIC, GROUP, q, ends[q], FOREVER_MS) for q in sent]

                cluster.arm("store.flush-before", store, "stall", argument=FOREVER_MS)
                waiting = []
                for i in range(1 + seeded.randrange(5)):
                    queue = i % 2
                    body = f"unflushed-{n}-{i}.".encode()
                    waiting.append(producer.post_message(TOPIC, queue, body))
                    sent[queue].append(body)
                    wait_for(lambda: in_log(cluster, body), 10, f"{body} in the log")
                # In the log, and a turn of the loop later (the topic is made in the same loop) still nobody knows.
                assert asker.put_topic(TOPIC, 2).code == remoting.OK
                assert {q: asker.max_offset(TOPIC, q) for q in sent} == ends, "the end counts unflushed messages"
                for queue in sent:
                    pull = asker.post_pull(TOPIC, GROUP, queue, ends[queue])
                    assert asker.answer(pull).code == remoting.PULL_NOT_FOUND
                assert not any(map(producer.answered, waiting)), "acknowledged before it was flushed"
                delivered = [q for q, pull in enumerate(pulls) if consumer.answered(pull)]
                assert not delivered, "delivered before it was flushed"
                held += len(waiting)

                cluster.disarm("store.flush-before")
                os.kill(store.pid, signal.SIGKILL)
                for opaque in waiting:
                    answer = producer.answer(opaque)
                    assert answer.code == remoting.OK, answer
                for queue, pull in enumerate(pulls):
                    if len(sent[queue]) > ends[queue]:
                        got = remoting.messages(consumer.answer(pull).body)
                        assert got[0].body == sent[queue][ends[queue]], (got[0], sent[queue][ends[queue]])
                # A pull still parked in a queue that got nothing would answer the next round's question: end it.
                consumer.close()
                consumer = stack.enter_context(remoting.Connection(front))
                cluster.wait_restarted(store)
            stored = {q: [m.body for m in all_messages(asker, q)] for q in sent}
        except BaseException:
            print(cluster.log_tail(60))
            raise
        assert stored == sent, "once each, in order"
        figures(f"{rounds(ROUNDS)} deaths between append and fsync: {held} messages held back, then acknowledged and "
                f"delivered once; {sum(map(len, stored.values()))} stored in all")
