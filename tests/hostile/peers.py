"""Sockets that misbehave, and the well-behaved client beside them."""
import itertools
import socket
import struct
import time

from board import counters, own_memory
from cluster import wait_for
from remoting import OK, Connection, readable

_addresses = itertools.count(10)


def own_address() -> str:
    """A source address that no other test has: each may be told of in the log once."""
    number = next(_addresses)
    return f"127.0.{number // 200 + 1}.{number % 200 + 10}"


class Target:
    """The front or the name server of a cluster."""

    def __init__(self, cluster, role: str):
        self.cluster, self.role = cluster, role
        self.worker = cluster.workers(role)[0]
        self.address = ("127.0.0.1", self.worker.ports[0])

    def open(self, source: str = "", receive_buffer: int = 0) -> socket.socket:
        made = socket.socket()
        made.settimeout(30)
        if source:
            # The address alone: a bound port would not be shared by connections to other ports.
            made.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
            made.bind((source, 0))
        if receive_buffer:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        made.connect(self.address)
        return made

    def count(self, name: str) -> int:
        return counters(self.cluster, self.role)[name]

    def memory(self) -> int:
        return own_memory(self.worker.pid)

    def log_lines(self, *words: str) -> list:
        text = (self.cluster.dir / "log" / "supervisor.log").read_text(errors="replace")
        return [line for line in text.splitlines() if all(word in line for word in words)]

    def wait_count(self, name: str, least: int, timeout_s: float = 60):
        wait_for(lambda: self.count(name) >= least, timeout_s, f"{name} ≥ {least}, it is {self.count(name)}", 0.05)

    def serves(self):
        """Another client has its answer."""
        with Connection("%s:%d" % self.address) as witness:
            if self.role == "front":
                assert witness.put_topic("witness", 1).code == OK
                assert witness.send("witness", 0, b"still here").code == OK
            else:
                assert witness.ask(106).code == OK  # GET_BROKER_CLUSTER_INFO


def is_closed(peer: socket.socket, timeout_s: float = 60) -> bool:
    """Whether the server ends this connection in time; what it says before is passed over."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if not readable(peer, 0.2):
            continue
        try:
            if not peer.recv(1 << 16):
                return True
        except ConnectionError:
            return True
    return False


def frame(header: bytes, body: bytes = b"", kind: int = 0, length: int = None, header_length: int = None) -> bytes:
    """As the protocol has it, but where told otherwise."""
    length = 4 + len(header) + len(body) if length is None else length
    header_length = len(header) if header_length is None else header_length
    return struct.pack(">II", length & 0xFFFFFFFF, kind << 24 | header_length & 0xFFFFFF) + header + body
