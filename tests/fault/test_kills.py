"""Workers die at random and at every fault point while Java and C clients send and consume: every acknowledged message is
consumed, none is stored twice, everybody goes on each time."""
import collections
import contextlib
import itertools

import java
import remoting
from cluster import Cluster
from cluster_faults import FaultCluster, points
from load import Load, assert_promises, now_us, quantiles, told

KILLS = 200
POINT_DEATHS = 140  # with ASYNC_FLUSH, all points
SYNC_POINT_DEATHS = 60  # with SYNC_FLUSH, points of stores
SYNC_POINTS = ["store.flush-before", "store.flush-after", "store.appended", "store.ledger-written", "store.released",
               "store.answer-partial", "store.answered", "store.dispatch", "store.recovering", "store.taken"]
JAVA_PROMISES = ["lost", "stored_twice", "misplaced", "corrupt", "holes", "acked_twice", "unanswered"]


class Rig:
    """One cluster, both loads, and what every round ends with."""

    def __init__(self, stack, preset, name, out, *settings):
        self.cluster = stack.enter_context(FaultCluster(preset, *settings))
        try:
            self.load = stack.enter_context(Load(self.cluster, f"{name}-c", out / "c"))
            self.java = stack.enter_context(java.JavaLoad(
                self.cluster.namesrv, f"{name}-java", out / "java", "--sync", "1", "--async", "1", "--consumers", "2",
                "--rate", "150", "--quiet-ms", "1500"))
        except BaseException:
            print(self.cluster.log_tail())
            raise

    def check_alive(self, worker, killed_us: int) -> int:
        """Waits until clients are served again; returns when."""
        if worker.role == "namesrv":
            address = f"127.0.0.1:{worker.ports[0]}"
            self.cluster.wait_whole_routes(self.load.topic, address)
            return self.cluster.wait_whole_routes("TBW102", address)
        self.load.wait_answers(worker.broker, killed_us)
        return self.load.first_answer_us("tcp", worker.broker, killed_us)

    def report(self) -> str:
        return f"{self.load.stderr()}\n{self.cluster.log_tail(30)}"

    def finish(self, figures, deaths: int):
        """The verdicts of all clients; and nobody died but whom we killed."""
        self.java.wait_acked(100)
        summary = self.java.stop()
        verdict = self.load.finish()
        figures("C clients: " + told(verdict))
        figures("Java clients: " + ", ".join(f"{k} {summary[k]}" for k in ("acked", "failed", *JAVA_PROMISES,
                                                                          "redelivered", "reconnect")))
        report = self.report()
        assert_promises(verdict, report)
        wrong = {k: summary[k] for k in JAVA_PROMISES if summary[k]}
        assert not wrong, f"Java: {wrong} {summary['groups']}\n{(self.java.out / 'events.txt').read_text()[-3000:]}\n{report}"
        assert self.cluster.restarts() == deaths, report


@contextlib.contextmanager
def explained(rig, what):
    """A failure tells the round and the ends of all logs."""
    try:
        yield
    except Exception as e:
        raise AssertionError(f"{what()}: {e!r}\n{rig.report()}") from e


def test_random_kills(seeded, rounds, figures, tmp_path):
    killed, times = collections.Counter(), collections.defaultdict(list)
    with contextlib.ExitStack() as stack:
        rig = Rig(stack, "2m", "kills", tmp_path)
        for n in range(rounds(KILLS)):
            role = seeded.choices(["store", "front", "namesrv"], [5, 3, 2])[0]
            victim = seeded.choice(rig.cluster.workers(role))
            with explained(rig, lambda: f"kill {n} of {victim}"):
                if n % 20 == 19:
                    rig.java.wait_acked(50)  # stock consumers rest 3 s behind a broken pull: now and then they catch up
                known = rig.cluster.children()
                killed_us = rig.cluster.kill_worker(victim)
                killed[role] += 1
                if seeded.random() < 0.15:
                    rig.cluster.kill_newborn(known, seeded.random() * 0.015)
                    killed["successor"] += 1
                    rig.cluster.wait_died(victim, times=2)
                    rig.check_alive(victim, now_us())
                    rig.cluster.wait_restarted(victim)
                    continue
                times[role].append(rig.check_alive(victim, killed_us) - killed_us)
                rig.cluster.wait_restarted(victim)
        with explained(rig, lambda: "the end"):
            rig.finish(figures, sum(killed.values()))
    for role in sorted(killed):
        figures(f"{killed[role]} kills of a {role}"
                + (f"; to the next answer: {quantiles(times[role])}" if times[role] else " in its start"))


