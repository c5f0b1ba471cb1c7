"""The stock Java client 4.9.8, with the sources of the driver for 5.3.3: one test per scenario.

Not run: `orderly`, which wants every message exactly once: this client may give back a queue before it has committed
what it took (`handover` allows that, and wants the same order); `death`, `once` and `big`, which weigh on the broker more
than on the client. Not judged: the load of kill tests, which reads the insides of client 5.3.3.
"""
import pytest

import java
import scenarios

SCENARIOS = ["sync", "async", "oneway", "batch", "autocreate", "unicode", "tags", "restart", "offsets", "idle",
             "share", "handover", "broadcast", "from", "compressed", "litepull"]


@pytest.fixture(scope="module")
def results(request, cluster, tmp_path_factory):
    names = ",".join(scenarios.wanted(request, SCENARIOS))
    logs = tmp_path_factory.mktemp("client-log")
    return scenarios.run(java.driver_command(names, "--namesrv", cluster.namesrv, logs=logs, project=java.DRIVER4))


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenario(scenario, results):
    scenarios.check(scenario, results)
