"""Lets the tests of this folder import tests/lib, and puts the cluster's logs into the report of a failed test."""
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "lib"))

from cluster import open_cluster  # noqa: E402


@pytest.fixture(scope="module")
def cluster(request, tmp_path_factory):
    """One name server, one broker with two fronts."""
    file = tmp_path_factory.mktemp("cluster") / "cluster.conf"
    file.write_text("[namesrv ns]\nport = 0\n[broker broker-a]\nport = 0\nfronts = 2\n")
    with open_cluster(file=file) as opened:
        request.config.opened_cluster = opened
        yield opened


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    opened = getattr(item.config, "opened_cluster", None)
    if report.failed and opened is not None:
        report.sections.append(("cluster logs", opened.log_tail(25)))
