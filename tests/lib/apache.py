"""Real Apache RocketMQ 5.3.3 from Maven with the interface of cluster.Cluster: the judge of our judges.

A test that fails here is wrong. Each name server and broker is a JVM of its own; a thread starts one again when it
dies, as systemd would, so that kill tests can be held against Apache too.
"""
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import java
from cluster import BaseCluster, Worker, wait_for

PROJECT = Path(__file__).resolve().parent / "apache"
_EXPORTS = ["java.base/jdk.internal.ref=ALL-UNNAMED", "java.base/java.nio=ALL-UNNAMED",
            "java.base/sun.nio.ch=ALL-UNNAMED"]
_BROKER_FLAGS = ["-Xms512m", "-Xmx512m", "-XX:MaxDirectMemorySize=512m",
                 *(f for e in _EXPORTS for f in ("--add-exports", e, "--add-opens", e))]
_NAMESRV_FLAGS = ["-Xms128m", "-Xmx128m", "-XX:+UseSerialGC"]


def free_port_block(width: int = 4) -> int:
    """The first of `width` adjacent free ports (a broker listens on p - 2, p and p + 1).

    Taken from PINTLE_TEST_PORTS ("first-last") if that is set.
    """
    first, last = (int(p) for p in os.environ.get("PINTLE_TEST_PORTS", "20000-29999").split("-"))
    start = first + (os.getpid() * 16) % max(1, last - first - width)
    candidates = [*range(start, last - width + 2, width), *range(first, start, width)]
    for port in candidates:
        if port not in _given and all(_free(p) for p in range(port, port + width)):
            _given.add(port)
            return port
    raise RuntimeError(f"no {width} adjacent free ports in {first}-{last}")


_given = set()


def _free(port: int) -> bool:
    with socket.socket() as s:
        try:
            s.bind(("127.0.0.1", port))
            return True
        except OSError:
            return False


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    except OSError:
        return False


class _Jvm:
    """One name server or broker."""

    def __init__(self, role: str, broker: str, command: list, port: int, log: Path):
        self.role, self.broker, self.command, self.port, self.log = role, broker, command, port, log
        self.restarts = -1
        self.process = None
        self.start()

    def start(self):
        env = dict(os.environ, ROCKETMQ_HOME=str(self.log.parent.parent))
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=subprocess.STDOUT, env=env)
        self.restarts += 1

    def worker(self) -> Worker:
        state = "ready" if self.process.poll() is None and _answers(self.port) else "starting"
        return Worker(self.role, self.broker, self.process.pid, state, self.restarts, (self.port,))


def _broker_conf(name: str, port: int, store: Path) -> dict:
    return {"brokerClusterName": "DefaultCluster", "brokerName": name, "brokerId": 0, "brokerIP1": "127.0.0.1",
            "listenPort": port, "haListenPort": port + 1, "storePathRootDir": store,
            "storePathCommitLog": store / "commitlog", "mappedFileSizeCommitLog": 256 << 20,
            "autoCreateTopicEnable": "true",
            # By default Apache refuses at 90 % of the whole disk and sheds load it thinks is slow: both would be our
            # machine's doing, not the test's subject.
            "diskMaxUsedSpaceRatio": 98, "brokerFastFailureEnable": "false"}


