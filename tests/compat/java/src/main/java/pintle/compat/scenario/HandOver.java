package pintle.compat.scenario;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import pintle.compat.Messages;
import pintle.compat.Result;
import pintle.compat.Rig;
import pintle.compat.Scenario;

/** An orderly consumer leaves while it works: the other takes over its queues, in order, none held by both. */
final class HandOver implements Scenario {
    private static final int PER_QUEUE = 40;
    private static final long TAKE_OVER_MS = 60_000;

    private final Map<MessageQueue, List<String>> taken = new ConcurrentHashMap<>();
    private final Map<MessageQueue, String> holders = new ConcurrentHashMap<>();
    private final Set<String> members = ConcurrentHashMap.newKeySet();

    @Override
    public void run(Rig rig, Result result) throws Exception {
        DefaultMQProducer producer = rig.producer();
        String topic = rig.topic(producer);
        String group = rig.fresh("group");
        List<MessageQueue> queues = Rig.queues(producer, topic);
        DefaultMQPushConsumer first = rig.consumeOrderly(group, topic, listener("first", result));
        rig.consumeOrderly(group, topic, listener("second", result));
        List<String> wanted = new ArrayList<>();
        // Until both are at work, however long the rebalance takes; then the first leaves with work before it.
        Rig.await(() -> {
            send(producer, queues, wanted);
            return members.size() == 2;
        }, TAKE_OVER_MS, "both members at work");
        for (int i = 0; i < PER_QUEUE; i++) {
            send(producer, queues, wanted);
        }
        long leftNs = System.nanoTime();
        first.shutdown();
        members.clear();
        for (int i = 0; i < PER_QUEUE; i++) {
            send(producer, queues, wanted);
        }
        Rig.await(() -> taken.size() == queues.size()
            && taken.values().stream().allMatch(got -> Set.copyOf(got).size() == wanted.size()), TAKE_OVER_MS,
            "every queue taken to its end");
        result.figure("take_over_ms", (System.nanoTime() - leftNs) / 1_000_000);
        result.figure("messages", wanted.size() * queues.size());
        result.same(Set.of("second"), Set.copyOf(members), "members at work after one left");
        int again = 0;
        for (MessageQueue queue : queues) {
            List<String> got = taken.getOrDefault(queue, List.of());
            result.same(wanted, got.stream().distinct().toList(), "order of " + queue);
            again = Math.max(again, got.size() - wanted.size());
        }
        // What a member had taken when its queue was taken from it may come to the other one again.
        result.check(again <= 2, "messages that came again: " + again + " of one queue");
        result.figure("again", again);
    }

    private static void send(DefaultMQProducer producer, List<MessageQueue> queues, List<String> wanted) {
        String key = Integer.toString(wanted.size());
        wanted.add(key);
        try {
            for (MessageQueue queue : queues) {
                producer.send(Messages.make(queue.getTopic(), "T", key), queue);
            }
        } catch (Exception e) {
            throw new IllegalStateException(e);
        }
    }

    private MessageListenerOrderly listener(String member, Result result) {
        return (messages, context) -> {
            MessageQueue queue = context.getMessageQueue();
            for (MessageExt message : messages) {
                String other = holders.putIfAbsent(queue, member);
                result.check(other == null, queue + " held by " + member + " and " + other);
                pause();
                taken.computeIfAbsent(queue, k -> new CopyOnWriteArrayList<>()).add(message.getKeys());
                members.add(member);
                holders.remove(queue, member);
            }
            return ConsumeOrderlyStatus.SUCCESS;
        };
    }

    /** Long enough that a second holder would be caught, short enough that the test stays quick. */
    private static void pause() {
        try {
            Thread.sleep(2);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }
}
