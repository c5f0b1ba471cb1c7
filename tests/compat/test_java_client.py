"""The stock Java client 5.3.3 against a whole cluster: one test per scenario of the driver.

All scenarios asked for run in one JVM, one after the other (starting a JVM costs more than most scenarios); the first
test of the file pays for it and each test looks at its own line.
"""
import json
import subprocess

import pytest

import java

SCENARIOS = ["sync", "async", "oneway", "batch", "autocreate", "unicode", "tags", "restart", "offsets", "idle", "once",
             "big", "orderly", "share", "death", "handover", "broadcast", "from", "compressed", "litepull",
             "delay", "retry", "suspend"]
TIMEOUT_S = 600  # a net for a hanging client, not a measure


@pytest.fixture(scope="module")
def results(request, cluster, tmp_path_factory):
    """JSON results by scenario, of the scenarios among the selected tests."""
    wanted = {item.callspec.params["scenario"] for item in request.session.items
              if item.fspath == request.node.fspath and hasattr(item, "callspec")}
    names = [s for s in SCENARIOS if s in wanted]
    logs = tmp_path_factory.mktemp("client-log")
    command = java.driver_command(",".join(names), "--namesrv", cluster.namesrv, logs=logs)
    done = subprocess.run(command, text=True, capture_output=True, timeout=TIMEOUT_S)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    found = {line["scenario"]: line for line in lines}
    found["exit code"] = done.returncode
    found["stderr"] = done.stderr
    return found


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenario(scenario, results):
    assert scenario in results, f"no result line; driver ended with {results['exit code']}: {results['stderr'][-2000:]}"
    line = results[scenario]
    print(json.dumps(line))
    assert line["ok"], "\n".join(line["reasons"])


def test_table_is_whole():
    """Every scenario of the driver is run here."""
    done = subprocess.run(java.driver_command("list"), text=True, capture_output=True, check=True)
    assert done.stdout.split() == SCENARIOS
