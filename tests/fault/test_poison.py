"""A request that crashes the store is refused at its third try; everybody else is served."""
import contextlib

import remoting
from cluster import wait_for
from cluster_faults import FaultCluster
from load import Load, assert_promises, now_us, told

ROUNDS = 3


def test_poison_is_refused(rounds, figures, tmp_path):
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(FaultCluster("1m"))
        load = stack.enter_context(Load(cluster, "poison-c", tmp_path, rate=300))
        store = cluster.workers("store")[0]
        cluster.arm("store.poison", store, "match")
        sender = stack.enter_context(remoting.Connection(load.addresses["broker-a"]))
        aborted = 0
        try:
            for n in range(rounds(ROUNDS)):
                body = f"poison number {n}, kept as evidence".encode()
                answer = sender.send("poison-c", n % 4, body, {"PINTLE_POISON": "yes", "KEYS": f"poison-{n}"})
                assert answer.code == remoting.SYSTEM_ERROR, answer
                assert "quarantine" in answer.remark or "crash" in answer.remark, answer
                died = wait_for(lambda: cluster.now(store).restarts - store.restarts - aborted, 10, "restarts")
                assert died == 2, f"{died} deaths of one poisonous request"
                aborted += died
                load.wait_answers("broker-a", now_us())
                kept = list((cluster.dir / "store" / "broker-a" / "quarantine").rglob("*"))
                assert any(body in f.read_bytes() for f in kept if f.is_file()), f"{body} in none of {kept}"
            words = (cluster.dir / "log" / "supervisor.log").read_text()
            assert words.count("died by SIGABRT") == aborted, words
            # The sender's own connection serves on, and the same message without the poison passes.
            assert sender.send("poison-c", 0, b"harmless-1", {"KEYS": "harmless-1"}).code == remoting.OK
            verdict = load.finish()
        except BaseException:
            print(cluster.log_tail(60), load.stderr())
            raise
        figures(f"{rounds(ROUNDS)} poisonous requests, {aborted} deaths; others: {told(verdict)}")
        report = cluster.log_tail(40)
        assert_promises(verdict, report)
        for what in ("refused", "unknown", "broken"):
            assert not verdict[what], f"{what}: {verdict[what]}\n{report}"
        assert "harmless-1" in load.consumers.places
        assert not [k for k in load.consumers.places if k.startswith("poison-") and k[7:].isdigit()]
