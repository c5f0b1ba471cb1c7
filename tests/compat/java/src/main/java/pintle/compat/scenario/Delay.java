package pintle.compat.scenario;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import pintle.compat.Collector;
import pintle.compat.Messages;
import pintle.compat.Result;
import pintle.compat.Rig;
import pintle.compat.Scenario;

/** Delay levels 1, 2 and 3: every message once, in its own queue, after its time and never before. */
final class Delay implements Scenario {
    private static final long[] LEVEL_MS = {1_000, 5_000, 10_000};
    private static final int PER_QUEUE = 5;

    @Override
    public void run(Rig rig, Result result) throws Exception {
        DefaultMQProducer producer = rig.producer();
        String topic = rig.topic(producer);
        Collector got = new Collector();
        rig.consume(rig.fresh("group"), topic, "*", got);
        Map<String, Long> due = new HashMap<>();
        Map<String, MessageQueue> queues = new HashMap<>();
        List<String> wanted = new ArrayList<>();
        for (MessageQueue queue : Rig.queues(producer, topic)) {
            for (int i = 0; i < PER_QUEUE * LEVEL_MS.length; i++) {
                int level = 1 + i % LEVEL_MS.length;
                String key = queue.getBrokerName() + "-" + queue.getQueueId() + "-" + i;
                Message message = Messages.make(topic, "T", key);
                message.setDelayTimeLevel(level);
                due.put(key, System.currentTimeMillis() + LEVEL_MS[level - 1]);
                SendResult sent = producer.send(message, queue);
                result.same(queue, sent.getMessageQueue(), "queue in the answer of " + key);
                queues.put(key, queue);
                wanted.add(key);
            }
        }
        Rig.await(() -> got.hasAll(wanted), 2 * Rig.PATIENCE_MS, "all delayed messages");
        got.exactly(wanted, result, "the group");
        long latestMs = 0;
        for (MessageExt message : got.all()) {
            String key = message.getKeys();
            long lateMs = message.getStoreTimestamp() - due.get(key);
            result.check(lateMs >= 0, key + " came " + -lateMs + " ms early");
            latestMs = Math.max(latestMs, lateMs);
            result.same(queues.get(key).getQueueId(), message.getQueueId(), "queue of " + key);
            result.same(topic, message.getTopic(), "topic of " + key);
        }
        result.figure("messages", wanted.size());
        result.figure("latest_ms", latestMs);
    }
}
