"""Messages by key: the index beside Apache's. One log is indexed by both, and the files are compared byte by byte; each of
the two answers queries (QUERY_MESSAGE 12) out of what the other has written."""
import random
import shutil
import struct
import tempfile
import time
from pathlib import Path

import pytest

from apache import ApacheBroker
from cluster import Cluster, wait_for
from remoting import OK, Connection

QUERY_MESSAGE, QUERY_NOT_FOUND, SYSTEM_ERROR = 12, 22, 1
MESSAGES, KEYS = 600, 23
SHAPE = {"maxHashSlotNum": 61, "maxIndexNum": 400, "mappedFileSizeCommitLog": 1 << 20,
         "mappedFileSizeConsumeQueue": 20000}
SETTINGS = [word for key, value in SHAPE.items() for word in ("--set", f"{key}={value}")]
FOREVER = {"beginTimestamp": 0, "endTimestamp": 2 ** 62}


def keys_of(i: int) -> list:
    return [f"k{i % KEYS}", "all", f"schlüssel-{i % 5}", f"only-{i}"][:i % 5]


def unique(i: int) -> str:
    return f"{i:032X}"


def send_all(connection: Connection, first: int, count: int, one_by_one: bool = False):
    rng = random.Random(first)
    waiting = []
    for i in range(first, first + count):
        properties = {"UNIQ_KEY": unique(i), "TAGS": "A", "KEYS": "  ".join(keys_of(i))}
        if not keys_of(i):
            del properties["KEYS"]
        body = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 900)))
        waiting.append(connection.post_message(("indexed", "indexed-too")[i % 2], i % 4, body, properties))
        if one_by_one:
            answer = connection.answer(waiting.pop())
            assert answer.code == OK, answer
    for opaque in waiting:
        answer = connection.answer(opaque)
        assert answer.code == OK, answer


def records(body: bytes) -> list:
    """[(log position, properties)] of an answer."""
    found = []
    while body:
        size, = struct.unpack_from(">i", body)
        record, body = body[:size], body[size:]
        at = 84
        body_size, = struct.unpack_from(">i", record, at)
        at += 4 + body_size
        at += 1 + record[at]
        properties = record[at + 2:].decode()
        found.append((struct.unpack_from(">q", record, 28)[0],
                      dict(p.split("\x01", 1) for p in properties.split("\x02") if "\x01" in p)))
    return found


def query(connection: Connection, topic: str, key: str, most: int = 64, is_unique: bool = False, **times):
    return connection.ask(QUERY_MESSAGE, {"topic": topic, "key": key, "maxNum": most, **FOREVER, **times,
                                          **({"_UNIQUE_KEY_QUERY": "true"} if is_unique else {})})


def found(connection: Connection, topic: str, key: str, **more) -> list:
    """Numbers of the messages that have the key (others that share its hash are dropped, as clients do)."""
    answer = query(connection, topic, key, **more)
    if answer.code == QUERY_NOT_FOUND:
        assert answer.remark == "can not find message, maybe time range not correct"
        return []
    assert answer.code == OK, answer
    return [int(p["UNIQ_KEY"], 16) for _, p in records(answer.body)
            if p["UNIQ_KEY"] == key or key in p.get("KEYS", "").split(" ")]


def expect_all(connection: Connection, count: int):
    for topic in range(2):
        name = ("indexed", "indexed-too")[topic]
        mine = [i for i in range(count) if i % 2 == topic]
        for i in mine[::17] + mine[-3:]:
            assert found(connection, name, unique(i), is_unique=True, most=1) == [i]
            assert found(connection, name, unique(i - 1), is_unique=True) == []
        for key in ["all", "k7", "schlüssel-3", f"only-{mine[-1] // 5 * 5 + 4 - 5}"]:
            having = [i for i in mine if key in keys_of(i)]
            assert found(connection, name, key) == having[-64:]
            assert found(connection, name, key, most=3) == having[-3:]
    assert found(connection, "indexed", "no-such-key") == []


class PlainStore:
    """A copy of a store's folder for an Apache broker: `parts` of it."""

    def __init__(self, store: Path, parts: list):
        self.path = Path(tempfile.mkdtemp(prefix="pintle-index-store-"))
        for part in parts:
            (shutil.copytree if (store / part).is_dir() else shutil.copy)(store / part, self.path / part)

    def __enter__(self):
        return self.path

    def __exit__(self, *exc):
        shutil.rmtree(self.path, ignore_errors=True)


def index_files(store: Path) -> list:
    return [f.read_bytes() for f in sorted((store / "index").iterdir())]


def assert_same_files(ours: list, theirs: list):
    assert len(ours) == len(theirs) > 2
    for n, (a, b) in enumerate(zip(ours, theirs)):
        assert len(a) == len(b)
        differing = [i for i in range(0, len(a), 4) if a[i:i + 4] != b[i:i + 4]]
        assert not differing, f"file {n} of {len(ours)} differs at {differing[:10]}"


