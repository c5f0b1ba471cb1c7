"""One administrator's story, told to a broker request by request; what it answers, in a form that can be compared.

Real Apache answers the same story: test_admin.py compares. Run alone it prints the answers of a broker:
    admin_story.py HOST:PORT
"""
import json
import sys
import time

import fastjson
from remoting import Connection

ALL_QUEUES = -1


class Story:
    def __init__(self, address: str):
        self.address = address
        self.admin = Connection(address)
        self.answers = []  # (what, code, body)

    def close(self):
        self.admin.close()

    def ask(self, what: str, code: int, ext: dict = None, body=b"", pick=None):
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        answer = self.admin.ask(code, ext, body)
        value = fastjson.loads(answer.body) if answer.body else None
        if pick and answer.code == 0:
            value = pick(value)
        self.answers.append((what, answer.code, normal(value)))
        return value

    # Small steps.

    def put_topic(self, name: str, queues: int = 2, attributes: str = "", order: str = "false"):
        self.ask(f"put topic {name} {attributes}", 17,
                 {"topic": name, "defaultTopic": "TBW102", "readQueueNums": queues, "writeQueueNums": queues, "perm": 6,
                  "topicFilterType": "SINGLE_TAG", "topicSysFlag": 0, "order": order, "attributes": attributes})

    def commit(self, group: str, topic: str, queue: int, offset: int):
        self.ask(f"commit {group} {topic}/{queue} = {offset}", 15,
                 {"consumerGroup": group, "topic": topic, "queueId": queue, "commitOffset": offset})

    def stored(self, group: str, topic: str, queue: int):
        answer = self.admin.ask(14, {"consumerGroup": group, "topic": topic, "queueId": queue,
                                     "setZeroIfNotFound": "false"})
        self.answers.append((f"offset of {group} {topic}/{queue}", answer.code, answer.ext.get("offset")
                             if answer.code == 0 else None))

    def pull(self, group: str, topic: str, queue: int, offset: int):
        answer = self.admin.answer(self.admin.post_pull(topic, group, queue, offset))
        self.answers.append((f"pull {group} {topic}/{queue} at {offset}", answer.code,
                             answer.ext.get("nextBeginOffset") if answer.code in (0, 21) else None))


def normal(value, key=None):
    """Without what differs from run to run: times, counters, ports, orders of sets."""
    if isinstance(value, dict):
        return {str(k): normal(v, k) for k, v in sorted(value.items(), key=lambda kv: str(kv[0]))}
    if isinstance(value, list):
        return sorted((normal(v, key) for v in value), key=lambda v: json.dumps(v, sort_keys=True))
    if key == "counter" or key == "topicPutTps" or key == "consumeTps":
        return "number"
    if isinstance(value, int) and not isinstance(value, bool) and value > 1_500_000_000_000:
        return "time" if value < 1 << 62 else value
    if isinstance(value, str) and key in ("clientAddr", "remoteIP", "brokerAddr"):
        return value.rsplit(":", 1)[0]
    if isinstance(value, str) and str(key).endswith("Str"):
        return "time text" if value.startswith("2") else "no time text"
    return value


def java_hash(text: str) -> int:
    value = 0
    for c in text:
        value = (31 * value + ord(c)) & 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


def heartbeat(connection: Connection, client_id: str, group: str, subscriptions: dict, producer: str = None):
    version = int(time.time() * 1000)
    tags = {topic: [tag.strip() for tag in expression.split("||") if tag.strip() != "*"]
            for topic, expression in subscriptions.items()}
    body = {"clientID": client_id, "heartbeatFingerprint": 0, "withoutSub": False,
            "consumerDataSet": [{
                "groupName": group, "consumeType": "CONSUME_PASSIVELY", "messageModel": "CLUSTERING",
                "consumeFromWhere": "CONSUME_FROM_FIRST_OFFSET", "unitMode": False,
                "subscriptionDataSet": [
                    {"classFilterMode": False, "codeSet": [java_hash(tag) for tag in tags[topic]],
                     "expressionType": "TAG", "subString": expression, "subVersion": version, "tagsSet": tags[topic],
                     "topic": topic}
                    for topic, expression in subscriptions.items()]}] if group else [],
            "producerDataSet": [{"groupName": producer}] if producer else []}
    answer = connection.ask(34, {}, json.dumps(body).encode())
    assert answer.code == 0, answer