class ApacheCluster(BaseCluster):
    def __init__(self, preset: str = "2m", conf: dict = None, timeout_s: float = 60):
        super().__init__(preset, "apache")
        self._lock = threading.Lock()
        self._stopping = False
        self._jvms = []
        count = {"1m": 1, "2m": 2}[preset]
        try:
            jars = java.build(PROJECT)
            for i in range(count):
                self._start_namesrv(i, jars)
            for i in range(count):
                self._start_broker(chr(ord("a") + i), jars, conf or {})
            threading.Thread(target=self._watch, daemon=True).start()
            self.wait_ready(timeout_s)
        except BaseException:
            print(self.log_tail(10))
            self.stop()
            raise

    def _jvm(self, role: str, broker: str, name: str, main: str, flags: list, jars: str, port: int, conf: dict):
        home = self.dir / name
        (self.dir / "log").mkdir(exist_ok=True)
        home.mkdir()
        file = home / f"{role}.conf"
        file.write_text("".join(f"{k}={v}\n" for k, v in conf.items()))
        command = ["java", *flags, f"-Duser.home={home}", "-Drocketmq.log.level=WARN", "-cp", jars, main, "-c",
                   str(file)]
        self._jvms.append(_Jvm(role, broker, command, port, self.dir / "log" / f"{name}.txt"))

    def _start_namesrv(self, i: int, jars: str):
        port = free_port_block()
        self._jvm("namesrv", "", f"namesrv-{i}", "org.apache.rocketmq.namesrv.NamesrvStartup", _NAMESRV_FLAGS, jars,
                  port, {"listenPort": port, "bindAddress": "127.0.0.1"})

    def _start_broker(self, letter: str, jars: str, more: dict):
        name = f"broker-{letter}"
        port = free_port_block() + 2
        conf = {**_broker_conf(name, port, self.dir / name / "store"), "namesrvAddr": self.namesrv, **more}
        self._jvm("broker", name, name, "org.apache.rocketmq.broker.BrokerStartup", _BROKER_FLAGS, jars, port, conf)

    def _watch(self):
        while not self._stopping:
            with self._lock:
                for jvm in self._jvms:
                    if not self._stopping and jvm.process.poll() is not None:
                        jvm.start()
            time.sleep(0.1)

    def all_workers(self) -> list:
        with self._lock:
            return [jvm.worker() for jvm in self._jvms]

    def wait_ready(self, timeout_s: float = 60):
        """Ready is: all ports answer and the name servers have heard of every broker (its log says so)."""
        wait_for(lambda: all(w.state == "ready" for w in self.all_workers()), timeout_s, "Apache's ports", 0.1)
        for jvm in self._jvms:
            wait_for(lambda: "boot success" in jvm.log.read_text(), timeout_s, f"boot of {jvm.log.stem}", 0.1)

    def logs(self) -> dict:
        """Each JVM's console, and its own WARN log where there is one."""
        found = {}
        for jvm in self._jvms:
            own = self.dir / jvm.log.stem / "logs" / "rocketmqlogs" / f"{jvm.role}.log"
            found[jvm.log.stem] = own if own.exists() and own.stat().st_size else jvm.log
        return found

    def stop(self, gracefully: bool = False):
        """Ends all JVMs; gracefully when the data folders are wanted afterwards (that takes 10 s and more)."""
        with self._lock:
            self._stopping = True
            for jvm in reversed(self._jvms):
                jvm.process.send_signal(signal.SIGTERM if gracefully else signal.SIGKILL)
            for jvm in self._jvms:
                jvm.process.wait(timeout=120)


class _Lone:
    """One JVM with a folder of its own."""

    def __init__(self, role: str, main: str, flags: list, port: int, conf: dict, timeout_s: float):
        self.address = f"127.0.0.1:{port}"
        self.dir = Path(tempfile.mkdtemp(prefix=f"pintle-apache-{role}-"))
        (self.dir / "log").mkdir()
        (self.dir / "home").mkdir()
        file = self.dir / "home" / f"{role}.conf"
        file.write_text("".join(f"{k}={v}\n" for k, v in conf.items()))
        command = ["java", *flags, f"-Duser.home={self.dir / 'home'}", "-Drocketmq.log.level=WARN", "-cp",
                   java.build(PROJECT), main, "-c", str(file)]
        self._jvm = _Jvm(role, "", command, port, self.dir / "log" / f"{role}.txt")
        try:
            self._wait_booted(timeout_s)
        except BaseException:
            print(self._jvm.log.read_text())
            self.stop()
            raise

    def _wait_booted(self, timeout_s: float):
        boots = self._jvm.restarts + 1
        wait_for(lambda: self._jvm.log.read_text().count("boot success") == boots, timeout_s,
                 f"boot {boots} of Apache's {self._jvm.role}", 0.1)

    def kill(self):
        self._jvm.process.kill()
        self._jvm.process.wait(timeout=60)

    def start_again(self, timeout_s: float = 60):
        """After `kill`, at the same address."""
        self._jvm.start()
        self._wait_booted(timeout_s)

    def stop(self):
        self.kill()
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.stop()


class ApacheNamesrv(_Lone):
    """One name server of Apache's alone, to be asked the same as ours."""

    def __init__(self, timeout_s: float = 60):
        port = free_port_block()
        super().__init__("namesrv", "org.apache.rocketmq.namesrv.NamesrvStartup", _NAMESRV_FLAGS, port,
                         {"listenPort": port, "bindAddress": "127.0.0.1"}, timeout_s)


class ApacheBroker(_Lone):
    """One broker of Apache's that registers with the name servers it is given."""

    def __init__(self, name: str, namesrv: str, timeout_s: float = 60, store: Path = None, conf: dict = None,
                 port: int = 0):
        """`store`: a folder with files in it, which is left there. Without a name server it is asked directly."""
        port = port or free_port_block() + 2
        self.name = name
        self._own = None if store else tempfile.mkdtemp(prefix="pintle-apache-store-")
        self._store = store or self._own
        names = {"namesrvAddr": namesrv, "registerNameServerPeriod": 10000} if namesrv else {}
        super().__init__("broker", "org.apache.rocketmq.broker.BrokerStartup", _BROKER_FLAGS, port,
                         {**_broker_conf(name, port, Path(self._store)), **names, **(conf or {})}, timeout_s)

    def end(self):
        """As an operator ends it: its files say so."""
        self._jvm.process.terminate()
        self._jvm.process.wait(timeout=120)

    def stop(self):
        super().stop()
        if self._own:
            shutil.rmtree(self._own, ignore_errors=True)
