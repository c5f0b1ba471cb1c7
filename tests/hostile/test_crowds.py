"""Many connections, and clients that never read, against the default limits: bounded memory, and service for others."""
import resource
import time

import pytest

from cluster import wait_for
from peers import Target, frame, own_address
from remoting import OK, Connection

IDLE = 10000
PER_CONNECTION = 8192  # bytes of our own memory; a connection without bytes is a few hundred


@pytest.fixture(params=["front", "namesrv"])
def target(request, patient):
    return Target(patient, request.param)


def test_ten_thousand_connections(target, descriptors):
    """First silent, then each with the beginning of a request."""
    count = min(IDLE, descriptors - 2000)
    assert count >= 1000, f"only {descriptors} descriptors: raise the hard limit"
    base, before = target.count("CONNECTIONS"), target.memory()
    peers = []
    try:
        for _ in range(count):
            peers.append(target.open("127.0.0.2"))
        wait_for(lambda: target.count("CONNECTIONS") == base + count, 60, "the connections")
        silent = target.memory() - before
        assert silent < count * PER_CONNECTION
        target.serves()
        for peer in peers:
            peer.sendall(frame(b'{"code":105}', length=1000)[:20])
        wait_for(lambda: target.count("BUFFERED_BYTES") >= count * 20, 60, "the bytes")
        target.serves()
        begun = target.memory() - before
        print(f"{target.role}: {count} connections, {silent // count} bytes each, {begun // count} with half a request")
        assert begun < count * 2 * PER_CONNECTION
    finally:
        for peer in peers:
            peer.close()
    wait_for(lambda: target.count("CONNECTIONS") <= base, 60, "the end of the connections")


def ask_for_ever(target, peer, request: bytes):
    """Sends the request again and again until the server does not take any more."""
    peer.setblocking(False)
    many, quiet_since = request * 100, time.monotonic()
    rest = b""
    while time.monotonic() - quiet_since < 1:
        rest = rest or many
        try:
            sent = peer.send(rest)
            rest = rest[sent:]
            quiet_since = time.monotonic()
        except BlockingIOError:
            time.sleep(0.01)


def test_clients_that_never_read(target):
    """They are not read either, once so much waits for them; nothing piles up."""
    if target.role == "front":
        with Connection("%s:%d" % target.address) as producer:
            assert producer.put_topic("unread", 1).code == OK
            for _ in range(64):
                assert producer.send("unread", 0, b"x" * 65536).code == OK
            wait_for(lambda: producer.max_offset("unread", 0) == 64, 30, "the messages")
        request = frame(b'{"code":11,"version":479,"opaque":1,"flag":0,"extFields":{"consumerGroup":"g",'
                        b'"topic":"unread","queueId":"0","queueOffset":"0","maxMsgNums":"32","sysFlag":"4",'
                        b'"commitOffset":"0","suspendTimeoutMillis":"0","subscription":"*","subVersion":"0"}}')
    else:
        request = frame(b'{"code":106,"version":479,"opaque":1,"flag":0}')
    before = target.memory()
    peers = [target.open("127.0.0.3", receive_buffer=4096) for _ in range(4)]
    try:
        for peer in peers:
            ask_for_ever(target, peer, request)
        target.serves()
        # 8 MiB and one answer may wait at a front, 1 MiB at a name server; a front's are mostly pages of the log.
        grown = target.memory() - before
        print(f"{target.role}: {grown} bytes for {len(peers)} clients that do not read")
        assert grown < len(peers) * (4 << 20)
    finally:
        for peer in peers:
            peer.close()
    wait_for(lambda: target.count("BUFFERED_BYTES") == 0, 60, "the end of what they were owed")


def test_no_descriptors_left(target):
    """Accepting stops and says so; it goes on by itself, and nobody dies of it."""
    pid = target.worker.pid
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, limits[1]))  # fewer than are open: not one more
    try:
        with target.open() as waiting:
            target.wait_count("ACCEPT_PAUSES", 1)
            assert target.log_lines("accepting stops")
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
            target.serves()
            waiting.sendall(frame(b'{"code":1,"opaque":1}'))
            assert waiting.recv(100)
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)


def test_thousands_of_heavy_questions(target):
    """More than may be under way at once: they wait, each has its answer."""
    code, ext = (43, {}) if target.role == "front" else (106, {})
    with Connection("%s:%d" % target.address) as peer:
        begun = time.monotonic()
        asked = [peer.post(code, ext) for _ in range(3000)]
        assert {peer.answer(a).code for a in asked} == {OK}
        assert time.monotonic() - begun < 100  # they went on when there was room, not when a timer came by
    if target.role == "front":
        assert target.count("REQUESTS_PUT_OFF") > 0


def test_memory_is_given_back(target):
    with target.open(own_address()) as peer:
        peer.sendall(frame(b"{", length=(8 << 20), header_length=1 << 20) + b"x" * (4 << 20))
        wait_for(lambda: target.count("BUFFERED_BYTES") > 4 << 20, 30, "the bytes")
    wait_for(lambda: target.count("BUFFERED_BYTES") == 0, 30, "their end")
