"""One folder, opened in turn by Pintle and by real Apache RocketMQ 5.3.3, each of which stops cleanly or is killed.

Each owner must serve every message of all its predecessors with the same bytes (so ids, offsets, times), know topics, groups and
offsets, let consumers go on, and take more messages. In the end both make queues and index anew from the same log.
"""
import json
import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import pytest

import fastjson
from apache import free_port_block
from cluster import build_dir, wait_for
from remoting import BORN_IPV6, OK, PULL_NOT_FOUND, STORED_IPV6, Connection, messages
from store_owners import OWNERS

QUERY_MESSAGE, QUERY_OFFSET, COMMIT_OFFSET, TOPIC_PUT, SEARCH_TIME, MAX, MIN, VIEW = 12, 14, 15, 17, 29, 30, 31, 33
GROUP_PUT, SEND_BATCH, GET_TOPIC, GET_GROUP, END_TRANSACTION = 200, 320, 351, 352, 37
COMPRESSED, PREPARED, COMMITTED, ROLLED_BACK = 0x1, 0x4, 0x8, 0xC
PULL_AGAIN = 20
QUEUES, SMALL = 3, 120  # per owner: three times as many records as an index file has room for
BIG = [1 << 20, 3 << 20, (4 << 20) - 1024]
TOPIC_FIELDS = ("topicName", "readQueueNums", "writeQueueNums", "perm", "topicFilterType", "topicSysFlag", "order",
                "attributes")
GROUP_FIELDS = ("groupName", "consumeEnable", "consumeBroadcastEnable", "retryQueueNums", "retryMaxTimes",
                "consumeTimeoutMinute", "consumeMessageOrderly", "attributes", "groupRetryPolicy")


def pull(connection: Connection, topic: str, queue: int, offset: int, group: str = "reader"):
    answer = connection.answer(connection.post_pull(topic, group, queue, offset))
    assert answer.code in (OK, PULL_NOT_FOUND, PULL_AGAIN), answer
    return messages(answer.body), int(answer.ext["nextBeginOffset"]), answer.code == PULL_NOT_FOUND


def read_queue(connection: Connection, topic: str, queue: int) -> list:
    found, offset, ended = [], 0, False
    while not ended:
        more, offset, ended = pull(connection, topic, queue, offset)
        found += more
    return found


def item(body: bytes, properties: dict) -> bytes:
    text = "".join(f"{k}\x01{v}\x02" for k, v in properties.items()).encode()
    return struct.pack(">iiiii", 22 + len(body) + len(text), 0, 0, 0, len(body)) + body + struct.pack(
        ">H", len(text)) + text


