"""The rows of many: several fronts, ten thousand idle connections, a thousand topics. Each function measures one running
system and fills its row; `run` starts and stops the systems."""
import json
import statistics
import subprocess
import time

import procfs
import recorder
from systems import Failed, REGISTER_OFTEN_MS

IDLE_CONNECTIONS = 10_000
SETTLE_S = 3
TOPICS, QUEUES, GROUPS = 1000, 8, 100
REPLAYS, NEW_ROUTES = 20, 100


def memory_by_role(system):
    """Bytes of private memory of each process, summed over equal roles."""
    found = {}
    for pid, role in system.roles().items():
        found[role] = found.get(role, 0) + procfs.private_memory_bytes([pid])
    return found


def measure_connections(bench, system, row):
    """Growth of all processes per connection, then of another cluster's worth of consumers that wait."""
    bench.generate(system, "a topic for idle consumers", "send", "--topic", "BenchIdle", "--count", "1000")
    time.sleep(SETTLE_S)
    for key, mode in (("idle_connection_kib", "idle"), ("idle_consumer_kib", "idle-consumers")):
        before = memory_by_role(system)
        holder = subprocess.Popen([bench.loadgen, mode, *system.target, "--topic", "BenchIdle", "--connections",
                                   str(IDLE_CONNECTIONS), "--timeout-ms", "60000"],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            if not holder.stdout.readline():
                raise Failed(f"{mode}: {holder.communicate()[1].strip()}")
            time.sleep(SETTLE_S)
            after = memory_by_role(system)
        finally:
            holder.stdin.close()
            holder.wait(60)
        grown = {role: (after[role] - before.get(role, 0)) / IDLE_CONNECTIONS / 1024 for role in after}
        row[key] = sum(grown.values())
        bench.raw.append({"system": system.name, "what": mode, "kib_each_by_role": grown})
        time.sleep(SETTLE_S)


def measure_topics(bench, system, row, ear):
    """`ear` is the recorder that the system's brokers register with besides their own name server."""
    empty = memory_by_role(system)
    many = ["--topic", "BenchMany", "--queues", str(QUEUES), "--connections", "1"]
    bench.generate(system, "creating topics", "topics", *many, "--outstanding", "4", "--count", str(TOPICS),
                   "--timeout-ms", "60000")
    bench.generate(system, "creating groups", "groups", *many, "--outstanding", "4", "--count", str(GROUPS))
    time.sleep(REGISTER_OFTEN_MS / 1000 + SETTLE_S)
    full = memory_by_role(system)
    row["topics_memory_mib"] = sum(full.values()) / 2**20
    row["topics_growth_mib"] = (sum(full.values()) - sum(empty.values())) / 2**20
    row["topics_memory_by_role_mib"] = {role: round(size / 2**20, 2) for role, size in full.items()}
    bench.note(system, f"{TOPICS} topics x {QUEUES} queues, {GROUPS} groups: MiB " +
               ", ".join(f"{role} {size}" for role, size in row["topics_memory_by_role_mib"].items()))
    if not ear.largest:
        raise Failed("the broker did not register with the second name server")
    row["registration_kib"] = ear.largest_size() / 1024
    measure_routes(bench, system, row)
    row["registration_ms"] = statistics.median(
        recorder.tell_again(system.namesrv, ear.largest, REPLAYS, time.monotonic_ns)) / 1e6


def measure_routes(bench, system, row):
    out = subprocess.run([bench.loadgen, "new-route", "--namesrv", system.namesrv, "--topic", "BenchNew", "--queues",
                          str(QUEUES), "--count", str(NEW_ROUTES)], capture_output=True, text=True, check=False)
    if out.returncode != 0:
        raise Failed(out.stderr.strip())
    row["new_route_ms"] = json.loads(out.stdout)["p50_ms"]
    ask = ["routes", "--topic", "BenchMany", "--many", str(TOPICS), "--connections", "1", "--outstanding", "1"]
    target, system.target = system.target, ["--broker", system.namesrv]
    try:
        bench.generate(system, "warm-up of routes", *ask, "--seconds", "3")
        result = bench.measure(system, "routes", *ask, "--seconds", str(bench.options.seconds))
    finally:
        system.target = target
    row.update(route_p50_us=result["latency_us"]["p50"], route_p99_us=result["latency_us"]["p99"],
               route_cpu_us=result["cpu_us_per_message"])


def measure_fronts(bench, system, row, warm_s):
    """The send and the pull of the other rows, against one broker with two fronts."""
    same = {}
    bench.generate(system, "warm-up", "send", "--topic", "BenchWarm", "--seconds", str(warm_s))
    bench.measure_send(system, same)
    bench.measure_pull(system, same, warm_s)
    row.update({f"fronts_{key}": value for key, value in same.items()})
