"""Configuration files: the samples are what the key tables say, and the files that Apache 5.3.3 ships are taken unchanged."""
import json
import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PINTLE = Path(os.environ.get("PINTLE_BUILD", ROOT / "build" / "release")) / "bin" / "pintle"


def pintle(*words):
    return subprocess.run([PINTLE, *map(str, words)], capture_output=True, text=True, timeout=30)


@pytest.mark.parametrize("what", ["cluster", "broker"])
def test_samples(what, tmp_path):
    printed = pintle("config", "sample", what).stdout
    sample = ROOT / "units" / f"{what}.conf"
    assert sample.read_text() == printed, f"pintle config sample {what} > units/{what}.conf"
    assert pintle("config", "check", sample).returncode == 0
    lines = [re.sub(r"^#(\w+ = .)", r"\1", line) for line in printed.splitlines()]  # every default, given
    given = tmp_path / "given.conf"
    given.write_text("\n".join(lines) + "\n")
    done = pintle("config", "check", given)
    assert done.returncode == 0 and "unknown" not in done.stderr, done.stderr
    keys = re.findall(r"^#?(\w+) =", printed, re.M)
    assert len(keys) == len(set(keys)) or what == "cluster"
    for key in keys:  # a sentence, what it may be and its default stand over each
        assert re.search(rf"^# [^\n]+\.\n# [^\n]+default[^\n]*\n#{key} =", printed, re.M), key


COMMON = {"brokerClusterName": "DefaultCluster", "brokerName": "broker-a", "brokerId": "0", "deleteWhen": "04",
          "fileReservedTime": "48", "brokerRole": "ASYNC_MASTER", "flushDiskType": "ASYNC_FLUSH"}
PLACES = {"storePathRootDir": "/tmp/rmqstore/node00", "storePathCommitLog": "/tmp/rmqstore/node00/commitlog"}
IN_CONTAINER = {**COMMON, **PLACES, "brokerRole": "SYNC_MASTER", "listenPort": "10911", "haListenPort": "10912",
                "totalReplicas": "2", "inSyncReplicas": "2", "minInSyncReplicas": "1", "enableAutoInSyncReplicas": "true",
                "slaveReadEnable": "true", "brokerHeartbeatInterval": "1000", "brokerNotActiveTimeoutMillis": "5000",
                "sendHeartbeatTimeoutMillis": "1000", "enableSlaveActingMaster": "true", "isolateLogEnable": "true"}
REFUSALS = ["brokerRole=SLAVE: there is no replication yet", "there is no controller mode yet", "logs of DLedger cannot"]
# The keys and values of the files in the conf folder of Apache's distribution; what cannot be kept, and whether `up`
# therefore refuses.
SHIPPED = {
    "broker.conf": (COMMON, None, False),
    "2m-2s-async/broker-a.properties": (COMMON, None, False),
    "2m-2s-async/broker-a-s.properties": ({**COMMON, "brokerId": "1", "brokerRole": "SLAVE"}, "brokerRole=SLAVE", True),
    "2m-2s-sync/broker-a.properties": ({**COMMON, "brokerRole": "SYNC_MASTER"}, "brokerRole=SYNC_MASTER", False),
    "2m-2s-sync/broker-b-s.properties": ({**COMMON, "brokerName": "broker-b", "brokerId": "1", "brokerRole": "SLAVE"},
                                         "brokerRole=SLAVE", True),
    "2m-noslave/broker-b.properties": ({**COMMON, "brokerName": "broker-b"}, None, False),
    "2m-noslave/broker-trace.properties": ({**COMMON, "brokerName": "broker-trace", "autoTraceBrokerEnable": "true"},
                                           "unknown key 'autoTraceBrokerEnable'", False),  # Apache 5.3.3 forgot it, too
    "container/broker-a-in-container1.conf": (IN_CONTAINER, "known, not used here: ", False),
    "controller/quick-start/broker-n0.conf": (
        {**COMMON, **PLACES, "brokerId": "-1", "brokerRole": "SLAVE", "enableControllerMode": "true",
         "controllerAddr": "127.0.0.1:9878", "namesrvAddr": "127.0.0.1:9876", "allAckInSyncStateSet": "true",
         "listenPort": "30911"}, "enableControllerMode=true", True),
    "dledger/broker-n0.conf": (
        {**PLACES, "brokerClusterName": "RaftCluster", "brokerName": "RaftNode00", "listenPort": "30911",
         "namesrvAddr": "127.0.0.1:9876", "enableDLegerCommitLog": "true", "dLegerGroup": "RaftNode00",
         "dLegerPeers": "n0-127.0.0.1:40911;n1-127.0.0.1:40912;n2-127.0.0.1:40913", "dLegerSelfId": "n0",
         "sendMessageThreadPoolNums": "16"}, "enableDLegerCommitLog=true", True),
}


@pytest.mark.parametrize("separator", ["=", " = "])
@pytest.mark.parametrize("name", SHIPPED)
def test_apache_s_files(name, separator, tmp_path):
    values, told, refused = SHIPPED[name]
    file, cluster = tmp_path / Path(name).name, tmp_path / "cluster.conf"
    file.write_text("# as shipped\n\n" + "".join(f"{k}{separator}{v}\n" for k, v in values.items()))
    done = pintle("config", "check", file)
    assert done.returncode == 0, done.stderr
    assert "expected" not in done.stderr and (not told or told in done.stderr), done.stderr
    cluster.write_text(f"[namesrv n]\n[broker b]\nconf = {file.name}\n")
    done = pintle("config", "show", "--json", "--file", cluster, "--dir", tmp_path / "d")
    if refused:
        assert done.returncode == 78 and any(told in done.stderr for told in REFUSALS), done.stderr
        return
    assert done.returncode == 0, done.stderr
    shown = {row["key"]: row["value"] for row in json.loads(done.stdout) if row["section"] == "broker.conf"}
    for key, value in values.items():
        assert shown.get(key) == value or key == "autoTraceBrokerEnable", key
