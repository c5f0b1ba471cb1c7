"""Every request code of RocketMQ, sent to a broker and to a name server: served, or refused by name as the table says.

The table is the program's own (ipc/wire/request_code.def and the rows of route.c and query.c); `python3
tests/compat/test_request_codes.py` prints it with the file that serves each code.
"""
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOT_SUPPORTED = 3
SERVERS = {"BROKER": "broker/front", "NAMESRV": "namesrv"}
ROWS = {"BROKER": "broker/front/route.c", "NAMESRV": "namesrv/query.c"}
ELSEWHERE = {"BROKER": "brokers answer it", "NAMESRV": "name servers answer it", "CLIENT": "clients answer it",
             "CONTROLLER": "controllers answer it, and there is none here",
             "CONTAINER": "containers of brokers answer it, and there are none here",
             "NOBODY": "nobody answers it any more"}


def codes():
    """[(name, number, who, later)]"""
    text = (ROOT / "ipc/wire/request_code.def").read_text()
    rows = re.findall(r'^X\((\w+), (\d+), (\w+), (?:NULL|"([^"]*)")\)$', text, re.M)
    return [(name, int(number), who, later) for name, number, who, later in rows]


def served(server):
    """{name of the code: function}"""
    text = (ROOT / ROWS[server]).read_text()
    if server == "BROKER":
        return dict(re.findall(r"\{REQUEST_(\w+), [^{}]*?(\w+)\}", text))
    return dict(re.findall(r"\{REQUEST_(\w+), (\w+), (?:true|false)\}", text))


def refusal(name, number, who, later, asked):
    why = later if who == asked else ELSEWHERE[who]
    return f"request code {number} ({name}) is not supported: {why}"


def test_the_table_is_whole():
    rows = codes()
    assert len(rows) >= 153 and len({number for _, number, _, _ in rows}) == len(rows)
    for name, number, who, later in rows:
        for server in SERVERS:
            assert not later or name not in served(server), f"{name} is served, and request_code.def calls it missing"
        assert later or who not in SERVERS or name in served(who), f"{name}: {who} does not serve it, say why"


@pytest.mark.parametrize("server", SERVERS)
def test_each_code(cluster, server):
    from remoting import Connection
    address = f"127.0.0.1:{cluster.workers('front' if server == 'BROKER' else 'namesrv')[0].ports[0]}"
    handlers = served(server)
    wrong = []
    with Connection(address) as connection:
        for name, number, who, later in codes():
            answer = connection.ask(number)  # empty: whoever serves it complains of what is missing, or answers
            expected = None if name in handlers else refusal(name, number, who, later, server)
            if expected is None and answer.code == NOT_SUPPORTED:
                wrong.append((name, answer.remark))
            elif expected is not None and (answer.code, answer.remark) != (NOT_SUPPORTED, expected):
                wrong.append((name, answer.code, answer.remark))
        answer = connection.ask(9999)
        assert (answer.code, answer.remark) == (NOT_SUPPORTED, "request code 9999 is not supported: RocketMQ has no such request")
    assert not wrong, wrong


def file_of(server, function):
    for path in sorted((ROOT / SERVERS[server]).glob("*.c")):
        if re.search(rf"^\w[\w \*]*\b{function}\(struct \w+ \*", path.read_text(), re.M):
            return str(path.relative_to(ROOT))
    return "?"


def print_table():
    functions = {server: served(server) for server in SERVERS}
    for name, number, who, later in codes():
        where = [f"{file_of(server, functions[server][name])} ({functions[server][name]})"
                 for server in SERVERS if name in functions[server]]
        print(f"{number:6} {name:40} {', '.join(where) or 'refused: ' + (later or ELSEWHERE[who])}")


if __name__ == "__main__":
    print_table()
    sys.exit(0)
