#!/usr/bin/env python3
"""Writes the seeds of the corpora and the dictionary: one file per interesting case, as clients, brokers and Pintle write
it. Files whose names begin with `found-` are not touched: those are inputs that once broke something.

    tests/fuzz/make_corpus.py        run it after a change here, or of the names that requests may carry, and commit
"""
import os
import re
import struct
import zlib

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "..", "..")


def be(form, *values):
    return struct.pack(">" + form, *values)


# Frames.

def frame(header, body=b"", kind=0):
    return be("II", 4 + len(header) + len(body), kind << 24 | len(header)) + header + body


def rocketmq_header(code, fields, language=0, version=479, opaque=1, flag=0, remark=b""):
    block = b"".join(be("H", len(k)) + k + be("I", len(v)) + v for k, v in fields)
    return be("hBhii", code, language, version, opaque, flag) + be("I", len(remark)) + remark + be("I", len(block)) + block


JAVA_SEND = (b'{"code":310,"extFields":{"a":"please_rename","b":"TopicTest","c":"TBW102","d":"4","e":"1","f":"0",'
             b'"g":"1700000000000","h":"0","i":"KEYS\\u0001k1\\u0002UNIQ_KEY\\u00017F0000010A2B73D16E93\\u0002WAIT\\u0001true'
             b'\\u0002TAGS\\u0001TagA","j":"0","k":"false","m":"false","n":"broker-a"},"flag":0,"language":"JAVA",'
             b'"opaque":12,"serializeTypeCurrentRPC":"JSON","version":479}')
GO_PULL = (b'{"code":11,"language":"GO","version":317,"opaque":4,"flag":0,"remark":"","extFields":{"consumerGroup":"g",'
           b'"topic":"T","queueId":"0","queueOffset":"0","maxMsgNums":"32","sysFlag":"2","commitOffset":"0",'
           b'"suspendTimeoutMillis":"15000","subscription":"*","subVersion":"0","expressionType":"TAG"}}')
NODE_SEND = (b'{"code":310,"opaque":1,"flag":0,"language":"JAVA","version":121,"extFields":{"a":"pg","b":"T","c":"TBW102",'
             b'"d":4,"e":0,"f":0,"g":1700000000000,"h":0,"i":"TAGS\\u0001A","j":0,"k":false,"l":null}}')
CPP_OFFSET = (b'{"code":15,"extFields":{"AccessKey":"","Signature":"","OnsChannel":"ALIYUN","commitOffset":"-1",'
              b'"consumerGroup":"g","queueId":3,"topic":"T"},"flag":0,"language":"CPP","opaque":9,"version":333}')
FRAMES = {
    "java-send": frame(JAVA_SEND, b"hello"),
    "go-pull": frame(GO_PULL),
    "node-send": frame(NODE_SEND, b"hello"),
    "cpp-offset": frame(CPP_OFFSET),
    "response": frame(b'{"code":0,"flag":1,"language":"JAVA","opaque":7,"remark":"\xe4\xb8\xad \\ud83d\\ude00\\/\\n",'
                      b'"serializeTypeCurrentRPC":"JSON","version":479,"extFields":{}}', b"{}"),
    "fastjson": frame(b"{code:'34',flag:\"0\",opaque:null,language:0,extFields:{a:true,'b':1.5e3,c:null,},x:{y:[1,{}]},}"),
    "escapes": frame(b'{"code":1,"extFields":{"k":"\\x41\\0\\7\\v\\b\\f\\r\\t\\"\\\\\\u00e9\\ud800x\\udc00","k":"2"}}'),
    "two": frame(JAVA_SEND, b"a") + frame(GO_PULL),
    "empty-header": frame(b""),
    "empty-array": frame(b" [ ] "),
    "blank": frame(b"  \r\n"),
    "rocketmq": frame(rocketmq_header(310, [(b"a", b"pg"), (b"b", b"T"), (b"i", b"TAGS\x01A\x02"), (b"l", b"")],
                                      remark=b"why"), b"hello", 1),
    "rocketmq-no-fields": frame(rocketmq_header(34, []), b"{}", 1),
    "rocketmq-key-over": frame(rocketmq_header(1, [])[:-4] + be("IH", 4, 0x7fff) + b"ab", b"", 1),
    "truncated": frame(JAVA_SEND, b"hello")[:-3],
    "length-lies": be("II", 0xffffff, 0x00fffff0) + JAVA_SEND,
    "header-over-frame": be("II", 20, 4000) + b"{}",
    "kind-2": frame(b"{}", b"", 2),
    "http": b"GET / HTTP/1.1\r\nHost: localhost:9876\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(40)),
    "deep": frame(b'{"x":' + b"[" * 40 + b"]" * 40 + b"}"),
    "many-fields": frame(b'{"code":1,"extFields":{' + b",".join(b'"f%d":"%d"' % (i, i) for i in range(128)) + b"}}"),
    "too-many-fields": frame(b'{"extFields":{' + b",".join(b'"f%d":"%d"' % (i, i) for i in range(129)) + b"}}"),
    "numbers": frame(b'{"code":2147483648,"opaque":-2147483648}'),
}

