"""What mqadmin printed, with everything taken out that differs from run to run, held against a recorded text.

golden/TEST.txt has a section for each command: "$ mqadmin …", then its output. They are recorded from Apache's broker
(PINTLE_RECORD_GOLDEN=1 PINTLE_JUDGE=apache), never from ours. mqadmin is the stock one, so layout is not on trial:
runs of spaces count as one and empty lines not at all.
"""
import difflib
import os
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent / "golden"
RECORD = os.environ.get("PINTLE_RECORD_GOLDEN") == "1"
_PROMPT = "$ mqadmin "
_GENERAL = [
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(,\d{3})?", "TIME"),
    (r"\b[12]\d{12}\b", "MS"),
    (r"\b[0-9A-F]{32,}\b", "ID"),
    (r"127\.0\.0\.1:\d+", "CLIENT"),
    (r"\s*$", ""),
    (r"[ \t]+", " "),
]


class Golden:
    """The sections of one test; `names` are the cluster's own words (addresses, folder) and what to call them."""

    def __init__(self, test: str, names: dict):
        self._file = FOLDER / f"{test}.txt"
        self._names = names
        self._sections = []
        self._recorded = None if RECORD else _sections(self._file)

    def normal(self, text: str, keep: str = None, drop: str = None, sub: list = (), sort: bool = False) -> str:
        """`keep`, `drop`: regular expressions for lines; `sub`: [(expression, by)], before all else."""
        for word, name in self._names.items():
            text = text.replace(word, name)
        lines = []
        for line in text.splitlines():
            for expression, by in [*sub, *_GENERAL]:
                line = re.sub(expression, by, line)
            if line and (keep is None or re.search(keep, line)) and not (drop and re.search(drop, line)):
                lines.append(line)
        return "\n".join(sorted(lines) if sort else lines)

    def __call__(self, ran, text: str = None, **how):
        """Holds the output of a command (or a text that it made) against the next section."""
        title = self.normal(" ".join(ran.command), sub=how.get("sub", ()))
        got = f"{_PROMPT}{title}\n{self.normal(ran.out if text is None else text, **how)}".rstrip()
        self._sections.append(got)
        if not RECORD:
            at = len(self._sections) - 1
            wanted = self._recorded[at] if at < len(self._recorded) else ""
            if got != wanted:
                lines = difflib.unified_diff(wanted.splitlines(), got.splitlines(), self._file.name, "now", lineterm="")
                pytest.fail("\n".join(lines), pytrace=False)

    def close(self):
        if RECORD:
            FOLDER.mkdir(exist_ok=True)
            self._file.write_text("\n\n".join(self._sections) + "\n")

    def check_whole(self):
        """Nothing recorded may be left out; only for a test that went through."""
        assert RECORD or len(self._sections) == len(self._recorded), f"{self._file.name}: sections left over"


def _sections(file: Path) -> list:
    if not file.exists():
        return []
    parts = re.split(r"^(?=\$ mqadmin )", file.read_text(), flags=re.M)
    return [p.rstrip() for p in parts if p.strip()]