class Stimuli:
    """What makes workers come to the rarer points: new topics, route queries, offset commits."""

    def __init__(self, rig, far=None):
        self.rig = rig
        self.far = far  # name servers of another host
        self.number = itertools.count()
        self.connections = []

    def __call__(self, point: str, worker):
        # Nobody waits for the answers: the worker may well die of the question.
        if point == "namesrv.query":
            self._post(f"127.0.0.1:{worker.ports[0]}", lambda c: c.post(remoting.ROUTE, {"topic": "TBW102"}))
        elif point in ("namesrv.register", "store.register", "store.metadata", "store.metadata-file",
                       "store.journal", "store.catalogue"):
            broker = worker.broker or self.rig.cluster.brokers()[0]
            name = f"stimulus-{next(self.number) % 50}"
            self._post(self.rig.load.addresses[broker], lambda c: c.post_topic(name, 1 + next(self.number) % 8))

        elif point == "store.delay-applied":  # a second later
            self._post(self.rig.load.addresses[worker.broker],
                       lambda c: c.post_message("stimulus-delay", 0, b"later", {"DELAY": "1"}))
        elif point == "front.register":  # it registers again when the name server is back
            self.far.wait_restarted(self.far.kill("namesrv"))

    def _post(self, address, request):
        try:
            connection = remoting.Connection(address, 5)
            self.connections.append(connection)
            request(connection)
        except OSError:
            pass

    def close(self):
        for connection in self.connections:
            connection.close()
        self.connections = []


def die_at(rig, stimuli, point: str, seeded) -> tuple:
    """One death at a point; returns (worker, deaths)."""
    role = point.split(".")[0]
    worker = seeded.choice(rig.cluster.workers(role))
    rare = point in ("store.roll", "store.metadata", "store.metadata-file", "store.journal", "store.catalogue",
                     "store.register", "store.recovering", "front.register", "namesrv.register", "namesrv.query", "store.delay-applied")
    skip = 0 if rare else seeded.randrange(20)
    # Some deaths are the store's own fault: its successor then looks at what was under way with suspicion.
    action = "abort" if role == "store" and seeded.random() < 0.2 else "kill"
    rig.cluster.arm(point, worker, action, skip)
    deaths = 1
    if point == "store.recovering":
        rig.cluster.kill_worker(worker)
        deaths = 2
    rig.cluster.wait_died(worker, lambda: stimuli(point, worker), times=deaths)
    stimuli.close()
    return worker, deaths


def run_points(names: list, count: int, rig, seeded, figures, far=None):
    order = [names[i % len(names)] for i in range(count)]
    seeded.shuffle(order)
    stimuli = Stimuli(rig, far)
    deaths, hit = 0, collections.Counter()
    for n, point in enumerate(order):
        with explained(rig, lambda: f"death {n} at {point}"):
            worker, died = die_at(rig, stimuli, point, seeded)
            deaths += died
            hit[point] += 1
            rig.check_alive(rig.cluster.wait_restarted(worker), now_us())
    with explained(rig, lambda: "the end"):
        rig.finish(figures, deaths)
    figures("deaths at " + ", ".join(f"{p} {n}" for p, n in sorted(hit.items())))


def test_deaths_at_points(seeded, rounds, figures, tmp_path):
    with contextlib.ExitStack() as stack:
        # A name server of another host, and small files, so that they roll all the time.
        (tmp_path / "far.conf").write_text("[namesrv far]\n")
        far = stack.enter_context(Cluster(file=tmp_path / "far.conf"))
        rig = Rig(stack, "2m", "points", tmp_path, f"mappedFileSizeCommitLog={1 << 20}", f"namesrvAddr={far.namesrv}")
        run_points(points(), rounds(POINT_DEATHS), rig, seeded, figures, far)


def test_deaths_at_points_with_sync_flush(seeded, rounds, figures, tmp_path):
    with contextlib.ExitStack() as stack:
        rig = Rig(stack, "1m", "sync", tmp_path, "flushDiskType=SYNC_FLUSH", "syncFlushTimeout=600000")
        run_points(SYNC_POINTS, rounds(SYNC_POINT_DEATHS), rig, seeded, figures)
