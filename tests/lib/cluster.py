"""A real cluster for a test: `pintle up` in a folder of its own, on free ports, ended in teardown.

    with open_cluster("2m") as cluster:
        cluster.namesrv                     # "127.0.0.1:40001;127.0.0.1:40002", as clients want it
        cluster.workers(role="store")       # [Worker(role, broker, pid, state, restarts, ports)]
        victim = cluster.kill("store", "broker-a")
        cluster.wait_restarted(victim)

`open_cluster` gives real Apache RocketMQ with the same interface when PINTLE_JUDGE=apache, so that a test can be held
against the original. PINTLE_BUILD names the build folder (default build/release).
"""
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SERVING = ("ready",)


@dataclass(frozen=True)
class Worker:
    role: str  # namesrv, store, front; with Apache: namesrv, broker
    broker: str  # "" for a name server
    pid: int
    state: str
    restarts: int
    ports: tuple = field(default=())  # the first one is where clients connect
    number: int = 0  # among workers of the same role and broker


def open_cluster(preset: str = "2m", **options):
    if os.environ.get("PINTLE_JUDGE") == "apache":
        from apache import ApacheCluster
        return ApacheCluster(preset)
    return Cluster(preset, **options)


def build_dir() -> Path:
    build = Path(os.environ.get("PINTLE_BUILD", ROOT / "build" / "release"))
    return build if build.is_absolute() else ROOT / build


