package pintle.compat.scenario;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.MessageExt;
import pintle.compat.Collector;
import pintle.compat.Messages;
import pintle.compat.Result;
import pintle.compat.Rig;
import pintle.compat.Scenario;

/**
 * Messages that cannot be consumed: one kind fails twice and is then taken, its count of tries growing by one; the other
 * never succeeds, and stands in the group's dead letters after the tries that the consumer allows.
 */
final class Retry implements Scenario {
    private static final int EACH = 10, FAILURES = 2, MOST = 2;

    private final Map<String, List<Integer>> tries = new ConcurrentHashMap<>();

    @Override
    public void run(Rig rig, Result result) throws Exception {
        DefaultMQProducer producer = rig.producer();
        String topic = rig.topic(producer);
        String group = rig.fresh("group");
        DefaultMQPushConsumer consumer = rig.consumer(group, topic, "*");
        consumer.setMaxReconsumeTimes(MOST);
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            boolean failed = false;
            for (MessageExt message : messages) {
                result.same(topic, message.getTopic(), "topic of " + message.getKeys());
                tries.computeIfAbsent(message.getKeys(), k -> new CopyOnWriteArrayList<>())
                    .add(message.getReconsumeTimes());
                failed |= message.getKeys().startsWith("never") || message.getReconsumeTimes() < FAILURES;
            }
            context.setDelayLevelWhenNextConsume(1);
            return failed ? ConsumeConcurrentlyStatus.RECONSUME_LATER : ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        rig.started(consumer);
        List<String> never = new ArrayList<>();
        List<String> all = new ArrayList<>();
        for (int i = 0; i < EACH; i++) {
            producer.send(Messages.make(topic, "T", "third-" + i));
            producer.send(Messages.make(topic, "T", "never-" + i));
            never.add("never-" + i);
            all.add("third-" + i);
            all.add("never-" + i);
        }
        List<Integer> wanted = List.of(0, 1, 2);
        Rig.await(() -> all.stream().allMatch(k -> tries.getOrDefault(k, List.of()).size() >= wanted.size()),
            2 * Rig.PATIENCE_MS, "three tries of each message");
        /* A consumer that comes before the route looks for it again after 30 s only. */
        int brokers = Rig.brokers(Rig.queues(producer, topic)).size();
        Rig.await(() -> Rig.queues(producer, "%DLQ%" + group).size() == brokers, 2 * Rig.PATIENCE_MS,
            "route of the dead letters");
        Collector dead = new Collector();
        rig.consume(rig.fresh("undertaker"), "%DLQ%" + group, "*", dead);
        Rig.await(() -> dead.hasAll(never), 2 * Rig.PATIENCE_MS, "the dead letters");
        dead.exactly(never, result, "dead letters");
        for (String key : all) {
            result.same(wanted, tries.get(key), "tries of " + key);
        }
        for (MessageExt message : dead.all()) {
            result.same(MOST + 1, message.getReconsumeTimes(), "tries of dead " + message.getKeys());
            result.same(topic, message.getProperty("RETRY_TOPIC"), "origin of dead " + message.getKeys());
            result.check(message.getProperty("ORIGIN_MESSAGE_ID") != null, "no origin id of " + message.getKeys());
        }
        result.figure("messages", all.size());
    }
}
