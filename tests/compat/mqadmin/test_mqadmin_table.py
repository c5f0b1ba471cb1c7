"""SUBCOMMANDS.md names every subcommand of mqadmin and the tests that judge it; and the comparison itself can fail."""
import re
from pathlib import Path

import pytest

import golden as golden_texts

HERE = Path(__file__).resolve().parent
ROW = re.compile(r"^\| (\w+) \| (not: .+|\w+: [\w, ]+) \| (works[^|]*|refused: [^|]+|open) \|$", re.M)


def _rows() -> dict:
    return {name: (judged, state) for name, judged, state in ROW.findall((HERE / "SUBCOMMANDS.md").read_text())}


def test_every_subcommand_has_a_row(admin):
    names = re.findall(r"^   (\w+) ", admin.help(), re.M)
    assert len(names) == 89 and list(_rows()) == names


def test_rows_name_tests_that_are_there():
    for name, (judged, _) in _rows().items():
        if judged.startswith("not: "):
            continue
        file, tests = judged.split(": ")
        source = (HERE / f"test_mqadmin_{file}.py").read_text()
        for test in tests.split(", "):
            body = re.search(rf"def test_{test}\(.*?(?=\n(?:def|@pytest|class)|\Z)", source, re.S)
            assert body, f"{name}: no test_{test} in {file}"
            used = f'"{name}"' in body[0] or f'"{name}"' in source[:body.start()][-200:]
            assert used, f"test_{test} never runs {name}"


def test_states_agree_with_open_tests():
    open_tests = {line for line in (HERE / "OPEN").read_text().splitlines() if not line.startswith("#")}
    named = set()
    for name, (judged, state) in _rows().items():
        if not judged.startswith("not: "):
            tests = set(judged.split(": ")[1].split(", "))
            named |= tests
            assert (state == "open") == bool(tests & open_tests), f"{name}: {state}, but open are {tests & open_tests}"
    assert open_tests <= named, "OPEN names tests that judge nothing"


@pytest.mark.parametrize("said, other", [
    ("broker-a 0 5", "broker-a 0 6"), ("perm 6", "perm 4"), ("CODE: 17", "CODE: 1"), ("a\nb", "a"),
    ("2026-01-01 00:00:00,000", "no time"), ("maxMessageSize = 4194304", "maxMessageSize = 4194305")])
def test_comparison_can_fail(said, other):
    text = golden_texts.Golden("none", {})
    assert text.normal(said) != text.normal(other)


def test_comparison_forgives_times_and_places():
    text = golden_texts.Golden("none", {"127.0.0.1:10911": "BROKER-A"})
    one = "2026-01-01 00:00:00,000  127.0.0.1:10911 7F00000100002A9F0000000000000000 127.0.0.1:50000"
    assert text.normal(one) == "TIME BROKER-A ID CLIENT"
