"""mqadmin's commands about brokers, clusters, name servers, statistics and exports."""
import json
import re


CLUSTER = "DefaultCluster"
# What a broker must tell of itself: clusterList, the dashboard and monitoring fail without these.
RUNTIME = ["brokerVersionDesc", "brokerVersion", "brokerActive", "bootTimestamp", "runtime", "putTps", "getTotalTps",
           "getTransferredTps", "getFoundTps", "getMissTps", "sendThreadPoolQueueSize", "pullThreadPoolQueueSize",
           "sendThreadPoolQueueHeadWaitTimeMills", "pullThreadPoolQueueHeadWaitTimeMills", "pageCacheLockTimeMills",
           "earliestMessageTimeStamp", "commitLogDiskRatio", "consumeQueueDiskRatio", "commitLogMinOffset",
           "commitLogMaxOffset", "dispatchBehindBytes", "putMessageAverageSize", "putMessageTimesTotal",
           "putMessageSizeTotal", "putMessageEntireTimeMax", "getMessageEntireTimeMax", "msgPutTotalYesterdayMorning",
           "msgPutTotalTodayMorning", "msgPutTotalTodayNow", "msgGetTotalYesterdayMorning", "msgGetTotalTodayMorning",
           "msgGetTotalTodayNow", "timerReadBehind", "timerOffsetBehind", "timerCongestNum", "timerEnqueueTps",
           "timerDequeueTps"]
# Keys that tools and people read, and whose values do not hang on the machine.
CONFIG = ["brokerName", "brokerClusterName", "brokerId", "brokerIP1", "brokerPermission", "brokerRole",
          "defaultTopicQueueNums", "autoCreateTopicEnable", "autoCreateSubscriptionGroup", "flushDiskType",
          "fileReservedTime", "deleteWhen", "maxMessageSize"]


def _table(text: str) -> dict:
    """{"key": "value"} of lines like "key   :  value" or "key  =  value"."""
    return {m[1]: m[2] for m in re.finditer(r"^(\S+?)[ \t]*(?::| = )[ \t]*(.*?)[ \t]*$", text, re.M)}


def test_cluster_list(admin, golden):
    numbers = [(r"(V5_3_3) .*(true|false)", r"\1 … \2")]
    ran = admin.run("clusterList")
    golden(ran, sub=numbers)
    for row in ran.lines(CLUSTER):
        assert re.fullmatch(r"[\d.]+\(\d+,\d+ms\)", row[5]), "load of sends"
        assert row[-1] == "true" and 0 < float(row[-2]) < 1, "share of the disk that is in use"
    ran = admin.run("clusterList", "-m")
    golden(ran, sub=[(r"(broker-.)( +\d+)+", r"\1 …")])
    assert [len(row) for row in ran.lines(CLUSTER)] == [6, 6]
    assert admin.run("clusterList", "-c", CLUSTER).lines("broker-a")


def test_broker_status(admin, address, golden):
    admin.topic("weighed")
    before = _table(admin.run("brokerStatus", "-b", address["broker-a"]).out)
    missing = [key for key in RUNTIME if key not in before]
    assert not missing
    admin.send("weighed", "broker-a", 0, 7)
    ran = admin.run("brokerStatus", "-b", address["broker-a"])
    after = _table(ran.out)
    golden(ran, keep=r"^(brokerVersion|brokerVersionDesc|brokerActive|commitLogMinOffset|timerOffsetBehind) ?:")
    assert int(after["commitLogMaxOffset"]) >= int(before["commitLogMaxOffset"]) + 7 * 100
    assert int(after["msgPutTotalTodayNow"]) >= int(before["msgPutTotalTodayNow"]) + 7
    for key in ("putTps", "getTransferredTps"):
        assert all(float(n) >= 0 for n in after[key].split()), "numbers, separated by spaces"
    ran = admin.run("brokerStatus", "-c", CLUSTER)
    for where in address.values():
        assert len(ran.lines(where)) == len(after), "the same of every broker"


