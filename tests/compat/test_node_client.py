"""The stock Node client (ali-ons): one test per scenario of node/driver.js.

Not judged, because the client can't: oneway and batch sends, a send to an unknown topic, orderly consumption, lite
pull.
"""
import os
import shutil
import subprocess
from pathlib import Path

import pytest

import scenarios

PROJECT = Path(__file__).resolve().parent / "node"
SCENARIOS = ["sync", "async", "tags", "unicode", "compressed", "restart", "share", "broadcast", "from"]


def _modules() -> Path:
    """The client as package-lock.json names it, installed outside the repository."""
    with scenarios.cache("node") as folder:
        lock = (PROJECT / "package-lock.json").read_text()
        stamp = folder / "installed"
        if not stamp.exists() or stamp.read_text() != lock:
            for name in ("package.json", "package-lock.json"):
                shutil.copy(PROJECT / name, folder)
            done = subprocess.run(["npm", "ci", "--prefer-offline", "--ignore-scripts", "--no-audit", "--no-fund"],
                                  cwd=folder, text=True, capture_output=True)
            assert done.returncode == 0, f"npm ci: {done.stderr}"
            stamp.write_text(lock)
        return folder / "node_modules"


def _environment() -> dict:
    return dict(os.environ, NODE_PATH=str(_modules()), TZ="UTC")


@pytest.fixture(scope="module")
def results(request, cluster):
    brokers = ",".join(f"{name}={where}" for name, where in scenarios.broker_addresses(cluster).items())
    names = ",".join(scenarios.wanted(request, SCENARIOS))
    return scenarios.run(["node", PROJECT / "driver.js", cluster.namesrv, brokers, names], env=_environment())


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenario(scenario, results):
    scenarios.check(scenario, results)


def test_table_is_whole():
    """Every scenario of the driver is run here."""
    done = subprocess.run(["node", PROJECT / "driver.js", "-", "-", "list"], text=True, capture_output=True, check=True,
                          env=_environment())
    assert done.stdout.split() == SCENARIOS