# JSON bodies and files.

QUEUE = '{"brokerName":"broker-a","queueId":0,"topic":"T"}'
HEARTBEAT = ('{"clientID":"10.0.0.9@1","consumerDataSet":[{"consumeFromWhere":"CONSUME_FROM_LAST_OFFSET","consumeType":'
             '"CONSUME_PASSIVELY","groupName":"g","messageModel":"CLUSTERING","subscriptionDataSet":[{"classFilterMode":false,'
             '"codeSet":[2598919],"expressionType":"TAG","subString":"TagA","subVersion":1700000000000,"tagsSet":["TagA"],'
             '"topic":"TopicTest"}],"unitMode":false}],"heartbeatFingerprint":0,"producerDataSet":[{"groupName":"pg"}],'
             '"withoutSub":false}')
CPP_HEARTBEAT = ('{"clientID":"c@1","consumerDataSet":[{"groupName":"g","consumeType":1,"messageModel":0,"consumeFromWhere":5,'
                 '"subscriptionDataSet":[{"topic":"TopicTest","subString":"*","subVersion":"17"}]}],"producerDataSet":[]}')
TOPICS_FILE = ('{\n\t"dataVersion":{\n\t\t"counter":3,\n\t\t"stateVersion":0,\n\t\t"timestamp":1700000000000\n\t},\n\t'
               '"topicConfigTable":{\n\t\t"TopicTest":{\n\t\t\t"attributes":{"message.type":"FIFO"},\n\t\t\t"order":false,\n\t\t\t'
               '"perm":6,\n\t\t\t"readQueueNums":4,\n\t\t\t"topicFilterType":"SINGLE_TAG",\n\t\t\t"topicName":"TopicTest",\n\t\t\t'
               '"topicSysFlag":0,\n\t\t\t"writeQueueNums":4,\n\t\t\t"x":{"y":[1,2.5,null]}\n\t\t}\n\t}\n}')
GROUPS_FILE = ('{"dataVersion":{"counter":1,"stateVersion":0,"timestamp":1700000000000},"forbiddenTable":{"g":{"T":1}},'
               '"subscriptionGroupTable":{"g":{"attributes":{},"brokerId":0,"consumeBroadcastEnable":true,"consumeEnable":true,'
               '"consumeFromMinEnable":true,"consumeMessageOrderly":false,"consumeTimeoutMinute":15,"groupName":"g",'
               '"groupRetryPolicy":{"type":"EXPONENTIAL","exponentialRetryPolicy":{"initial":5000,"max":7200000,"multiplier":2}},'
               '"groupSysFlag":0,"notifyConsumerIdsChangedEnable":true,"retryMaxTimes":16,"retryQueueNums":1,'
               '"subscriptionDataSet":null,"whichBrokerWhenConsumeSlowly":1}}}')
OFFSETS_FILE = '{\n\t"dataVersion":{"counter":2},\n\t"offsetTable":{\n\t\t"TopicTest@g":{0:5,1:7,"2":-1\n\t\t},"T@h":{}\n\t}\n}'
LOCKS = '{"clientId":"10.0.0.9@1","consumerGroup":"g","mqSet":[%s],"onlyThisBroker":false}' % QUEUE
CONFIG = '{"readQueueNums":4,"writeQueueNums":4,"perm":6,"topicSysFlag":0,"order":false,"topicName":"T1",' \
         '"topicFilterType":"SINGLE_TAG","attributes":{"+message.type":"NORMAL"}}'
JSON = {
    "heartbeat": HEARTBEAT, "cpp-heartbeat": CPP_HEARTBEAT, "topics": TOPICS_FILE, "groups": GROUPS_FILE,
    "offsets": OFFSETS_FILE, "locks": LOCKS, "object-keys": "{\"offsetTable\":{{'a':1,\"b\":{0:{}}}:{\"x\":1},[1,]:2,}}",
    "deep-key": "{{{{1:2}:3}:4}:5}", "deepest-key": "{{{{{1:2}:3}:4}:5}:6}", "numbers": "[1,-2.5e10,9223372036854775807,1e400]",
    "big": "[18446744073709551615]", "escapes": "'a\\'b\"\\u0001\\ud83d\\ude00\x01'", "nul": '["\\u0000"]', "scalar": " 12 ",
    "nested": "[" * 65 + "]" * 65, "unclosed": '{"a":"b', "tail": "{} x", "bare": "{a-b:tru,$c:nul}", "quote": "'",
}

