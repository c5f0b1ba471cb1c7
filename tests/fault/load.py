"""Load under which things are killed: C producers that send every key once, a group of C consumers, and the verdict.

`Load` wraps tests/fault/kill_producer (TCP and native) and `pintle consume`; the stock Java clients are tests/lib's
JavaLoad and come with their own verdict. Times are microseconds of the monotonic clock, which all processes share.
"""
import collections
import subprocess
import threading
import time
from pathlib import Path

import remoting
from cluster import build_dir, wait_for

QUEUES = 4


def now_us() -> int:
    return time.monotonic_ns() // 1000


class Producer:
    """One kill_producer; its lines are taken as they come."""

    def __init__(self, load, name: str, kind: str, where: str, brokers: list, window: int, rate: int):
        self.name, self.kind, self.brokers = name, kind, brokers
        self.acked = {}  # key: (broker, queue, offset)
        self.refused, self.unknown, self.unanswered, self.acked_twice = [], [], [], []
        self.broken = 0
        self.longest_us = -1
        self.answers = {b: [] for b in brokers}  # broker: [(sent at, answered at)]
        self._broker_of = load.broker_of if kind == "tcp" else {"native": brokers[0]}
        self._stderr = open(load.out / f"{name}.stderr", "w")
        command = [build_dir() / "tests" / "kill_producer", kind, where, load.topic, name, window, rate]
        self.process = subprocess.Popen([str(c) for c in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=self._stderr, text=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            word, *rest = line.split()
            if word == "acked":
                key, place, queue, offset, waited, at = rest
                broker = self._broker_of[place]
                if key in self.acked:
                    self.acked_twice.append(line.strip())
                self.acked[key] = (broker, int(queue), int(offset))
                self.answers[broker].append((int(at) - int(waited), int(at)))
            elif word == "refused":
                self.refused.append(line.strip())
            elif word == "broken":
                self.broken += 1
            elif word == "end":
                self.longest_us = int(rest[0])
            else:
                getattr(self, word).append(rest[0])

    def answer_after(self, broker: str, at_us: int):
        """When the first message sent to the broker after `at_us` was acknowledged; None: not yet."""
        answers = self.answers[broker]
        found = None
        for i in range(len(answers) - 1, -1, -1):
            if answers[i][1] < at_us:
                break
            if answers[i][0] > at_us and (found is None or answers[i][1] < found):
                found = answers[i][1]
        return found

    def end(self):
        self.process.stdin.close()

    def wait_read(self):
        """Until every line it wrote is taken."""
        self._reader.join(timeout=60)

    def join(self):
        self.process.wait(timeout=60)
        self.wait_read()
        assert self.process.returncode == 0, self.stderr()
        assert self.longest_us >= 0, f"{self.name} did not say its end"

    def stderr(self) -> str:
        return f"{self.name}: " + Path(self._stderr.name).read_text()[-1000:]

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._stderr.close()


class Consumers:
    """Members of one group; what they got, all together."""

    def __init__(self, load, count: int):
        self.places = {}  # key: {(broker, queue, offset)}
        self.offsets = collections.defaultdict(set)  # (broker, queue): offsets seen
        self.delivered = 0
        self._lock = threading.Lock()
        self._stderr = open(load.out / "consumers.stderr", "w")
        command = [build_dir() / "bin" / "pintle", "consume", "--topic", load.topic, "--group", f"{load.topic}-group",
                   "--verbose", "--namesrv", load.cluster.namesrv]
        self.processes = [subprocess.Popen([str(c) for c in command], stdin=subprocess.DEVNULL,
                                           stdout=subprocess.PIPE, stderr=self._stderr, text=True)
                          for _ in range(count)]
        for process in self.processes:
            threading.Thread(target=self._read, args=(process,), daemon=True).start()

    def _read(self, process):
        for line in process.stdout:
            place, _, _, key, body = line.split()
            broker, _, rest = place.partition("/")
            queue, _, offset = rest.partition("@")
            key = key.strip("[]")
            assert key == body, line
            with self._lock:
                self.delivered += 1
                self.places.setdefault(key, set()).add((broker, int(queue), int(offset)))
                self.offsets[broker, int(queue)].add(int(offset))

    def count(self, broker: str, queue: int, end: int) -> int:
        """How many of a queue's offsets below `end` were seen."""
        with self._lock:
            return sum(offset < end for offset in self.offsets[broker, queue])

    def stderr(self) -> str:
        return "consumers: " + Path(self._stderr.name).read_text()[-2000:]

    def close(self):
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._stderr.close()


class Load:
    """`with Load(cluster, "topic", out) as load: …; verdict = load.finish()`."""

    def __init__(self, cluster, topic: str, out: Path, tcp: int = 2, native: bool = True, consumers: int = 2,
                 window: int = 16, rate: int = 800, prefix: str = None, earlier: dict = None):
        self.earlier = earlier or {}  # what producers of loads before this one were told
        prefix = prefix or topic
        self.cluster, self.topic, self.out = cluster, topic, Path(out)
        self.out.mkdir(parents=True, exist_ok=True)
        self.addresses = {w.broker: f"127.0.0.1:{w.ports[0]}" for w in cluster.workers("front")}
        self.broker_of = {a: b for b, a in self.addresses.items()}
        self.producers = []
        self.consumers = None
        try:
            self._create_topic()
            self.consumers = Consumers(self, consumers) if consumers else None
            for i in range(tcp):
                self.add(f"{prefix}-t{i}", "tcp", cluster.namesrv, sorted(self.addresses), window, rate)
            for broker in sorted(self.addresses) if native else []:
                self.add(f"{prefix}-n-{broker}", "native", f"{cluster.dir}/run/{broker}", [broker], window, rate)
            for broker in self.addresses:
                self.wait_answers(broker, now_us())
        except BaseException:
            self.close()
            raise

    def add(self, *what):
        self.producers.append(Producer(self, *what))

    def _create_topic(self):
        for address in self.addresses.values():
            with remoting.Connection(address) as broker:
                answer = broker.put_topic(self.topic, QUEUES)
                assert answer.code == remoting.OK, answer
        for namesrv in self.cluster.namesrv.split(";"):
            with remoting.Connection(namesrv) as connection:
                wait_for(lambda: len(connection.route(self.topic)) == len(self.addresses), 10, f"route at {namesrv}")

    def wait_answers(self, broker: str, since_us: int, timeout_s: float = 30):
        """Until every producer of this broker has an answer to something it sent after `since_us`."""
        waiting = [p for p in self.producers if broker in p.brokers]

        def all_answered():
            for producer in waiting:
                assert producer.process.poll() is None, "a producer ended: " + producer.stderr()
            return all(p.answer_after(broker, since_us) for p in waiting)
        try:
            wait_for(all_answered, timeout_s, f"answers of {broker}", 0.002)
        except TimeoutError as e:
            late = [p.name for p in waiting if not p.answer_after(broker, since_us)]
            raise TimeoutError(f"{e}: {late} got none for what they sent since") from None

    def first_answer_us(self, kind: str, broker: str, since_us: int) -> int:
        """The earliest answer that producers of a kind got for what they sent after `since_us`."""
        times = [p.answer_after(broker, since_us) for p in self.producers if p.kind == kind and broker in p.brokers]
        return min(t for t in times if t)

    def _drain(self):
        """Until the group has seen every place of every queue below its end. (A queue may follow the last answers.)"""
        ends = {}
        told = collections.Counter()
        for broker, queue, offset in self.acked().values():
            told[broker, queue] = max(told[broker, queue], offset + 1)
        for broker, address in self.addresses.items():
            with remoting.Connection(address) as connection:
                for q in range(QUEUES):
                    try:
                        wait_for(lambda: connection.max_offset(self.topic, q) >= told[broker, q], 10, "queue's end")
                    except TimeoutError:
                        pass  # the verdict names what is missing
                    ends[broker, q] = connection.max_offset(self.topic, q)
        try:
            wait_for(lambda: all(self.consumers.count(*q, end) == end for q, end in ends.items()), 60, "drain", 0.05)
        except TimeoutError:
            pass  # the verdict names what is missing
        return ends

    def acked(self) -> dict:
        return dict(self.earlier, **{k: place for p in self.producers for k, place in p.acked.items()})

    def finish(self) -> dict:
        for producer in self.producers:
            producer.end()
        for producer in self.producers:
            producer.join()
        ends = self._drain()
        places = self.consumers.places
        acked = self.acked()
        verdict = {
            "acked": len(acked),
            "stored": sum(ends.values()),
            "delivered": self.consumers.delivered,
            "lost": [f"{k} acknowledged at {p}" for k, p in acked.items() if k not in places],
            "stored_twice": [f"{k} at {sorted(p)}" for k, p in places.items() if len(p) > 1],
            "misplaced": [f"{k} acknowledged at {p}, found at {places[k]}" for k, p in acked.items()
                          if k in places and p not in places[k]],
            "holes": [f"{b}/{q}: end {end}, {end - self.consumers.count(b, q, end)} not seen"
                      for (b, q), end in ends.items() if self.consumers.count(b, q, end) != end],
        }
        for what in ("acked_twice", "refused", "unknown", "unanswered"):
            verdict[what] = [x for p in self.producers for x in getattr(p, what)]
        verdict["broken"] = sum(p.broken for p in self.producers)
        return verdict

    def stderr(self) -> str:
        return "\n".join([p.stderr() for p in self.producers] + [self.consumers.stderr()] if self.consumers else [])

    def close(self):
        for producer in self.producers:
            producer.close()
        if self.consumers:
            self.consumers.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


class Pressure:
    """How busy the machine was: the share of time in which somebody waited for a processor or the disk."""

    def __init__(self):
        self.since_us, self.before = now_us(), self._totals()

    @staticmethod
    def _totals() -> dict:
        found = {}
        for what in ("cpu", "io"):
            path = Path("/proc/pressure") / what
            if path.exists():
                found[what] = int(path.read_text().split("total=")[1].split()[0])
        return found

    def __str__(self):
        took_us, now = now_us() - self.since_us, self._totals()
        shares = (f"{what} {(now[what] - before) * 100 // took_us} %" for what, before in self.before.items())
        return "machine's pressure: " + (", ".join(shares) or "unknown")


def told(verdict: dict) -> str:
    """A verdict on one line: lists by their length."""
    return ", ".join(f"{k} {len(v) if isinstance(v, list) else v}" for k, v in verdict.items())


def quantiles(times_us: list) -> str:
    t = sorted(times_us)
    return (f"p50 {t[len(t) // 2] / 1000:.1f} ms, p99 {t[min(len(t) - 1, len(t) * 99 // 100)] / 1000:.1f} ms, "
            f"most {t[-1] / 1000:.1f} ms of {len(t)}") if t else "none"


def assert_promises(verdict: dict, report: str):
    """What must hold whatever dies: all that was acknowledged is consumed, nothing is there twice."""
    for what in ("lost", "stored_twice", "misplaced", "holes", "acked_twice", "unanswered"):
        assert not verdict[what], f"{what}: {len(verdict[what])}: {verdict[what][:10]}\n{told(verdict)}\n{report}"
    assert verdict["acked"] > 0
