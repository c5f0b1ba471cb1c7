package pintle.compat.scenario;

import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.message.MessageExt;
import pintle.compat.Collector;
import pintle.compat.Messages;
import pintle.compat.Result;
import pintle.compat.Rig;
import pintle.compat.Scenario;

/** Synchronous sends: each is acknowledged with its place, and is found at that place. */
final class SendSync implements Scenario {
    private static final int COUNT = 200;

    @Override
    public void run(Rig rig, Result result) throws Exception {
        DefaultMQProducer producer = rig.producer();
        String topic = rig.topic(producer);
        Collector got = new Collector();
        rig.consume(rig.fresh("group"), topic, "*", got);
        List<String> keys = Messages.keys("sync", COUNT);
        List<SendResult> acks = new ArrayList<>();
        long startNs = System.nanoTime();
        for (String key : keys) {
            acks.add(producer.send(Messages.make(topic, "T", key)));
        }
        result.figure("us_per_send", (System.nanoTime() - startNs) / 1000 / COUNT);
        Rig.await(() -> got.hasAll(keys), "all sync messages consumed");
        got.exactly(keys, result, "consumer");
        Messages.bodies(got.all(), result);
        result.figure("queues", Messages.contiguous(got.all(), result));
        Set<String> ids = new HashSet<>();
        for (int i = 0; i < COUNT; i++) {
            SendResult ack = acks.get(i);
            MessageExt message = got.first(keys.get(i));
            result.same(SendStatus.SEND_OK, ack.getSendStatus(), "status of " + keys.get(i));
            result.same(ack.getMsgId(), message.getMsgId(), "unique key of " + keys.get(i));
            result.same(ack.getOffsetMsgId(), Messages.offsetId(message), "offset id of " + keys.get(i));
            result.same(ack.getQueueOffset(), message.getQueueOffset(), "queue offset of " + keys.get(i));
            result.same(ack.getMessageQueue().getQueueId(), message.getQueueId(), "queue of " + keys.get(i));
            result.same(ack.getMessageQueue().getBrokerName(), message.getBrokerName(), "broker of " + keys.get(i));
            ids.add(ack.getOffsetMsgId());
        }
        result.same(COUNT, ids.size(), "distinct offset ids");
    }
}