# Bus: msgpack.


def mp(value):
    if value is True or value is False:
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        if value >= 0:
            return bytes([value]) if value < 128 else b"\xcf" + be("Q", value)
        return b"\xd3" + be("q", value)
    if isinstance(value, str):
        raw = value.encode()
        return (bytes([0xa0 | len(raw)]) if len(raw) < 32 else b"\xda" + be("H", len(raw))) + raw
    return (bytes([0x90 | len(value)]) if len(value) < 16 else b"\xdc" + be("H", len(value))) + b"".join(map(mp, value))


TOPIC = ["TopicTest", 4, 4, 6, 0, False]
BUS = {
    "hello": mp([1, 1, "store broker-a/0", 3, 4711]), "ready": mp([2, 1]), "status": mp([3, 1, "recovering"]),
    "failed": mp([4, 1, 74, "port taken"]), "newer": mp([1, 9, "w", 1, -1, "more", [1]]), "peer-broken": mp([12, 1, 7]),
    "reload": mp([6, 1, "brokerPermission=4\n"]), "registered": mp([13, 1]),
    "register": mp([7, 1, "C", "broker-a", ":10911", ":10912", 0, 4000, 0, 1700000000000, 2, True, [TOPIC, TOPIC]]),
    "register-none": mp([7, 1, "C", "b", "10.0.0.1:1", "", 1, 4000, -1, -2, -3, False, []]),
    "heartbeat": mp([9, 1, "C", "broker-a", ":10911", 0, 0, 1700000000000, 2]),
    "unregister": mp([8, 1, "C", "broker-a", ":10911", 0, 0, 0, 0]),
    "count-lies": b"\x93\x07\x01\xdd\xff\xff\xff\xff", "string-lies": b"\x93\x03\x01\xdb\xff\xff\xff\xff",
    "deep": b"\x91" * 8 + b"\x01", "map": b"\x93\x01\x01\x81\x01\x02", "float": b"\x93\x01\x01\xcb" + bytes(8),
}

# Ring records: kind, payload in host order.


def text(value):
    return struct.pack("<H", len(value)) + value.encode()


def send(topic, properties, body, flags=0, queue=0):
    return bytes([1]) + struct.pack("<qqIiiiiiiHHHHII16sI", 5, 1700000000000, flags, queue, 0, 0, 0, -1, 4, len(topic), 6, 2,
                                    4711, len(properties), len(body), b"\x0a\0\0\x09", 0) + topic + b"TBW102" + b"pg" + \
        properties + body


def batch_item(body, properties=b""):
    return be("IIIII", 22 + len(body) + len(properties), 0, 0, 0, len(body)) + body + be("H", len(properties)) + properties


