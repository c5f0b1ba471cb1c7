package pintle.compat.scenario;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import pintle.compat.Collector;
import pintle.compat.Messages;
import pintle.compat.Result;
import pintle.compat.Rig;
import pintle.compat.Scenario;

/**
 * An orderly consumer that suspends a queue at a message: it stands still there, then goes on in order; a message that it
 * gives up is a dead letter, and the queue goes on behind it.
 */
final class Suspend implements Scenario {
    private static final int PER_QUEUE = 10, SLOW = 3, BAD = 6, MOST = 3;

    private final Map<Integer, List<String>> taken = new ConcurrentHashMap<>();

    @Override
    public void run(Rig rig, Result result) throws Exception {
        DefaultMQProducer producer = rig.producer();
        String topic = rig.topic(producer);
        String group = rig.fresh("group");
        DefaultMQPushConsumer consumer = rig.consumer(group, topic, "*");
        consumer.setConsumeMessageBatchMaxSize(1);
        consumer.setMaxReconsumeTimes(MOST);
        consumer.setSuspendCurrentQueueTimeMillis(50);
        consumer.registerMessageListener((MessageListenerOrderly) (messages, context) -> {
            MessageExt message = messages.get(0);
            int number = Integer.parseInt(message.getKeys().split("-")[1]);
            boolean bad = number == BAD || number == SLOW && message.getReconsumeTimes() < 2;
            if (bad) {
                return ConsumeOrderlyStatus.SUSPEND_CURRENT_QUEUE_A_MOMENT;
            }
            taken.computeIfAbsent(message.getQueueId(), k -> new CopyOnWriteArrayList<>()).add(message.getKeys());
            return ConsumeOrderlyStatus.SUCCESS;
        });
        MessageQueue[] queues = Rig.queues(producer, topic).stream()
            .filter(q -> q.getBrokerName().equals(Rig.queues(producer, topic).get(0).getBrokerName()))
            .toArray(MessageQueue[]::new);
        List<String> dead = new ArrayList<>();
        for (MessageQueue queue : queues) {
            for (int i = 0; i < PER_QUEUE; i++) {
                producer.send(Messages.make(topic, "T", queue.getQueueId() + "-" + i), queue);
            }
            dead.add(queue.getQueueId() + "-" + BAD);
        }
        rig.started(consumer);
        Rig.await(() -> taken.values().stream().mapToInt(List::size).sum() >= queues.length * (PER_QUEUE - 1),
            2 * Rig.PATIENCE_MS, "every queue taken to its end");
        for (MessageQueue queue : queues) {
            List<String> wanted = new ArrayList<>();
            for (int i = 0; i < PER_QUEUE; i++) {
                if (i != BAD) {
                    wanted.add(queue.getQueueId() + "-" + i);
                }
            }
            result.same(wanted, taken.getOrDefault(queue.getQueueId(), List.of()), "order of " + queue);
        }
        Collector letters = new Collector();
        rig.consume(rig.fresh("undertaker"), "%DLQ%" + group, "*", letters);
        Rig.await(() -> letters.hasAll(dead), 2 * Rig.PATIENCE_MS, "the dead letters");
        letters.exactly(dead, result, "dead letters");
        result.figure("queues", queues.length);
    }
}
