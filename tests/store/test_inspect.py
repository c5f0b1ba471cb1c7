"""`pintle fsck` and `pintle log` over the files of a real store, good, damaged by hand, and mended."""
import json
import os
import shutil
import subprocess

import pytest

from cluster import Cluster, build_dir
from remoting import OK, Connection

PINTLE = build_dir() / "bin" / "pintle"
LOG_FILE, QUEUE_FILE, ENTRY = 262144, 4000, 20
SMALL = ("--set", f"mappedFileSizeCommitLog={LOG_FILE}", "--set", f"mappedFileSizeConsumeQueue={QUEUE_FILE}")
TOPIC, QUEUES, SENT, BODY = "inspected", 4, 1200, 700


def run(*words, code=0):
    done = subprocess.run([PINTLE, *map(str, words)], capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def fsck(store, *words, code=0):
    return json.loads(run("fsck", store, "--json", *words, code=code))


def log_cat(store, *words):
    return [json.loads(line) for line in run("log", "cat", store, "--json", *words).splitlines()]


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A store's folder after a clean stop."""
    with Cluster("1m", args=SMALL) as cluster:
        front = cluster.workers("front")[0]
        with Connection(f"127.0.0.1:{front.ports[0]}") as connection:
            assert connection.put_topic(TOPIC, QUEUES).code == OK
            sent = [connection.post_message(TOPIC, n % QUEUES, b"%06d" % n + b"x" * BODY,
                                            {"KEYS": f"key{n}", "TAGS": f"t{n % 3}"}) for n in range(SENT)]
            assert {connection.answer(opaque).code for opaque in sent} == {OK}
        store = cluster.dir / "store" / front.broker
        busy = subprocess.run([PINTLE, "fsck", store], capture_output=True, text=True)
        assert busy.returncode == 74 and "stop it first" in busy.stderr
        assert len(log_cat(store)) == SENT  # of a running store
        cluster.down()
        kept = tmp_path_factory.mktemp("original") / "store"
        shutil.copytree(store, kept)
        yield kept


@pytest.fixture
def store(original, tmp_path):
    shutil.copytree(original, tmp_path / "store")
    return tmp_path / "store"


def change(path, at, data):
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(data)


def flip(path, at):
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 16]))


def log_file(store, pos):
    return store / "commitlog" / f"{pos - pos % LOG_FILE:020}", pos % LOG_FILE


def test_good(store):
    found = fsck(store)
    assert (found["records"], found["damaged"], found["repaired"], found["notes"]) == (SENT, 0, 0, 0), found
    stat = json.loads(run("log", "stat", store, "--json"))
    assert sorted((q["topic"], q["queue"], q["records"], q["endOffset"]) for q in stat["queues"]) == \
        [(TOPIC, n, SENT // QUEUES, SENT // QUEUES) for n in range(QUEUES)]
    assert [m["offset"] for m in log_cat(store, "--queue", 1, "--count", 3)] == [0, 1, 2]
    assert "key77" in run("log", "grep", "key77", store)
    one = log_cat(store, "--count", 1)[0]
    assert one["id"] in run("log", "grep", one["id"], store)
    run("log", "grep", "no such text", store, code=1)


def test_damaged_body(store):
    victim = log_cat(store, "--count", 500)[-1]
    path, at = log_file(store, victim["position"])
    flip(path, at + 100)
    found = fsck(store, code=4)
    assert found["damaged"] == 1 and found["records"] == SENT, found
    text = found["findings"][0]["text"]
    assert victim["id"] in text and f"queue {victim['queue']}, offset {victim['offset']}" in text and TOPIC in text
    assert fsck(store, "--repair", code=4)["repaired"] == 0, "a body cannot be made again"


def test_zeroed_page(store):
    """What lay in the page is named; every other record is found."""
    pos = 2 * LOG_FILE + 16384
    path, at = log_file(store, pos)
    hit = [m for m in log_cat(store) if m["position"] < pos + 4096 and m["position"] + m["size"] > pos]
    change(path, at, bytes(4096))
    found = fsck(store, code=4)
    bodies = sum(f["kind"] == "message" for f in found["findings"])
    assert found["records"] - bodies == SENT - len(hit), found
    assert bodies + sum(f["kind"] == "log" for f in found["findings"]) == found["damaged"]


def test_queues_are_made_again(store):
    queues = store / "consumequeue" / TOPIC
    before = {p.relative_to(queues): p.read_bytes() for p in queues.rglob("00*")}
    change(queues / "0" / ("0" * 20), 5 * ENTRY, b"\x7f")  # another position
    change(queues / "1" / ("0" * 20), 7 * ENTRY + 8, b"\1\1")  # another size
    change(queues / "2" / ("0" * 20), 9 * ENTRY, bytes(ENTRY))  # nothing
    shutil.rmtree(queues / "3")
    last = sorted((queues / "1").iterdir())[-1]
    end = SENT // QUEUES * ENTRY % QUEUE_FILE
    change(last, end, (1 << 40).to_bytes(8, "big") + (800).to_bytes(4, "big") + bytes(8))  # behind the log's end
    found = fsck(store, code=4)
    assert found["damaged"] == 4 + SENT // QUEUES, found["findings"][:8]
    assert fsck(store, "--repair", code=1)["repaired"] == found["damaged"]
    assert fsck(store)["damaged"] == 0
    assert {p.relative_to(queues): p.read_bytes() for p in queues.rglob("00*")} == before


def test_torn_tail(store):
    """After an unclean stop bytes behind the last record are a note, after a clean one they are damage."""
    end = max(m["position"] + m["size"] for m in log_cat(store))
    path, at = log_file(store, end)
    change(path, at, b"\0\0\3\x20\xda\xa3\x20\xa7torn")
    assert fsck(store, code=4)["damaged"] == 1
    (store / "abort").write_text("1")
    found = fsck(store)
    assert (found["damaged"], found["notes"]) == (0, 1), found


def test_file_made_ahead(store):
    """A killed Apache broker leaves a file of zeros behind the last one: no damage, nor a reason to look for records."""
    last = sorted((store / "commitlog").iterdir())[-1]
    (store / "commitlog" / f"{int(last.name) + LOG_FILE:020}").write_bytes(bytes(LOG_FILE))
    (store / "abort").write_text("1")
    found = fsck(store)
    assert (found["records"], found["damaged"], found["notes"]) == (SENT, 0, 0), found


def test_empty_configuration(store):
    (store / "config" / "topics.json").write_text("")
    spare = store / "config" / "topics.json.bak"
    good = spare.exists() and spare.stat().st_size > 0
    assert any(f["kind"] == "config" for f in fsck(store, code=0 if good else 4)["findings"])


def test_hole_in_the_row_of_files(store):
    os.unlink(store / "commitlog" / f"{LOG_FILE:020}")
    assert any("does not follow" in f["text"] for f in fsck(store, code=4)["findings"])


def test_usage(tmp_path):
    for words in (("fsck",), ("log",), ("log", "cat"), ("log", "what", tmp_path), ("fsck", "--no-such", tmp_path)):
        assert subprocess.run([PINTLE, *map(str, words)], capture_output=True).returncode == 64
    assert subprocess.run([PINTLE, "fsck", tmp_path / "none"], capture_output=True).returncode == 74