@pytest.fixture(scope="module")
def ours():
    """A Pintle broker that got messages, was killed in between, and stopped cleanly; what is left of it is a folder."""
    with Cluster("1m", args=SETTINGS) as cluster:
        with Connection(f"127.0.0.1:{cluster.workers('front')[0].ports[0]}") as connection:
            send_all(connection, 0, MESSAGES // 2)
            expect_all(connection, MESSAGES // 2)  # at once: what is acknowledged is found
            cluster.wait_restarted(cluster.kill("store"))
            send_all(connection, MESSAGES // 2, MESSAGES - MESSAGES // 2)
            expect_all(connection, MESSAGES)
        cluster.down()
        yield cluster


def store_of(cluster) -> Path:
    return next((cluster.dir / "store").iterdir())


def test_queries_of_every_kind(ours):
    """Times, counts, unique keys, nonsense; after a start from the files."""
    ours.up(SETTINGS)
    try:
        with Connection(f"127.0.0.1:{ours.workers('front')[0].ports[0]}") as connection:
            expect_all(connection, MESSAGES)
            answer = query(connection, "indexed", unique(4), is_unique=True)
            (pos, _), = records(answer.body)
            last = query(connection, "indexed-too", unique(MESSAGES - 1), is_unique=True)
            assert int(last.ext["indexLastUpdatePhyoffset"]) == records(last.body)[0][0] > pos
            assert answer.ext == last.ext and abs(int(last.ext["indexLastUpdateTimestamp"]) / 1000 - time.time()) < 3600
            now = int(time.time() * 1000)
            assert found(connection, "indexed", "all", endTimestamp=now - 3600_000) == []
            assert found(connection, "indexed", "all", beginTimestamp=now + 3600_000) == []
            assert len(found(connection, "indexed", "all", beginTimestamp=now - 3600_000, endTimestamp=now)) == 64
            assert found(connection, "indexed", "all", most=0) == [] == found(connection, "indexed", "all", most=-5)
            answer = query(connection, "indexed", "no-such-key")
            assert answer.code == QUERY_NOT_FOUND and set(answer.ext.values()) == {"0"}
            for missing in ("topic", "key", "maxNum", "beginTimestamp", "endTimestamp"):
                fields = {"topic": "indexed", "key": "all", "maxNum": 1, **FOREVER}
                del fields[missing]
                assert connection.ask(QUERY_MESSAGE, fields).code == SYSTEM_ERROR
            assert query(connection, "indexed", "all", most="many").code == SYSTEM_ERROR
    finally:
        ours.down()


def test_apache_makes_the_same_files(ours):
    """From the commit log alone."""
    with PlainStore(store_of(ours), ["commitlog"]) as store, \
            ApacheBroker("broker-a", "127.0.0.1:1", store=store, conf=SHAPE) as apache:
        with Connection(apache.address) as connection:
            last = unique(MESSAGES - 1)
            wait_for(lambda: found(connection, "indexed-too", last, is_unique=True), 60, "Apache's index", 0.2)
            expect_all(connection, MESSAGES)
        apache.end()
        assert_same_files(index_files(store_of(ours)), index_files(store))


def test_apache_reads_ours_and_goes_on(ours):
    """It finds our keys, adds its own behind them, and we find those."""
    parts = ["commitlog", "consumequeue", "index", "checkpoint", "config"]
    with PlainStore(store_of(ours), parts) as store:
        before = index_files(store)
        with ApacheBroker("broker-a", "127.0.0.1:1", store=store, conf=SHAPE) as apache:
            with Connection(apache.address) as connection:
                expect_all(connection, MESSAGES)
                send_all(connection, MESSAGES, 300, one_by_one=True)  # its threads would change the order
                last = unique(MESSAGES + 299)
                wait_for(lambda: found(connection, "indexed-too", last, is_unique=True), 60, "Apache's index", 0.2)
                expect_all(connection, MESSAGES + 300)
            apache.end()
        theirs = index_files(store)
        assert_same_files(before[:-1], theirs[:len(before) - 1])
        # And back: what Apache has written is ours to read, and to make again to the same bytes.
        own = store_of(ours)
        saved = own.with_name("saved")
        own.rename(saved)
        try:
            shutil.copytree(store, own)
            ours.up(SETTINGS)
            with Connection(f"127.0.0.1:{ours.workers('front')[0].ports[0]}") as connection:
                expect_all(connection, MESSAGES + 300)
            ours.down()
            assert_same_files(index_files(own), theirs)
            shutil.rmtree(own / "index")
            ours.up(SETTINGS)
            with Connection(f"127.0.0.1:{ours.workers('front')[0].ports[0]}") as connection:
                wait_for(lambda: found(connection, "indexed-too", last, is_unique=True), 60, "our index", 0.1)
                expect_all(connection, MESSAGES + 300)
            ours.down()
            assert_same_files(index_files(own), theirs)
        finally:
            shutil.rmtree(own, ignore_errors=True)
            saved.rename(own)
