"""mqadmin's commands about consumer groups, their members and their offsets."""
import json
import re

import pytest

CLUSTER = "DefaultCluster"


def _offsets(ran, topic: str) -> dict:
    """{(broker, queue): (broker offset, consumer offset)} of consumerProgress."""
    return {(r[1], int(r[2])): (int(r[3]), int(r[4])) for r in ran.lines() if r and r[0] == topic}


@pytest.fixture(scope="module")
def group(admin):
    """A group with one member that consumed eight messages of two queues."""
    admin.topic("watched")
    admin.send("watched", "broker-a", 0, 5, "A")
    admin.send("watched", "broker-b", 1, 3, "A")
    admin.consume("watcher", "watched", "A || B")
    admin.await_consumed("watcher", 8)
    yield "watcher"
    admin.leave("watcher")


@pytest.fixture
def stopped(request, admin):
    """A group of which nobody is online, that had consumed eight messages."""
    name = request.node.name.removeprefix("test_").replace("_", "-")
    topic, group = name + "-topic", name + "-group"
    admin.topic(topic)
    admin.send(topic, "broker-a", 0, 5)
    admin.send(topic, "broker-b", 1, 3)
    admin.consume(group, topic)
    admin.await_consumed(group, 8)
    admin.run_until(lambda r: _offsets(r, topic).get(("broker-b", 1)) == (3, 3), "consumerProgress", "-g", group)
    admin.leave(group)
    return topic, group


def test_sub_group(admin, address, golden):
    """Made, changed on one broker, told, deleted."""
    golden(admin.run("updateSubGroup", "-c", CLUSTER, "-g", "made-group", "-r", 3, "-q", 2), sort=True)
    ran = admin.run("getConsumerConfig", "-g", "made-group")
    golden(ran, sort=True)
    golden(admin.run("updateSubGroup", "-b", address["broker-a"], "-g", "made-group", "-s", "false", "-o", "true",
                     "-w", 0))
    ran = admin.run("getConsumerConfig", "-g", "made-group")
    assert len(ran.lines("consumeEnable", "false")) == 1 and len(ran.lines("consumeEnable", "true")) == 1
    golden(admin.run("deleteSubGroup", "-c", CLUSTER, "-g", "made-group", "-r", "true"), sort=True)
    assert "made-group" not in admin.run("getConsumerConfig", "-g", "made-group").out


def test_update_sub_group_list(admin, tmp_path):
    """Many groups of a file, in one request to each broker."""
    file = tmp_path / "groups.json"
    file.write_text(json.dumps([{"groupName": f"listed-group-{i}", "retryMaxTimes": i + 1} for i in range(3)]))
    ran = admin.run("updateSubGroupList", "-c", CLUSTER, "-f", file)
    assert ran.calls.count((225, 0)) == 2
    for i in range(3):
        told = admin.run("getConsumerConfig", "-g", f"listed-group-{i}").out
        assert len(re.findall(rf"retryMaxTimes\s+=\s+{i + 1}\b", told)) == 2


def test_consumer_progress(admin, group, golden):
    ran = admin.run("consumerProgress", "-g", group)
    # Whether the client has found the way to its young retry topic yet, nobody knows.
    golden(ran, drop=r"^%RETRY%", sub=[(r"TPS: [\d.]+", "TPS: N")], sort=True)
    assert _offsets(ran, "watched")["broker-a", 0] == (5, 5) and _offsets(ran, "watched")["broker-b", 1] == (3, 3)
    golden(admin.run("consumerProgress", "-g", group, "-t", "watched"), sub=[(r"TPS: [\d.]+", "TPS: N")], sort=True)
    ran = admin.run("consumerProgress", "-g", group, "-s", "true")
    assert ran.lines("watched", "broker-a", "0")[0][5] == "127.0.0.1", "the member's address"
    ran = admin.run("consumerProgress")
    golden(ran, keep=f"^(#|{group})", sub=[(r"CLUSTERING\s+\d+", "CLUSTERING N")])


def test_consumer_status(admin, group, golden):
    """What only the client knows (307 through the broker)."""
    ran = admin.run("consumerStatus", "-g", group)
    golden(ran, sub=[(r"MS/", "")], drop="^$")
    assert (307, 0) in ran.calls and f"127.0.0.1@{group}" in ran.out
    ran = admin.run("consumerStatus", "-g", group, "-i", f"127.0.0.1@{group}")
    keep = r"^(#|watched|%RETRY|(consumeThreadM|PROP_CONSUME_TYPE|PROP_CONSUMEORDERLY|messageModel|consumerGroup)\b)"
    golden(ran, keep=keep, drop=r"^%RETRY%\w+ broker", sort=True, sub=[(r"(ProcessQueueInfo) \[.*", r"\1"),
                                           (r"(watched|%RETRY%\w+)\s+[\d.]+ .*", r"\1")])
    assert "A || B" in ran.out
    ran = admin.try_run("consumerStatus", "-g", "nobody")
    assert any(answered != 0 for _, answered in ran.calls)


