"""One store's folder, opened in turn by Pintle and by real Apache RocketMQ 5.3.3: same names, port and file sizes.

    with ApacheOwner(folder, port) as owner:
        owner.connect()          # a remoting.Connection to the broker
        owner.stop_cleanly()     # or owner.kill()

Leaving the block without either kills the broker. The folder stays.
"""
import os
import signal
from pathlib import Path

from apache import ApacheBroker
from cluster import Cluster, alive, wait_for
from remoting import Connection

BROKER = "broker-a"
LOG_FILE, QUEUE_FILE = 8 << 20, 4000
# Files are small, so that a short story fills many of them. Nothing goes by age or fullness: the disk's state is not the
# subject. messageIndexSafe: Apache drops its newest index file after an unclean stop and, without this, never
# makes it again for messages that lie in older files of the log.
CONF = {"mappedFileSizeCommitLog": LOG_FILE, "mappedFileSizeConsumeQueue": QUEUE_FILE, "maxHashSlotNum": 1000,
        "maxIndexNum": 700, "messageIndexSafe": "true", "flushConsumerOffsetInterval": 500,
        "cleanFileForciblyEnable": "false", "fileReservedTime": 1000, "brokerIP1": "127.0.0.1", "bindAddress": "::"}


class _Owner:
    def __init__(self, folder: Path, port: int):
        self.folder, self.port, self._gone = folder, port, False

    def connect(self, host: str = "127.0.0.1") -> Connection:
        return Connection(f"{host}:{self.port}", timeout_s=60)

    def stop_cleanly(self):
        self._stop_cleanly()
        self._gone = True

    def kill(self):
        self._kill()
        self._gone = True

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if exc[0] is not None:
            print(f"{self}:\n{self.log_tail()}")
        if not self._gone:
            self.kill()
        self._remove()


class ApacheOwner(_Owner):
    name = "apache"

    def __init__(self, folder: Path, port: int, **conf):
        super().__init__(folder, port)
        self._broker = ApacheBroker(BROKER, "", store=folder, port=port, conf={**CONF, **conf}, timeout_s=120)

    def _stop_cleanly(self):
        self._broker.end()

    def _kill(self):
        self._broker.kill()

    def _remove(self):
        self._broker.stop()

    def log_tail(self) -> str:
        found = []
        for log in self._broker.dir.glob("home/logs/**/*.log"):
            told = [line for line in log.read_text(errors="replace").splitlines() if " INFO " not in line]
            found += [f"==> {log.name}", *told[-30:]] if told else []
        return "\n".join(found)


class PintleOwner(_Owner):
    name = "pintle"

    def __init__(self, folder: Path, port: int, **conf):
        super().__init__(folder, port)
        settings = {"storePathRootDir": folder, **CONF, **conf}
        self._cluster = Cluster("1m", args=[w for k, v in settings.items() for w in ("--set", f"{k}={v}")],
                                ports=("--namesrv-port", "0", "--base-port", port), timeout_s=120)

    def kill_store(self):
        """The store's process alone; returns when its successor serves."""
        self._cluster.wait_restarted(self._cluster.kill("store"))

    def _stop_cleanly(self):
        self._cluster.down(timeout_s=120)

    def _kill(self):
        """The whole cluster, as a crash of everything but the host would."""
        pids = [self._cluster.supervisor_pid, *self._cluster.pids()]
        for pid in pids:  # the supervisor first, so that nobody is started again
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        wait_for(lambda: not any(alive(pid) for pid in pids), 60, f"the end of processes {pids}")

    def _remove(self):
        self._cluster.remove()

    def log_tail(self) -> str:
        return self._cluster.log_tail()


OWNERS = {owner.name: owner for owner in (ApacheOwner, PintleOwner)}
