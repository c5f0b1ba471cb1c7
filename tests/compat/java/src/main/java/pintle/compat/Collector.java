package pintle.compat;

import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import java.util.stream.Collectors;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyContext;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.common.message.MessageExt;

/** Keeps every delivery of one consumer or one group, by the message's KEYS. */
public final class Collector implements MessageListenerConcurrently {
    private final Map<String, List<MessageExt>> byKey = new ConcurrentHashMap<>();

    @Override
    public ConsumeConcurrentlyStatus consumeMessage(List<MessageExt> messages, ConsumeConcurrentlyContext context) {
        for (MessageExt message : messages) {
            byKey.compute(String.valueOf(message.getKeys()), (key, had) -> {
                List<MessageExt> now = had == null ? new ArrayList<>() : new ArrayList<>(had);
                now.add(message);
                return now;
            });
        }
        return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
    }

    public Set<String> keys() {
        return new TreeSet<>(byKey.keySet());
    }

    public int distinct() {
        return byKey.size();
    }

    public boolean has(String key) {
        return byKey.containsKey(key);
    }

    public boolean hasAll(Collection<String> keys) {
        return byKey.keySet().containsAll(keys);
    }

    public MessageExt first(String key) {
        return byKey.get(key).get(0);
    }

    public Collection<MessageExt> all() {
        return byKey.values().stream().flatMap(List::stream).collect(Collectors.toList());
    }

    /** Checks that exactly the wanted keys came, each once. */
    public void exactly(Collection<String> wanted, Result result, String who) {
        Set<String> missing = new TreeSet<>(wanted);
        missing.removeAll(byKey.keySet());
        Set<String> unwanted = keys();
        unwanted.removeAll(Set.copyOf(wanted));
        Set<String> twice = byKey.entrySet().stream().filter(e -> e.getValue().size() > 1).map(Map.Entry::getKey)
            .collect(Collectors.toCollection(TreeSet::new));
        result.check(missing.isEmpty(), who + " missed " + missing.size() + ": " + some(missing));
        result.check(unwanted.isEmpty(), who + " got unwanted " + unwanted.size() + ": " + some(unwanted));
        result.check(twice.isEmpty(), who + " got more than once " + twice.size() + ": " + some(twice));
    }

    private static List<String> some(Set<String> keys) {
        return keys.stream().limit(10).toList();
    }
}
