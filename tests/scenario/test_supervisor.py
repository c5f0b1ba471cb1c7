"""The supervisor alone, with workers that only keep the contract (fake_worker.c): what it starts, restarts, gives, and
leaves behind."""
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

BUILD = Path(__file__).resolve().parents[2] / "build" / "release"


class Supervised:
    """A folder with the two real programs and fakes for the rest, and at most one cluster in it."""

    def __init__(self, folder: Path):
        self.folder, self.bin, self.orders, self.dir = folder, folder / "bin", folder / "orders", folder / "d"
        self.bin.mkdir()
        self.orders.mkdir()
        for name in ("pintle", "pintle-supervisor"):
            shutil.copy(BUILD / "bin" / name, self.bin / name)
        for name in ("store", "front", "namesrv"):
            shutil.copy(BUILD / "bin" / "fake_worker", self.bin / f"pintle-{name}")
        self.trace_file = folder / "trace"
        self.env = dict(os.environ, FAKE_ORDERS=str(self.orders), FAKE_TRACE=str(self.trace_file))

    def pintle(self, *words, timeout=60):
        return subprocess.run([self.bin / "pintle", *words], env=self.env, capture_output=True, text=True,
                              timeout=timeout)

    def up(self, *words):
        return self.pintle("up", "--preset", "1m", "--dir", str(self.dir), "--detach", "--namesrv-port", "0",
                           "--base-port", "0", *words)

    def status(self):
        return json.loads(self.pintle("status", "--dir", str(self.dir), "--json").stdout)

    def worker(self, role):
        return next(w for w in self.status()["workers"] if w["role"] == role)

    def wait(self, condition, what, timeout_s=30):
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            found = condition()
            if found:
                return found
            time.sleep(0.02)
        raise AssertionError(f"{what} not seen in {timeout_s} s:\n{self.log()}")

    def wait_ready_again(self, role, old_pid, timeout_s=30):
        def again():
            worker = self.worker(role)
            return worker if worker["state"] == "ready" and worker["pid"] != old_pid else None
        return self.wait(again, f"a new {role}", timeout_s)

    def trace(self, start):
        return [line for line in self.trace_file.read_text().splitlines() if line.startswith(start)]

    def log(self):
        file = self.dir / "log" / "supervisor.log"
        return file.read_text() if file.exists() else ""

    def order(self, role, word):
        (self.orders / role).write_text(word)

    def orphans(self):
        """Processes that still run from this folder."""
        found = []
        for exe in Path("/proc").glob("[0-9]*/exe"):
            try:
                if str(exe.readlink()).startswith(str(self.folder)):
                    found.append(exe.parent.name)
            except OSError:
                pass
        return found


@pytest.fixture
def supervised(tmp_path):
    it = Supervised(tmp_path)
    yield it
    it.pintle("down", "--dir", str(it.dir))
    assert it.orphans() == []


def test_up_status_down(supervised):
    up = supervised.up()
    assert up.returncode == 0, up.stderr
    status = supervised.status()
    assert [w["role"] for w in status["workers"]] == ["front", "store", "namesrv", "namesrv"]
    assert all(w["state"] == "ready" and w["restarts"] == 0 for w in status["workers"])
    main, vip = supervised.worker("front")["ports"]
    assert vip == main - 2
    for port in (main, vip, *[int(a.split(":")[1]) for a in status["namesrv"].split(";")]):
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    assert os.stat(supervised.dir / "run").st_mode & 0o777 == 0o700
    title = Path(f"/proc/{supervised.worker('store')['pid']}/cmdline").read_bytes()
    assert title == b"pintle: store broker-a/0\0"

    assert supervised.pintle("down", "--dir", str(supervised.dir)).returncode == 0
    assert list((supervised.dir / "run").iterdir()) == []
    log = supervised.log()
    assert log.index("front broker-a/0 ended") < log.index("store broker-a/0 ended") < log.index("namesrv-a/0 ended")
    assert "nothing runs" in supervised.pintle("down", "--dir", str(supervised.dir)).stdout


def test_a_worker_starts_clean(supervised):
    assert supervised.up().returncode == 0
    pid = supervised.worker("store")["pid"]
    status = Path(f"/proc/{pid}/status").read_text()
    assert "SigBlk:\t0000000000000000" in status and "SigIgn:\t0000000000000000" in status
    assert os.getpgid(pid) == pid
    environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    assert b"PINTLE_WORKER=store broker-a/0" in environment and b"PINTLE_GENERATION=1" in environment


def test_grants_of_first_start(supervised):
    assert supervised.up().returncode == 0
    kinds = [line.split(" gen=1 ")[1].split(" index=")[0] for line in supervised.trace("store broker-a/0 gen=1")]
    assert kinds == ["life line", "config", "start", "fault page", "board", "queue table", "ledger", "image", "ring set",
                     "ring set", "interest", "done"]


