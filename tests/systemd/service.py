"""pintle.service in a Machine: what tests ask of it, and a producer that keeps it busy."""
import json
import os
import signal
import sys
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "lib"))
from cluster import wait_for  # noqa: E402
from remoting import OK, messages  # noqa: E402

NAMESRV, BROKER = "127.0.0.1:9876", "127.0.0.1:10911"
TOPIC = "systemd"


class Service:
    def __init__(self, machine, unit="pintle.service", instance=None):
        self.machine, self.unit, self.dir = machine, unit, ["--dir", f"@{instance}"] if instance else []

    def reset(self):
        """As freshly installed: the journal alone remembers."""
        run = self.machine.run
        run("systemctl", "stop", "pintle.socket", "pintle.service", "pintle@*.service")
        run("systemctl", "disable", "pintle.socket", "pintle.service", check=False)
        run("bash", "-c", "rm -rf /etc/pintle /var/lib/pintle /var/lib/pintle@* /run/systemd/system/pintle*.d")
        run("systemd-tmpfiles", "--create", "pintle.conf")
        run("systemctl", "daemon-reload")
        run("systemctl", "reset-failed")

    def drop_in(self, text: str):
        self.machine.write(f"/run/systemd/system/{self.unit}.d/test.conf", f"[Service]\n{text}\n")
        self.machine.run("systemctl", "daemon-reload")

    def start(self):
        self.machine.run("systemctl", "start", self.unit)

    def stop(self):
        self.machine.run("systemctl", "stop", self.unit)

    def show(self, name: str) -> str:
        return self.machine.run("systemctl", "show", "-P", name, self.unit).stdout.strip()

    def main_pid(self) -> int:
        """By the machine's numbers; 0: none."""
        return int(self.show("MainPID"))

    def status(self) -> dict:
        return json.loads(self.machine.run("pintle", "status", *self.dir, "--json").stdout)

    def workers(self) -> dict:
        return {w["role"]: w for w in self.status()["workers"]}

    def kill(self, pid: int, sig: int = signal.SIGKILL):
        """One process, by the machine's number."""
        self.machine.run("kill", f"-{int(sig)}", pid)

    def wait_successor(self, old_pid: int, timeout_s: float = 60):
        """Until another main process serves."""
        def serves():
            pid = self.main_pid()
            return pid not in (0, old_pid) and self.show("ActiveState") == "active"
        wait_for(serves, timeout_s, f"a successor of the main process {old_pid}", 0.05)

    def is_failed(self) -> bool:
        return self.show("ActiveState") == "failed"

    def journal(self, *options) -> str:
        return self.machine.run("journalctl", "--no-pager", "-o", "cat", "-u", self.unit, "--since",
                                f"@{self.since()}", *options).stdout

    def since(self) -> str:
        """Of the last start."""
        stamp = self.machine.run("systemctl", "show", "-P", "InactiveExitTimestamp", "--timestamp=unix", self.unit)
        return stamp.stdout.strip().lstrip("@")

    def left_over(self) -> list:
        """What a stopped service must not leave: processes, their memory with them; sockets, files in /run and /dev/shm."""
        found = [os.readlink(f"/proc/{pid}/exe") for pid in self.machine.pids_of("pintle")]
        found += self.machine.run("ss", "-Htln").stdout.splitlines()
        found += self.machine.run("bash", "-c", "ls -d /run/pintle* /dev/shm/* 2>/dev/null; true").stdout.split()
        return found


def send_all(service, bodies: list, broker: str = BROKER):
    with service.machine.connect(broker) as client:
        for body in bodies:
            answer = client.send(TOPIC, 0, body)
            assert answer.code == OK, answer


def read_all(service, broker: str = BROKER) -> list:
    """Every message of the queue, by pulls."""
    found = []
    with service.machine.connect(broker) as client:
        end = client.max_offset(TOPIC, 0)
        while len(found) < end:
            answer = client.answer(client.post_pull(TOPIC, "readers", 0, len(found)))
            assert answer.code == OK, (answer, len(found), end)
            found += [m.body for m in messages(answer.body)]
    return found


class Producer:
    """Sends numbered messages until it is stopped; after a broken connection it goes on with the next number."""

    def __init__(self, service):
        self.service, self.acknowledged, self.refused, self.broken = service, [], [], 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        number = 0
        while not self._stop.is_set():
            try:
                with self.service.machine.connect(BROKER) as client:
                    while not self._stop.is_set():
                        number += 1
                        body = b"number %d" % number
                        answer = client.send(TOPIC, 0, body)
                        (self.acknowledged if answer.code == OK else self.refused).append(body)
            except OSError:
                self.broken += 1
                self._stop.wait(0.05)

    def wait_more(self, count: int):
        wanted = len(self.acknowledged) + count
        wait_for(lambda: len(self.acknowledged) >= wanted, 60, f"{count} more acknowledged messages")

    def stop(self):
        self._stop.set()
        self._thread.join()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.stop()
