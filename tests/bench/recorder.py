"""A name server that only listens: says yes to every request and keeps the largest registration that a broker sent.

What a broker's registration weighs can be seen nowhere else, and its bytes can then be told to a real name server again
and again, under ever new names, to see what taking one costs it.
"""
import json
import socket
import struct
import threading

REGISTER_BROKER, QUERY_DATA_VERSION = 103, 322


def read_frame(connection):
    """(header as a dict, body), or None at the end of the stream."""
    length = _read(connection, 4)
    frame = length and _read(connection, struct.unpack(">I", length)[0])
    if not frame:
        return None
    header_len = struct.unpack(">I", frame[:4])[0] & 0xFFFFFF
    return json.loads(frame[4:4 + header_len]), frame[4 + header_len:]


def _read(connection, size):
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            return None
        data += part
    return data


def frame_bytes(header, body=b""):
    text = json.dumps(header, separators=(",", ":")).encode()
    return struct.pack(">II", 4 + len(text) + len(body), len(text)) + text + body


class Recorder:
    def __init__(self, port):
        self.address = f"127.0.0.1:{port}"
        self.largest = None  # (header, body)
        self.listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self.listener.close()

    def largest_size(self):
        return len(frame_bytes(*self.largest)) if self.largest else 0

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        try:
            while frame := read_frame(connection):
                header, body = frame
                if header["code"] == REGISTER_BROKER and (not self.largest or len(body) > len(self.largest[1])):
                    self.largest = frame
                fields = {"changed": "true"} if header["code"] == QUERY_DATA_VERSION else {}
                if not header.get("flag", 0) & 2:
                    connection.sendall(frame_bytes({"code": 0, "extFields": fields, "flag": 1, "language": "JAVA",
                                                    "opaque": header["opaque"], "version": 479,
                                                    "serializeTypeCurrentRPC": "JSON"}))
        except (OSError, ValueError):
            pass
        connection.close()


def tell_again(namesrv, registration, times, clock_ns):
    """Registers the same table under `times` new broker names. Returns the nanoseconds that each took."""
    header, body = registration
    host, port = namesrv.split(":")
    took = []
    with socket.create_connection((host, int(port)), 30) as connection:
        for number in range(times):
            fields = dict(header["extFields"], brokerName=f"replay-{number}", brokerAddr=f"127.0.0.1:{number + 1}")
            frame = frame_bytes(dict(header, opaque=number, extFields=fields), body)
            begin_ns = clock_ns()
            connection.sendall(frame)
            answer = read_frame(connection)
            took.append(clock_ns() - begin_ns)
            if not answer or answer[0]["code"] != 0:
                raise ValueError(f"a registration was refused: {answer and answer[0]}")
    return took
