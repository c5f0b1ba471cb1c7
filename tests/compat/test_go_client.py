"""The stock Go client (rocketmq-client-go v2): one test per scenario of go/.

Not judged, because the client can't: POP and lite pull as Java has them, a subscription to a non-ASCII tag (it hashes
UTF-8, Apache's broker UTF-16), two orderly members at a time (it keeps the locks that it should give back; Apache's
broker waits for a minute, too).
"""
import os
import subprocess
from pathlib import Path

import pytest

import scenarios

PROJECT = Path(__file__).resolve().parent / "go"
SCENARIOS = ["sync", "async", "oneway", "batch", "tags", "unicode", "compressed", "restart", "share", "orderly",
             "broadcast", "from"]


def _driver() -> Path:
    with scenarios.cache("go") as folder:
        # Go's own caches know whether there is anything to do.
        done = subprocess.run(["go", "build", "-p", "2", "-buildvcs=false", "-o", folder / "compat", "."], cwd=PROJECT,
                              text=True, capture_output=True)
        assert done.returncode == 0, f"go build: {done.stderr}"
        return folder / "compat"


@pytest.fixture(scope="module")
def results(request, cluster, tmp_path_factory):
    brokers = ",".join(f"{name}={where}" for name, where in scenarios.broker_addresses(cluster).items())
    names = ",".join(scenarios.wanted(request, SCENARIOS))
    # The client keeps the offsets of broadcasts in the home folder.
    env = dict(os.environ, HOME=str(tmp_path_factory.mktemp("home")))
    return scenarios.run([_driver(), "-namesrv", cluster.namesrv, "-brokers", brokers, names], env=env)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenario(scenario, results):
    scenarios.check(scenario, results)


def test_table_is_whole():
    """Every scenario of the driver is run here."""
    done = subprocess.run([_driver(), "list"], text=True, capture_output=True, check=True)
    assert done.stdout.split() == SCENARIOS
