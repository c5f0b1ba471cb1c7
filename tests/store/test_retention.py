"""Retention and full disks, from outside: a store with small files, whose settings are changed while it runs."""
import os
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from cluster import Cluster, wait_for
from remoting import OK, PULL_NOT_FOUND, Connection, messages

UPDATE_CONFIG, RUNTIME_INFO, MIN_OFFSET, DELETE_EXPIRED_LOG, COMMIT_OFFSET, QUERY_OFFSET = 25, 28, 31, 329, 15, 14
SERVICE_NOT_AVAILABLE, PULL_OFFSET_MOVED = 14, 21
LOG_FILE, QUEUE_FILE = 65536, 2000
SMALL = ("--set", f"mappedFileSizeCommitLog={LOG_FILE}", "--set", f"mappedFileSizeConsumeQueue={QUEUE_FILE}",
         "--set", "cleanResourceInterval=100", "--set", "deleteWhen=25")
TOPIC, QUEUES = "retained", 3


class Broker:
    def __init__(self, cluster: Cluster):
        self.cluster = cluster
        front = cluster.workers("front")[0]
        self.name = front.broker
        self.connection = Connection(f"127.0.0.1:{front.ports[0]}")
        self.root = cluster.dir / "store" / self.name
        assert self.connection.put_topic(TOPIC, QUEUES).code == OK

    def configure(self, **keys):
        answer = self.connection.ask(UPDATE_CONFIG, {}, "".join(f"{k}={v}\n" for k, v in keys.items()).encode())
        assert answer.code == OK, answer

    def send(self, number: int):
        body = b"%08d" % number + bytes(1500)
        return self.connection.send(TOPIC, number % QUEUES, body)

    def fill(self, first: int, count: int):
        for number in range(first, first + count):
            answer = self.send(number)
            assert answer.code == OK, answer

    def log_files(self) -> list:
        return sorted(int(p.name) for p in (self.root / "commitlog").iterdir())

    def begin_stays(self) -> bool:
        """No file went for half a second, and the queues have heard of those that did."""
        before = self.log_files(), [self.min_offset(queue) for queue in range(QUEUES)]
        time.sleep(0.5)
        return before == (self.log_files(), [self.min_offset(queue) for queue in range(QUEUES)])

    def min_offset(self, queue: int) -> int:
        return int(self.connection.ask(MIN_OFFSET, {"topic": TOPIC, "queueId": queue}).ext["offset"])

    def read(self, queue: int) -> list:
        """Every message of a queue, from its begin on."""
        offset, found = self.min_offset(queue), []
        while True:
            answer = self.connection.answer(self.connection.post_pull(TOPIC, "reader", queue, offset))
            got = messages(answer.body)
            found += got
            if answer.code == PULL_NOT_FOUND:
                return found
            assert answer.code in (OK, 20), answer  # 20: look again at once
            offset = int(answer.ext["nextBeginOffset"])

    def check(self, sent: int):
        """The queues agree with the log: whole from their begin to the last message, and none of what is there is missing."""
        left = []
        for queue in range(QUEUES):
            found = self.read(queue)
            numbers = [int(m.body[:8]) for m in found]
            first = self.min_offset(queue)
            assert [m.offset for m in found] == list(range(first, first + len(found)))
            assert numbers == [queue + QUEUES * offset for offset in range(first, first + len(found))]
            assert numbers and numbers[-1] == sent - QUEUES + (queue - sent) % QUEUES
            left += numbers
        left.sort()
        assert left == list(range(left[0], sent)), "a hole in what is left"
        return left


@contextmanager
def broker(*settings, store: Path = None):
    where = ("--set", f"storePathRootDir={store}") if store else ()
    with Cluster("1m", args=[*SMALL, *settings, *where]) as cluster:
        served = Broker(cluster)
        if store:
            served.root = store
        yield served


def test_by_age():
    """Nothing goes before its hour; at its hour expired files go, the last one never, and queues begin where the log does."""
    with broker("--set", "fileReservedTime=0") as b:
        b.fill(0, 600)
        files = b.log_files()
        assert len(files) > 10
        time.sleep(0.5)  # several passes
        assert b.log_files() == files
        b.configure(deleteWhen=";".join(str(hour) for hour in range(24)))
        wait_for(lambda: len(b.log_files()) == 1, 20, "only the last file to be left")
        left = wait_for(lambda: [n for n in b.check(600) if b.min_offset(0) > 0], 20, "queues to begin later")
        assert len(left) * 1500 <= LOG_FILE
        wait_for(lambda: not list((b.root / "removed").iterdir()), 20, "what was removed to be gone")
        queue_files = sorted(int(p.name) for p in (b.root / "consumequeue" / TOPIC / "0").iterdir())
        assert queue_files[0] > 0, "queue files whose messages are gone go too"
        pulled = b.connection.answer(b.connection.post_pull(TOPIC, "late", 0, 0))
        assert pulled.code == PULL_OFFSET_MOVED and int(pulled.ext["nextBeginOffset"]) == b.min_offset(0), pulled
        b.fill(600, 100)
        b.cluster.down()
        b.cluster.up([*SMALL])
        again = Broker(b.cluster)
        assert again.check(700)[0] >= left[0]


