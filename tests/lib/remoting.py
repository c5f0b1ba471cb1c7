"""A tiny client of the remoting protocol, for tests that must see single answers: send, pull, route, offsets, topics.

One `Connection` is one socket; `ask` sends and waits, `post` only sends and `answer` waits for its answer later, so that
a test can do something in between. Nothing is ever sent again: a broken connection is a ConnectionError.
"""
import json
import select
import socket
import struct
import time
from dataclasses import dataclass, field

SEND_V2, PULL, TOPIC_PUT, MAX_OFFSET, HEARTBEAT, ROUTE = 310, 11, 17, 30, 34, 105
OK, SYSTEM_ERROR, TOPIC_NOT_EXIST, PULL_NOT_FOUND = 0, 1, 17, 19
SUBSCRIPTION_NOT_LATEST = 25
PULL_MAY_WAIT, PULL_SUBSCRIPTION = 2, 4
MAGIC_V1, BORN_IPV6, STORED_IPV6 = 0xDAA320A7, 0x10, 0x20


def readable(sock: socket.socket, timeout_s: float) -> bool:
    """As select, also for descriptors above 1023."""
    waiting = select.poll()
    waiting.register(sock, select.POLLIN)
    return bool(waiting.poll(max(0, timeout_s) * 1000))


@dataclass
class Answer:
    code: int
    remark: str = ""
    ext: dict = field(default_factory=dict)
    body: bytes = b""


@dataclass
class Request:
    """What the server asks its client."""
    code: int
    opaque: int
    ext: dict
    body: bytes


@dataclass
class Message:
    queue: int
    offset: int
    body: bytes
    properties: dict
    position: int = -1  # in the log
    store_host: bytes = b""  # address and port, as they stand in a message id
    store_time_ms: int = 0
    sys_flag: int = 0
    record: bytes = b""  # all of it, as it lies in the log


