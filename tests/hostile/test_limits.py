"""Each limit, set low: who goes over it waits, or is closed, counted and named; nobody else notices."""
import threading

import pytest

from cluster import wait_for
from peers import Target, frame, is_closed, own_address
from remoting import OK, Connection, messages

BUSY = 2


@pytest.fixture(params=["front", "namesrv"])
def target(request, tight):
    return Target(tight, request.param)


@pytest.fixture
def front(tight):
    return Target(tight, "front")


def test_idle(target):
    before = target.count("CONNECTIONS_IDLE")
    with target.open() as peer:
        assert is_closed(peer)
    assert target.count("CONNECTIONS_IDLE") > before


def test_slow_loris(target):
    """A byte now and then is not a sign of life as long as no request gets whole."""
    source, request = own_address(), frame(b'{"code":105}', b"x" * 100000)
    with target.open(source) as peer:
        for at in range(len(request)):
            try:
                peer.sendall(request[at:at + 1])
            except ConnectionError:
                break
            if is_closed(peer, 0.3):
                break
        else:
            raise AssertionError("never closed")
    assert target.count("CONNECTIONS_SLOW") >= 1
    lines = wait_for(lambda: target.log_lines(source), 10, "the line in the log")
    assert len(lines) == 1 and "not whole after serverChannelMaxIdleTimeSeconds" in lines[0]
    target.serves()


def test_never_reads(target):
    """Closed when none of its bytes have moved for the idle time."""
    source, before = own_address(), target.count("CONNECTIONS_SLOW")
    request = frame(b'{"code":%d,"version":479,"opaque":1,"flag":0}' % (21 if target.role == "front" else 106))
    with target.open(source, receive_buffer=4096) as peer:
        peer.setblocking(False)

        def closed():
            try:
                peer.send(request * 500)
            except BlockingIOError:
                pass
            except ConnectionError:
                return True
            return target.count("CONNECTIONS_SLOW") > before
        wait_for(closed, 60, "the end of the connection", 0.01)
    lines = wait_for(lambda: target.log_lines(source), 10, "the line in the log")
    assert len(lines) == 1 and "takes none of the bytes" in lines[0]
    target.serves()


def test_too_many_connections(target):
    source, before = own_address(), target.count("CONNECTIONS_REFUSED")
    busy = Connection("%s:%d" % target.address)
    peers = []
    try:
        for _ in range(120):
            peers.append(target.open(source))
        target.wait_count("CONNECTIONS_REFUSED", before + 50)
        lines = wait_for(lambda: target.log_lines(source), 10, "the line in the log")
        assert len(lines) == 1 and "maxConnections" in lines[0]
        assert busy.ask(28 if target.role == "front" else 106).code == OK
        assert target.count("CONNECTIONS") <= 50
    finally:
        for peer in peers:
            peer.close()
        busy.close()
    wait_for(lambda: target.count("CONNECTIONS") < 10, 30, "room")
    target.serves()


def test_too_much_memory(target):
    """Six of 1.5 MiB each where 4 MiB may be held: some go, and what is left is within the limit."""
    source, before = own_address(), target.count("CONNECTIONS_HEAVY")
    big = frame(b'{"code":105}', b"x" * (8 << 20))[:3 << 19]
    peers = [target.open(source) for _ in range(6)]
    busy = Connection("%s:%d" % target.address)

    def push(peer):
        try:
            peer.sendall(big)
        except ConnectionError:
            pass
    threads = [threading.Thread(target=push, args=(peer,), daemon=True) for peer in peers]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
        target.wait_count("CONNECTIONS_HEAVY", before + 1)
        wait_for(lambda: target.count("BUFFERED_BYTES") <= 4 << 20, 30, "memory within the limit")
        assert busy.ask(28 if target.role == "front" else 106).code == OK
        assert any("maxBufferedBytes" in line for line in target.log_lines(source))
    finally:
        busy.close()
        for peer in peers:
            peer.close()
    target.serves()


def test_too_many_parked_pulls(front):
    with Connection("%s:%d" % front.address) as client:
        assert client.put_topic("parked", 1).code == OK
        asked = [client.post_pull("parked", "parked-g", 0, 0, wait_ms=60000) for _ in range(12)]
        refused = [client.answer(a) for a in asked[10:]]
        assert {r.code for r in refused} == {BUSY}
        assert all("maxParkedPullsPerConnection" in r.remark for r in refused)
        with Connection("%s:%d" % front.address) as producer:
            assert producer.send("parked", 0, b"for all").code == OK
        for opaque in asked[:10]:
            assert [m.body for m in messages(client.answer(opaque).body)] == [b"for all"]


def test_too_many_outstanding(front):
    """They wait in the socket; not one is refused."""
    before = front.count("REQUESTS_PUT_OFF")
    with Connection("%s:%d" % front.address) as client:
        assert client.put_topic("outstanding", 1).code == OK
        asked = [client.post_message("outstanding", 0, b"x") for _ in range(2000)]
        assert {client.answer(a).code for a in asked} == {OK}
    assert front.count("REQUESTS_PUT_OFF") > before


def test_polls_of_a_slow_reader_wait(front):
    """What wakes is put off while 64 KiB are unsent (the kernel takes some 10 MiB first); all of it comes in the end."""
    with Connection("%s:%d" % front.address) as slow, Connection("%s:%d" % front.address) as producer:
        assert producer.put_topic("slow", 8).code == OK
        asked = [slow.post_pull("slow", "slow-g", q, 0, wait_ms=60000) for q in range(8)]
        wait_for(lambda: front.count("PULLS_PARKED") >= 8, 30, "parked pulls")
        for q in range(8):
            assert producer.send("slow", q, b"x" * 4000000).code == OK
        for opaque in asked:
            answer = slow.answer(opaque)
            assert answer.code == OK and [len(m.body) for m in messages(answer.body)] == [4000000]