class Writer:
    """One owner's messages: all kinds, each with a body of its own."""

    def __init__(self, story: "Story", owner, number: int):
        self.story, self.number, self.count = story, number, 0
        self.connections = {False: owner.connect(), True: owner.connect("::1")}

    def body(self, size: int = 0) -> bytes:
        self.count += 1
        text = f"{self.number}:{self.count} ".encode()
        return text + bytes((self.count * 31 + i * 7) & 0xFF for i in range(97)) * (max(size, 300) // 97)

    def properties(self, **more) -> dict:
        return {"UNIQ_KEY": f"{self.number:08X}{self.count:024X}", **more}

    def send(self, topic: str, queue: int, body: bytes, properties: dict, sys_flag: int = 0, ipv6: bool = False):
        text = "".join(f"{k}\x01{v}\x02" for k, v in properties.items())
        answer = self.connections[ipv6].ask(310, {
            "a": "writer", "b": topic, "c": "TBW102", "d": QUEUES, "e": queue, "f": sys_flag, "g": 1700000000000 + self.count,
            "h": 7, "i": text, "j": 0, "k": "false", "m": "false"}, body)
        assert answer.code == OK, (topic, properties, answer)
        self.story.sent.append((topic, int(answer.ext["queueId"]), int(answer.ext["queueOffset"]), [body],
                                answer.ext["msgId"].split(",")))
        return answer

    def send_batch(self, topic: str, queue: int, count: int):
        bodies = [self.body() for _ in range(count)]
        items = b"".join(item(b, {"UNIQ_KEY": f"B{self.number:07X}{self.count:020X}{i:04X}", "KEYS": f"batch{self.number}"})
                         for i, b in enumerate(bodies))
        answer = self.connections[False].ask(SEND_BATCH, {
            "a": "writer", "b": topic, "c": "TBW102", "d": QUEUES, "e": queue, "f": 0, "g": 1700000000000, "h": 0,
            "i": "", "j": 0, "k": "false", "m": "true"}, items)
        assert answer.code == OK, answer
        self.story.sent.append((topic, int(answer.ext["queueId"]), int(answer.ext["queueOffset"]), bodies,
                                answer.ext["msgId"].split(",")))

    def write(self, topic: str):
        for n in range(SMALL):
            queue = n % QUEUES
            self.send(topic, queue, self.body(), self.properties())
            self.send(topic, queue, self.body(), self.properties(TAGS=("A", "tag-é", "A || B")[n % 3]))
            self.send(topic, queue, self.body(), self.properties(KEYS=f"key{self.number}-{n} common{self.number}  ключ"))
            if n % 10 == 0:
                self.send_batch(topic, queue, 5)
                self.send(topic, queue, zlib.compress(self.body(5000)), self.properties(), COMPRESSED)
                self.send(topic, queue, self.body(), self.properties(KEYS=f"six{self.number}"), ipv6=True)
        for n, size in enumerate(BIG):
            self.send(topic, n % QUEUES, self.body(size - 200)[:size], self.properties(KEYS=f"big{self.number}-{n}"))

    def close(self):
        for connection in self.connections.values():
            connection.close()


class Story:
    """What must be in the folder, whoever opens it."""

    def __init__(self, folder: Path):
        self.folder, self.port = folder, free_port_block() + 2
        self.sent = []  # (topic, queue, first offset, bodies, message ids) of the present owner
        self.queues = {}  # (topic, queue): messages
        self.consumed = {}  # (group, topic, queue): offset
        self.topics, self.groups, self.owners = {}, {}, 0

    def owned_by(self, kind: str, ending: str, **conf):
        with OWNERS[kind](self.folder, self.port, **conf) as owner:
            self.owners += 1
            with owner.connect() as connection:
                self.check(connection)
                self.write(owner, connection)
                if ending == "store killed":
                    owner.kill_store()
                    self.check(owner.connect())
            if ending == "killed":
                self.wait_offsets_saved()
                owner.kill()
            else:
                owner.stop_cleanly()
        self.fsck()

    def wait_offsets_saved(self):
        """Of a killed owner's offsets only those are promised that it has saved."""
        path = self.folder / "config" / "consumerOffset.json"

        def saved():
            table = fastjson.loads(path.read_text() or "{}").get("offsetTable", {}) if path.exists() else {}
            return all(int(table.get(f"{t}@{g}", {}).get(q, table.get(f"{t}@{g}", {}).get(str(q), -1))) == offset
                       for (g, t, q), offset in self.consumed.items())

        wait_for(saved, 60, "saved offsets", 0.1)

    # ---- writing -------------------------------------------------------------------------------------------------

    def write(self, owner, connection: Connection):
        topic = f"made-by-{self.owners}"
        self.put_topic(connection, topic)
        self.put_group(connection, f"group-{self.owners}")
        self.sent = []
        writer = Writer(self, owner, self.owners)
        for each in ("all", topic):
            writer.write(each)
        if owner.name == "apache":
            self.write_special(writer, connection)
        writer.close()
        self.take_in(connection)
        self.consume(connection)

    def put_topic(self, connection: Connection, topic: str):
        answer = connection.ask(TOPIC_PUT, {
            "topic": topic, "defaultTopic": "TBW102", "readQueueNums": QUEUES, "writeQueueNums": QUEUES, "perm": 6,
            "topicFilterType": "SINGLE_TAG", "topicSysFlag": 0, "order": "true", "attributes": "+message.type=FIFO"})
        assert answer.code == OK, answer
        self.topics[topic] = self.describe(connection, GET_TOPIC, {"topic": topic}, "topicConfig", TOPIC_FIELDS)
        assert self.topics[topic]["attributes"] == {"message.type": "FIFO"}
        assert self.topics[topic]["order"]

    def put_group(self, connection: Connection, group: str):
        body = {"groupName": group, "consumeEnable": True, "consumeBroadcastEnable": False, "retryQueueNums": 2,
                "retryMaxTimes": 5 + self.owners, "consumeTimeoutMinute": 7, "brokerId": 0,
                "whichBrokerWhenConsumeSlowly": 1, "notifyConsumerIdsChangedEnable": True,
                "groupRetryPolicy": {"type": "EXPONENTIAL",
                                     "exponentialRetryPolicy": {"initial": 1000, "max": 60000, "multiplier": 3}}}
        answer = connection.ask(GROUP_PUT, {}, json.dumps(body).encode())
        assert answer.code == OK, answer
        self.groups[group] = self.describe(connection, GET_GROUP, {"group": group}, None, GROUP_FIELDS)
        assert self.groups[group]["retryMaxTimes"] == 5 + self.owners

    @staticmethod
    def describe(connection: Connection, code: int, ext: dict, inside, fields: tuple) -> dict:
        answer = connection.ask(code, ext)
        assert answer.code == OK, answer
        found = fastjson.loads(answer.body)
        found = found.get(inside, found) if inside else found
        return {field: found.get(field) for field in fields}

    @staticmethod
    def write_special(writer: Writer, connection: Connection):
        """Delayed and transactional messages, which Apache leaves in topics of its own."""
        for n in range(6):
            writer.send("all", n % QUEUES, writer.body(), writer.properties(DELAY=18))
            writer.story.sent.pop()  # it lies elsewhere
        for n, how in enumerate([COMMITTED, ROLLED_BACK, COMMITTED]):
            body, properties = writer.body(), writer.properties(TRAN_MSG="true", PGROUP="producers", KEYS=f"tran{n}")
            half = writer.send("transactions", n % QUEUES, body, properties, PREPARED)
            writer.story.sent.pop()
            ended = connection.ask(END_TRANSACTION, {
                "producerGroup": "producers", "tranStateTableOffset": half.ext["queueOffset"],
                "commitLogOffset": int(half.ext["msgId"][-16:], 16), "commitOrRollback": how, "fromTransactionCheck": "false",
                "msgId": properties["UNIQ_KEY"], "transactionId": properties["UNIQ_KEY"], "topic": "transactions"})
            assert ended.code == OK, ended
            if how == COMMITTED:
                before = len(writer.story.queues.get(("transactions", n), []))
                writer.story.sent.append(("transactions", n, before, [body], None))

    def take_in(self, connection: Connection):
        """What the present owner serves becomes what its successors must serve; it must be what was there and what was sent."""
        new = {}
        for topic, queue, offset, bodies, _ in self.sent:
            self.wait_there(connection, topic, queue, offset + len(bodies))
        for topic, queue in {*self.queues, *(sent[:2] for sent in self.sent)}:
            new[topic, queue] = read_queue(connection, topic, queue)
            old = self.queues.get((topic, queue), [])
            assert [m.record for m in new[topic, queue][:len(old)]] == [m.record for m in old], (topic, queue)
            assert [m.offset for m in new[topic, queue]] == list(range(len(new[topic, queue])))
        for topic, queue, offset, bodies, ids in self.sent:
            there = new[topic, queue][offset:offset + len(bodies)]
            assert [m.body for m in there] == bodies, (topic, queue, offset)
            assert ids in (None, [f"{m.store_host.hex()}{m.position:016x}".upper() for m in there])
        old, now = (sum(map(len, queues.values())) for queues in (self.queues, new))
        assert now - old == sum(len(bodies) for _, _, _, bodies, _ in self.sent)
        self.queues = new

    @staticmethod
    def wait_there(connection: Connection, topic: str, queue: int, end: int):
        """A broker answers a message, or starts, before the message is in its queue."""
        wait_for(lambda: connection.max_offset(topic, queue) >= end, 60, f"offset {end} of {topic}/{queue}")

    def consume(self, connection: Connection):
        """A slow and a fast group go on where they are, and commit."""
        for (topic, queue), stored in self.queues.items():
            for group, take in (("slow", 7), ("fast", len(stored))):
                offset = self.consumed.get((group, topic, queue), 0)
                taken = []
                while len(taken) < min(take, len(stored) - offset):
                    more, _, _ = pull(connection, topic, queue, offset + len(taken), group)
                    taken += more
                assert [m.record for m in taken] == [m.record for m in stored[offset:offset + len(taken)]]
                after = min(offset + take, len(stored))
                answer = connection.ask(COMMIT_OFFSET, {"consumerGroup": group, "topic": topic, "queueId": queue,
                                                        "commitOffset": after})
                assert answer.code == OK, answer
                self.consumed[group, topic, queue] = after

    # ---- what a new owner must know ------------------------------------------------------------------------------

    def check(self, connection: Connection):
        for (topic, queue), stored in self.queues.items():
            self.wait_there(connection, topic, queue, len(stored))
            found = read_queue(connection, topic, queue)
            assert [m.record for m in found] == [m.record for m in stored], (topic, queue, len(found), len(stored))
            where = {"topic": topic, "queueId": queue}
            assert int(connection.ask(MAX, where).ext["offset"]) == len(stored)
            assert int(connection.ask(MIN, where).ext["offset"]) == 0
        for (group, topic, queue), offset in self.consumed.items():
            answer = connection.ask(QUERY_OFFSET, {"consumerGroup": group, "topic": topic, "queueId": queue})
            assert (answer.code, answer.ext.get("offset")) == (OK, str(offset)), (group, topic, queue, answer)
        for topic, told in self.topics.items():
            assert self.describe(connection, GET_TOPIC, {"topic": topic}, "topicConfig", TOPIC_FIELDS) == told
        for group, told in self.groups.items():
            assert self.describe(connection, GET_GROUP, {"group": group}, None, GROUP_FIELDS) == told
        self.check_searches(connection)

    def check_searches(self, connection: Connection):
        """Some messages of each queue by id, by time, by unique key, by key."""
        for (topic, queue), stored in self.queues.items():
            for m in stored[::max(1, len(stored) // 12)]:
                assert connection.ask(VIEW, {"offset": m.position}).body == m.record
                at = int(connection.ask(SEARCH_TIME, {"topic": topic, "queueId": queue, "timestamp": m.store_time_ms}
                                        ).ext["offset"])
                assert stored[at].store_time_ms == m.store_time_ms
                for key in {m.properties["UNIQ_KEY"], *m.properties.get("KEYS", "").split()}:
                    wait_for(lambda: self.finds(connection, topic, key, m.record), 60,
                             f"{key} of {topic}/{queue}, offset {m.offset}, in the index")

    @staticmethod
    def finds(connection: Connection, topic: str, key: str, record: bytes) -> bool:
        """Among the newest 64 of the key, that is."""
        most = 64
        answer = connection.ask(QUERY_MESSAGE, {"topic": topic, "key": key, "maxNum": most, "beginTimestamp": 0,
                                                "endTimestamp": (1 << 63) - 1})
        found = [m.record for m in messages(answer.body)]
        return record in found or len(found) == most

    def fsck(self):
        done = subprocess.run([build_dir() / "bin" / "pintle", "fsck", self.folder, "--json"], capture_output=True,
                              text=True, timeout=300)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
        assert json.loads(done.stdout)["damaged"] == 0, done.stdout[-3000:]


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    return Story(tmp_path_factory.mktemp("both") / "store")


@pytest.mark.parametrize("owner, ending", [
    ("apache", "cleanly"), ("pintle", "cleanly"), ("apache", "killed"), ("pintle", "killed"), ("apache", "cleanly"),
    ("pintle", "store killed")], ids=str)
def test_there_and_back_again(story, owner, ending):
    story.owned_by(owner, ending, **({"brokerIP1": "::1"} if story.owners in (1, 2) else {}))
    hosts = {m.sys_flag & (BORN_IPV6 | STORED_IPV6) for found in story.queues.values() for m in found}
    assert BORN_IPV6 in hosts and (story.owners < 3 or hosts == {0, 0x10, 0x20, 0x30}), hosts


def files(folder: Path) -> dict:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_same_queues_and_index(story, tmp_path):
    """Both make queues and index from the log alone: every byte is the same but the index files' names."""
    made = {}
    for kind in ("apache", "pintle"):
        folder = tmp_path / kind
        shutil.copytree(story.folder, folder)
        for derived in ("consumequeue", "index"):
            shutil.rmtree(folder / derived)
        with OWNERS[kind](folder, story.port) as owner:
            with owner.connect() as connection:
                story.check(connection)
            owner.stop_cleanly()
        made[kind] = files(folder / "consumequeue"), list(files(folder / "index").values())
    (their_queues, their_index), (our_queues, our_index) = made["apache"], made["pintle"]
    assert our_queues.keys() == their_queues.keys()
    assert [name for name in our_queues if our_queues[name] != their_queues[name]] == []
    assert len(our_index) == len(their_index) > 3
    assert our_index == their_index
