"""Talks to the Java shell that runs mqadmin's commands (src/), and makes state with the stock client.

    with Admin(namesrv, logs) as admin:
        admin.topic("T")                              # on every broker, 4 queues
        ran = admin.run("topicRoute", "-t", "T")      # Ran(out, err, calls, took_ms); "-n" is added
"""
import json
import re
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue

import pytest

import java

PROJECT = Path(__file__).resolve().parent
PATIENCE_S = 60  # a net for a command that hangs, not a measure
NOT_SUPPORTED = 3


@dataclass(frozen=True)
class Ran:
    command: tuple
    out: str
    err: str
    calls: tuple  # (request code, answered code) in order; -1 = no answer or oneway
    took_ms: int

    def report(self) -> str:
        """What happened, without the Java stack."""
        err = "\n".join(line for line in self.err.splitlines() if not re.match(r"\t(at |\.\.\. )|For more", line))
        return f"mqadmin {' '.join(self.command)}: calls {self.calls}\n{self.out}\n{err[:2000]}"

    def lines(self, *words: str) -> list:
        """The lines with all these words, as lists of columns."""
        return [line.split() for line in self.out.splitlines() if all(w in line.split() for w in words)]


class Admin:
    def __init__(self, namesrv: str, logs: Path):
        self.namesrv = namesrv
        self.ran = []  # every command of this shell, for the table of request codes
        command = ["java", *java.CLIENT_FLAGS, f"-Drocketmq.log.root={logs}", "-Drocketmq.log.level=warn",
                   "-Drocketmq.client.rebalance.minInterval=200", "-Duser.timezone=UTC", f"-Duser.home={logs}",
                   "-cp", java.build(PROJECT), "pintle.mqadmin.Shell", namesrv]
        self._stderr = open(Path(logs) / "stderr.txt", "w+")
        # consumerStatus leaves files in the working folder.
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                         stderr=self._stderr, cwd=logs)
        self._answers = Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put(None)

    def _ask(self, *words) -> dict:
        try:
            self._process.stdin.write(json.dumps([str(w) for w in words]) + "\n")
            self._process.stdin.flush()
            line = self._answers.get(timeout=PATIENCE_S)
        except (Empty, BrokenPipeError) as e:
            raise RuntimeError(f"no answer to {words} ({e!r}): {self._last_words()}") from None
        if line is None:
            raise RuntimeError(f"mqadmin ended its JVM at {words}: {self._last_words()}")
        answer = json.loads(line)
        if "threw" in answer:
            raise RuntimeError(f"{words}: {answer['threw']}")
        return answer

    def _last_words(self) -> str:
        self._stderr.seek(0)
        return self._stderr.read()[-2000:]

    def try_run(self, *command) -> Ran:
        """Runs a command that may fail: mqadmin prints its exceptions to stderr and goes on."""
        answer = self._ask("mqadmin", *command, "-n", self.namesrv)
        calls = tuple((code, answered) for code, answered in answer["calls"])
        ran = Ran(tuple(str(c) for c in command), answer["out"], answer["err"], calls, answer["took_ms"])
        self.ran.append(ran)
        return ran

    def run(self, *command) -> Ran:
        """Runs a command that must work."""
        ran = self.try_run(*command)
        if ran.err:
            pytest.fail(ran.report())
        return ran

    def run_until(self, condition, *command, timeout_s: float = 30) -> Ran:
        """For what a cluster does in its own time: runs until the condition holds of what was printed."""
        deadline = time.monotonic() + timeout_s
        while True:
            ran = self.try_run(*command)
            if not ran.err and condition(ran):
                return ran
            refused = any(answered == NOT_SUPPORTED for _, answered in ran.calls)
            if refused or time.monotonic() > deadline:
                pytest.fail(f"not within {timeout_s} s: {ran.report()}")
            time.sleep(0.05)

    def help(self) -> str:
        """The list of subcommands, as mqadmin prints it."""
        return self._ask("mqadmin")["out"]

    def topic(self, name: str, queues: int = 4, brokers: int = 2) -> str:
        """A topic with so many queues on every broker, known to the name server."""
        # A cluster that has just started may know but one of its brokers.
        self.run_until(lambda ran: ran.out.count("create topic to") == brokers, "updateTopic", "-c", "DefaultCluster",
                       "-t", name, "-r", queues, "-w", queues)
        self._ask("await-queues", name, queues * brokers)
        return name

    def await_queues(self, topic: str, count: int):
        """Waits until clients are told of so many writable queues."""
        self._ask("await-queues", topic, count)

    def send(self, topic: str, broker: str = "broker-a", queue: int = 0, count: int = 1, tag: str = "A") -> list:
        """Messages with keys TOPIC-0, TOPIC-1, …; gives [{"key", "id", "offset_id", "offset"}]."""
        return self._ask("send", topic, broker, queue, count, tag)["result"]

    def produce(self, group: str, topic: str) -> str:
        """A producer that stays; gives its client id."""
        return self._ask("produce", group, topic)["result"]

    def consume(self, group: str, topic: str, tags: str = "*") -> str:
        """A push consumer that stays; gives its client id."""
        return self._ask("consume", group, topic, tags)["result"]

    def await_consumed(self, group: str, count: int) -> int:
        """Waits until the group has consumed so many messages and told the brokers."""
        return self._ask("await-consumed", group, count)["result"]

    def leave(self, group: str):
        self._ask("close", group)

    def close(self):
        self._process.stdin.close()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._stderr.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()
