"""Figures and seeds of the fault tests are printed at the end of a run, whether or not it fails."""
import os
import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "lib"))

_lines = []


class Figures:
    """What a test has seen, one line each; goes into the terminal summary."""

    def __init__(self, name: str):
        self.name = name

    def __call__(self, text: str):
        _lines.append(f"{self.name}: {text}")


@pytest.fixture
def figures(request):
    return Figures(request.node.name)


@pytest.fixture
def seeded(figures):
    """A random generator whose seed is printed and can be given: PINTLE_SEED=123."""
    seed = int(os.environ.get("PINTLE_SEED") or int.from_bytes(os.urandom(4), "big"))
    figures(f"PINTLE_SEED={seed}")
    return random.Random(seed)


@pytest.fixture
def rounds():
    """How many of what is said for CI: all of them, or five times as many with PINTLE_LONG=1."""
    factor = 5 if os.environ.get("PINTLE_LONG") == "1" else 1
    return lambda count: int(os.environ.get("PINTLE_ROUNDS") or count * factor)


def pytest_terminal_summary(terminalreporter):
    if _lines:
        terminalreporter.section("figures")
        for line in _lines:
            terminalreporter.write_line(line)