def test_consumer_connection(admin, group, golden):
    ran = admin.run("consumerConnection", "-g", group)
    golden(ran)
    assert f"127.0.0.1@{group}" in ran.out and "A || B" in ran.out and "CONSUME_FROM_FIRST_OFFSET" in ran.out
    ran = admin.try_run("consumerConnection", "-g", "nobody")
    assert any(answered != 0 for _, answered in ran.calls)


def test_producer_connection(admin, address, golden):
    admin.topic("produced")
    client = admin.produce("makers", "produced")
    ran = admin.run("producerConnection", "-g", "makers", "-t", "produced")
    golden(ran)
    assert client in ran.out and "JAVA" in ran.out and "V5_3_3" in ran.out
    ran = admin.run("producer", "-b", address["broker-b"])
    golden(ran, keep=r"\(makers\)")
    assert (328, 0) in ran.calls
    admin.leave("makers")
    ran = admin.try_run("producerConnection", "-g", "makers", "-t", "produced")
    assert (204, 1) in ran.calls, "who left is no longer connected"


def test_reset_offset_by_time(admin, stopped, golden):
    """To the beginning, to the end, and to a point between; a member that comes back starts there."""
    topic, group = stopped
    golden(admin.run("resetOffsetByTime", "-g", group, "-t", topic, "-s", 0), sort=True)
    ran = admin.run("consumerProgress", "-g", group)
    assert set(_offsets(ran, topic).values()) == {(5, 0), (3, 0), (0, 0)}
    golden(admin.run("resetOffsetByTime", "-g", group, "-t", topic, "-s", -1), sort=True)
    ran = admin.run("consumerProgress", "-g", group)
    assert set(_offsets(ran, topic).values()) == {(5, 5), (3, 3), (0, 0)}
    ran = admin.try_run("resetOffsetByTime", "-g", group, "-t", "nowhere", "-s", 0)
    assert any(answered == 17 for _, answered in ran.calls)


def test_reset_offset_of_queue(admin, address, stopped, golden):
    topic, group = stopped
    ran = admin.run("resetOffsetByTime", "-g", group, "-t", topic, "-s", "now", "-b", address["broker-a"], "-q", 0,
                    "-o", 2)
    golden(ran)
    offsets = _offsets(admin.run("consumerProgress", "-g", group), topic)
    assert offsets["broker-a", 0] == (5, 2) and offsets["broker-b", 1] == (3, 3)
    before = 8  # what the first member consumed
    admin.consume(group, topic)
    assert admin.await_consumed(group, before + 3) == before + 3, "from offset 2 on: three messages again"
    admin.leave(group)


def test_reset_offset_online(admin, golden):
    """The member at work is told (220) and consumes again, without a restart."""
    admin.topic("rewound")
    admin.send("rewound", "broker-a", 0, 5)
    admin.consume("rewinder", "rewound")
    admin.await_consumed("rewinder", 5)
    golden(admin.run("resetOffsetByTime", "-g", "rewinder", "-t", "rewound", "-s", 0), sort=True)
    admin.await_consumed("rewinder", 10)
    admin.leave("rewinder")


def test_skip_accumulated(admin, stopped, golden):
    topic, group = stopped
    admin.send(topic, "broker-a", 0, 4)
    assert _offsets(admin.run("consumerProgress", "-g", group), topic)["broker-a", 0] == (9, 5)
    golden(admin.run("skipAccumulatedMessage", "-g", group, "-t", topic), sort=True)
    assert _offsets(admin.run("consumerProgress", "-g", group), topic)["broker-a", 0] == (9, 9)


def test_clone_group_offset(admin, stopped, golden):
    topic, group = stopped
    admin.run("updateSubGroup", "-c", CLUSTER, "-g", "clone")
    golden(admin.run("cloneGroupOffset", "-s", group, "-d", "clone", "-t", topic, "-o", "true"))
    admin.send(topic, "broker-a", 0, 2)
    admin.consume("clone", topic)
    assert admin.await_consumed("clone", 2) == 2, "the clone goes on where the original stood"
    admin.leave("clone")


def test_set_consume_mode(admin, golden):
    """Only what the broker answers: POP itself is not judged here."""
    admin.topic("popped")
    golden(admin.run("setConsumeMode", "-c", CLUSTER, "-t", "popped", "-g", "popper", "-m", "PULL"), sort=True)


def test_consume_enable(admin):
    """A group that must not consume is refused by name (NO_PERMISSION) when it pulls."""
    admin.topic("barred-topic")
    admin.send("barred-topic")
    admin.run("updateSubGroup", "-c", CLUSTER, "-g", "barred", "-s", "false")
    ran = admin.run("getConsumerConfig", "-g", "barred")
    assert len(re.findall(r"consumeEnable\s+=\s+false", ran.out)) == 2
    ran = admin.try_run("consumeMessage", "-t", "barred-topic", "-g", "barred", "-b", "broker-a", "-i", 0, "-o", 0,
                        "-c", 1)
    assert (11, 16) in ran.calls
