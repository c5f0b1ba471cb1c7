"""Maven projects and Java programs for the tests.

Used by every suite that needs the stock Java client or real Apache RocketMQ. Jars live in Maven's own cache (~/.m2);
only `target/` folders, which git ignores, are written beside the sources. Nothing here knows what is being tested.
"""
import fcntl
import json
import os
import queue
import subprocess
import threading
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
DRIVER = TESTS / "compat" / "java"
DRIVER4 = TESTS / "compat" / "java4"
# One small heap, one cheap collector, no C2: our machines have two cores and the clients mostly wait.
CLIENT_FLAGS = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-Xmx768m"]


def _stale(project: Path, shared: Path) -> bool:
    stamp = project / "target" / "classpath"
    if not stamp.exists():
        return True
    sources = [project / "pom.xml", *project.glob("src/**/*.java"), *(shared.glob("**/*.java") if shared else ())]
    return max(s.stat().st_mtime for s in sources) > stamp.stat().st_mtime


def build(project: Path, shared: Path = None) -> str:
    """Builds a Maven project if its sources (or those it shares) are newer than its last build; gives its class path."""
    target = project / "target"
    target.mkdir(exist_ok=True)
    with open(target / ".lock", "w") as lock:  # suites may run side by side
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _stale(project, shared):
            # Offline first: with the jars in the cache no registry is asked.
            for flags in (["-o"], []):
                done = subprocess.run(["mvn", "-q", "-B", *flags, "package"], cwd=project, text=True,
                                      stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
                if done.returncode == 0:
                    break
            if done.returncode != 0:
                raise RuntimeError(f"mvn package failed in {project}:\n{done.stdout}")
            (target / "classpath").touch()
    classes = target / "classes"
    jars = (target / "classpath").read_text().strip()
    return f"{classes}:{jars}" if classes.exists() else jars


def driver_command(*args: str, logs: Path = None, project: Path = DRIVER) -> list:
    """The command line of the stock client's driver; `logs` is the folder for the client's own log file."""
    flags = list(CLIENT_FLAGS)
    if logs is not None:
        flags += [f"-Drocketmq.log.root={logs}",  # 5.x
                  f"-Drocketmq.client.logRoot={logs}",  # 4.x
                  f"-Drocketmq.client.localOffsetStoreDir={logs}/offsets"]  # of broadcasts
    shared = DRIVER / "src" / "main" if project == DRIVER4 else None
    return ["java", *flags, "-cp", build(project, shared), "pintle.compat.Driver", *args]


class JavaLoad:
    """`Driver load`: stock clients that send and consume until told to stop.

        with JavaLoad(cluster.namesrv, "LoadTopic", out_dir, "--producers", "2") as load:
            ... kill things; load.stats() tells how far it is ...
            summary = load.stop()
    """

    def __init__(self, namesrv: str, topic: str, out: Path, *options: str, ready_timeout_s: float = 60):
        self.out = Path(out)
        self.out.mkdir(parents=True, exist_ok=True)
        self._stderr = open(self.out / "stderr.txt", "w")
        command = driver_command("load", "--namesrv", namesrv, "--topic", topic, "--out", str(out), *options,
                                 logs=self.out)
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr,
                                        text=True)
        self._lines = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        try:
            self._next("ready", ready_timeout_s)
        except BaseException:
            self.close()
            raise

    def _read(self):
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def _next(self, kind: str, timeout_s: float) -> dict:
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                line = self._lines.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                raise TimeoutError(f"load driver: no '{kind}' line within {timeout_s} s; see {self.out}") from None
            if line is None:
                raise RuntimeError(f"load driver ended before its '{kind}' line; see {self.out}/stderr.txt:\n"
                                   + (self.out / "stderr.txt").read_text()[-2000:])
            answer = json.loads(line)
            if answer.get("kind") == kind:
                return answer

    def _say(self, word: str):
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def stats(self, timeout_s: float = 30) -> dict:
        """The counters now, while it goes on."""
        self._say("stats")
        return self._next("stats", timeout_s)

    def mark(self, text: str):
        """Writes a line into events.txt, e.g. which worker was just killed."""
        self._say("mark " + text)

    def wait_acked(self, more: int, timeout_s: float = 60) -> dict:
        """Waits until `more` further messages were acknowledged and consumed."""
        first = self.stats()
        deadline = time.monotonic() + timeout_s
        while True:
            now = self.stats()
            if now["acked"] >= first["acked"] + more and now["consumed"] >= first["consumed"] + more:
                return now
            if time.monotonic() > deadline:
                raise TimeoutError(f"no {more} further messages within {timeout_s} s: {first} -> {now}")
            time.sleep(0.02)

    def stop(self, timeout_s: float = 180) -> dict:
        """Stops the producers, drains the consumers, returns the summary."""
        self._say("stop")
        summary = self._next("summary", timeout_s)
        self.process.wait(timeout=30)
        return summary

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process.stdin.close()
        self._stderr.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()
