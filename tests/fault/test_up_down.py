"""Starting, stopping and the supervisor's own death leave nothing behind."""
import os
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

import remoting
from cluster import Cluster, build_dir, wait_for
from cluster_faults import processes_of

PINTLE = build_dir() / "bin" / "pintle"


def up(folder: Path, *words: str) -> subprocess.CompletedProcess:
    with tempfile.TemporaryFile("w+") as out:
        done = subprocess.run([str(PINTLE), "up", "--dir", str(folder), *words], stdin=subprocess.DEVNULL, stdout=out,
                              stderr=subprocess.STDOUT, timeout=60)
        out.seek(0)
        done.stdout = out.read()
    return done


def assert_one_line(done, code: int, *words: str):
    lines = [line for line in done.stdout.splitlines() if line]
    assert done.returncode == code and len(lines) == 1, (done.returncode, done.stdout)
    assert all(word in lines[0] for word in words), lines


@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory(prefix="pintle-updown-") as name:
        yield Path(name)


def test_supervisor_killed(figures):
    with Cluster("2m") as cluster:
        front = f"127.0.0.1:{cluster.workers('front')[0].ports[0]}"
        with remoting.Connection(front) as connection:
            assert connection.put_topic("kept").code == remoting.OK
            assert connection.send("kept", 0, b"before").code == remoting.OK
            workers = len(cluster.pids())
            os.kill(cluster.supervisor_pid, signal.SIGKILL)
            wait_for(lambda: not processes_of(cluster.dir), 30, "the end of all workers")
        # They ended in order: what was acknowledged is there after the next start, in the same folder.
        cluster.up()
        address = f"127.0.0.1:{cluster.workers('front')[0].ports[0]}"
        with remoting.Connection(address) as connection:
            answer = connection.answer(connection.post_pull("kept", "reader", 0, 0))
            assert [m.body for m in remoting.messages(answer.body)] == [b"before"], answer
        figures(f"supervisor killed: {workers} workers ended, the next start serves the same folder")


def test_down_leaves_nothing():
    with Cluster("2m") as cluster:
        cluster.down()
        wait_for(lambda: not processes_of(cluster.dir), 5, "the end of all processes")
        assert not list((cluster.dir / "run").glob("*.sock")), list((cluster.dir / "run").iterdir())
        cluster.up()


def test_routes_are_there_when_it_serves():
    """A client that comes as soon as `up` has returned finds every broker with every name server."""
    with Cluster("2m") as cluster:
        for _ in range(5):
            for address in cluster.namesrv.split(";"):
                with remoting.Connection(address) as connection:
                    assert sorted(connection.route("TBW102")) == ["broker-a", "broker-b"]
            cluster.down()
            cluster.up()


def test_second_up_is_refused(figures):
    with Cluster("1m") as cluster:
        before = sorted(processes_of(cluster.dir))
        for detach in ([], ["--detach"]):
            done = up(cluster.dir, "--preset", "1m", "--namesrv-port", "0", "--base-port", "0", *detach)
            assert_one_line(done, 74)
            assert sorted(processes_of(cluster.dir)) == before
        cluster.wait_ready()
        figures(f"second up: {done.stdout.strip()}")


@pytest.mark.parametrize("which", ["--namesrv-port", "--base-port"])
@pytest.mark.parametrize("detach", [[], ["--detach"]])
def test_port_taken(folder, which, detach, figures):
    other = "--base-port" if which == "--namesrv-port" else "--namesrv-port"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = up(folder, "--preset", "1m", which, str(port), other, "0", *detach)
        assert_one_line(done, 74, str(port))
        wait_for(lambda: not processes_of(folder), 5, "the end of all processes")
    figures(done.stdout.strip())
