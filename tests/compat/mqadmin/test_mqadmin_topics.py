"""mqadmin's commands about topics and routes."""
import json

CLUSTER = "DefaultCluster"


def test_update_topic(admin, address, golden):
    """On a cluster, changed on one broker, with attributes, and refused: then asked back from name server and broker."""
    golden(admin.run("updateTopic", "-c", CLUSTER, "-t", "made", "-r", 4, "-w", 4), sort=True)
    admin.await_queues("made", 8)
    golden(admin.run("updateTopic", "-b", address["broker-a"], "-t", "made", "-r", 3, "-w", 2, "-p", 6))
    admin.await_queues("made", 6)
    ran = admin.run("topicRoute", "-l", "-t", "made")
    assert ran.lines("broker-a", "3", "2") and ran.lines("broker-b", "4", "4")
    golden(admin.run("updateTopic", "-b", address["broker-a"], "-t", "fifo", "-a", "+message.type=FIFO"))
    golden(admin.run("updateTopic", "-b", address["broker-b"], "-t", "no-write", "-p", 4))
    admin.await_queues("fifo", 8)
    for wrong in ("TBW102", "RMQ_SYS_TRANS_HALF_TOPIC", "with space", "x" * 128):
        ran = admin.try_run("updateTopic", "-b", address["broker-a"], "-t", wrong)
        assert (17, 29) in ran.calls and "CODE: 29" in ran.err, wrong
    ran = admin.try_run("updateTopic", "-b", address["broker-a"], "-t", "odd", "-a", "+no.such=1")
    assert (17, 1) in ran.calls and "CODE: 1 " in ran.err


def test_update_topic_order(admin, golden):
    """-o true also writes the order configuration into the name servers."""
    golden(admin.run("updateTopic", "-c", CLUSTER, "-t", "ordered", "-o", "true"), sort=True,
           sub=[(r"broker-.:8;broker-.:8", "BOTH")])
    admin.await_queues("ordered", 16)
    ran = admin.run("updateOrderConf", "-t", "ordered", "-m", "get")
    assert "broker-a:8" in ran.out and "broker-b:8" in ran.out
    assert "orderTopicConf" not in admin.run("topicRoute", "-t", "ordered").out, "not with orderMessageEnable=false"


def test_update_topic_list(admin, tmp_path):
    """Many topics of a file, in one request to each broker."""
    file = tmp_path / "topics.json"
    file.write_text(json.dumps([{"topicName": f"of-file-{i}", "readQueueNums": i + 1, "writeQueueNums": i + 1, "perm": 6}
                                for i in range(3)]))
    ran = admin.run("updateTopicList", "-c", CLUSTER, "-f", file)
    assert ran.calls.count((18, 0)) == 2
    for i in range(3):
        admin.await_queues(f"of-file-{i}", 2 * (i + 1))


def test_topic_route(admin, golden):
    admin.topic("routed")
    ran = admin.run("topicRoute", "-t", "routed")
    golden(ran, json.dumps(_sorted_route(ran.out), indent=1, sort_keys=True))
    golden(admin.run("topicRoute", "-l", "-t", "routed"))
    ran = admin.try_run("topicRoute", "-t", "nowhere")
    assert ran.calls[-1] == (105, 17) and "CODE: 17" in ran.err


def test_topic_list(admin, golden):
    """All topics of the cluster, those of the system too; with -c by cluster and consumer group."""
    admin.topic("listed")
    admin.send("listed", "broker-a", 0, 2)
    admin.consume("lister", "listed")
    admin.await_consumed("lister", 2)
    system = r"^(DefaultCluster )?(rmq_sys|RMQ_SYS|SCHEDULE|TBW|SELF|OFFSET|Benchmark|broker-.$|DefaultCluster\w*$)"
    golden(admin.run("topicList"), keep=system + "|^listed$|RETRY%lister", sort=True)
    ran = admin.run_until(lambda r: r.lines(CLUSTER, "listed", "lister"), "topicList", "-c")
    golden(ran, keep="listed", drop="listed listed$")
    admin.leave("lister")


def test_topic_status(admin, golden):
    admin.topic("counted")
    admin.send("counted", "broker-a", 1, 3)
    admin.send("counted", "broker-b", 2, 5)
    ran = admin.run("topicStatus", "-t", "counted")
    golden(ran, sub=[(r"Put TPS: [\d.]+", "Put TPS: N")])
    rows = {(r[0], r[1]): (r[2], r[3], len(r)) for r in ran.lines() if len(r) > 3 and r[0].startswith("broker-")}
    assert len(rows) == 8
    assert rows["broker-a", "1"] == ("0", "3", 6) and rows["broker-b", "2"] == ("0", "5", 6)
    assert rows["broker-b", "1"] == ("0", "0", 4), "a queue without messages has no time"
    golden(admin.run("topicStatus", "-t", "counted", "-c", CLUSTER), sub=[(r"Put TPS: [\d.]+", "Put TPS: N")])


