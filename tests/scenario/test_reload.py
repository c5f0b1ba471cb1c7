"""`pintle reload` and SIGHUP: what is taken at once, what waits, and that a bad file changes nothing."""
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "lib"))
from cluster import Cluster, wait_for  # noqa: E402
from remoting import OK, Connection  # noqa: E402

UPDATE_CONFIG, GET_CONFIG, PUT_KV, GET_NAMESRV_CONFIG, NO_PERMISSION, SYSTEM_ERROR = 25, 26, 100, 319, 16, 1


class Reloaded(Cluster):
    """One name server, one broker with an Apache file beside the cluster file."""

    def __init__(self, folder: Path):
        self.cluster_file, self.broker_file = folder / "cluster.conf", folder / "broker.conf"
        self.write_cluster()
        self.write_broker()
        super().__init__(file=self.cluster_file)

    def write_cluster(self, cluster="", namesrv="", more=""):
        self.cluster_file.write_text(f"[cluster]\n{cluster}\n[namesrv n]\n{namesrv}\n"
                                     f"[broker broker-a]\nconf = broker.conf\n{more}")

    def write_broker(self, text=""):
        self.broker_file.write_text(text)

    def reload(self):
        return subprocess.run([self.pintle, "reload", "--dir", self.dir], capture_output=True, text=True, timeout=30)

    def broker(self):
        return Connection(f"127.0.0.1:{self.workers('front')[0].ports[0]}")

    def config(self):
        with self.broker() as broker:
            text = broker.ask(GET_CONFIG).body.decode()
            return dict(line.split("=", 1) for line in text.splitlines() if line[:1] not in ("", "#"))

    def wait_config(self, key, value):
        wait_for(lambda: self.config().get(key) == value, 20, f"{key}={value}")

    def log(self):
        return (self.dir / "log" / "supervisor.log").read_text()


@pytest.fixture()
def cluster(tmp_path):
    with Reloaded(tmp_path) as running:
        yield running


def test_nothing_changed(cluster):
    done = cluster.reload()
    assert (done.returncode, done.stdout) == (0, "nothing has changed\n")


def test_applied_waiting_and_unused_keys(cluster):
    before = {w.pid for w in cluster.all_workers()}
    with cluster.broker() as broker:
        assert broker.send("ReloadTopic", 0, b"x" * 2000).code == OK
    cluster.write_broker("maxMessageSize=1000\nflushDiskType=SYNC_FLUSH\nsendMessageThreadPoolNums=48\n")
    done = cluster.reload()
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == [
        "broker.conf broker-a: flushDiskType = SYNC_FLUSH (was ASYNC_FLUSH): needs a restart of the cluster",
        "broker.conf broker-a: maxMessageSize = 1000 (was 4194304): in force",
        "broker.conf broker-a: sendMessageThreadPoolNums = 48 (was not given): not used here"]
    cluster.wait_config("maxMessageSize", "1000")
    assert cluster.config()["sendMessageThreadPoolNums"] == "48"
    with cluster.broker() as broker:  # both of the broker's processes know
        assert broker.send("ReloadTopic", 0, b"x" * 2000).code == 13
    assert cluster.config()["flushDiskType"] == "ASYNC_FLUSH"
    assert {w.pid for w in cluster.all_workers()} == before

    for role in ("store", "front"):  # a successor has what was reloaded, and not what waits
        cluster.wait_restarted(cluster.kill(role))
        cluster.wait_config("maxMessageSize", "1000")
        assert cluster.config()["flushDiskType"] == "ASYNC_FLUSH"
    assert "needs a restart" in cluster.reload().stdout  # still

    cluster.write_broker("flushDiskType=SYNC_FLUSH\n")  # no longer given: the default again
    assert "maxMessageSize = 4194304 (was 1000): in force" in cluster.reload().stdout
    cluster.wait_config("maxMessageSize", "4194304")
    cluster.down()
    cluster.up()
    assert cluster.config()["flushDiskType"] == "SYNC_FLUSH"


def test_a_bad_file_changes_nothing(cluster):
    cluster.write_broker("maxMessageSize=1000\nbrokerPermission=9\n")
    done = cluster.reload()
    assert done.returncode == 78
    assert "broker.conf:2: brokerPermission is '9', expected a number from 0 to 7; everything stays as it was" in done.stderr
    cluster.write_broker()
    cluster.write_cluster(cluster="adminFrm = any")
    done = cluster.reload()
    assert done.returncode == 78 and "did you mean 'adminFrom'?" in done.stderr
    cluster.write_cluster()
    assert cluster.reload().stdout == "nothing has changed\n"
    assert cluster.config()["maxMessageSize"] == "4194304"


def test_what_was_changed_at_run_time_wins(cluster):
    with cluster.broker() as broker:
        assert broker.ask(UPDATE_CONFIG, body=b"maxMessageSize=3000\n").code == OK
    wait_for(lambda: (cluster.dir / "store" / "broker-a" / "config" / "broker.properties").exists(), 20, "its file")
    cluster.write_broker("maxMessageSize=1000\nbrokerPermission=4\n")
    out = cluster.reload().stdout
    assert "maxMessageSize = 1000 (was 3000): a change at run time wins" in out
    cluster.wait_config("brokerPermission", "4")
    assert cluster.config()["maxMessageSize"] == "3000"


def test_cluster_and_name_server_keys(cluster):
    put = {"namespace": "N", "key": "k", "value": "v"}
    with Connection(cluster.namesrv) as namesrv, cluster.broker() as broker:
        assert namesrv.ask(PUT_KV, put).code == OK
        cluster.write_cluster(cluster="adminFrom = 10.1.2.3\nlisten = 127.0.0.2", namesrv="orderMessageEnable = true",
                              more="[broker broker-b]\n")
        out = cluster.reload().stdout.splitlines()
        assert "cluster: adminFrom = 10.1.2.3 (was loopback): in force" in out
        assert "cluster: listen = 127.0.0.2 (was 127.0.0.1): needs a restart of the cluster" in out
        assert "namesrv n: orderMessageEnable = true (was false): in force" in out
        assert "broker: broker-b = there (was not given): needs a restart of the cluster" in out
        # also for connections that were there before
        wait_for(lambda: namesrv.ask(PUT_KV, put).code == NO_PERMISSION, 20, "the name server's refusal")
        wait_for(lambda: broker.ask(UPDATE_CONFIG, body=b"").code == NO_PERMISSION, 20, "the broker's refusal")
        assert b"orderMessageEnable=true" in namesrv.ask(GET_NAMESRV_CONFIG).body
        assert len(cluster.brokers()) == 1


def test_hangup_reloads(cluster):
    cluster.write_broker("brokerPermission=4\n")
    os.kill(cluster.supervisor_pid, signal.SIGHUP)
    cluster.wait_config("brokerPermission", "4")
    cluster.write_broker("brokerPermission=9\n")
    os.kill(cluster.supervisor_pid, signal.SIGHUP)
    wait_for(lambda: "reload: " in cluster.log() and "everything stays as it was" in cluster.log(), 20, "the refusal")
    assert cluster.config()["brokerPermission"] == "4"