BATCH = batch_item(b"one", b"TAGS\x01A\x02") + batch_item(b"two")
MEMBER = struct.pack("<QQBBBBBBHiHBB16s", 7, 1 << 32 | 1, 0, 1, 1, 0, 0, 1, 1, 479, 999, 0, 0, b"\x0a\0\0\x09")
CAT = struct.pack("<QQ", 1, 1)
VERSION = struct.pack("<qqq", 0, 1700000000000, 1)
RING = {
    "send": send(b"TopicTest", b"TAGS\x01A\x02", b"hello"), "send-batch": send(b"T", b"", BATCH, 1),
    "send-lies": send(b"T", b"", b"x")[:-1],
    "member": bytes([16]) + MEMBER + text("c@1") + text("g") + struct.pack("<qB", 17, 0) + text("T") + text("*"),
    "member-drop": bytes([17]) + struct.pack("<QQQ", 7, 1 << 32 | 1, 0) + text("g"),
    "replay-end": bytes([18]) + struct.pack("<QQ", 0, 1), "ask": bytes([19]) + struct.pack("<QQ", 0, 1),
    "commit": bytes([20]) + struct.pack("<QqiI", 7, 5, 0, 0) + text("g") + text("T"),
    "query": bytes([21]) + struct.pack("<QqiI", 7, 0, 0, 1) + text("g") + text("T"),
    "lock": bytes([22]) + struct.pack("<QQII", 7, 1 << 32 | 1, 2, 0) + text("c@1") + text("g") +
            (struct.pack("<i", 0) + text("T")) + (struct.pack("<i", 1) + text("T")),
    "unlock": bytes([23]) + struct.pack("<QQII", 7, 1 << 32 | 1, 0, 0) + text("c@1") + text("g"),
    "topic-put": bytes([24]) + struct.pack("<QiiiiBB6x", 7, 4, 4, 6, 0, 0, 0) + text("T") + text("+message.type=FIFO"),
    "topic-drop": bytes([25]) + struct.pack("<QII", 7, 0, 0) + text("T"),
    "group-put": bytes([26]) + struct.pack("<QqqiiiiBBBBBB2x", 7, 0, 1, 16, 1, 0, 15, 1, 1, 1, 0, 1, 0) + text("g") + text("{}"),
    "group-drop": bytes([27]) + struct.pack("<QII", 7, 1, 0) + text("g"),
    "group-forbid": bytes([28]) + struct.pack("<QII", 7, 1, 0) + text("g") + text("T"),
    "offset-list": bytes([29]) + struct.pack("<QiI", 7, -1, 0) + text("g") + text("") + text(""),
    "offset-clone": bytes([32]) + struct.pack("<QII", 7, 0, 0) + text("g") + text("h") + text(""),
    "clean": bytes([33]) + struct.pack("<QII", 7, 3, 0), "config-put": bytes([48]) + struct.pack("<Q", 7) + text("a=b"),
    "send-answer": bytes([64]) + struct.pack("<QQqqqiiIHH", 7, 0, 0, 0, 0, 0, 0, 2, 4, 0) + b"KEY0" + struct.pack("<II", 100, 90),
    "answer": bytes([65]) + struct.pack("<QQqiI", 7, 0, 5, 0, 2) + b"ok",
    "lock-answer": bytes([66]) + struct.pack("<QQiI", 7, 0, 0, 2) + b"\1\0",
    "offset-list-answer": bytes([67]) + struct.pack("<QQ", 7, 0) + VERSION + struct.pack("<iIiBB2x", 0, 1, -1, 0, 0) +
                          text("T@g") + struct.pack("<Iiq", 1, 0, 5) + text("T@g"),
    "cat-begin": bytes([96]) + CAT, "cat-end": bytes([105]) + CAT,
    "cat-topic": bytes([97]) + CAT + VERSION + struct.pack("<iiiiIIIBB2x", 4, 4, 6, 0, 0, 1, 4, 0, 0) + text("T") + text(""),
    "cat-topic-drop": bytes([98]) + CAT + VERSION + text("T"),
    "cat-group": bytes([99]) + CAT + VERSION + struct.pack("<qqiiiiBBBBB3x", 0, 1, 16, 1, 0, 15, 1, 1, 1, 0, 1) + text("g") + text(""),
    "cat-member": bytes([101]) + CAT + struct.pack("<QBBBBBBHiI16s", 1 << 32 | 1, 0, 1, 1, 0, 0, 0, 9, 479, 0, b"") +
                  text("c@1") + text("g"),
    "cat-subscription": bytes([103]) + CAT + struct.pack("<qB7x", 17, 0) + text("g") + text("T") + text("A||B"),
    "cat-forbidden": bytes([106]) + CAT + VERSION + text("g") + text('{"T":1}'),
    "cat-reset": bytes([107]) + CAT + struct.pack("<qiI", 5, 0, 0) + text("g") + text("T"),
    "cat-config": bytes([112]) + CAT + VERSION + text("brokerPermission=6\n"),
    "unknown": bytes([200]) + bytes(32),
}

# The log.


def record(body=b"hello", topic=b"TopicTest", properties=b"TAGS\x01A\x02", pos=0, v6=False, v2=False, sys_flag=0):
    host = (b"\xfe\x80" + bytes(14) if v6 else b"\x7f\0\0\1") + be("I", 10911)
    sys_flag |= 0x30 if v6 else 0
    tail = be("I", 0) + be("q", 0) + be("I", len(body)) + body + (be("H", len(topic)) if v2 else bytes([len(topic)])) + topic + \
        be("H", len(properties)) + properties
    middle = be("I", zlib.crc32(body) & 0x7fffffff) + be("iiqqi", 1, 0, 7, pos, sys_flag) + be("q", 1700000000000) + host + \
        be("q", 1700000000001) + host + tail
    return be("II", 8 + len(middle), 0xDAA320A3 if v2 else 0xDAA320A7) + middle


LOG = {
    "record": b"\0" + record(), "record-v6": b"\0" + record(v6=True), "record-v2": b"\0" + record(topic=b"%RETRY%" + b"g" * 200, v2=True),
    "record-empty-body": b"\0" + record(body=b""), "record-short": b"\0" + record()[:-5], "blank": b"\0" + be("II", 64, 0xCBD43194) + bytes(56),
    "properties": b"\1KEYS\1a b\2TAGS\1A\2UNIQ_KEY\1X\2WAIT\1true\2DELAY\0013\2TIMER_DELAY_MS\1500\2TRAN_MSG\1true\2",
    "properties-odd": b"\1\1\2\2=\1TAGS\1\2POP_CK\1x\2__CRC32#\0011\2TAGS\1B", "message": b"\2\x09\x07\x00\x07TopicTestTAGS\1A\2hello",
    "message-v6": b"\2\x01\x1f\x00\x00Thello",
}

