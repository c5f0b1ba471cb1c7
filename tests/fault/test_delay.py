"""The store dies, again and again, while messages wait for their time: each is delivered once, none early."""
import time

import fastjson
import remoting
from cluster import wait_for
from cluster_faults import FaultCluster

LEVELS_S = {1: 1, 2: 5}
MESSAGES, QUEUES, TOPIC = 2000, 4, "later"
KILLS = 16
COLD = 4


def pull_all(front) -> list:
    """Every message of the topic, queue by queue."""
    found = []
    for queue in range(QUEUES):
        offset, end = 0, front.max_offset(TOPIC, queue)
        while offset < end:
            answer = front.answer(front.post_pull(TOPIC, "delay-judge", queue, offset))
            assert answer.code == remoting.OK, answer
            some = remoting.messages(answer.body)
            assert [m.offset for m in some] == list(range(offset, offset + len(some)))
            found += some
            offset += len(some)
    return found


def judge(front, sent: dict):
    """Each once; none before its time; in the order of a level's queue."""
    wait_for(lambda: sum(front.max_offset(TOPIC, q) for q in range(QUEUES)) >= len(sent), 120, "the deliveries")
    found = pull_all(front)
    keys = [m.body.decode() for m in found]
    assert len(set(keys)) == len(keys), f"delivered twice: {sorted({k for k in keys if keys.count(k) > 1})[:10]}"
    assert set(keys) == set(sent), (len(keys), len(sent))
    for message in found:
        sent_ms, level, queue = sent[message.body.decode()]
        assert message.queue == queue
        assert message.properties["DELAY"] == str(level)
        assert message.properties["REAL_TOPIC"] == TOPIC and message.properties["REAL_QID"] == str(queue)
        assert message.store_time_ms >= sent_ms + LEVELS_S[level] * 1000, (message.body, message.store_time_ms, sent_ms)


def post(front, n: int) -> tuple:
    level, queue, sent_ms = 1 + n % 2, n % QUEUES, int(time.time() * 1000)
    return sent_ms, level, queue, front.post_message(TOPIC, queue, b"%d" % n, {"DELAY": level, "UNIQ_KEY": f"key{n}"})


def front_of(cluster) -> str:
    return f"127.0.0.1:{cluster.workers('front')[0].ports[0]}"


def send_all(front, count: int, between) -> dict:
    sent, open_ = {}, {}
    for n in range(count):
        sent_ms, level, queue, opaque = post(front, n)
        sent[str(n)] = (sent_ms, level, queue)
        open_[n] = (opaque, queue)
        if n % 20 == 19:
            for opaque, queue in open_.values():
                answer = front.answer(opaque)
                assert answer.code == remoting.OK, answer
                assert answer.ext["queueId"] == str(queue)
            open_ = {}
            between(n)
    assert not open_
    return sent


def test_each_once_through_kills(seeded, rounds, figures):
    with FaultCluster("1m") as cluster, remoting.Connection(front_of(cluster)) as front:
        assert front.put_topic(TOPIC, QUEUES).code == remoting.OK
        kills = rounds(KILLS)
        done = 0

        def kill():
            nonlocal done
            done += 1
            cluster.wait_restarted(cluster.kill("store", "broker-a"))
            time.sleep(seeded.uniform(0.3, 1.0))

        sent = send_all(front, MESSAGES, lambda n: kill() if n % 250 == 249 and done < kills else None)
        while done < kills:
            kill()
        judge(front, sent)
        figures(f"{len(sent)} delayed messages, {done} kills")


def test_each_once_at_each_point(figures):
    """Also at the moments that chance hardly finds."""
    points = ["store.taken", "store.append-partial", "store.appended", "store.delay-applied", "store.ledger-written",
              "store.dispatch", "store.dispatched"]
    with FaultCluster("1m") as cluster, remoting.Connection(front_of(cluster)) as front:
        assert front.put_topic(TOPIC, QUEUES).code == remoting.OK
        sent = {}
        for round_, point in enumerate(points):
            base = round_ * 20
            worker = cluster.workers("store")[0]
            for n in range(base, base + 20):
                if n == base + 10:  # deliveries of level 1 are about to begin, or under way
                    time.sleep(0.9)
                    cluster.arm(point, worker)
                sent_ms, level, queue, opaque = post(front, n)
                sent[str(n)] = (sent_ms, level, queue)
                if n < base + 10:
                    assert front.answer(opaque).code == remoting.OK
            cluster.wait_restarted(worker)
        judge(front, sent)
        figures(f"{len(points)} points")


def test_after_a_stop_and_after_the_loss_of_all_memory(seeded, figures):
    """Whether the broker stopped or all of its memory was lost: what is due meanwhile comes once."""
    with FaultCluster("1m") as cluster:
        with remoting.Connection(front_of(cluster)) as front:
            assert front.put_topic(TOPIC, QUEUES).code == remoting.OK
            sent = send_all(front, 200, lambda n: None)
        cluster.down()
        cluster.up(cluster.settings)
        with remoting.Connection(front_of(cluster)) as front:
            wait_for(lambda: fastjson.loads(front.ask(45).body.decode())["offsetTable"].get(1) == 100, 60,
                     "the progress of level 1 to be told")
            wait_for(lambda: front.max_offset(TOPIC, 1) > 0, 60, "deliveries of level 2")
        for round_ in range(COLD):
            base = 200 + 200 * round_
            with remoting.Connection(front_of(cluster)) as front:
                for n in range(base, base + 200):
                    sent_ms, level, queue, opaque = post(front, n)
                    sent[str(n)] = (sent_ms, level, queue)
                    assert front.answer(opaque).code == remoting.OK
                before = front.max_offset(TOPIC, 0)
                wait_for(lambda: front.max_offset(TOPIC, 0) > before, 60, "a delivery of level 1")
                time.sleep(seeded.uniform(0, 0.5))
            cluster.kill_everything(seeded)
            cluster.up(cluster.settings)
        with remoting.Connection(front_of(cluster)) as front:
            judge(front, sent)
        figures(f"{COLD} losses of all memory")
