"""A store alone dies, again and again, with a log of more than 1 GiB: no client has an error or a reconnect, no offset goes
back, no member is missing, no two consumers hold one queue."""
import contextlib
import os
import signal
import subprocess

import java
import remoting
from cluster import build_dir
from cluster_faults import FaultCluster
from load import Load, Pressure, assert_promises, now_us, quantiles, told

KILLS = 50
FILL_BYTES = 1100 << 20
FILL_BODY = 4096
QUIET = ["failed", "lost", "stored_twice", "misplaced", "corrupt", "holes", "acked_twice", "orderly_overlap",
         "orderly_jump", "lock_overlap", "offset_back", "max_back", "members_shrink", "watch_error", "bad_answer",
         "bad_status", "unanswered", "reconnect", "close", "channel_exception", "pull_errors"]


def fill(cluster):
    command = [build_dir() / "tests" / "loadgen", "send", "--namesrv", cluster.namesrv.split(";")[0], "--topic", "fill",
               "--count", FILL_BYTES // FILL_BODY, "--body", FILL_BODY, "--connections", 4]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    log = cluster.dir / "store" / "broker-a" / "commitlog"
    size = sum(f.stat().st_blocks * 512 for f in log.iterdir())
    for file in log.iterdir():  # a process in fdatasync dies only behind it: this is the fill's work, not the load's
        fd = os.open(file, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)
    assert size > 1 << 30, f"{size} bytes in {log}"
    return size


def own_race(folder) -> int:
    """Pulls refused with code 25 because the stock client gave up the heartbeat that should have gone before: it raises its
    subscription's version, then skips the heartbeat if its periodic one is just under way. Apache's broker answers so too."""
    given_up = (folder / "rocketmq_client.log").read_text().count("lock heartBeat, but failed")
    refused = (folder / "events.txt").read_text().count("request code 11, answer code 25")
    return min(given_up, refused)


def test_store_alone(seeded, rounds, figures, tmp_path):
    times = {"native": [], "tcp": []}
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(FaultCluster("1m"))
        try:
            figures(f"commit log: {fill(cluster) >> 20} MiB")
            load = stack.enter_context(Load(cluster, "alone-c", tmp_path / "c", tcp=1, window=1, rate=1000))
            stock = stack.enter_context(java.JavaLoad(
                cluster.namesrv, "alone-java", tmp_path / "java", "--sync", "1", "--async", "1", "--consumers", "2",
                "--orderly", "2", "--rate", "100"))
            pressure = Pressure()
            for n in range(rounds(KILLS)):
                stock.wait_acked(20 + seeded.randrange(40))
                victim = cluster.workers("store")[0]
                killed_us = cluster.kill_worker(victim)
                load.wait_answers("broker-a", killed_us)
                for kind in times:
                    times[kind].append(load.first_answer_us(kind, "broker-a", killed_us) - killed_us)
                cluster.wait_restarted(victim)
            figures(str(pressure))
            stock.wait_acked(100)
            summary = stock.stop()
            verdict = load.finish()
            raced = own_race(stock.out)
            summary["bad_answer"] -= raced
            deaths = cluster.restarts()
        except BaseException:
            print(cluster.log_tail(60))
            raise
        for kind in times:
            figures(f"store dead to next answer, {kind}: {quantiles(times[kind])} (bounds 30 and 150 ms)")
        figures("C clients: " + told(verdict))
        figures("Java clients: " + ", ".join(f"{k} {summary[k]}" for k in ["acked", *QUIET, "watch_rounds"])
                + (f"; {raced} pulls without the client's heartbeat" if raced else ""))
        report = f"{load.stderr()}\n{cluster.log_tail(40)}"
        assert_promises(verdict, report)
        noise = {k: verdict[k] for k in ("refused", "unknown", "broken") if verdict[k]}
        assert not noise, f"{noise}\n{report}"
        trouble = {k: summary[k] for k in QUIET if summary[k]}
        assert not trouble, f"{trouble}\n{(stock.out / 'events.txt').read_text()[-4000:]}\n{report}"
        assert deaths == len(times["tcp"]), report


def test_pull_behind_a_heartbeat():
    """A pull with a version that the client's heartbeat has told, but to a store that is just dying, is no error."""
    with FaultCluster("1m") as cluster:
        front = f"127.0.0.1:{cluster.workers('front')[0].ports[0]}"
        with remoting.Connection(front) as client, remoting.Connection(front) as other:
            assert other.put_topic("versions", 1).code == remoting.OK
            assert other.send("versions", 0, b"one").code == remoting.OK
            assert client.answer(client.post_heartbeat("me", "readers", "versions", 1)).code == remoting.OK
            store = cluster.workers("store")[0]
            os.kill(store.pid, signal.SIGSTOP)
            heartbeat = client.post_heartbeat("me", "readers", "versions", 2)
            pull = client.post_pull("versions", "readers", 0, 0, version=2)
            too_new = client.post_pull("versions", "readers", 0, 0, version=3)
            assert client.max_offset("versions", 0) == 1  # the front has seen the pulls that came before
            assert not any(map(client.answered, (heartbeat, pull, too_new)))
            cluster.kill_worker(store)
            assert client.answer(heartbeat).code == remoting.OK
            assert [m.body for m in remoting.messages(client.answer(pull).body)] == [b"one"]
            assert client.answer(too_new).code == remoting.SUBSCRIPTION_NOT_LATEST