def test_by_command():
    """DELETE_EXPIRED_COMMITLOG takes expired files at any hour, and leaves those that are not."""
    with broker() as b:
        b.fill(0, 300)
        files = b.log_files()
        old = time.time() - 73 * 3600
        for pos in files[:4]:
            os.utime(b.root / "commitlog" / f"{pos:020}", (old, old))
        assert b.connection.ask(DELETE_EXPIRED_LOG).code == OK
        wait_for(lambda: b.log_files() == files[4:], 20, "four files to go")
        info = b.connection.ask(RUNTIME_INFO)
        assert f'"commitLogMinOffset":"{files[4]}"' in info.body.decode()
        b.check(300)


def test_killed_meanwhile():
    """The store dies again and again while files go: nothing that is left has a hole."""
    with broker("--set", "fileReservedTime=0", "--set", "deleteCommitLogFilesInterval=0") as b:
        sent = 0
        for kill in range(8):
            b.fill(sent, 200)
            sent += 200
            b.configure(deleteWhen="25" if kill % 3 == 2 else ";".join(str(hour) for hour in range(24)))
            time.sleep(0.004 * kill)
            b.cluster.wait_restarted(b.cluster.kill("store"))
        b.configure(deleteWhen=";".join(str(hour) for hour in range(24)))
        wait_for(lambda: len(b.log_files()) == 1 and b.begin_stays(), 20, "only the last file to be left")
        b.check(sent)


def test_full_disk_refuses_messages_alone():
    """Too few free bytes: messages are refused with the figures, consumers and offsets go on; with room it is over at once."""
    with broker("--set", "cleanFileForciblyEnable=false") as b:
        b.fill(0, 50)
        b.configure(diskFreeLeast=1 << 60)
        refused = wait_for(lambda: (lambda a: a.code != OK and a)(b.send(50)), 20, "a refusal")
        assert refused.code == SERVICE_NOT_AVAILABLE, refused
        assert "disk" in refused.remark and "free" in refused.remark, refused
        stored = b.read(0)
        assert stored
        commit = {"consumerGroup": "reader", "topic": TOPIC, "queueId": 0, "commitOffset": 3}
        assert b.connection.ask(COMMIT_OFFSET, commit).code == OK
        assert b.connection.ask(QUERY_OFFSET, commit).ext["offset"] == "3"
        b.cluster.wait_restarted(b.cluster.kill("store"))
        assert b.send(50).code == SERVICE_NOT_AVAILABLE, "also after a death"
        b.configure(diskFreeLeast=0)
        wait_for(lambda: b.send(1000).code == OK, 20, "messages to be taken again")


@contextmanager
def small_disk(folder: Path, mebibytes: int):
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "pintle-test", folder],
                          capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no tmpfs can be mounted: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_oldest_go_when_the_disk_is_full(tmp_path):
    """More is sent than the disk holds: the oldest files go, expired or not, and no message is refused."""
    with small_disk(tmp_path / "disk", 8) as disk:
        with broker("--set", "diskFreeLeast=0", "--set", "deleteFileBatchMax=1000", store=disk / "store") as b:
            sent = 0
            while sent < 8000:  # 12 MiB
                opaques = [b.connection.post_message(TOPIC, n % QUEUES, b"%08d" % n + bytes(1500))
                           for n in range(sent, sent + 100)]
                answers = [b.connection.answer(opaque) for opaque in opaques]
                sent += len(answers)
                assert {a.code for a in answers} == {OK}, [a for a in answers if a.code][:1]
                # Not faster than files go: 15 % of this disk are soon full, of a real one never between two looks.
                wait_for(lambda: os.statvfs(disk).f_bavail * 100 > os.statvfs(disk).f_blocks * 13, 20, "files to go")
            b.configure(cleanFileForciblyEnable="false")
            wait_for(b.begin_stays, 20, "the last of what was to go to be gone")
            left = b.check(sent)
            assert left[0] > 0


def test_full_disk_has_room_again(tmp_path):
    """Somebody else fills the disk; with his file gone, messages are taken again, and none that was acknowledged is lost."""
    with small_disk(tmp_path / "disk", 12) as disk:
        settings = ("--set", "cleanFileForciblyEnable=false", "--set", "diskFreeLeast=524288")
        with broker(*settings, store=disk / "store") as b:
            b.fill(0, 100)
            (disk / "filler").write_bytes(bytes(11 << 20))
            wait_for(lambda: b.send(10 ** 6).code == SERVICE_NOT_AVAILABLE, 20, "a refusal")
            assert [int(m.body[:8]) for m in b.read(0)][:34] == list(range(0, 100, QUEUES))
            (disk / "filler").unlink()
            wait_for(lambda: b.send(10 ** 6).code == OK, 20, "messages to be taken again")
            assert len(b.read(0)) > 34 or len(b.read(1)) > 33