CONF = {
    "broker": "# Apache's\nbrokerName=broker-a\nbrokerId = 0\n  namesrvAddr : 10.0.0.1:9876;\\\n    10.0.0.2:9876\nkey\\ with\\=odd value \\u4e2d\\ud83d\\ude00\\t\n! comment\nempty\n",
    "cluster": "[cluster]\nname = C\n; comment\n[broker broker-a] # tail\nconf = broker.conf\nlistenPort = 10911\n",
    "bom": "\ufeffa=b\r\nc=d\re=f", "half-surrogate": "a=\\ud800", "no-unicode": "a=\\u12", "continued": "a=b\\\n", "no-equals": "[a]\nb\n",
    "addresses": "adminFrom=loopback,10.0.0.0/8;::1/128 [fe80::1]\nadminFrom=all\n", "no-close": "[a\n",
}

WRAPPER = ('{"filterServerList":[],"topicConfigSerializeWrapper":{"dataVersion":{"counter":1,"stateVersion":0,"timestamp":1},'
           '"mappingDataVersion":{"counter":0},"topicConfigTable":{"TopicTest":{"attributes":{},"order":false,"perm":6,'
           '"readQueueNums":4,"topicFilterType":"SINGLE_TAG","topicName":"TopicTest","topicSysFlag":0,"writeQueueNums":4},'
           '"TBW102":{"perm":7,"readQueueNums":"8","writeQueueNums":8}},"topicQueueMappingDetailMap":{}}}')


def sized(value):
    return be("I", len(value)) + value


OLD_BODY = sized(b'{"counter":1,"stateVersion":0,"timestamp":1}') + be("I", 2) + sized(b"TopicTest 4 4 6 SINGLE_TAG {}") + \
    sized(b"T2 1 1 6 MULTI_TAG") + sized(b"[]")
REGISTRATION = {
    "json": b"j" + WRAPPER.encode(), "old-json": b'o{"topicConfigTable":{"T":{}},"dataVersion":{}}', "packed": b"z" + OLD_BODY,
    "zlib": b"p" + zlib.compress(OLD_BODY), "zlib-cut": b"p" + zlib.compress(OLD_BODY)[:-4], "no-zlib": b"pxx", "empty": b"j",
    "bomb": b"p" + zlib.compress(bytes(2 << 20), 9), "count-lies": b"z" + sized(b"{}") + be("I", 0xffffffff),
    "topic-no-object": b'j{"topicConfigSerializeWrapper":{"topicConfigTable":{"a":1}}}',
}

# Requests as text (case.h).


def case(words, body="", **fields):
    lines = "".join(f"{key}={value}\n" for key, value in fields.items())
    return f"#{words}\n{lines}\n".encode() + (body.encode() if isinstance(body, str) else body) + b"\n"


def register(words="103 V479", body=WRAPPER, **more):
    return case(words, body, brokerName="broker-a", brokerAddr="10.0.0.1:10911", clusterName="C", brokerId=more.pop("id", 0),
                haServerAddr="10.0.0.1:10912", **more)