def test_broker_consume_stats(admin, address, golden):
    admin.topic("lagging")
    admin.send("lagging", "broker-a", 2, 6)
    admin.consume("lagger", "lagging")
    admin.await_consumed("lagger", 6)
    admin.leave("lagger")
    admin.send("lagging", "broker-a", 2, 4)
    ran = admin.run("brokerConsumeStats", "-b", address["broker-a"])
    golden(ran, keep="^#|^lagging lagger")
    assert ran.lines("lagging", "lagger", "broker-a", "2", "10", "6", "4")
    total = sum(int(row[6]) for row in ran.lines() if len(row) > 6 and row[2] == "broker-a")
    assert re.search(rf"Diff Total: {total}\b", ran.out)
    ran = admin.run("brokerConsumeStats", "-b", address["broker-a"], "-l", 5)
    assert not ran.lines("lagging", "lagger"), "only what lags by more than the level"


def test_broker_config(admin, own_cluster, address, golden):
    """Told, changed at run time, told again; keys that are paths are refused."""
    ran = admin.run("getBrokerConfig", "-b", address["broker-a"])
    golden(ran, keep=rf"^({'|'.join(CONFIG)}) =|^=", sort=True)
    told = _table(ran.out)
    assert told["listenPort"] == address["broker-a"].split(":")[1] and told["storePathRootDir"].startswith("/")
    before = told["maxMessageSize"]
    golden(admin.run("updateBrokerConfig", "-b", address["broker-a"], "-k", "maxMessageSize", "-v", 3145728))
    assert _table(admin.run("getBrokerConfig", "-b", address["broker-a"]).out)["maxMessageSize"] == "3145728"
    other = _table(admin.run("getBrokerConfig", "-b", address["broker-b"]).out)
    assert other["maxMessageSize"] == before
    golden(admin.run("updateBrokerConfig", "-c", CLUSTER, "-k", "maxMessageSize", "-v", before), sort=True)
    ran = admin.try_run("updateBrokerConfig", "-b", address["broker-a"], "-k", "brokerConfigPath", "-v", "/tmp/x")
    assert ran.calls[-1] == (25, 16) and "CODE: 16" in ran.err
    ran = admin.run("getBrokerConfig", "-c", CLUSTER)
    assert all(where in ran.out for where in address.values())


def test_kv_config(admin, golden):
    golden(admin.run("updateKvConfig", "-s", "colours", "-k", "sky", "-v", "blue"))
    golden(admin.run("deleteKvConfig", "-s", "colours", "-k", "sky"))
    # Order configuration is a namespace of the same table: what one command writes the other reads.
    admin.run("updateKvConfig", "-s", "ORDER_TOPIC_CONFIG", "-k", "by-hand", "-v", "broker-a:1")
    assert "[broker-a:1]" in admin.run("updateOrderConf", "-t", "by-hand", "-m", "get").out
    admin.run("deleteKvConfig", "-s", "ORDER_TOPIC_CONFIG", "-k", "by-hand")
    assert admin.try_run("updateOrderConf", "-t", "by-hand", "-m", "get").calls == ((101, 22),)


def test_namesrv_config(admin, own_cluster, golden):
    ran = admin.run("getNamesrvConfig")
    golden(ran, keep=r"^=|^(clusterTest|orderMessageEnable|scanNotActiveBrokerInterval|listenPort|configBlackList) =",
           sub=[(r"listenPort\s+=\s+\d+", "listenPort = N")], sort=True)
    parts = ran.out.split("============")
    told = {where: _table(part)["listenPort"] for where, part in zip(parts[1::2], parts[2::2])}
    assert told == {where: where.split(":")[1] for where in own_cluster.namesrv.split(";")}
    golden(admin.run("updateNamesrvConfig", "-k", "clusterTest", "-v", "true"))
    assert len(re.findall(r"clusterTest\s+=\s+true", admin.run("getNamesrvConfig").out)) == 2, "on both"
    admin.run("updateNamesrvConfig", "-k", "clusterTest", "-v", "false")
    ran = admin.try_run("updateNamesrvConfig", "-k", "kvConfigPath", "-v", "/tmp/x")
    assert (318, 16) in ran.calls and "CODE: 16" in ran.err


