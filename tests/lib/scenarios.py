"""Drivers of stock clients that print one JSON line per scenario: {"scenario", "ok", figures, "reasons"}.

All scenarios asked for run in one process (starting one costs more than most scenarios); the first test of a file pays
for it and each test looks at its own line. Builds and packages are kept in a folder outside the repository.
"""
import fcntl
import json
import os
import subprocess
from contextlib import contextmanager
from pathlib import Path

TIMEOUT_S = 300  # a net for a hanging client, not a measure


@contextmanager
def cache(name: str):
    """A folder for what is built or fetched, locked: suites may run side by side."""
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    folder = home / "pintle-tests" / name
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


def wanted(request, scenarios: list) -> list:
    """The scenarios of this file among the selected tests."""
    names = {item.callspec.params["scenario"] for item in request.session.items
             if item.fspath == request.node.fspath and hasattr(item, "callspec")}
    return [s for s in scenarios if s in names]


def run(command: list, **options) -> dict:
    """Results by scenario, and how the driver ended."""
    done = subprocess.run([str(c) for c in command], text=True, capture_output=True, timeout=TIMEOUT_S, **options)
    found = {line["scenario"]: line for line in map(json.loads, done.stdout.splitlines())}
    found["exit code"] = done.returncode
    found["stderr"] = done.stderr
    return found


def check(scenario: str, results: dict):
    ending = f"no result line; driver ended with {results['exit code']}: {results['stderr'][-2000:]}"
    assert scenario in results, ending
    print(json.dumps(results[scenario]))
    assert results[scenario]["ok"], "\n".join(results[scenario]["reasons"])


def broker_addresses(cluster) -> dict:
    """Where clients find each broker: {"broker-a": "127.0.0.1:…", …}."""
    return {w.broker: f"127.0.0.1:{w.ports[0]}" for w in cluster.all_workers() if w.role in ("front", "broker")}
