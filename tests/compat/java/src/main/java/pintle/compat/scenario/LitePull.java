package pintle.compat.scenario;

import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.TreeSet;
import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import pintle.compat.Messages;
import pintle.compat.Result;
import pintle.compat.Rig;
import pintle.compat.Scenario;

/**
 * The pull consumer: it takes named queues (assign) and looks for a place in them (seek to an offset, to the beginning,
 * to the end, to a time), or it shares the queues in its group (subscribe), commits, and goes on there.
 */
final class LitePull implements Scenario {
    private static final int PER_QUEUE = 20;

    @Override
    public void run(Rig rig, Result result) throws Exception {
        DefaultMQProducer producer = rig.producer();
        String topic = rig.topic(producer);
        List<MessageQueue> queues = Rig.queues(producer, topic);
        List<String> keys = send(producer, queues, "first", "A");
        assign(rig, topic, queues, result);
        subscribe(rig, topic, producer, queues, keys, result);
    }

    private static void assign(Rig rig, String topic, List<MessageQueue> queues, Result result) throws Exception {
        DefaultLitePullConsumer consumer = rig.litePull(rig.fresh("assigned"));
        MessageQueue queue = queues.get(0);
        // A queue pulls from the moment it is assigned, and the client can deliver twice what such a pull brings while a
        // seek replaces its task (seekOffset is back at -1 when the first one looks): so paused until it has its place.
        consumer.assign(List.of(queue));
        consumer.pause(List.of(queue));
        consumer.start();
        result.same(new TreeSet<>(queues), new TreeSet<>(consumer.fetchMessageQueues(topic)), "queues of the topic");
        consumer.seekToBegin(queue);
        consumer.resume(List.of(queue));
        result.same(offsets(0, PER_QUEUE), take(consumer, PER_QUEUE), "from the beginning of " + queue);
        consumer.seek(queue, 7);
        result.same(offsets(7, PER_QUEUE), take(consumer, PER_QUEUE - 7), "from offset 7 of " + queue);
        result.same(0L, consumer.offsetForTimestamp(queue, 0L), "offset of a time before all");
        result.same((long) PER_QUEUE, consumer.offsetForTimestamp(queue, System.currentTimeMillis() + 60_000),
            "offset of a time after all");
        consumer.seekToEnd(queue);
        consumer.pause(List.of(queue));
        consumer.resume(List.of(queue));
        consumer.seek(queue, PER_QUEUE - 1);
        result.same(offsets(PER_QUEUE - 1, PER_QUEUE), take(consumer, 1), "the last one of " + queue);
    }

    private static void subscribe(Rig rig, String topic, DefaultMQProducer producer, List<MessageQueue> queues,
        List<String> keys, Result result) throws Exception {
        String group = rig.fresh("subscribed");
        DefaultLitePullConsumer consumer = rig.litePull(group);
        consumer.setAutoCommit(false);
        consumer.subscribe(topic, "A || B");
        consumer.start();
        result.same(new TreeSet<>(keys), keysOf(poll(consumer, keys.size())), "all messages, by a subscription");
        consumer.commitSync();
        for (MessageQueue queue : queues) {
            result.same((long) PER_QUEUE, consumer.committed(queue), "committed offset of " + queue);
        }
        consumer.shutdown();
        send(producer, queues, "unwanted", "C");
        List<String> more = send(producer, queues, "second", "B");
        DefaultLitePullConsumer successor = rig.litePull(group);
        successor.subscribe(topic, "A || B");
        successor.start();
        result.same(new TreeSet<>(more), keysOf(poll(successor, more.size())), "what came after the commit, by tag");
    }

    private static List<String> send(DefaultMQProducer producer, List<MessageQueue> queues, String name, String tag)
        throws Exception {
        List<String> keys = Messages.keys(name, PER_QUEUE * queues.size());
        for (int i = 0; i < keys.size(); i++) {
            MessageQueue queue = queues.get(i % queues.size());
            producer.send(Messages.make(queue.getTopic(), tag, keys.get(i)), queue);
        }
        return keys;
    }

    private static List<MessageExt> poll(DefaultLitePullConsumer consumer, int count) throws Exception {
        List<MessageExt> got = new ArrayList<>();
        Rig.await(() -> {
            got.addAll(consumer.poll());
            return got.size() >= count;
        }, count + " messages by poll");
        return got;
    }

    private static List<Long> take(DefaultLitePullConsumer consumer, int count) throws Exception {
        return poll(consumer, count).stream().map(MessageExt::getQueueOffset).toList();
    }

    private static List<Long> offsets(long first, long end) {
        List<Long> offsets = new ArrayList<>();
        for (long offset = first; offset < end; offset++) {
            offsets.add(offset);
        }
        return offsets;
    }

    private static Collection<String> keysOf(List<MessageExt> messages) {
        Collection<String> keys = new TreeSet<>();
        messages.forEach(message -> keys.add(message.getKeys()));
        return keys;
    }
}
