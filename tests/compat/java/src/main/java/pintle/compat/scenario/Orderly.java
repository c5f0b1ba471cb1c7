package pintle.compat.scenario;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import pintle.compat.Messages;
import pintle.compat.Result;
import pintle.compat.Rig;
import pintle.compat.Scenario;

/**
 * Two orderly consumers of one group: every queue is taken in order, from its first message to its last, and never by
 * both at once. The broker's queue locks are what makes it so.
 */
final class Orderly implements Scenario {
    private static final int PER_QUEUE = 60;

    private final Map<String, List<String>> taken = new ConcurrentHashMap<>();
    private final Map<String, String> holders = new ConcurrentHashMap<>();
    private final Set<String> members = ConcurrentHashMap.newKeySet();

    @Override
    public void run(Rig rig, Result result) throws Exception {
        DefaultMQProducer producer = rig.producer();
        String topic = rig.topic(producer);
        String group = rig.fresh("group");
        List<MessageQueue> queues = Rig.queues(producer, topic);
        rig.consumeOrderly(group, topic, listener("one", result));
        rig.consumeOrderly(group, topic, listener("two", result));
        for (int i = 0; i < PER_QUEUE; i++) {
            for (MessageQueue queue : queues) {
                producer.send(Messages.make(topic, "T", Integer.toString(i)), queue);
            }
        }
        Rig.await(() -> taken.values().stream().mapToInt(List::size).sum() >= PER_QUEUE * queues.size(),
            2 * Rig.PATIENCE_MS, "every queue taken to its end");
        List<String> wanted = new ArrayList<>();
        for (int i = 0; i < PER_QUEUE; i++) {
            wanted.add(Integer.toString(i));
        }
        for (MessageQueue queue : queues) {
            result.same(wanted, taken.getOrDefault(name(queue.getBrokerName(), queue.getQueueId()), List.of()),
                "order of " + queue);
        }
        result.figure("queues", queues.size());
        result.figure("members_at_work", members.size());
    }

    private MessageListenerOrderly listener(String member, Result result) {
        return (messages, context) -> {
            for (MessageExt message : messages) {
                String queue = name(message.getBrokerName(), message.getQueueId());
                String other = holders.putIfAbsent(queue, member);
                result.check(other == null, "queue " + queue + " held by " + member + " and " + other);
                taken.computeIfAbsent(queue, k -> new CopyOnWriteArrayList<>()).add(message.getKeys());
                members.add(member);
                pause();
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

    private static String name(String broker, int queueId) {
        return broker + "/" + queueId;
    }
}
