package pintle.compat.scenario;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import pintle.compat.Messages;
import pintle.compat.Result;
import pintle.compat.Rig;
import pintle.compat.Scenario;

/** A consumer whose long polls are parked gets a new message at once: the median over all queues is under 200 ms. */
final class Idle implements Scenario {
    private static final long BOUND_MS = 200;
    private static final long SETTLE_MS = 1500;
    private static final long PAUSE_MS = 150;
    private static final int ROUNDS = 2;

    @Override
    public void run(Rig rig, Result result) throws Exception {
        DefaultMQProducer producer = rig.producer();
        String topic = rig.topic(producer);
        Map<String, Long> arrivedNs = new ConcurrentHashMap<>();
        rig.consume(rig.fresh("group"), topic, "*", (messages, context) -> {
            for (MessageExt message : messages) {
                arrivedNs.put(message.getKeys(), System.nanoTime());
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        List<MessageQueue> queues = Rig.queues(producer, topic);
        for (MessageQueue queue : queues) {
            producer.send(Messages.make(topic, "T", "warm" + queue), queue);
        }
        Rig.await(() -> arrivedNs.size() == queues.size(), "a first message from every queue");
        Thread.sleep(SETTLE_MS);
        List<Double> latencies = new ArrayList<>();
        for (int round = 0; round < ROUNDS; round++) {
            for (MessageQueue queue : queues) {
                String key = "idle" + round + queue;
                long sentNs = System.nanoTime();
                producer.send(Messages.make(topic, "T", key), queue);
                Rig.await(() -> arrivedNs.containsKey(key), key);
                latencies.add((arrivedNs.get(key) - sentNs) / 1e6);
                Thread.sleep(PAUSE_MS);
            }
        }
        latencies.sort(null);
        double median = latencies.get(latencies.size() / 2);
        result.figure("tries", latencies.size());
        result.figure("median_ms", median);
        result.figure("max_ms", latencies.get(latencies.size() - 1));
        result.check(median < BOUND_MS, "median " + median + " ms, bound " + BOUND_MS + " ms");
    }
}