def test_killed_store_gets_the_same_rings(supervised):
    assert supervised.up().returncode == 0
    store = supervised.worker("store")
    os.kill(store["pid"], signal.SIGKILL)
    again = supervised.wait_ready_again("store", store["pid"])
    assert again["restarts"] == 1 and again["generation"] == 2
    rings = [line for line in supervised.trace("store broker-a/0 gen=2 ring set")]
    assert len(rings) == 2 and all("index=1 generation=1" in line for line in rings)
    assert "arg=1" in supervised.trace("store broker-a/0 gen=2 start")[0]  # killed from outside


def test_killed_front_gets_new_rings_and_its_store_hears(supervised):
    assert supervised.up().returncode == 0
    front = supervised.worker("front")
    os.kill(front["pid"], signal.SIGKILL)
    supervised.wait_ready_again("front", front["pid"])
    lines = supervised.trace("store broker-a/0 gen=1")
    after = [line.split(" gen=1 ")[1] for line in lines[lines.index(
        next(line for line in lines if " done " in line)) + 1:]]
    assert [line.split(" index=")[0] for line in after] == ["ring drop", "ring set", "ring set", "interest"]
    assert "index=1 generation=1" in after[0] and all("index=1 generation=2" in line for line in after[1:])


def test_abort_is_its_own_fault_and_leaves_last_words(supervised):
    assert supervised.up().returncode == 0
    supervised.order("store", "abort")
    store = supervised.worker("store")
    os.kill(store["pid"], signal.SIGKILL)
    supervised.wait(lambda: "last words" in supervised.log() and "ordered to abort" in supervised.log(), "last words")
    (supervised.orders / "store").unlink()
    supervised.wait(lambda: supervised.worker("store")["state"] == "ready", "a store that serves")
    assert any("arg=2" in line for line in supervised.trace("store broker-a/0") if " start " in line)


def test_death_before_ready_backs_off(supervised):
    assert supervised.up().returncode == 0
    supervised.order("front", "die")
    os.kill(supervised.worker("front")["pid"], signal.SIGKILL)
    supervised.wait(lambda: supervised.worker("front")["state"] == "backoff"
                    and supervised.worker("front")["restarts"] >= 6, "backoff")
    (supervised.orders / "front").unlink()
    supervised.wait(lambda: supervised.worker("front")["state"] == "ready", "a front that serves")


def test_refusal_at_start_ends_the_start(supervised):
    supervised.order("store", "exit-74")
    up = supervised.up()
    assert up.returncode == 74
    assert up.stderr.startswith("pintle up: store broker-a/0 cannot start") and up.stderr.count("\n") == 1
    assert supervised.orphans() == []
    assert list((supervised.dir / "run").iterdir()) == []


def test_refusal_later_is_failed_and_the_rest_serves(supervised):
    assert supervised.up().returncode == 0
    supervised.order("store", "exit-74")
    os.kill(supervised.worker("store")["pid"], signal.SIGKILL)
    supervised.wait(lambda: supervised.worker("store")["state"] == "failed", "failed")
    assert supervised.worker("front")["state"] == "ready"


def test_hung_worker_is_killed(supervised):
    assert supervised.up().returncode == 0
    supervised.order("front", "spin")
    os.kill(supervised.worker("front")["pid"], signal.SIGKILL)
    supervised.wait(lambda: "front broker-a/0" in supervised.log() and "hangs: no progress" in supervised.log(), "a hang")
    (supervised.orders / "front").unlink()
    supervised.wait(lambda: any("arg=2" in line for line in supervised.trace("front broker-a/0") if " start " in line),
                    "a successor that knows of its fault")


def test_stopped_worker_is_killed(supervised):
    assert supervised.up().returncode == 0
    store = supervised.worker("store")
    os.kill(store["pid"], signal.SIGSTOP)
    supervised.wait_ready_again("store", store["pid"])
    assert "hangs: stopped" in supervised.log()


def test_deaf_worker_is_killed_at_stop(supervised):
    supervised.order("namesrv", "deaf")
    assert supervised.up().returncode == 0
    assert supervised.pintle("down", "--dir", str(supervised.dir)).returncode == 0
    assert "did not stop in 10000 ms: killed" in supervised.log()


def test_one_supervisor_per_folder(supervised):
    assert supervised.up().returncode == 0
    pid = supervised.status()["supervisor"]["pid"]
    again = supervised.up()
    assert again.returncode == 74 and f"(pid {pid})" in again.stderr and again.stderr.count("\n") == 1
    assert supervised.status()["supervisor"]["pid"] == pid


def test_taken_port_is_one_line(supervised):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        up = supervised.pintle("up", "--preset", "1m", "--dir", str(supervised.dir), "--detach", "--namesrv-port",
                               str(taken.getsockname()[1]), "--base-port", "0")
    assert up.returncode == 74
    assert "Address already in use" in up.stderr and up.stderr.count("\n") == 1
    assert supervised.orphans() == []