def only(*names):
    """Those members of a map whose key is one of the names."""
    return lambda table: {k: v for k, v in table.items() if k in names}


def topics(story: Story):
    story.put_topic("adm-a")
    story.put_topic("adm-a")
    story.put_topic("adm-b", 3, "+message.type=FIFO,+reserve.time=5000", "true")
    story.put_topic("adm bad")
    story.put_topic("TBW102")
    story.put_topic("adm-c", 1, "+message.type=MIXED")
    story.put_topic("adm-c", 1, "+message.type=NONSENSE")
    story.put_topic("adm-c", 1, "-message.type")
    story.put_topic("adm-c", 1, "+unknown=1")
    story.put_topic("adm-b", 3, "+message.type=NORMAL,-reserve.time", "true")
    story.put_topic("adm-b", 3, "+queue.type=SimpleCQ", "true")
    for name in "adm-a", "adm-b", "adm-c":
        story.ask(f"get topic {name}", 351, {"topic": name})
    story.ask("topic list", 18, body={"topicConfigList": [
        {"topicName": f"adm-{n}", "readQueueNums": n, "writeQueueNums": n, "perm": 6, "topicFilterType": "SINGLE_TAG",
         "topicSysFlag": 0, "order": False, "attributes": {"+message.type": "DELAY"}} for n in (1, 2)]})
    story.ask("bad topic list", 18, body={"topicConfigList": [
        {"topicName": name, "readQueueNums": 1, "writeQueueNums": 1, "perm": 6} for name in ("adm-good", "adm/bad")]})
    story.ask("all topics", 21, pick=lambda all: [
        sorted(all["dataVersion"]), only("adm-a", "adm-b", "adm-1", "adm-2", "adm-good", "TBW102", "SELF_TEST_TOPIC",
                                         "BenchmarkTest")(all["topicConfigTable"])])
    story.ask("system topics", 305)
    story.ask("stats of an empty topic", 202, {"topic": "adm-a"})
    for queue, count in (0, 3), (1, 1):
        for i in range(count):
            assert story.admin.send("adm-a", queue, b"x").code == 0
    deadline = time.monotonic() + 5  # Apache's queues follow its log
    while story.admin.max_offset("adm-a", 0) < 3 or story.admin.max_offset("adm-a", 1) < 1:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    story.ask("stats", 202, {"topic": "adm-a"})
    story.ask("stats of none", 202, {"topic": "adm-none"})


def groups(story: Story):
    config = {"groupName": "adm-g", "retryMaxTimes": 3, "retryQueueNums": 2, "consumeBroadcastEnable": False,
              "consumeTimeoutMinute": 7, "brokerId": 0, "consumeEnable": True, "consumeFromMinEnable": True,
              "groupSysFlag": 0, "notifyConsumerIdsChangedEnable": True, "whichBrokerWhenConsumeSlowly": 1,
              "consumeMessageOrderly": True, "attributes": {}}
    story.ask("put group", 200, body=config)
    story.ask("put group with a policy", 200, body={**config, "groupName": "adm-p", "groupRetryPolicy": {
        "type": "EXPONENTIAL", "exponentialRetryPolicy": {"initial": 5000, "max": 7200000, "multiplier": 2}}})
    story.ask("put bad group", 200, body={**config, "groupName": "adm g"})
    story.ask("put group list", 225, body={"groupConfigList": [{**config, "groupName": f"adm-l{n}"} for n in (1, 2)]})
    story.ask("put bad group list", 225, body={"groupConfigList": [
        {**config, "groupName": name} for name in ("adm-l3", "adm l")]})
    for name in "adm-g", "adm-p", "adm-l2", "adm-auto", "adm l":
        story.ask(f"get group {name}", 352, {"group": name})
    story.pull("adm-pulled", "adm-a", 0, 0)
    story.commit("adm-pulled", "adm-a", 0, 0)  # the pull has made the group, and who lists groups now sees it
    story.ask("all groups", 201, pick=lambda all: [
        sorted(all), only("adm-g", "adm-p", "adm-l1", "adm-l2", "adm-l3", "adm-auto", "adm-pulled", "TOOLS_CONSUMER")(
            all["subscriptionGroupTable"]), all["forbiddenTable"]])
    story.ask("is it forbidden?", 353, {"group": "adm-g", "topic": "adm-a"})
    story.ask("forbid", 353, {"group": "adm-g", "topic": "adm-a", "readable": "false"})
    story.ask("forbidden?", 353, {"group": "adm-g", "topic": "adm-a"})
    story.ask("forbidden table", 201, pick=lambda all: all["forbiddenTable"])
    story.ask("allow", 353, {"group": "adm-g", "topic": "adm-a", "readable": "true"})
    story.ask("forbidden table", 201, pick=lambda all: all["forbiddenTable"])