def test_write_perm(admin, golden):
    """Wiped: no topic of that broker can be written to; and given back. (What a broker says of itself later, when it
    registers again, is not asked here.)"""
    admin.topic("wiped")
    count = [(r"OK, \d+", "OK, N")]
    ran = admin.run("wipeWritePerm", "-b", "broker-b")
    golden(ran, sub=count, sort=True)
    assert all(int(n) > 1 for n in re.findall(r"OK, (\d+)", ran.out)), "every topic of the broker"
    ran = admin.run("topicRoute", "-l", "-t", "wiped")
    assert ran.lines("broker-b")[0][-1] == "4" and ran.lines("broker-a")[0][-1] == "6"
    golden(admin.run("addWritePerm", "-b", "broker-b"), sub=count, sort=True)
    assert admin.run("topicRoute", "-l", "-t", "wiped").lines("broker-b")[0][-1] == "6"
    golden(admin.run("wipeWritePerm", "-b", "no-such-broker"), sort=True)


def _clean(admin, address, command):
    """Nothing is old enough: success, and every message stays."""
    topic = admin.topic(command + "-topic")
    admin.send(topic, "broker-a", 0, 3)
    assert admin.run(command, "-c", CLUSTER).out.split() == ["success"]
    assert admin.run(command, "-b", address["broker-a"]).out.split() == ["success"]
    assert admin.run("printMsgByQueue", "-t", topic, "-a", "broker-a", "-i", 0, "-p", "true").out.count("MSGID") == 3


def test_clean_queues(admin, address):
    _clean(admin, address, "cleanExpiredCQ")


def test_clean_log(admin, address):
    _clean(admin, address, "deleteExpiredCommitLog")


def test_ha_status(admin, address, golden):
    """A master without slaves says so."""
    ran = admin.run("haStatus", "-b", address["broker-a"])
    golden(ran, sub=[(r"MaxOffset\s+\d+", "MaxOffset N")])


def test_export_metadata(admin, address, golden, tmp_path):
    admin.topic("exported")
    admin.run("updateSubGroup", "-c", CLUSTER, "-g", "export-group")
    ran = admin.run("exportMetadata", "-c", CLUSTER, "-f", tmp_path)
    golden(ran)
    whole = json.loads((tmp_path / "metadata.json").read_text())
    picked = {"topic": whole["topicConfigTable"]["exported"], "group": whole["subscriptionGroupTable"]["export-group"]}
    golden(ran, json.dumps(picked, indent=1, sort_keys=True))
    golden(admin.run("exportMetadata", "-b", address["broker-a"], "-t", "-f", tmp_path))
    topics = json.loads((tmp_path / "topic.json").read_text())["topicConfigTable"]
    assert topics["exported"]["writeQueueNums"] == 4 and "TBW102" not in topics, "special topics only with -s"
    golden(admin.run("exportMetadata", "-b", address["broker-a"], "-g", "-f", tmp_path))
    groups = json.loads((tmp_path / "subscriptionGroup.json").read_text())["subscriptionGroupTable"]
    assert groups["export-group"]["retryQueueNums"] == 1


def test_export_configs(admin, golden, tmp_path):
    ran = admin.run("exportConfigs", "-c", CLUSTER, "-f", tmp_path)
    golden(ran)
    configs = json.loads((tmp_path / "configs.json").read_text())
    picked = {name: {k: v for k, v in table.items() if k in CONFIG}
              for name, table in configs["brokerConfigs"].items()}
    golden(ran, json.dumps(picked, indent=1, sort_keys=True))
    assert configs["clusterScale"] == {"namesrvSize": 2, "masterBrokerSize": 2, "slaveBrokerSize": 0}


def test_export_metrics(admin, golden, tmp_path):
    admin.topic("measured")
    for broker in ("broker-a", "broker-b"):
        admin.send("measured", broker)
    ran = admin.run("exportMetrics", "-c", CLUSTER, "-f", tmp_path)
    golden(ran)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    reports = metrics["evaluateReport"]
    assert sorted(reports) == ["broker-a", "broker-b"]
    shape = {"keys": sorted(metrics), "report": {k: sorted(v) for k, v in reports["broker-a"].items()}}
    golden(ran, json.dumps(shape, indent=1))
    assert all(float(r["runtimeQuota"]["messageAverageSize"]) > 0 for r in reports.values())
