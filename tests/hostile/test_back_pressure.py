"""A store that stands still for a while is no error to anybody; one that stands still for long is named to those who find
no room, and what was refused is not stored."""
import os
import signal
import threading

from board import counters
from cluster import wait_for
from remoting import OK, Connection

BUSY = 2
BODY = b"x" * 65536


class Senders:
    """Connections that send more than the ring holds, each on a thread of its own: sending blocks, too."""

    def __init__(self, cluster, topic: str, count: int, each: int):
        self.cluster, self.topic = cluster, topic
        self.address = f"127.0.0.1:{cluster.workers('front')[0].ports[0]}"
        with Connection(self.address) as admin:
            assert admin.put_topic(topic, 1).code == OK
        self.answers = [[] for _ in range(count)]
        self.threads = [threading.Thread(target=self._send, args=(i, each), daemon=True) for i in range(count)]

    def _send(self, index: int, each: int):
        with Connection(self.address, timeout_s=120) as connection:
            posted = [connection.post_message(self.topic, 0, BODY) for _ in range(each)]
            for opaque in posted:
                self.answers[index].append(connection.answer(opaque))

    def start(self):
        for thread in self.threads:
            thread.start()

    def all(self) -> list:
        for thread in self.threads:
            thread.join(timeout=180)
            assert not thread.is_alive(), "a send without an answer"
        return [answer for answers in self.answers for answer in answers]

    def stored(self) -> int:
        with Connection(self.address) as admin:
            return admin.max_offset(self.topic, 0)


def stopped_for(pid: int, seconds: float):
    os.kill(pid, signal.SIGSTOP)
    try:
        threading.Event().wait(seconds)
    finally:
        os.kill(pid, signal.SIGCONT)


def test_stopped_for_two_seconds(patient):
    senders = Senders(patient, "paused", 3, 150)  # 28 MiB, the ring has 8
    store = patient.workers("store")[0].pid
    os.kill(store, signal.SIGSTOP)
    try:
        senders.start()
        stopped_for(store, 2)
    finally:
        os.kill(store, signal.SIGCONT)
    answers = senders.all()
    assert {a.code for a in answers} == {OK}, next(a for a in answers if a.code != OK)
    wait_for(lambda: senders.stored() == len(answers) == 450, 30, "every message once")


def test_refusal_names_what_is_slow(hasty):
    senders = Senders(hasty, "stuck", 3, 150)
    store = hasty.workers("store")[0].pid
    os.kill(store, signal.SIGSTOP)
    try:
        senders.start()
        # Whoever found no room is told; the others' requests lie in the ring.
        wait_for(lambda: counters(hasty, "front")["MESSAGES_REFUSED"] > 0, 30, "a refusal")
    finally:
        if hasty.workers("store")[0].pid == store:
            os.kill(store, signal.SIGCONT)
    answers = senders.all()
    refused = [a for a in answers if a.code != OK]
    assert refused and {a.code for a in refused} == {BUSY}
    for word in "[TIMEOUT_CLEAN_QUEUE]", "has taken no message for", "fdatasync", "its disk is", "requests wait":
        assert word in refused[0].remark, refused[0].remark
    print(refused[0].remark)
    wait_for(lambda: senders.stored() == len(answers) - len(refused), 30, "those that were not refused, and no other")
    with Connection(senders.address) as producer:
        assert producer.send("stuck", 0, b"and on").code == OK