def offsets(story: Story):
    story.commit("adm-g", "adm-a", 0, 2)
    story.commit("adm-g", "adm-b", 1, 0)
    story.commit("adm-l1", "adm-a", 0, 1)
    story.commit("adm-l1", "adm-a", 1, 1)
    story.ask("all offsets", 43, pick=lambda all: [
        sorted(all), only("adm-a@adm-g", "adm-b@adm-g", "adm-a@adm-l1")(all["offsetTable"])])
    story.ask("delay offsets", 45, pick=lambda all: sorted(all["dataVersion"]))
    story.ask("consume stats", 208, {"consumerGroup": "adm-g"})
    story.ask("consume stats of a topic", 208, {"consumerGroup": "adm-l1", "topic": "adm-a"})
    story.ask("consume stats of topics", 208, {"consumerGroup": "adm-l1", "topicList": "adm-a;adm-b"})
    story.ask("consume stats of nothing", 208, {"consumerGroup": "adm-l2"})
    story.ask("broker consume stats", 317, {"isOrder": "false"}, pick=lambda all: [
        sorted(all), [g for g in all["consumeStatsList"] if set(g) & {"adm-g", "adm-l1", "adm-l2"}]])
    story.ask("broker consume stats of ordered topics", 317, {"isOrder": "true"}, pick=lambda all: [
        [g for g in all["consumeStatsList"] if set(g) & {"adm-g", "adm-l1", "adm-l2"}], all["totalDiff"]])
    story.ask("time span", 303, {"topic": "adm-a", "group": "adm-g"}, pick=lambda all: [
        {k: v for k, v in q.items() if k != "delayTime"} for q in all["consumeTimeSpanSet"]])
    story.ask("time span of none", 303, {"topic": "adm-none", "group": "adm-g"})
    story.ask("who consumes", 300, {"topic": "adm-b"}, pick=lambda all: [g for g in all["groupList"] if g == "adm-g"])
    story.ask("topics of a group", 343, {"group": "adm-g"})
    story.ask("correction", 308, {"topic": "adm-a", "compareGroup": "adm-g", "filterGroups": ""})
    story.ask("clone", 314, {"srcGroup": "adm-l1", "destGroup": "adm-l2", "topic": "adm-a", "offline": "true"})
    story.stored("adm-l2", "adm-a", 1)


def resets(story: Story):
    story.ask("reset of none", 222, {"group": "adm-g", "topic": "adm-none", "queueId": -1, "timestamp": 0,
                                     "isForce": "true"})
    story.ask("reset of no group", 222, {"group": "adm-nobody", "topic": "adm-a", "queueId": -1, "timestamp": 0,
                                         "isForce": "true"})
    story.ask("reset far", 222, {"group": "adm-g", "topic": "adm-a", "queueId": 0, "offset": 77, "timestamp": -1,
                                 "isForce": "true"})
    story.ask("reset to the end", 222, {"group": "adm-g", "topic": "adm-a", "queueId": -1, "timestamp": -1,
                                        "isForce": "true"})
    story.stored("adm-g", "adm-a", 1)
    story.commit("adm-g", "adm-a", 1, 0)
    story.stored("adm-g", "adm-a", 1)
    story.pull("adm-g", "adm-a", 1, 0)
    story.pull("adm-g", "adm-a", 1, 0)
    story.commit("adm-g", "adm-a", 1, 0)
    story.stored("adm-g", "adm-a", 1)
    story.ask("reset to the beginning", 222, {"group": "adm-g", "topic": "adm-a", "queueId": -1, "timestamp": 0,
                                              "isForce": "true"})
    story.ask("reset to an offset", 222, {"group": "adm-g", "topic": "adm-a", "queueId": 0, "offset": 2,
                                          "timestamp": -1, "isForce": "true"})
    story.pull("adm-g", "adm-a", 0, 0)
    story.pull("adm-g", "adm-a", 0, 0)


