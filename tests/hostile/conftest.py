"""Lets the tests of this folder import tests/lib; clusters; the cluster's logs in the report of a failed test."""
import resource
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "lib"))

from cluster import open_cluster  # noqa: E402


@pytest.fixture(scope="session", autouse=True)
def descriptors():
    """As many as we may have: workers inherit the hard limit, the soft one is ours."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def opened_with(request, tmp_path_factory, namesrv: str, broker: str, may_restart: bool = False):
    folder = tmp_path_factory.mktemp("cluster")
    (folder / "broker.conf").write_text(broker)
    file = folder / "cluster.conf"
    file.write_text(f"[namesrv ns]\nport = 0\n{namesrv}\n[broker broker-a]\nport = 0\nconf = broker.conf\n")
    with open_cluster(file=file) as opened:
        request.config.opened_cluster = opened
        yield opened
        assert may_restart or {w.restarts for w in opened.all_workers()} == {0}


@pytest.fixture(scope="module")
def patient(request, tmp_path_factory):
    """Every limit at its default."""
    yield from opened_with(request, tmp_path_factory, "", "")


@pytest.fixture(scope="module")
def tight(request, tmp_path_factory):
    """Small limits."""
    yield from opened_with(
        request, tmp_path_factory,
        "serverChannelMaxIdleTimeSeconds = 2\nmaxConnections = 50\nmaxBufferedBytes = 4194304\n",
        "serverChannelMaxIdleTimeSeconds = 2\nmaxConnections = 50\nmaxBufferedBytes = 4194304\n"
        "maxConnectionOutputBytes = 65536\nmaxParkedPullsPerConnection = 10\n"
        "maxOutstandingRequestsPerConnection = 4\n")


@pytest.fixture
def hasty(request, tmp_path_factory):
    """The supervisor kills a store that is stopped for 5 s; this front loses patience before."""
    yield from opened_with(request, tmp_path_factory, "", "waitTimeMillsInSendQueue = 1000\n", may_restart=True)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    opened = getattr(item.config, "opened_cluster", None)
    if report.failed and opened is not None:
        report.sections.append(("cluster logs", opened.log_tail(25)))
