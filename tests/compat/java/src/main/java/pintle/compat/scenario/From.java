package pintle.compat.scenario;

import java.text.SimpleDateFormat;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Date;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageQueue;
import pintle.compat.Collector;
import pintle.compat.Messages;
import pintle.compat.Result;
import pintle.compat.Rig;
import pintle.compat.Scenario;
import pintle.compat.Version;

/**
 * Where a group without offsets starts. In a young queue (nothing deleted yet, all in memory) the broker answers
 * offset 0, whatever the client wants; members of a broadcast do not ask it, and start at the first message, at a point
 * in time or at the end, as they want.
 */
final class From implements Scenario {
    private static final int PER_QUEUE = 5;

    @Override
    public void run(Rig rig, Result result) throws Exception {
        DefaultMQProducer producer = rig.producer();
        String topic = rig.topic(producer);
        List<MessageQueue> queues = Rig.queues(producer, topic);
        List<String> early = send(producer, queues, "early", PER_QUEUE);
        Thread.sleep(2100); // the time stamp that a client can say has seconds
        String between = new SimpleDateFormat("yyyyMMddHHmmss").format(new Date());
        Thread.sleep(1100);
        List<String> since = new ArrayList<>(send(producer, queues, "middle", PER_QUEUE));
        List<String> before = new ArrayList<>(early);
        before.addAll(since);

        Map<ConsumeFromWhere, Collector> got = new LinkedHashMap<>();
        for (ConsumeFromWhere where : List.of(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET,
            ConsumeFromWhere.CONSUME_FROM_TIMESTAMP, ConsumeFromWhere.CONSUME_FROM_LAST_OFFSET)) {
            got.put(where, start(rig, topic, where, between, true));
        }
        Collector young =
            start(rig, topic, ConsumeFromWhere.CONSUME_FROM_LAST_OFFSET, between, false);

        // Who starts at the end can't be seen to have started: send until it has something from every queue.
        Collector last = got.get(ConsumeFromWhere.CONSUME_FROM_LAST_OFFSET);
        List<String> late = new ArrayList<>();
        boolean[] started = new boolean[queues.size()];
        Rig.await(() -> {
            late.addAll(send(producer, queues, "late" + late.size(), 1));
            pause();
            for (int i = 0; i < late.size(); i++) {
                started[i % queues.size()] |= last.has(late.get(i));
            }
            return !Arrays.toString(started).contains("false");
        }, "who starts at the end gets new messages of every queue");
        result.check(before.stream().noneMatch(last::has), "who starts at the end gets nothing from before");

        since.addAll(late);
        before.addAll(late);
        expect(got.get(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET), before, "first", result);
        expect(got.get(ConsumeFromWhere.CONSUME_FROM_TIMESTAMP), since, "timestamp", result);
        expect(young, before, "last, of a group, in a young queue", result);
    }

    private static Collector start(Rig rig, String topic, ConsumeFromWhere where, String time, boolean broadcast)
        throws Exception {
        Collector got = new Collector();
        DefaultMQPushConsumer consumer = rig.consumer(rig.fresh("group"), topic, "*");
        if (broadcast) {
            Version.broadcast(consumer);
        }
        consumer.setConsumeFromWhere(where);
        consumer.setConsumeTimestamp(time);
        consumer.registerMessageListener(got);
        rig.started(consumer);
        return got;
    }

    private static void expect(Collector got, List<String> keys, String who, Result result) throws Exception {
        Rig.await(() -> got.hasAll(keys), "all messages for " + who);
        got.exactly(keys, result, who);
    }

    private static List<String> send(DefaultMQProducer producer, List<MessageQueue> queues, String name, int perQueue) {
        List<String> keys = Messages.keys(name, perQueue * queues.size());
        try {
            for (int i = 0; i < keys.size(); i++) {
                MessageQueue queue = queues.get(i % queues.size());
                producer.send(Messages.make(queue.getTopic(), "T", keys.get(i)), queue);
            }
        } catch (Exception e) {
            throw new IllegalStateException(e);
        }
        return keys;
    }

    private static void pause() {
        try {
            Thread.sleep(50);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }
}
