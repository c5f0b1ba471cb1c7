#!/usr/bin/env python3
"""Tidiness of the tree, from its tracked files alone: who may include whom, lengths, banned calls, READMEs.

    tests/tidy/check.py [ROOT]

Prints what it looked at; each violation as FILE:LINE: what. Exit 1 if there is one.
"""
import ast
import os
import re
import subprocess
import sys

# The rooms, longest folder first (supervisor/cli is a process of its own), and whose headers each may include. What a
# room may include, its users may too: an arrow reaches down to the bottom.
ROOMS = {
    "ipc/base": "base",
    "ipc/shm": "shm",
    "ipc/fd": "fd",
    "ipc/bus": "bus",
    "ipc/json": "json",
    "ipc/wire": "wire",
    "ipc/fault": "fault",
    "ipc/msg": "msg",
    "ipc/worker": "worker",
    "ipc/client": "client",
    "supervisor/cli": "cli",
    "supervisor": "supervisor",
    "namesrv": "namesrv",
    "broker/format": "format",
    "broker/store": "store",
    "broker/front": "front",
    "broker/inspect": "inspect",
}
ARROWS = {
    "base": [],
    "shm": ["base"],
    "fd": ["base"],
    "bus": ["base"],
    "json": ["base"],
    "wire": ["base", "json"],
    "fault": ["shm"],
    "msg": ["shm"],
    "worker": ["fd", "bus", "shm", "fault", "base"],
    "client": ["msg", "fd"],
    "cli": ["shm", "wire", "fault"],  # the names of fault points
    "supervisor": ["shm", "bus", "fd", "fault"],
    "namesrv": ["worker", "wire"],
    "format": ["base"],
    "store": ["format", "worker", "msg", "json"],
    "front": ["format", "worker", "msg", "wire"],
    "inspect": ["format", "json"],
}
PROCESSES = {"cli", "supervisor", "namesrv", "store", "front", "inspect"}
# Headers that stand above the rooms: the contract between parent and child, and the library's public face.
FOR_ALL = {"ipc/contract.h", "ipc/client/pintle.h"}

FILE_LINES_MAX = 1000
FUNCTION_LINES_MAX = 100
README_LINES_MAX = 60
README_FOLDERS = ["ipc", "supervisor", "namesrv", "broker/store", "broker/front", "broker/format", "broker/inspect", "units", "tests"]
TOP_LEVEL = {"CMakeLists.txt", "CMakePresets.json", "README.md", "LICENSE",
             "supervisor", "namesrv", "broker", "ipc", "units", "tests"}
BANNED = {
    "strcpy": "memcpy with a known size, or snprintf",
    "strcat": "snprintf",
    "sprintf": "snprintf",
    "vsprintf": "vsnprintf",
    "gets": "fgets or getline",
    "strtok": "a loop over strcspn",
    "system": "posix_spawn or execve",
}

SOURCE_ENDINGS = (".c", ".h", ".def", ".py", ".sh", ".java", ".go", ".js", ".cpp")
violations = []
counts = {"files": 0, "includes": 0, "functions": 0, "link lines": 0}


def violation(path, line, text):
    violations.append((path, line, text))


def reachable(room):
    found, todo = set(), [room]
    while todo:
        for lower in ARROWS[todo.pop()]:
            if lower not in found:
                found.add(lower)
                todo.append(lower)
    return found


def room_of(path):
    for folder, room in ROOMS.items():
        if path.startswith(folder + "/"):
            return room
    return None


def without_comments_and_texts(source):
    """The same number of lines, with comments and literals blanked."""
    pattern = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)
    return pattern.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), source)


def check_include(path, line, name, files):
    """`name` as written, found as the compiler would: beside the file, under the root, under ipc/."""
    counts["includes"] += 1
    places = [os.path.normpath(os.path.join(os.path.dirname(path), name)), name, "ipc/" + name]
    target = next((place for place in places if place in files), None)
    if target is None:
        violation(path, line, f'includes "{name}", which is not in the tree')
        return
    user, used = room_of(path), room_of(target)
    if target in FOR_ALL or user == used or user is None:
        return  # tests (no room) may look at everything
    if used is None:
        violation(path, line, f"{user} includes {target}, which belongs to no room")
    elif used in PROCESSES:
        what = "a process" if user not in PROCESSES else "another process"
        violation(path, line, f"{user} includes {target} of {what}")
    elif used not in reachable(user):
        allowed = ", ".join(sorted(reachable(user))) or "nothing"
        violation(path, line, f"{user} includes {target}: no arrow from {user} to {used} (it may use: {allowed})")


def check_functions(path, lines):
    """Bodies between a brace alone in the first column and the next closing one there (our brace style)."""
    start = None
    for number, text in enumerate(lines, 1):
        if text.rstrip() == "{":
            start = number
        elif start and text.startswith("}"):
            counts["functions"] += 1
            if number - start + 1 > FUNCTION_LINES_MAX:
                violation(path, start, f"function of {number - start + 1} lines (at most {FUNCTION_LINES_MAX})")
            start = None


