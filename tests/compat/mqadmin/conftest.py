"""A cluster of its own for mqadmin (it changes what all clients see), and one JVM for all its commands."""
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

pytest.register_assert_rewrite("admin", "golden")

import golden as golden_texts  # noqa: E402
from admin import Admin  # noqa: E402
from cluster import open_cluster  # noqa: E402

_commands = []
_OPEN = Path(__file__).resolve().parent / "OPEN"


def pytest_collection_modifyitems(items):
    """What Pintle does not do yet is expected to fail; when it does not, its line in OPEN has to go (XPASS tells)."""
    if os.environ.get("PINTLE_JUDGE") == "apache":
        return
    names = {line.strip() for line in _OPEN.read_text().splitlines() if not line.startswith("#")}
    for item in items:
        if item.path.parent == _OPEN.parent and item.originalname.removeprefix("test_") in names:
            item.add_marker(pytest.mark.xfail(strict=True, reason="open: take its line out of mqadmin/OPEN"))


@pytest.fixture(scope="package")
def own_cluster(request):
    if golden_texts.RECORD and os.environ.get("PINTLE_JUDGE") != "apache":
        pytest.exit("golden texts are recorded from Apache's broker only: PINTLE_JUDGE=apache", returncode=4)
    with open_cluster("2m") as opened:
        request.config.opened_cluster = opened
        yield opened


@pytest.fixture(scope="package")
def admin(own_cluster, tmp_path_factory):
    with Admin(own_cluster.namesrv, tmp_path_factory.mktemp("mqadmin-log")) as opened:
        yield opened
        _commands.extend(opened.ran)


@pytest.fixture(scope="package")
def address(own_cluster):
    """Where clients find each broker: {"broker-a": "127.0.0.1:…", …}."""
    return {w.broker: f"127.0.0.1:{w.ports[0]}" for w in own_cluster.all_workers() if w.role in ("front", "broker")}


@pytest.fixture
def golden(request, own_cluster, address, tmp_path):
    names = {where: name.upper() for name, where in address.items()}
    names |= {where: f"NAMESRV-{i}" for i, where in enumerate(own_cluster.namesrv.split(";"))}
    names[str(own_cluster.dir)] = "DIR"
    names[str(tmp_path)] = "OUT"
    texts = golden_texts.Golden(request.node.name.removeprefix("test_"), names)
    yield texts
    texts.close()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    """A test that passed must have used all its recorded sections."""
    outcome = yield
    if outcome.excinfo is None and "golden" in getattr(item, "funcargs", {}):
        try:
            item.funcargs["golden"].check_whole()
        except AssertionError as e:
            outcome.force_exception(e)


def pytest_terminal_summary(terminalreporter):
    """Which request codes were answered with an error, and in which commands: the to-do list of a broker."""
    answers = {}
    for ran in _commands:
        for code, answered in ran.calls:
            if answered > 0:
                answers.setdefault((code, answered), set()).add(ran.command[0])
    if answers:
        terminalreporter.section("mqadmin: request code -> answers other than 0")
        for (code, answered), commands in sorted(answers.items()):
            terminalreporter.line(f"{code} -> {answered}: {' '.join(sorted(commands))}")