def members(story: Story):
    for code, field in (203, "consumerGroup"), (204, "producerGroup"):
        story.ask(f"{code} of nobody", code, {field: "adm-m"})
    story.ask("nobody's running info", 307, {"consumerGroup": "adm-m", "clientId": "c1", "jstackEnable": "false"})
    with Connection(story.address) as client:
        heartbeat(client, "c1", "adm-m", {"adm-a": "TagA || TagB", "adm-b": "*"}, "adm-p-group")
        story.ask("consumers", 203, {"consumerGroup": "adm-m"})
        story.ask("producers", 204, {"producerGroup": "adm-p-group"})
        story.ask("all producers", 328, pick=lambda all: only("adm-p-group")(all["data"]))
        story.ask("subscription", 345, {"group": "adm-m", "topic": "adm-a"})
        story.ask("no subscription", 345, {"group": "adm-m", "topic": "adm-c"})
        story.ask("who consumes adm-b", 300, {"topic": "adm-b"},
                  pick=lambda all: [g for g in all["groupList"] if g in ("adm-g", "adm-m")])
        relays(story, client)


def relays(story: Story, client: Connection):
    asked = story.admin.post(307, {"consumerGroup": "adm-m", "clientId": "c1", "jstackEnable": "false"})
    request = client.request(307)
    client.respond(request, 0, b'{"properties":{"x":"y"}}')
    answer = story.admin.answer(asked)
    story.answers.append(("running info", answer.code, [answer.body.decode(), request.ext.get("clientId")]))
    asked = story.admin.post(223, {"topic": "adm-a", "group": "adm-m", "clientAddr": ""})
    request = client.request(221)
    client.respond(request, 0, b'{"consumerTable":{},"messageQueueTable":'
                               b'{{"brokerName":"b","queueId":1,"topic":"adm-a"}:5}}')
    answer = story.admin.answer(asked)
    story.answers.append(("consumer status", answer.code, [normal(fastjson.loads(answer.body)), request.ext["topic"]]))
    sent = story.admin.send("adm-a", 0, b"directly")
    asked = story.admin.post(309, {"consumerGroup": "adm-m", "clientId": "c1", "msgId": sent.ext["msgId"],
                                   "topic": "adm-a", "brokerName": "other"})
    request = client.request(309)
    client.respond(request, 0, b'{"consumeResult":"CR_SUCCESS"}')
    answer = story.admin.answer(asked)
    story.answers.append(("consume directly", answer.code, [
        answer.body.decode(), b"directly" in request.body, {k: request.ext.get(k) for k in (
            "brokerName", "topicSysFlag", "groupSysFlag", "topic")}]))


def ends(story: Story):
    story.ask("delete topic", 215, {"topic": "adm-a"})
    story.ask("get it", 351, {"topic": "adm-a"})
    story.ask("its offsets", 43, pick=lambda all: only("adm-a@adm-g", "adm-b@adm-g")(all["offsetTable"]))
    story.ask("delete it again", 215, {"topic": "adm-a"})
    story.ask("delete no name", 215, {"topic": ""})
    story.ask("delete a system topic", 215, {"topic": "TBW102"})
    story.put_topic("adm-a", 1)
    story.ask("stats of the new one", 202, {"topic": "adm-a"})
    story.ask("delete group", 207, {"groupName": "adm-g", "cleanOffset": "true"})
    story.ask("delete group", 207, {"groupName": "adm-l2", "cleanOffset": "false"})
    story.ask("groups", 201, pick=lambda all: only("adm-g", "adm-l2")(all["subscriptionGroupTable"]))
    story.ask("offsets", 43, pick=lambda all: only("adm-b@adm-g")(all["offsetTable"]))
    story.ask("clean unused", 316)
    story.ask("clean expired", 306)


CHAPTERS = topics, groups, offsets, resets, members, ends


def tell(address: str) -> list:
    story = Story(address)
    for chapter in CHAPTERS:
        chapter(story)
    story.close()
    return story.answers


if __name__ == "__main__":
    for what, code, body in tell(sys.argv[1]):
        print(what, code, json.dumps(body, sort_keys=True))