ROUTE = '{"brokerDatas":[],"queueDatas":[{"brokerName":"broker-a","perm":6,"readQueueNums":2,"topicSysFlag":0,"writeQueueNums":2}]}'
WHO = {"brokerName": "broker-a", "brokerAddr": "10.0.0.1:10911", "clusterName": "C", "brokerId": 0}
NAMESRV = {
    "register-route": register() + case("105 V479", topic="TopicTest") + case("105 V121", topic="TopicTest") + case("106") + case("206"),
    "register-packed": register("103 z V479", OLD_BODY, compressed="true") + case("105 b", topic="T2"),
    "register-old": register("103 V1", '{"topicConfigTable":{"T":{},"U":{}}}') + case("105 f", topic="T"),
    "crc": register(bodyCrc32=zlib.crc32(WRAPPER.encode()) & 0x7fffffff) + register(bodyCrc32=1),
    "acting": register(id=1, enableActingMaster="true", __ZONE_NAME="z") + case("105", topic="TopicTest") + case("205", brokerName="broker-a"),
    "leave": register() + case("322", '{"counter":1}', **WHO) + case("904 o", **WHO) + case("104", **WHO) + case("0 h") + case("206"),
    "connection-ends": register("103 c1 V479") + case("0 c1 h") + case("105", topic="TopicTest"),
    "kv": case("100", namespace="ORDER_TOPIC_CONFIG", key="T", value="b:4") + case("101", namespace="ORDER_TOPIC_CONFIG", key="T") +
          case("219", namespace="ORDER_TOPIC_CONFIG") + register() + case("102", namespace="ORDER_TOPIC_CONFIG", key="T") +
          case("100 f", namespace="n", key="k", value="v"),
    "config": case("318", "orderMessageEnable=true\nreturnOrderTopicConfigToBroker=false\n") + case("319") +
              case("318", "kvConfigPath=/x") + case("318", "listenPort=1") + case("318", "orderMessagEnable=true"),
    "admin": register() + case("205", brokerName="broker-a") + case("327", brokerName="broker-a") + case("217", ROUTE, topic="T9") +
             case("216", topic="T9") + case("216", topic="TopicTest", clusterName="C"),
    "lists": register() + case("224", cluster="C") + case("304") + case("311") + case("312") + case("313") +
             case("901", brokerName="broker-a", clusterName="C"),
    "missing": b"".join(case(str(code)) for code in (100, 101, 102, 103, 104, 105, 205, 216, 217, 219, 224, 322, 327, 901)),
    "unknown": case("9999") + case("-1 o") + case("105 r", topic="T") + case("10 b"),
}

SEND = dict(a="pg", b="TopicTest", c="TBW102", d=4, e=0, f=0, g=1700000000000, h=0, i="TAGS\1A\2KEYS\1k\2", j=0, k="false")
V1 = dict(producerGroup="pg", topic="TopicTest", defaultTopic="TBW102", defaultTopicQueueNums=4, queueId=0, sysFlag=0,
          bornTimestamp=1700000000000, flag=0, properties="TAGS\1A\2", reconsumeTimes=0, unitMode="false", batch="false")
PULL = dict(consumerGroup="g", topic="TopicTest", queueId=0, queueOffset=0, maxMsgNums=32, sysFlag=0, commitOffset=0,
            suspendTimeoutMillis=0, subscription="*", subVersion=0, expressionType="TAG")
AT = dict(topic="TopicTest", queueId=0)
G = dict(consumerGroup="g", topic="TopicTest", queueId=0)
TOPIC_PUT = dict(topic="T1", defaultTopic="TBW102", readQueueNums=4, writeQueueNums=4, perm=6, topicFilterType="SINGLE_TAG",
                 topicSysFlag=0, order="false", attributes="+message.type=FIFO")
GROUP = ('{"groupName":"g1","consumeEnable":true,"consumeFromMinEnable":true,"consumeBroadcastEnable":true,"retryQueueNums":1,'
         '"retryMaxTimes":16,"brokerId":0,"whichBrokerWhenConsumeSlowly":1,"notifyConsumerIdsChangedEnable":true,'
         '"groupSysFlag":0,"consumeTimeoutMinute":15,"attributes":{"+a":"b"},"groupRetryPolicy":{"type":"CUSTOMIZED"}}')
