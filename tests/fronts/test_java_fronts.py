"""Groups of stock Java clients whose members are spread over several fronts: the scenarios in which members must know of
each other (tests/compat/test_java_client.py has them all, with one front)."""
import json
import subprocess

import pytest

import java
from cluster import open_cluster

SCENARIOS = ["share", "death", "handover", "orderly", "idle"]
TIMEOUT_S = 300  # a net for a hanging client, not a measure


@pytest.fixture(scope="module")
def two_by_two(request, tmp_path_factory):
    """Two brokers with two fronts each."""
    file = tmp_path_factory.mktemp("cluster") / "cluster.conf"
    file.write_text("[namesrv ns]\nport = 0\n[broker broker-a]\nport = 0\nfronts = 2\n"
                    "[broker broker-b]\nport = 0\nfronts = 2\n")
    with open_cluster(file=file) as opened:
        request.config.opened_cluster = opened
        yield opened


@pytest.fixture(scope="module")
def results(request, two_by_two, tmp_path_factory):
    logs = tmp_path_factory.mktemp("client-log")
    command = java.driver_command(",".join(SCENARIOS), "--namesrv", two_by_two.namesrv, logs=logs)
    done = subprocess.run(command, text=True, capture_output=True, timeout=TIMEOUT_S)
    found = {line["scenario"]: line for line in map(json.loads, done.stdout.splitlines())}
    found["ending"] = f"exit code {done.returncode}: {done.stderr[-2000:]}"
    return found


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenario(scenario, results):
    assert scenario in results, f"no result line; {results['ending']}"
    print(json.dumps(results[scenario]))
    assert results[scenario]["ok"], "\n".join(results[scenario]["reasons"])


def test_nobody_died(two_by_two, results):
    assert {w.restarts for w in two_by_two.all_workers()} == {0}