def test_killed_supervisor_leaves_nobody(supervised):
    assert supervised.up().returncode == 0
    os.kill(supervised.status()["supervisor"]["pid"], signal.SIGKILL)
    supervised.wait(lambda: supervised.orphans() == [], "the end of every worker")
    assert supervised.up().returncode == 0  # over what the dead one left in the runtime folder


def test_native_clients_come_and_go(supervised):
    assert supervised.up().returncode == 0
    path = str(supervised.dir / "run" / "attach-broker-a.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.settimeout(10)
        client.connect(path)
        data, fds, _, _ = socket.recv_fds(client, 4096, 8)
        assert len(data) == 128 and len(fds) == 6
        for fd in fds:
            os.close(fd)
        supervised.wait(lambda: supervised.trace("store broker-a/0 gen=1 ring set index=1000"), "the client's rings")
    supervised.wait(lambda: supervised.trace("store broker-a/0 gen=1 ring drop index=1000"), "the client's end")

    clients = []
    for _ in range(65):
        client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        client.settimeout(10)
        client.connect(path)
        clients.append(client)
    assert all(len(c.recv(4096)) == 128 for c in clients[:64])
    assert clients[64].recv(4096) == b""  # one too many
    for client in clients:
        client.close()


def test_faults_only_where_allowed(supervised):
    assert supervised.up().returncode == 0
    refused = supervised.pintle("fault", "arm", "store.appended", "--dir", str(supervised.dir))
    assert refused.returncode == 78 and "--allow-faults" in refused.stderr
    assert "store.appended" in supervised.pintle("fault", "list").stdout


def test_long_folder_name(tmp_path):
    folder = tmp_path / ("long-" * 20) / ("path-" * 20)
    folder.mkdir(parents=True)
    it = Supervised(folder)
    try:
        assert it.up().returncode == 0
        assert it.worker("store")["state"] == "ready"
    finally:
        it.pintle("down", "--dir", str(it.dir))
    assert it.orphans() == []


def test_config_shows_and_checks(tmp_path):
    supervised = Supervised(tmp_path)
    good, bad = tmp_path / "good.conf", tmp_path / "bad.conf"
    good.write_text("brokerName=a\nbrokrId=0\nsendMessageThreadPoolNums=48\n")
    done = supervised.pintle("config", "check", str(good))
    assert done.returncode == 0, done.stderr
    assert "good.conf:2: unknown key 'brokrId'; did you mean 'brokerId'?" in done.stderr
    assert "known, not used here: sendMessageThreadPoolNums" in done.stderr
    bad.write_text("# one\nbrokerPermission=9\n")
    done = supervised.pintle("config", "check", str(bad))
    assert done.returncode == 78
    assert "bad.conf:2: brokerPermission is '9', expected a number from 0 to 7" in done.stderr
    bad.write_text("[cluster]\nnme = x\n")
    done = supervised.pintle("config", "check", str(bad))
    assert done.returncode == 78 and "bad.conf:2: unknown key 'nme' in [cluster]; did you mean 'name'?" in done.stderr
    sample = Path(__file__).resolve().parents[2] / "units" / "cluster.conf"
    assert supervised.pintle("config", "check", str(sample)).returncode == 0
    assert supervised.pintle("config", "chek").returncode == 64

    options = ("--preset", "1m", "--dir", str(supervised.dir), "--set", "flushDiskType=SYNC_FLUSH")
    done = supervised.pintle("config", "diff", *options)
    assert done.stdout.strip() == "[broker.conf broker-a]\nflushDiskType = SYNC_FLUSH  # command line; default ASYNC_FLUSH"
    rows = json.loads(supervised.pintle("config", "show", "--all", "--json", *options).stdout)
    by_key = {r["key"]: r for r in rows if r["section"] == "broker.conf"}
    assert by_key["flushDiskType"]["value"] == "SYNC_FLUSH" and by_key["flushDiskType"]["origin"] == "command line"
    assert by_key["brokerPermission"]["reloadable"] and by_key["brokerPermission"]["max"] == 7
    assert not by_key["sendMessageThreadPoolNums"]["used"] and len(by_key) > 440
    # What it prints with --all is a file that it reads again.
    text = supervised.pintle("config", "show", "--all", *options).stdout
    mine = text[:text.index("[broker.conf ")]
    (tmp_path / "cluster.conf").write_text(mine)
    assert supervised.pintle("config", "check", str(tmp_path / "cluster.conf")).returncode == 0
    (tmp_path / "broker.conf").write_text(text[text.index("[broker.conf "):].split("\n", 1)[1])
    done = supervised.pintle("config", "check", str(tmp_path / "broker.conf"))
    assert done.returncode == 0 and "unknown" not in done.stderr
