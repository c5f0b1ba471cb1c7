package pintle.compat.scenario;

import java.util.HashSet;
import java.util.List;
import java.util.Set;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.MessageQueue;
import pintle.compat.Collector;
import pintle.compat.Messages;
import pintle.compat.Result;
import pintle.compat.Rig;
import pintle.compat.Scenario;

/** Two push consumers of a group share the queues half and half; when one leaves the other has all within 30 s. */
final class Share implements Scenario {
    private static final long TAKE_OVER_MS = 30_000;
    private static final int PER_QUEUE = 10;

    @Override
    public void run(Rig rig, Result result) throws Exception {
        DefaultMQProducer producer = rig.producer();
        String topic = rig.topic(producer);
        String group = rig.fresh("group");
        List<MessageQueue> queues = Rig.queues(producer, topic);
        Collector one = new Collector();
        Collector two = new Collector();
        DefaultMQPushConsumer first = rig.consume(group, topic, "*", one);
        Rig.await(() -> held(first, topic).size() == queues.size(), "the first member holds all queues");

        long joinedNs = System.nanoTime();
        DefaultMQPushConsumer second = rig.consume(group, topic, "*", two);
        int half = queues.size() / 2;
        Rig.await(() -> held(first, topic).size() == half && held(second, topic).size() == half,
            TAKE_OVER_MS, "two members hold half of the queues each");
        result.figure("shared_ms", (System.nanoTime() - joinedNs) / 1_000_000);
        Set<MessageQueue> together = new HashSet<>(held(first, topic));
        together.addAll(held(second, topic));
        result.same(Set.copyOf(queues), together, "queues of both members together");

        List<String> both = send(producer, topic, queues, "both");
        Rig.await(() -> one.distinct() + two.distinct() >= both.size(), "messages while there are two members");
        result.figure("first_got", one.distinct());
        result.figure("second_got", two.distinct());
        result.same(half * PER_QUEUE, one.all().size(), "deliveries to the first of two");
        result.same(half * PER_QUEUE, two.all().size(), "deliveries to the second of two");

        Set<MessageQueue> orphans = held(first, topic);
        long leftNs = System.nanoTime();
        first.shutdown();
        List<String> alone = send(producer, topic, queues, "alone");
        Rig.await(() -> two.hasAll(alone), TAKE_OVER_MS, "the one that stays gets from all queues, also " + orphans);
        result.figure("take_over_ms", (System.nanoTime() - leftNs) / 1_000_000);
        result.same(Set.copyOf(queues), held(second, topic), "queues of the one that stays");
    }

    private static List<String> send(DefaultMQProducer producer, String topic, List<MessageQueue> queues, String name)
        throws Exception {
        List<String> keys = Messages.keys(name, queues.size() * PER_QUEUE);
        for (int i = 0; i < keys.size(); i++) {
            producer.send(Messages.make(topic, "T", keys.get(i)), queues.get(i % queues.size()));
        }
        return keys;
    }

    private static Set<MessageQueue> held(DefaultMQPushConsumer consumer, String topic) {
        Set<MessageQueue> held = new HashSet<>();
        for (MessageQueue queue : consumer.getDefaultMQPushConsumerImpl().getRebalanceImpl().getProcessQueueTable()
            .keySet()) {
            if (queue.getTopic().equals(topic)) {
                held.add(queue);
            }
        }
        return held;
    }
}
