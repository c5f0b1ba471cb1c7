"""The load that kill tests use, on a quiet cluster: whatever it counts as trouble stays at zero.

This is what makes its counts worth something when something is killed.
"""
import pytest

import java

TROUBLE = ["failed", "lost", "stored_twice", "misplaced", "corrupt", "holes", "redelivered", "acked_twice",
           "orderly_overlap", "orderly_jump", "lock_overlap", "offset_back", "max_back", "members_shrink",
           "watch_error", "bad_answer", "bad_status", "unanswered", "reconnect", "close", "channel_exception",
           "pull_errors"]
MESSAGES = 3000


@pytest.fixture(scope="module")
def summary(cluster, tmp_path_factory):
    out = tmp_path_factory.mktemp("load")
    with java.JavaLoad(cluster.namesrv, "quiet-load", out, "--sync", "2", "--async", "2", "--consumers", "2",
                       "--orderly", "2", "--quiet-ms", "1000") as load:
        load.wait_acked(MESSAGES)
        found = load.stop()
    found["events"] = (out / "events.txt").read_text()
    found["exit code"] = load.process.returncode
    return found


@pytest.mark.parametrize("what", TROUBLE)
def test_no_trouble(what, summary):
    assert summary[what] == 0, summary["events"]


def test_it_really_worked(summary):
    assert summary["ok"] and summary["exit code"] == 0
    assert summary["acked"] >= MESSAGES
    for group, verdict in summary["groups"].items():
        assert verdict["consumed"] == summary["acked"], group
    assert len(summary["longest_pause_ms"]) == 4
    assert len(summary["orderly_work"]) == 2, "both orderly consumers had queues"
    assert summary["watch_rounds"] > 0
