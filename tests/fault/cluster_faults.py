"""What fault tests do to a cluster: kill workers, arm fault points, wait until all is whole again."""
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import remoting
from cluster import ROOT, Cluster, build_dir, wait_for
from load import now_us


def points() -> list:
    """Names of all fault points at which a worker can be made to die."""
    text = (ROOT / "ipc/fault/fault_points.def").read_text()
    return [p for p in re.findall(r'^X\(\w+, *"([a-z.-]+)"', text, re.M) if p != "store.poison"]


def processes_of(folder: Path) -> list:
    """Every process of ours that names the folder in its command line or environment."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.readlink(entry / "exe").startswith(str(build_dir() / "bin")):
                words = (entry / "cmdline").read_bytes()
                if str(folder).encode() in words + (entry / "environ").read_bytes():
                    found.append(f"{entry.name} {words.decode()}")
        except (PermissionError, FileNotFoundError, ProcessLookupError):
            pass  # not ours, or gone
    return found


def holds_files(pid: int) -> bool:
    """A process that was killed loses its memory, and so its name, before its files and their locks."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


class FaultCluster(Cluster):
    """A cluster that may be armed; counts the deaths that were our doing."""

    def __init__(self, preset: str, *settings: str):
        self.settings = ["--allow-faults", *(word for s in settings for word in ("--set", s))]
        super().__init__(preset, args=self.settings)

    def fault(self, *words):
        done = subprocess.run([str(self.pintle), "fault", *map(str, words), "--dir", str(self.dir)],
                              capture_output=True, text=True, timeout=10)
        assert done.returncode == 0, f"pintle fault {words}: {done.stderr}"

    def arm(self, point: str, worker, action: str = "kill", skip: int = 0, argument: int = 0):
        target = f"{worker.role}/{worker.broker or self.namesrv_name(worker)}"
        self.fault("arm", point, "--target", target, "--action", action, "--skip", skip, "--argument", argument)

    def disarm(self, point: str):
        self.fault("disarm", point)

    def namesrv_name(self, worker) -> str:
        return next(w["broker"] for w in self.status()["workers"] if w["pid"] == worker.pid)

    def kill_worker(self, worker) -> int:
        """kill -9; returns when (monotonic, us)."""
        at_us = now_us()
        os.kill(worker.pid, signal.SIGKILL)
        return at_us

    def children(self) -> set:
        supervisor = self._supervisor_pid
        return {int(p) for p in Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()}

    def kill_newborn(self, known: set, after_s: float):
        """kill -9 for the next child of the supervisor, `after_s` behind its fork: somewhere in its start."""
        newborn = wait_for(lambda: self.children() - known, 10, "a successor", 0.0002)
        time.sleep(after_s)  # not a wait: the place of the kill
        for pid in newborn:
            os.kill(pid, signal.SIGKILL)

    def kill_everything(self, random):
        """Supervisor and all workers by -9, in any order; returns when none is left."""
        pids = [self.supervisor_pid, *self.pids()]
        random.shuffle(pids)
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # the supervisor went first, and this worker has noticed
        wait_for(lambda: not processes_of(self.dir) and not any(map(holds_files, pids)), 30, "the end of all processes")

    def now(self, worker):
        """The worker as it is now."""
        return next(w for w in self.workers(worker.role, worker.broker) if w.ports[:1] == worker.ports[:1])

    def restarts(self) -> int:
        return sum(w.restarts for w in self.all_workers())

    def wait_died(self, worker, stimulate=lambda: None, timeout_s: float = 30, times: int = 1):
        """Waits until the supervisor has counted `times` deaths of a worker; gives it stimuli meanwhile."""
        def died():
            if self.now(worker).restarts >= worker.restarts + times:
                return True
            stimulate()
            return False
        wait_for(died, timeout_s, f"death of {worker}", 0.02)

    def wait_whole_routes(self, topic: str, namesrv: str) -> int:
        """Waits until a name server knows every broker's share of the topic; returns when that was."""
        brokers = set(self.brokers())

        def whole():
            try:
                with remoting.Connection(namesrv, 5) as connection:
                    return set(connection.route(topic)) == brokers
            except (OSError, TimeoutError):
                return False
        wait_for(whole, 30, f"routes of {topic} at {namesrv}", 0.001)
        return now_us()