def test_topic_cluster_list(admin, golden):
    admin.topic("placed")
    golden(admin.run("topicClusterList", "-t", "placed"))


def test_update_topic_perm(admin, address, golden):
    """The route tells the permission at once, and a producer heeds it: 4 is read only."""
    admin.topic("guarded")
    golden(admin.run("updateTopicPerm", "-t", "guarded", "-p", 4, "-b", address["broker-a"]))
    admin.await_queues("guarded", 4)
    assert admin.run("topicRoute", "-l", "-t", "guarded").lines("broker-a")[0][-1] == "4"
    # What it says that the permission was is that of any one of the brokers.
    golden(admin.run("updateTopicPerm", "-t", "guarded", "-p", 6, "-c", CLUSTER), sort=True,
           sub=[(r"from \d to", "from P to")])
    admin.await_queues("guarded", 8)
    ran = admin.try_run("updateTopicPerm", "-t", "nowhere", "-p", 6, "-c", CLUSTER)
    assert ran.calls[-1] == (105, 17)


def test_delete_topic(admin, golden):
    admin.topic("doomed")
    admin.send("doomed", "broker-a", 0, 3)
    golden(admin.run("deleteTopic", "-t", "doomed", "-c", CLUSTER))
    assert admin.try_run("topicRoute", "-t", "doomed").calls[-1] == (105, 17)
    assert not admin.run("topicList").lines("doomed")
    # A topic of the same name is a new one: its queues begin at 0.
    admin.topic("doomed")
    assert admin.send("doomed", "broker-a", 0, 1)[0]["offset"] == 0
    assert admin.try_run("deleteTopic", "-t", "TBW102", "-c", CLUSTER).calls[-1][1] != 0


def test_order_conf(admin, golden):
    golden(admin.run("updateOrderConf", "-t", "sorted", "-m", "put", "-v", "broker-a:4;broker-b:2"))
    golden(admin.run("updateOrderConf", "-t", "sorted", "-m", "get"))
    golden(admin.run("updateOrderConf", "-t", "sorted", "-m", "delete"))
    ran = admin.try_run("updateOrderConf", "-t", "sorted", "-m", "get")
    assert ran.calls == ((101, 22),)


def test_allocate_mq(admin, golden):
    """Computed by mqadmin from the route: every queue once."""
    admin.topic("dealt")
    ran = admin.run("allocateMQ", "-t", "dealt", "-i", "10.0.0.1,10.0.0.2,10.0.0.3")
    dealt = [(q["brokerName"], q["queueId"]) for queues in json.loads(ran.out)["result"].values() for q in queues]
    assert sorted(dealt) == [(b, q) for b in ("broker-a", "broker-b") for q in range(4)]
    golden(ran, str(sorted(len(queues) for queues in json.loads(ran.out)["result"].values())))


def test_clean_unused_topic(admin, golden):
    admin.topic("used")
    admin.send("used", "broker-a", 0, 2)
    golden(admin.run("cleanUnusedTopic", "-c", CLUSTER))
    assert admin.run("topicStatus", "-t", "used").lines("broker-a", "0", "2"), "what a topic holds stays"


def test_stats_all(admin, golden):
    """Rates and counts of the last minute, sampled every ten seconds: this waits for a sample."""
    admin.topic("rated")
    admin.send("rated", "broker-a", 0, 5)
    admin.consume("rater", "rated")
    admin.await_consumed("rater", 5)
    ran = admin.run_until(lambda r: any(row[-2:] == ["5", "5"] for row in r.lines("rated", "rater")), "statsAll", "-t",
                          "rated", timeout_s=60)
    rates = [(r"(\d+) +[\d.]+ +[\d.]+ +(\d+) +(\d+)$", r"\1 R R \2 \3")]
    golden(ran, sub=rates, drop="^rated rated")
    ran = admin.run("statsAll", "-a")
    assert ran.lines("rated", "rater") and not ran.lines("TBW102"), "active topics only"
    assert admin.run("statsAll").lines("TBW102", "NO_CONSUMER")
    admin.leave("rater")


def _json(text: str) -> str:
    """fastjson writes the numbers of brokers as keys without quotes."""
    return text.replace("{0:", '{"0":')


def _sorted_route(text: str) -> dict:
    route = json.loads(_json(text))
    for table in ("brokerDatas", "queueDatas"):
        route[table].sort(key=lambda row: row["brokerName"])
    return route
