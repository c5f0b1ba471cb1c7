"""One machine for all tests of this folder, and the service in it as freshly installed for each of them."""
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from machine import Machine, why_not  # noqa: E402
from service import Service  # noqa: E402


@pytest.fixture(scope="session")
def machine(request):
    reason = why_not()
    if reason:
        print(f"tests/systemd skipped: {reason}")
        pytest.skip(reason)
    with Machine() as booted:
        booted.install()
        request.config.booted_machine = booted
        yield booted


@pytest.fixture()
def service(machine):
    """Stopped, with the default cluster file and no data."""
    service = Service(machine)
    service.reset()
    return service


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    machine = getattr(item.config, "booted_machine", None)
    if report.failed and machine is not None and call.when == "call":
        text = machine.run("journalctl", "--no-pager", "-n", "60", "-o", "short-precise", check=False).stdout
        report.sections.append(("journal", text))
