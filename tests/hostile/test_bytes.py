"""Bytes that are no requests: the connection is closed, counted, and said once; everybody else is served."""
import json
import random

import pytest

from cluster import wait_for
from peers import Target, frame, is_closed, own_address
from remoting import OK, Connection

TLS = bytes.fromhex("16030100c8010000c40303") + bytes(190)
WRONG = {
    "HTTP": (b"GET / HTTP/1.1\r\nHost: broker\r\n\r\n", "an HTTP request"),
    "HTTP2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "an HTTP/2 request"),
    "TLS": (TLS, "a TLS greeting"),
    "SSH": (b"SSH-2.0-OpenSSH_9.2\r\n", "an SSH greeting"),
    "PROXY": (b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n", "a PROXY header"),
    "zeros": (bytes(64), "a malformed frame"),
    "too long": (frame(b"{}", length=16 << 20), "too long"),
    "longest": (b"\xff" * 64, "too long"),
    "kind": (frame(b"{}", kind=7), "a malformed frame"),
    "header outside": (frame(b"{}", header_length=1000), "a malformed frame"),
    "no JSON": (frame(b"nonsense"), "a malformed frame"),
    "half JSON": (frame(b'{"code":310,"extFields":{"a":'), "a malformed frame"),
    "array": (frame(b"[1,2,3]"), "a malformed frame"),
    "deep": (frame(b'{"code":310,"extFields":' + b"[" * 100000), "a malformed frame"),
    "binary": (frame(b"\x01\x36\x00", kind=1), "a malformed frame"),
    "lying binary": (frame(bytes.fromhex("0136000fff00000001000000000000ffff7fffffff"), kind=1), "a malformed frame"),
}


@pytest.fixture(params=["front", "namesrv"])
def target(request, patient):
    return Target(patient, request.param)


@pytest.mark.parametrize("name", WRONG)
def test_wrong_bytes(target, name):
    data, looks_like = WRONG[name]
    source = own_address()
    before = target.count("FRAMES_BAD")
    for _ in range(5):
        with target.open(source) as peer:
            peer.sendall(data)
            assert is_closed(peer), name
    assert target.count("FRAMES_BAD") == before + 5
    wait_for(lambda: target.log_lines(source), 10, "the line in the log")
    lines = target.log_lines(source)
    assert len(lines) == 1 and looks_like in lines[0] and "closed" in lines[0], lines
    target.serves()


def requests(role: str) -> list:
    header = {"code": 310 if role == "front" else 105, "language": "JAVA", "version": 479, "opaque": 1, "flag": 0,
              "extFields": {"a": "g", "b": "witness", "c": "TBW102", "d": "4", "e": "0", "f": "0", "g": "1", "h": "0",
                            "i": "KEYS\x01k\x02", "j": "0", "k": "false", "m": "false", "topic": "witness"}}
    pull = dict(header, code=11, extFields={
        "consumerGroup": "g", "topic": "witness", "queueId": "0", "queueOffset": "0", "maxMsgNums": "32",
        "sysFlag": "4", "commitOffset": "0", "suspendTimeoutMillis": "0", "subscription": "*", "subVersion": "0"})
    beat = dict(header, code=34, extFields={})
    return [frame(json.dumps(header).encode(), b"body"), frame(json.dumps(pull).encode()),
            frame(json.dumps(beat).encode(), b'{"clientID":"c","consumerDataSet":[{"groupName":"g"}]}'),
            frame(json.dumps(dict(header, flag=1)).encode(), b"answer to nothing")]


def test_cut_requests(target):
    """A client that dies in the middle of a request."""
    for whole in requests(target.role):
        for size in range(0, len(whole), 7):
            with target.open() as peer:
                peer.sendall(whole[:size])
    target.serves()


def test_mutated_requests(target):
    """Whatever comes of it, the process lives and serves others."""
    choose = random.Random(20261123)
    whole = requests(target.role)
    for _ in range(150):
        with target.open() as peer:
            data = b""
            for _ in range(10):
                mutated = bytearray(choose.choice(whole))
                for _ in range(choose.randint(1, 6)):
                    # Mostly behind the prefix: a wrong length ends the connection at once.
                    at = choose.randrange(0 if choose.random() < 0.1 else 8, len(mutated))
                    mutated[at] = choose.randrange(256)
                data += bytes(mutated)
            try:
                peer.sendall(data)
            except ConnectionError:
                pass
    target.serves()


def test_frame_that_never_ends_costs_what_it_sent(target):
    """16 MiB are announced a hundred times; memory grows by what came."""
    before = target.memory()
    peers = [target.open() for _ in range(100)]
    for peer in peers:
        peer.sendall(frame(b"{", length=(16 << 20) - 5, header_length=1 << 20) + b"x" * 1000)
    wait_for(lambda: target.count("BUFFERED_BYTES") >= 100 * 1000, 30, "the bytes")
    assert target.memory() - before < 100 * 65536
    target.serves()
    for peer in peers:
        peer.close()
    wait_for(lambda: target.count("BUFFERED_BYTES") == 0, 30, "the end of these bytes")


def test_answer_without_a_question(target):
    with Connection("%s:%d" % target.address) as peer:
        for opaque in range(100):
            peer.socket.sendall(frame(b'{"code":0,"flag":1,"opaque":%d}' % opaque, b"x" * 100))
        assert peer.ask(28 if target.role == "front" else 106).code == OK
