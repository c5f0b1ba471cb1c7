package pintle.compat.scenario;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Predicate;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.MessageQueue;
import pintle.compat.Collector;
import pintle.compat.Messages;
import pintle.compat.Result;
import pintle.compat.Rig;
import pintle.compat.Scenario;

/**
 * Subscriptions by tag: exactly the wanted messages, and none else. "Aa" and "BB" have the same Java hash code: the
 * broker's filter by hash lets both through, and the client's own must not be starved by it.
 *
 * That nothing unwanted comes is proved without waiting: at the end each queue gets a message that every group wants,
 * and a group that has those from all queues has passed everything before them.
 */
final class Tags implements Scenario {
    private static final List<String> TAGS = Arrays.asList("A", "B", "C", "Aa", "BB", null);
    private static final int ROUNDS = 40;

    @Override
    public void run(Rig rig, Result result) throws Exception {
        Map<String, Predicate<String>> subscriptions = new LinkedHashMap<>();
        subscriptions.put("A", tag -> "A".equals(tag));
        subscriptions.put("A || B", tag -> "A".equals(tag) || "B".equals(tag));
        subscriptions.put("Aa || A", tag -> "Aa".equals(tag) || "A".equals(tag));
        subscriptions.put("*", tag -> true);

        DefaultMQProducer producer = rig.producer();
        String topic = rig.topic(producer);
        Map<String, Collector> got = new LinkedHashMap<>();
        for (String subscription : subscriptions.keySet()) {
            got.put(subscription, new Collector());
            rig.consume(rig.fresh("group"), topic, subscription, got.get(subscription));
        }
        List<String[]> sent = new ArrayList<>();
        for (int i = 0; i < ROUNDS; i++) {
            for (String tag : TAGS) {
                String key = tag + "-" + i;
                producer.send(Messages.make(topic, tag, key));
                sent.add(new String[] {key, tag});
            }
        }
        for (MessageQueue queue : Rig.queues(producer, topic)) {
            String key = "last-of-" + queue.getBrokerName() + "-" + queue.getQueueId();
            producer.send(Messages.make(topic, "A", key), queue);
            sent.add(new String[] {key, "A"});
        }
        for (Map.Entry<String, Collector> group : got.entrySet()) {
            Predicate<String> wants = subscriptions.get(group.getKey());
            List<String> wanted = sent.stream().filter(s -> wants.test(s[1])).map(s -> s[0]).toList();
            Rig.await(() -> group.getValue().hasAll(wanted), "all messages of subscription " + group.getKey());
            group.getValue().exactly(wanted, result, "subscription " + group.getKey());
            result.figure("delivered " + group.getKey(), group.getValue().distinct());
        }
        result.figure("sent", sent.size());
    }
}
