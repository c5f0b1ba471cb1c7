package pintle.compat.scenario;

import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.MessageQueue;
import pintle.compat.Messages;
import pintle.compat.Result;
import pintle.compat.Rig;
import pintle.compat.Scenario;

/** Least and greatest offset of a queue, and the offset of a point in time, as any client may ask them. */
final class Offsets implements Scenario {
    private static final int HALF = 25;

    @Override
    public void run(Rig rig, Result result) throws Exception {
        DefaultMQProducer producer = rig.producer();
        String topic = rig.topic(producer);
        MessageQueue queue = Rig.queues(producer, topic).get(0);
        result.same(0L, producer.maxOffset(queue), "greatest offset of an empty queue");
        long beforeMs = System.currentTimeMillis();
        Thread.sleep(5);
        for (String key : Messages.keys("first", HALF)) {
            producer.send(Messages.make(topic, "T", key), queue);
        }
        Thread.sleep(5);
        long betweenMs = System.currentTimeMillis();
        Thread.sleep(5);
        for (String key : Messages.keys("second", HALF)) {
            producer.send(Messages.make(topic, "T", key), queue);
        }
        Thread.sleep(5);
        long afterMs = System.currentTimeMillis();
        // Queues are derived from the log; an acknowledged message may be counted a moment later.
        Rig.await(() -> max(producer, queue) == 2 * HALF, "greatest offset " + 2 * HALF);
        result.same(0L, producer.minOffset(queue), "least offset");
        result.same(0L, producer.searchOffset(queue, beforeMs), "offset by time, before all");
        result.same((long) HALF, producer.searchOffset(queue, betweenMs), "offset by time, between the halves");
        result.same(2L * HALF, producer.searchOffset(queue, afterMs), "offset by time, after all");
    }

    private static long max(DefaultMQProducer producer, MessageQueue queue) {
        try {
            return producer.maxOffset(queue);
        } catch (Exception e) {
            throw new IllegalStateException(e);
        }
    }
}