def check_c(path, source, files):
    code = without_comments_and_texts(source)
    for number, text in enumerate(source.split("\n"), 1):
        include = re.match(r'\s*#\s*include\s+"([^"]+)"', text)
        if include:
            check_include(path, number, include.group(1), files)
    for number, text in enumerate(code.split("\n"), 1):
        if room_of(path) is None:
            break  # tests may
        for call in re.finditer(r"(?<![\w.>])(" + "|".join(BANNED) + r")\s*\(", text):
            violation(path, number, f"{call.group(1)}() is banned: use {BANNED[call.group(1)]}")
    check_functions(path, code.split("\n"))


def check_python(path, source):
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        violation(path, error.lineno or 1, "not Python")
        return
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            counts["functions"] += 1
            if node.end_lineno - node.lineno + 1 > FUNCTION_LINES_MAX:
                violation(path, node.lineno, f"function {node.name} is over {FUNCTION_LINES_MAX} lines")


def check_links(root):
    """room() and process() lines of the top CMakeLists.txt: a room links only what it may include."""
    path = "CMakeLists.txt"
    with open(os.path.join(root, path), encoding="utf-8") as file:
        for number, text in enumerate(file, 1):
            line = re.match(r"(?:room|process)\((\S+) (\S+) ([^)]*)\)", text)
            if not line or line.group(2) not in ROOMS:
                continue
            counts["link lines"] += 1
            user = ROOMS[line.group(2)]
            for used in re.findall(r"\bipc_(\w+)", line.group(3)):
                if used not in reachable(user):
                    violation(path, number, f"{user} links ipc_{used}: no arrow from {user} to {used}")


def check_folders(root, files):
    for folder in README_FOLDERS:
        if not any(path.startswith(folder + "/") for path in files):
            print(f"warning: there is no {folder}/ yet")
            continue
        readme = folder + "/README.md"
        if readme not in files:
            violation(folder, 1, "has no README.md")
    for path in sorted(files):
        if os.path.basename(path) == "README.md" and path != "README.md":
            with open(os.path.join(root, path), encoding="utf-8") as file:
                lines = file.read().count("\n")
            if lines > README_LINES_MAX:
                violation(path, README_LINES_MAX + 1, f"README of {lines} lines (at most {README_LINES_MAX})")
    for name in sorted({path.split("/")[0] for path in files}):
        if name not in TOP_LEVEL and not name.startswith("."):
            violation(name, 1, "does not belong at the top level")


def check_samples(root):
    """Samples are what the program prints; looked at when it is built from these tables."""
    tables = [os.path.join(root, path) for path in ("ipc/base/broker_keys.c", "supervisor/cluster_keys.c")]
    program = os.path.join(root, "build", "release", "bin", "pintle")
    if not os.path.exists(program) or any(os.path.getmtime(t) > os.path.getmtime(program + "-supervisor") for t in tables):
        return
    for what in ("cluster", "broker"):
        printed = subprocess.run([program, "config", "sample", what], capture_output=True, text=True).stdout
        with open(os.path.join(root, "units", what + ".conf"), encoding="utf-8") as file:
            if file.read() != printed:
                violation(f"units/{what}.conf", 1, f"is not what the key table says: pintle config sample {what} > units/{what}.conf")


def check_request_codes(root):
    """A code that is served is not called missing, and one that is not says why (a client reads it)."""
    table, served = "ipc/wire/request_code.def", {"BROKER": "broker/front/route.c", "NAMESRV": "namesrv/query.c"}
    names = {}
    for who, path in served.items():
        with open(os.path.join(root, path), encoding="utf-8") as file:
            names[who] = set(re.findall(r"^    \{REQUEST_(\w+),", file.read(), re.M))
    with open(os.path.join(root, table), encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            row = re.match(r'X\((\w+), \d+, (\w+), (NULL|"[^"]*")\)$', line)
            if not row or row[2] not in served:
                continue
            if row[3] != "NULL" and row[1] in names[row[2]]:
                violation(table, number, f"{row[1]} is served in {served[row[2]]} now: its last column is NULL")
            elif row[3] == "NULL" and row[1] not in names[row[2]]:
                violation(table, number, f"{row[1]} has no row in {served[row[2]]}: its last column says what is missing")


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
    # Tracked files, and new ones that are not ignored.
    command = ["git", "-C", root, "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\n")
    files = {path for path in listed if path and os.path.isfile(os.path.join(root, path))}
    for path in sorted(files):
        if not path.endswith(SOURCE_ENDINGS):
            continue
        counts["files"] += 1
        with open(os.path.join(root, path), encoding="utf-8") as file:
            source = file.read()
        if source.count("\n") > FILE_LINES_MAX:
            violation(path, FILE_LINES_MAX + 1, f"file of {source.count(chr(10))} lines (at most {FILE_LINES_MAX})")
        if path.endswith((".c", ".h", ".def")):
            check_c(path, source, files)
        elif path.endswith(".py"):
            check_python(path, source)
    check_links(root)
    check_request_codes(root)
    check_samples(root)
    check_folders(root, files)
    print("looked at " + ", ".join(f"{count} {what}" for what, count in counts.items()))
    for path, line, text in violations:
        print(f"{path}:{line}: {text}")
    print(f"{len(violations)} violations" if violations else "tidy")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
