"""The stock Java client 4.9.8, with the sources of the driver for 5.3.3: one test per scenario.

Not run: `death` needs a second JVM for what the newer client's test shows already, and `once` and `big` weigh on the
broker, not on the client. Not judged: the load of kill tests, which reads the insides of client 5.3.3.
"""
import pytest

import java
import scenarios

SCENARIOS = ["sync", "async", "oneway", "batch", "autocreate", "unicode", "tags", "restart", "offsets", "idle",
             "orderly", "share", "handover", "broadcast", "from", "compressed", "litepull"]


@pytest.fixture(scope="module")
def results(request, cluster, tmp_path_factory):
    names = ",".join(scenarios.wanted(request, SCENARIOS))
    logs = tmp_path_factory.mktemp("client-log")
    return scenarios.run(java.driver_command(names, "--namesrv", cluster.namesrv, logs=logs, project=java.DRIVER4))


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenario(scenario, results):
    scenarios.check(scenario, results)