class Connection:
    def __init__(self, address: str, timeout_s: float = 30):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.timeout_s = timeout_s
        self._opaque = 0
        self._input = b""
        self._answers = {}
        self._requests = []

    def post(self, code: int, ext: dict = None, body: bytes = b"") -> int:
        """Sends a request; returns what `answer` wants."""
        self._opaque += 1
        header = json.dumps({"code": code, "language": "PYTHON", "version": 479, "opaque": self._opaque, "flag": 0,
                             "extFields": {k: str(v) for k, v in (ext or {}).items()}}).encode()
        self.socket.sendall(struct.pack(">ii", 4 + len(header) + len(body), len(header)) + header + body)
        return self._opaque

    def answer(self, opaque: int, timeout_s: float = None) -> Answer:
        """The answer to a posted request; TimeoutError if it does not come."""
        deadline = time.monotonic() + (self.timeout_s if timeout_s is None else timeout_s)
        while opaque not in self._answers:
            left = deadline - time.monotonic()
            if left <= 0 or not readable(self.socket, left):
                raise TimeoutError(f"no answer to request {opaque}")
            self._read()
        return self._answers.pop(opaque)

    def answered(self, opaque: int) -> bool:
        """Whether the answer is here already."""
        while opaque not in self._answers and readable(self.socket, 0):
            self._read()
        return opaque in self._answers

    def ask(self, code: int, ext: dict = None, body: bytes = b"", timeout_s: float = None) -> Answer:
        return self.answer(self.post(code, ext, body), timeout_s)

    def request(self, code: int, timeout_s: float = None) -> Request:
        """The next request of this code that the server sends; others before it are passed over."""
        deadline = time.monotonic() + (self.timeout_s if timeout_s is None else timeout_s)
        while True:
            while self._requests:
                request = self._requests.pop(0)
                if request.code == code:
                    return request
            left = deadline - time.monotonic()
            if left <= 0 or not readable(self.socket, left):
                raise TimeoutError(f"the server sent no request {code}")
            self._read()

    def respond(self, request: Request, code: int = 0, body: bytes = b"", remark: str = ""):
        header = json.dumps({"code": code, "language": "PYTHON", "version": 479, "opaque": request.opaque, "flag": 1,
                             "remark": remark}).encode()
        self.socket.sendall(struct.pack(">ii", 4 + len(header) + len(body), len(header)) + header + body)

    def _read(self):
        more = self.socket.recv(1 << 20)
        if not more:
            raise ConnectionError("closed by the server")
        self._input += more
        while len(self._input) >= 8:
            size, header_size = struct.unpack_from(">ii", self._input)
            if len(self._input) < 4 + size:
                break
            header_size &= 0xFFFFFF
            header = json.loads(self._input[8:8 + header_size])
            body = self._input[8 + header_size:4 + size]
            self._input = self._input[4 + size:]
            if header.get("flag", 0) & 1:
                self._answers[header["opaque"]] = Answer(header["code"], header.get("remark") or "",
                                                         header.get("extFields") or {}, body)
            else:
                self._requests.append(Request(header["code"], header["opaque"], header.get("extFields") or {}, body))

    # What tests ask for.

    def post_message(self, topic: str, queue: int, body: bytes, properties: dict = None) -> int:
        text = "".join(f"{k}\x01{v}\x02" for k, v in (properties or {}).items())
        return self.post(SEND_V2, {"a": "remoting.py", "b": topic, "c": "TBW102", "d": 4, "e": queue, "f": 0,
                                   "g": int(time.time() * 1000), "h": 0, "i": text, "j": 0, "k": "false",
                                   "m": "false"}, body)

    def send(self, topic: str, queue: int, body: bytes, properties: dict = None) -> Answer:
        return self.answer(self.post_message(topic, queue, body, properties))

    def post_pull(self, topic: str, group: str, queue: int, offset: int, wait_ms: int = 0, version: int = None) -> int:
        """With a version the subscription is not in the request: the one of the group's heartbeats counts."""
        flags = (PULL_MAY_WAIT if wait_ms else 0) | (PULL_SUBSCRIPTION if version is None else 0)
        return self.post(PULL, {"consumerGroup": group, "topic": topic, "queueId": queue, "queueOffset": offset,
                                "maxMsgNums": 32, "sysFlag": flags, "commitOffset": 0, "suspendTimeoutMillis": wait_ms,
                                "subscription": "*", "subVersion": version or 0, "expressionType": "TAG"})

    def post_heartbeat(self, client: str, group: str, topic: str, version: int) -> int:
        subscription = {"classFilterMode": False, "codeSet": [], "expressionType": "TAG", "subString": "*",
                        "subVersion": version, "tagsSet": [], "topic": topic}
        consumer = {"consumeFromWhere": "CONSUME_FROM_FIRST_OFFSET", "consumeType": "CONSUME_PASSIVELY",
                    "groupName": group, "messageModel": "CLUSTERING", "subscriptionDataSet": [subscription],
                    "unitMode": False}
        body = {"clientID": client, "consumerDataSet": [consumer], "producerDataSet": []}
        return self.post(HEARTBEAT, {}, json.dumps(body).encode())

    def max_offset(self, topic: str, queue: int) -> int:
        return int(self.ask(MAX_OFFSET, {"topic": topic, "queueId": queue}).ext["offset"])

    def put_topic(self, topic: str, queues: int = 4) -> Answer:
        return self.answer(self.post_topic(topic, queues))

    def post_topic(self, topic: str, queues: int = 4) -> int:
        return self.post(TOPIC_PUT, {"topic": topic, "defaultTopic": "TBW102", "readQueueNums": queues,
                                     "writeQueueNums": queues, "perm": 6, "topicFilterType": "SINGLE_TAG",
                                     "topicSysFlag": 0, "order": "false"})

    def route(self, topic: str) -> dict:
        """{broker: queues it has of the topic}; empty if the name server knows no such topic."""
        answer = self.ask(ROUTE, {"topic": topic, "acceptStandardJsonOnly": "true"})
        if answer.code == TOPIC_NOT_EXIST:
            return {}
        assert answer.code == OK, answer
        return {q["brokerName"]: q["readQueueNums"] for q in json.loads(answer.body)["queueDatas"]}

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


def messages(body: bytes) -> list:
    """The messages in the body of a pull's answer."""
    found = []
    while body:
        size, magic = struct.unpack_from(">iI", body)
        queue, _, offset, position, sys_flag = struct.unpack_from(">iiqqi", body, 12)
        at = 48 + (20 if sys_flag & BORN_IPV6 else 8)
        store_time_ms = struct.unpack_from(">q", body, at)[0]
        host_size = 20 if sys_flag & STORED_IPV6 else 8
        store_host = body[at + 8:at + 8 + host_size]
        at += 8 + host_size + 12
        body_size = struct.unpack_from(">i", body, at)[0]
        text, at = body[at + 4:at + 4 + body_size], at + 4 + body_size
        at += 1 + body[at] if magic == MAGIC_V1 else 2 + struct.unpack_from(">H", body, at)[0]
        properties = body[at + 2:at + 2 + struct.unpack_from(">H", body, at)[0]].decode()
        found.append(Message(queue, offset, text, dict(p.split("\x01", 1) for p in properties.split("\x02") if p),
                             position, store_host, store_time_ms, sys_flag, body[:size]))
        body = body[size:]
    return found
