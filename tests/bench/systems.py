"""The systems under measurement, all with the same face: start, namesrv or broker address, pids, stop.

Each lives in a folder of its own under the benchmark's temporary folder and is ended by the process ids it was started
with. Nothing here pins a server to a core.
"""
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import time

import procfs

HERE = os.path.dirname(os.path.abspath(__file__))
ROCKETMQ_OPENS = [
    "--add-exports=java.base/jdk.internal.ref=ALL-UNNAMED",
    "--add-opens=java.base/java.nio=ALL-UNNAMED",
    "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
]
# As in Apache's own runbroker.sh, but for AlwaysPreTouch, which would only make Apache look bigger and slower to start.
BROKER_JVM = "-server -Xms2g -Xmx2g -XX:+UseG1GC -XX:G1HeapRegionSize=16m -XX:G1ReservePercent=25 " \
    "-XX:InitiatingHeapOccupancyPercent=30 -XX:SoftRefLRUPolicyMSPerMB=0 -XX:-OmitStackTraceInFastThrow"
NAMESRV_JVM = "-server -Xms256m -Xmx256m"
REGISTER_OFTEN_MS = 10000  # the least that Apache takes


class Failed(Exception):
    """A system could not be started, driven or read; the message says which and why."""


class Ports:
    """Hands out free port numbers below the kernel's range for clients (or from a given first one)."""

    def __init__(self, first):
        self.next = first or random.randrange(20000, 30000, 100)

    def take(self, offsets):
        for _ in range(1000):
            base = self.next + max(0, -min(offsets))
            self.next = base + max(offsets) + 1
            if all(self._free(base + offset) for offset in offsets):
                return base
        raise Failed("no free ports")

    @staticmethod
    def _free(port):
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                return False
        return True