FIRST = case("310", "hello", **SEND) + case("34 c1", HEARTBEAT)
BROKER = {
    "send": case("310", "hello", **SEND) + case("310 b", "hello", **SEND) + case("10 L2 V317", "hello", **V1) + case("310 o v", "x", **SEND),
    "send-batch": case("320", BATCH, **{**SEND, "m": "true"}) + case("310 L1", BATCH, **{**SEND, "m": "true"}) +
                  case("320", BATCH[:-1], **{**SEND, "m": "true"}),
    "send-refused": case("310", "", **SEND) + case("310", "x", **{**SEND, "b": "bad topic"}) + case("310", "x", **{**SEND, "e": 99}) +
                    case("310", "x", **{**SEND, "i": "DELAY\0013\2"}) + case("310", "x", **{**SEND, "b": "%RETRY%g"}) + case("310") +
                    case("310", "x", **{**SEND, "e": "x"}) + case("310", "x", **{**SEND, "i": "TRAN_MSG\1true\2"}),
    "pull": FIRST + case("11 c1", **PULL) + case("361 c1", **PULL) + case("11 c1", **{**PULL, "subscription": "TagA||B", "queueOffset": 9}) +
            case("11 c1", **{**PULL, "queueId": -1}) + case("11 c1", **{**PULL, "expressionType": "SQL92", "subscription": "a>1"}),
    "pull-parked": FIRST + case("11 c1", **{**PULL, "queueOffset": 1, "sysFlag": 2, "suspendTimeoutMillis": 15000}) +
                   case("310", "wakes", **SEND) + case("11 c1", **{**PULL, "queueOffset": 2, "sysFlag": 2, "suspendTimeoutMillis": 15000}) + case("0 c1 h"),
    "heartbeat": case("34", HEARTBEAT) + case("34 c1 L1", CPP_HEARTBEAT) + case("38", consumerGroup="g") + case("35", clientID="10.0.0.9@1", consumerGroup="g", producerGroup="pg") +
                 case("34", "[]") + case("46", '{"clientId":"c","group":"g","subscriptionData":{"expressionType":"TAG","subString":"A","topic":"T"}}') +
                 case("46", '{"clientId":"c","group":"g","subscriptionData":{"expressionType":"SQL92","subString":"a > 1","topic":"T"}}'),
    "offsets": FIRST + case("15", commitOffset=1, **G) + case("14", **G) + case("14", setZeroIfNotFound="false", **{**G, "topic": "none"}) +
               case("30", **AT) + case("31", **AT) + case("32", **AT) + case("29", timestamp=1700000000000, boundaryType="upper", **AT) + case("15 L13", commitOffset=-1, **G),
    "locks": case("34 c1", HEARTBEAT) + case("41 c1", LOCKS) + case("42 c1", LOCKS) + case("41", "{}") + case("41", '{"mqSet":[1]}'),
    "topics": case("17", **TOPIC_PUT) + case("18 V479") + case("21") + case("351", topic="T1") + case("25") +
              case("515", '{"topicConfigList":[%s]}' % CONFIG) + case("215", topic="T1") + case("17 f", **TOPIC_PUT) + case("202", topic="TopicTest"),
    "topic-lists": FIRST + case("300", topic="TopicTest") + case("304") + case("305") + case("306") + case("316") + case("329") + case("343", group="g"),
    "groups": case("200", GROUP) + case("201") + case("225", '{"groupConfigList":[%s]}' % GROUP) + case("352", group="g1") +
              case("353", group="g1", topic="T", readable="false") + case("207", groupName="g1", cleanOffset="true"),
    "admin-offsets": FIRST + case("15", commitOffset=1, **G) + case("43") + case("45") + case("208", consumerGroup="g", topic="TopicTest") + case("317", isOrder="false") +
                     case("303", topic="TopicTest", group="g") + case("308", topic="TopicTest", filterGroups="", compareGroup="") +
                     case("314", srcGroup="g", destGroup="h", topic="TopicTest", offline="true") + case("221", topic="TopicTest", group="g", timestamp=-1, isForce="true") +
                     case("222", topic="TopicTest", group="g", timestamp=0, isForce="true", offset=0, queueId=0),
    "connections": FIRST + case("203", consumerGroup="g") + case("204", producerGroup="pg") + case("328") + case("345", group="g", topic="TopicTest"),
    "relay": FIRST + case("307", consumerGroup="g", clientId="10.0.0.9@1", jstackEnable="false") + case("307 c1 r s0", '{"mqTable":{%s:{}}}' % QUEUE) +
             case("309", consumerGroup="g", clientId="10.0.0.9@1", msgId="7F00000100002A9F0000000000000000", brokerName="broker-a") + case("307 c1 r s1", '{"x":1}') +
             case("223", topic="TopicTest", group="g", clientAddr="") + case("221 c1 r s2", '{"messageQueueTable":{%s:1}}' % QUEUE),
    "views": FIRST + case("33", offset=0) + case("33", offset=1) + case("12", topic="TopicTest", key="k", maxNum=1, beginTimestamp=0, endTimestamp=1) +
             case("321", topic="TopicTest", queueId=0, index=0, count=10, consumerGroup="g") + case("315", statsName="TOPIC_PUT_NUMS", statsKey="TopicTest"),
    "config": case("25", "brokerPermission=4\nmaxMessageSize=1024\n") + case("26") + case("28") + case("25", "brokerConfigPath=/x") +
              case("25", "brokerPermision=6") + case("25 f", "brokerPermission=4"),
    "unknown": case("9999") + case("40 o") + case("200050", topic="T") + case("34 r", "{}") + case("-5 b"),
}


def codes_of(path):
    """The codes that a table of requests serves."""
    def read(name):
        with open(os.path.join(ROOT, name)) as source:
            return source.read()
    numbers = dict(re.findall(r"^X\((\w+), (\d+)\b", read("ipc/wire/request_code.def"), re.M))
    return sorted({int(numbers[name]) for name in re.findall(r"\{REQUEST_(\w+),", read(path))})


def of_every_code(path, words, body, **fields):
    codes = codes_of(path)
    return [b"".join(case(f"{code}{words}", body, **fields) for code in codes[at:at + 20]) for at in range(0, len(codes), 20)]


