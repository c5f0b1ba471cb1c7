"""The native client: its round trip works, and a client that misbehaves or dies harms only itself."""
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "lib"))
from cluster import Cluster  # noqa: E402

BUILD = pathlib.Path(os.environ.get("PINTLE_BUILD", ROOT / "build" / "release"))


@pytest.fixture(scope="module")
def cluster():
    with Cluster(preset="1m") as running:
        yield running


def front_address(cluster):
    front = next(w for w in cluster.status()["workers"] if w["role"] == "front")
    return f"127.0.0.1:{front['ports'][0]}"


def round_trips(cluster, count=2000):
    out = subprocess.run([BUILD / "tests" / "native_rtt", cluster.dir / "run", "broker-a", front_address(cluster), str(count)],
                         capture_output=True, text=True, timeout=60)
    assert out.returncode == 0, out.stderr
    return out.stdout


def hostile(cluster, mode):
    process = subprocess.Popen([BUILD / "tests" / "native_hostile", cluster.dir / "run", "broker-a", mode],
                               stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline().strip() == "done"
    return process


def restarts(cluster):
    return {(w["role"], w["broker"]): w["restarts"] for w in cluster.status()["workers"]}


def test_round_trip(cluster):
    figures = round_trips(cluster, 20000)
    print(figures)
    assert "native" in figures and "tcp" in figures


@pytest.mark.parametrize("mode", ["mid-record", "bad-record", "bad-position", "deaf", "block-wakeup"])
def test_misbehaviour_harms_only_itself(cluster, mode):
    before = restarts(cluster)
    for _ in range(5):
        process = hostile(cluster, mode)
        round_trips(cluster, 500)
        process.kill()
        process.wait()
        process.stdout.close()
    round_trips(cluster, 500)
    assert restarts(cluster) == before


def test_nonsense_is_given_up(cluster):
    process = hostile(cluster, "bad-position")
    process.wait(timeout=20)
    assert process.stdout.read().strip() == "given up"  # not communicate(): readline may have taken both lines
    process.stdout.close()


def test_every_client_killed_frees_its_rings(cluster):
    """More clients than may be attached at once, each killed: their places must come back."""
    for _ in range(100):
        process = hostile(cluster, "mid-record")
        process.kill()
        process.wait()
        process.stdout.close()
    round_trips(cluster, 500)
