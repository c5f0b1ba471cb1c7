"""Everything dies at once, supervisor included, and starts again from the files: what was acknowledged is there, once, in
its place. (The machine lives on, so this is promised without SYNC_FLUSH too.)"""
import contextlib

import pytest

from cluster_faults import FaultCluster
from load import Load, assert_promises, now_us, told

ROUNDS = 6


@pytest.mark.parametrize("settings", [[f"mappedFileSizeCommitLog={1 << 20}", f"mappedFileSizeConsumeQueue={20 * 1000}"],
                                      ["flushDiskType=SYNC_FLUSH", "syncFlushTimeout=600000"]], ids=["small-files", "sync-flush"])
def test_everything_dies(seeded, rounds, figures, tmp_path, settings):
    acked = {}
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(FaultCluster("1m", *settings))
        try:
            for n in range(rounds(ROUNDS)):
                with Load(cluster, "cold", tmp_path / str(n), consumers=0, rate=1500, prefix=f"cold-{n}",
                          earlier=acked) as load:
                    for _ in range(seeded.randrange(1, 60)):
                        load.wait_answers("broker-a", now_us())
                    cluster.kill_everything(seeded)
                    for producer in load.producers:
                        producer.close()
                        producer.wait_read()
                    acked = load.acked()
                cluster.up(cluster.settings)
            with Load(cluster, "cold", tmp_path / "end", prefix="cold-end", earlier=acked) as load:
                verdict = load.finish()
                report = f"{load.stderr()}\n{cluster.log_tail(60)}"
        except BaseException:
            print(cluster.log_tail(60))
            raise
        figures(f"{rounds(ROUNDS)} times: {told(verdict)}")
        assert_promises(verdict, report)