def alive(pid: int) -> bool:
    """Whether a process exists and is not a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def wait_for(condition, timeout_s: float, what: str, step_s: float = 0.01):
    """Polls until the condition gives something true; returns that."""
    deadline = time.monotonic() + timeout_s
    while True:
        got = condition()
        if got:
            return got
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout_s} s")
        time.sleep(step_s)


class BaseCluster:
    """What tests use; Cluster and ApacheCluster say how it is done."""

    def __init__(self, preset: str, name: str):
        self.preset = preset
        self.dir = Path(tempfile.mkdtemp(prefix=f"pintle-{name}-"))

    def all_workers(self) -> list:
        raise NotImplementedError

    def logs(self) -> dict:
        raise NotImplementedError

    def stop(self):
        raise NotImplementedError

    def workers(self, role: str = None, broker: str = None) -> list:
        return [w for w in self.all_workers() if role in (None, w.role) and broker in (None, w.broker)]

    def pids(self, role: str = None, broker: str = None) -> list:
        return [w.pid for w in self.workers(role, broker)]

    def brokers(self) -> list:
        return sorted({w.broker for w in self.all_workers() if w.broker})

    @property
    def namesrv(self) -> str:
        return ";".join(f"127.0.0.1:{w.ports[0]}" for w in self.workers("namesrv"))

    def kill(self, role: str, broker: str = None, sig: int = signal.SIGKILL) -> Worker:
        """Signals the first worker that fits; returns what it was."""
        victim = next(w for w in self.workers(role, broker) if w.pid > 0)
        os.kill(victim.pid, sig)
        return victim

    def kill_pid(self, pid: int, sig: int = signal.SIGKILL):
        """Signals one worker of this cluster."""
        assert pid in self.pids(), f"{pid} is none of ours"
        os.kill(pid, sig)

    def wait_state(self, states: tuple = SERVING, timeout_s: float = 30):
        """Waits until every worker is in one of the states."""
        def there():
            workers = self.all_workers()
            return workers and all(w.state in states for w in workers)
        wait_for(there, timeout_s, f"every worker {' or '.join(states)}")

    def wait_restarted(self, victim: Worker, timeout_s: float = 30) -> Worker:
        """Waits until another process serves in the place of the killed one."""
        def successor():
            for w in self.workers(victim.role, victim.broker):
                same_place = (w.ports[:1], w.number) == (victim.ports[:1], victim.number)
                if same_place and w.restarts > victim.restarts and w.pid != victim.pid and w.state in SERVING:
                    return w
            return None
        return wait_for(successor, timeout_s, f"successor of {victim}")

    def log_tail(self, lines: int = 40) -> str:
        """The end of each log, for the report of a failed test."""
        parts = []
        for name, path in sorted(self.logs().items()):
            try:
                text = Path(path).read_text(errors="replace").splitlines()
            except OSError as e:
                text = [str(e)]
            parts.append("\n".join([f"==> {name}", *text[-lines:]]))
        return "\n".join(parts)

    def remove(self):
        """Removes the folder; PINTLE_KEEP=1 keeps it for a look afterwards."""
        if os.environ.get("PINTLE_KEEP") != "1":
            shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.stop()
        self.remove()


class Cluster(BaseCluster):
    """Pintle itself: one `pintle up --detach`, asked by `pintle status --json`, ended by `pintle down`."""

    def __init__(self, preset: str = "2m", args: list = (), broker_conf: str = None, timeout_s: float = 30,
                 file: Path = None, ports: list = ("--namesrv-port", "0", "--base-port", "0"), prefix: list = ()):
        """`file`: a cluster file instead of the preset. `prefix`: before the command that starts it."""
        super().__init__(preset, "cluster")
        self._what = ["--file", file] if file else ["--preset", preset]
        self.pintle = build_dir() / "bin" / "pintle"
        if not self.pintle.exists():
            raise FileNotFoundError(f"{self.pintle}: build first, or name the build folder in PINTLE_BUILD")
        self._console = self.dir / "up.txt"
        self._ports, self._prefix = ports, prefix
        self._supervisor_pid = 0
        self._last_pids = []
        self.up(args, timeout_s)

    def up(self, args: list = (), timeout_s: float = 30):
        """Starts (or, after `down`, starts again in the same folder)."""
        command = [*self._prefix, self.pintle, "up", *self._what, "--dir", self.dir, *self._ports, "--detach", *args]
        # To a file, not a pipe: a detached supervisor may keep our descriptors open, and a pipe would never end.
        with open(self._console, "a") as console:
            done = subprocess.run([str(c) for c in command], stdin=subprocess.DEVNULL, stdout=console,
                                  stderr=subprocess.STDOUT, timeout=timeout_s)
        if done.returncode != 0:
            text = self._console.read_text()
            self.remove()
            raise RuntimeError(f"pintle up: exit code {done.returncode}\n{text}")
        try:
            self.wait_ready(timeout_s)
        except BaseException:
            self.stop()
            raise

    def status(self) -> dict:
        done = subprocess.run([self.pintle, "status", "--dir", self.dir, "--json"], capture_output=True, text=True,
                              timeout=10)
        if done.returncode != 0:
            raise RuntimeError(f"pintle status: exit code {done.returncode}: {done.stderr.strip()}")
        status = json.loads(done.stdout)
        self._supervisor_pid = status["supervisor"]["pid"]
        self._last_pids = [w["pid"] for w in status["workers"] if w["pid"] > 0]
        return status

    @property
    def supervisor_pid(self) -> int:
        return self.status()["supervisor"]["pid"]

    def all_workers(self) -> list:
        return [self._worker(w) for w in self.status()["workers"]]

    @staticmethod
    def _worker(w: dict) -> Worker:
        ports = w.get("ports") or ()
        if isinstance(ports, dict):
            ports = ports.values()
        broker = "" if w["role"] == "namesrv" else w["broker"]
        return Worker(w["role"], broker, w["pid"], w["state"], w["restarts"], tuple(ports), w.get("number", 0))

    def wait_ready(self, timeout_s: float = 30):
        self.wait_state(SERVING, timeout_s)

    def logs(self) -> dict:
        found = {"up": self._console}
        for path in sorted((self.dir / "log").glob("**/*")):
            if path.is_file():
                found[str(path.relative_to(self.dir))] = path
        return found

    def down(self, timeout_s: float = 30):
        """Stops in order; raises if a process is left over."""
        self.status()
        subprocess.run([self.pintle, "down", "--dir", self.dir], check=True, capture_output=True, text=True,
                       timeout=timeout_s)
        ours = [self._supervisor_pid, *self._last_pids]
        wait_for(lambda: not any(alive(p) for p in ours), 5, f"the end of processes {ours}")

    def stop(self):
        """`down`, and whatever survives it is killed by pid: a broken build must not leave processes behind."""
        try:
            self.down()
        except Exception as e:  # teardown goes on; the failure is still told
            print(f"pintle down: {e}\n{self.log_tail()}")
            for pid in [self._supervisor_pid, *self._last_pids]:
                if pid > 0 and self._is_ours(pid):
                    os.kill(pid, signal.SIGKILL)

    @staticmethod
    def _is_ours(pid: int) -> bool:
        try:
            return os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)").startswith(str(build_dir().resolve()))
        except OSError:
            return False