def end(process, with_signal=signal.SIGTERM, wait_s=10):
    if process.poll() is None:
        process.send_signal(with_signal)
        try:
            process.wait(wait_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Floor:
    name = "floor"

    def __init__(self, program, folder, _ports):
        self.program, self.folder, self.process = program, folder, None

    def start(self):
        os.makedirs(self.folder)
        self.process = subprocess.Popen([self.program, "--dir", self.folder], stdout=subprocess.PIPE, text=True)
        self.target = ["--broker", f"127.0.0.1:{int(self.process.stdout.readline())}"]

    def pids(self):
        return {self.process.pid}

    def stop(self):
        if self.process:
            end(self.process)
        shutil.rmtree(self.folder, ignore_errors=True)


class Apache:
    """One name server and one broker, each a JVM, both started at once."""
    name = "apache"

    def __init__(self, class_path, folder, ports, recorder=None):
        self.class_path, self.folder, self.ports, self.processes = class_path, folder, ports, []
        self.recorder = recorder

    def prepare(self):
        os.makedirs(f"{self.folder}/home")
        self.namesrv_port = self.ports.take([0])
        broker_port = self.ports.take([-2, 0, 1])
        self.namesrv = f"127.0.0.1:{self.namesrv_port}"
        self.target = ["--namesrv", self.namesrv]
        with open(f"{self.folder}/namesrv.conf", "w", encoding="ascii") as f:
            f.write(f"listenPort={self.namesrv_port}\n")
        with open(f"{self.folder}/broker.conf", "w", encoding="ascii") as f:
            f.write("brokerClusterName=Bench\nbrokerName=bench-a\nbrokerId=0\nbrokerIP1=127.0.0.1\n"
                    f"namesrvAddr={self.namesrv}{';' + self.recorder if self.recorder else ''}\n"
                    f"registerNameServerPeriod={REGISTER_OFTEN_MS if self.recorder else 30000}\nlistenPort={broker_port}\nhaListenPort={broker_port + 1}\n"
                    f"storePathRootDir={self.folder}/store\nstorePathCommitLog={self.folder}/store/commitlog\n"
                    "flushDiskType=ASYNC_FLUSH\n")

    def start(self):
        self._java("namesrv", NAMESRV_JVM.split(), "org.apache.rocketmq.namesrv.NamesrvStartup")
        self._java("broker", ROCKETMQ_OPENS + BROKER_JVM.split(), "org.apache.rocketmq.broker.BrokerStartup")

    def _java(self, role, options, main_class):
        environment = dict(os.environ, ROCKETMQ_HOME=f"{self.folder}/home")
        with open(f"{self.folder}/{role}.out", "w", encoding="utf-8") as out:
            self.processes.append(subprocess.Popen(
                ["java", f"-Duser.home={self.folder}/home", *options, "-cp", self.class_path, main_class,
                 "-c", f"{self.folder}/{role}.conf"], stdout=out, stderr=out, env=environment))

    def started(self):
        pass

    def _last_words(self):
        words = ""
        for role in ("namesrv", "broker"):
            with open(f"{self.folder}/{role}.out", encoding="utf-8", errors="replace") as f:
                words += "".join(line for line in f if "|-" not in line)[-800:]
        return words.strip()

    def pids(self):
        for process in self.processes:
            if process.poll() is not None:
                raise Failed(f"an Apache process ended with {process.returncode}: {self._last_words()}")
        return {process.pid for process in self.processes}

    def roles(self):
        self.pids()
        return {process.pid: role for process, role in zip(self.processes, ("namesrv", "broker"))}

    def stop(self):
        for process in reversed(self.processes):
            end(process, signal.SIGKILL)  # its folder goes at once; nobody needs it flushed
        shutil.rmtree(self.folder, ignore_errors=True)


class Pintle:
    """A supervised cluster of the given preset, as `pintle up` makes it; or one master with several fronts."""
    name = "pintle"

    def __init__(self, program, folder, ports, preset, fronts=1, recorder=None):
        self.program, self.folder, self.ports, self.preset = program, folder, ports, preset
        self.fronts, self.recorder, self.up = fronts, recorder, None

    def prepare(self):
        os.makedirs(self.folder)
        namesrv_port = self.ports.take([0, 1])
        self.broker_port = self.ports.take([-2, 0, 1, 8, 10, 11])
        self.namesrv_port = namesrv_port
        self.namesrv = f"127.0.0.1:{namesrv_port}"
        self.target = ["--namesrv", self.namesrv]
        self.log = open(f"{self.folder}.log", "w+", encoding="utf-8")
        self.what = ["--preset", self.preset, "--namesrv-port", str(namesrv_port), "--base-port",
                     str(self.broker_port)]
        if self.fronts > 1:
            self.what = ["--file", f"{self.folder}/cluster.conf"]
            with open(f"{self.folder}/cluster.conf", "w", encoding="ascii") as f:
                f.write(f"[namesrv ns0]\nport={namesrv_port}\n"
                        f"[broker broker-a]\nport={self.broker_port}\nfronts={self.fronts}\n")
        if self.recorder:
            self.what += ["--set", f"namesrvAddr={self.recorder}", "--set",
                          f"registerNameServerPeriod={REGISTER_OFTEN_MS}"]

    def start(self):
        self.up = subprocess.Popen(
            [self.program, "up", "--dir", self.folder, *self.what, "--detach"],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)

    def started(self):
        try:
            status = self.up.wait(30)
        except subprocess.TimeoutExpired:
            raise Failed("`pintle up --detach` did not come back within 30 s") from None
        if status != 0:
            self.log.seek(0)
            raise Failed(f"`pintle up` ended with {status}: {self.log.read().strip()}")

    def pids(self):
        return set(self.roles())

    def roles(self):
        out = subprocess.run([self.program, "status", "--dir", self.folder, "--json"], capture_output=True, text=True,
                             check=False)
        if out.returncode != 0:
            raise Failed(f"`pintle status` ended with {out.returncode}: {out.stderr.strip()}")
        status = json.loads(out.stdout)
        supervisor = status["supervisor"]["pid"]
        # Also what it forked and did not name: every process that the cluster costs is counted.
        named = {worker["pid"]: worker["role"] for worker in status["workers"] if worker["pid"] > 0}
        return {**{pid: "other" for pid in procfs.descendants(supervisor)}, **named, supervisor: "supervisor"}

    def stop(self):
        if self.up:
            end(self.up)
            subprocess.run([self.program, "down", "--dir", self.folder], stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL, timeout=60, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)
        time.sleep(0.2)