EVERY_FIELD = {name: "" for name in ("consumerGroup", "group", "topic", "queueId", "offset", "clientId", "msgId", "timestamp", "brokerName")}
for target, table in ((BROKER, "broker/front/route.c"), (NAMESRV, "namesrv/query.c")):
    for kind, inputs in (("bare", of_every_code(table, "", "")), ("object", of_every_code(table, " b", "{}", **EVERY_FIELD)),
                         ("array", of_every_code(table, " c1", "[1]", topic="TopicTest", consumerGroup="g", group="g", queueId=-1, offset=-1)),
                         ("oneway", of_every_code(table, " o V1", "x", topic="%", queueId="x", offset="9223372036854775807"))):
        target.update({f"every-{kind}-{n}": content for n, content in enumerate(inputs)})
TABLES = {"topics": b"t" + TOPICS_FILE.encode(), "groups": b"g" + GROUPS_FILE.encode(), "offsets": b"o" + OFFSETS_FILE.encode(),
          "topics-text": b't{"topicConfigTable":{"T":{"readQueueNums":"8","perm":6.0,"order":"true","topicFilterType":"MULTI_TAG"}}}',
          "groups-odd": b'g{"subscriptionGroupTable":{"g":{"groupRetryPolicy":{"type":"CUSTOMIZED"},"attributes":{"a":"b"}}}}',
          "offsets-escapes": b'o{"offsetTable":{"T\\"\\\\\\u0001\\u4e2d@g":{0:1}}}', "topics-escapes": b't{"topicConfigTable":{"T":{"a\\"":"\\n\\""}}}',
          "not-a-table": b't{"topicConfigTable":[]}', "topic-bounds": b't{"topicConfigTable":{"T":{"readQueueNums":-1}}}'}



def rows(*names):
    return b"".join(RING[name][:1] + struct.pack("<H", len(RING[name]) - 1) + RING[name][1:] for name in names)


RECORDS = {
    "sends": rows("send", "send-batch", "send-lies", "topic-put", "send-batch"),
    "members": rows("member", "member", "lock", "unlock", "member-drop", "replay-end"),
    "groups": rows("group-put", "group-forbid", "group-drop", "group-put"),
    "offsets": rows("topic-put", "commit", "query", "offset-clone", "offset-list"),
    "topics": rows("topic-put", "send", "topic-drop", "clean", "config-put", "ask"),
    "catalogue": rows("cat-begin", "cat-topic", "cat-group", "cat-member", "cat-subscription", "cat-forbidden", "cat-reset", "cat-config", "cat-end", "cat-topic-drop"),
    "answers": rows("send-answer", "answer", "lock-answer", "offset-list-answer"),
    "unknown": rows("unknown"),
}

CORPORA = {"frame": FRAMES, "json": JSON, "bus": BUS, "ring": RING, "log": LOG, "conf": CONF, "registration": REGISTRATION,
           "namesrv": NAMESRV, "broker": BROKER, "tables": TABLES,
           "records": RECORDS}


def write_corpora():
    for target, inputs in CORPORA.items():
        folder = os.path.join(HERE, "corpus", target)
        os.makedirs(folder, exist_ok=True)
        for name in os.listdir(folder):
            if not name.startswith("found-"):
                os.remove(os.path.join(folder, name))
        for name, content in inputs.items():
            with open(os.path.join(folder, name), "wb") as out:
                out.write(content.encode() if isinstance(content, str) else content)


def words():
    """Names that requests, bodies and files may carry: the short literals of the code that reads them."""
    found = set()
    for folder in ("ipc/wire", "ipc/json", "ipc/base", "broker/front", "broker/store", "namesrv"):
        for name in sorted(os.listdir(os.path.join(ROOT, folder))):
            if name.endswith(".c"):
                with open(os.path.join(ROOT, folder, name)) as source:
                    code = re.sub(r"^\s*#\s*include.*$", "", source.read(), flags=re.M)
                found.update(re.findall(r'"([A-Za-z_%][A-Za-z0-9_.%#]{1,39})"', code))
    return found


def write_dictionary():
    with open(os.path.join(HERE, "fuzz.dict"), "w") as out:
        out.write("# Written by make_corpus.py.\n")
        for word in sorted(words()):
            out.write(f'"{word}"\n')
        for extra in ('\\x01', '\\x02', '{{', '}:', '{0:', '||', '#34 c1\\x0a', '\\x0a\\x0a', '\\\\ud83d\\\\ude00', '9223372036854775807',
                      '-9223372036854775808', '4294967296', '2147483647', '\\xff\\xff\\xff\\xff', '\\x7f\\xff\\xff\\xff'):
            out.write(f'"{extra}"\n')


write_corpora()
write_dictionary()
