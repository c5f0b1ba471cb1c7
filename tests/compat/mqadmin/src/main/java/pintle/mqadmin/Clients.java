package pintle.mqadmin;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.BooleanSupplier;
import org.apache.rocketmq.client.ClientConfig;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.impl.factory.MQClientInstance;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageQueue;

/** Stock producers and consumers, kept open between commands, so that there is something for mqadmin to show. */
final class Clients implements AutoCloseable {
    private static final long PATIENCE_MS = 30_000;

    private final String namesrv;
    private final Map<String, DefaultMQProducer> producers = new HashMap<>();
    private final Map<String, DefaultMQPushConsumer> consumers = new HashMap<>();
    private final Map<String, AtomicInteger> consumed = new HashMap<>();
    private final DefaultMQProducer sender;

    Clients(String namesrv) throws MQClientException {
        this.namesrv = namesrv;
        sender = producer("shell-sender");
    }

    Object answer(String word, List<String> rest) throws Exception {
        switch (word) {
            case "send":
                return send(rest.get(0), rest.get(1), number(rest.get(2)), number(rest.get(3)), rest.get(4));
            case "await-queues":
                return awaitQueues(rest.get(0), number(rest.get(1)));
            case "produce":
                return produce(rest.get(0), rest.get(1));
            case "consume":
                return consume(rest.get(0), rest.get(1), rest.get(2));
            case "await-consumed":
                return awaitConsumed(rest.get(0), number(rest.get(1)));
            case "close":
                return shut(rest.get(0));
            default:
                throw new IllegalArgumentException("no such word: " + word);
        }
    }

    private static int number(String text) {
        return Integer.parseInt(text);
    }

    private <T extends ClientConfig> T configure(T client, String name) {
        client.setNamesrvAddr(namesrv);
        client.setClientIP("127.0.0.1");
        client.setInstanceName(name); // together the client's id, which mqadmin prints: 127.0.0.1@NAME
        return client;
    }

    private DefaultMQProducer producer(String group) throws MQClientException {
        DefaultMQProducer producer = configure(new DefaultMQProducer(group), group);
        producer.setSendMsgTimeout(10_000);
        producer.start();
        return producer;
    }

    /** Messages TOPIC-0, TOPIC-1, … (key and body say so) to one queue; waits until the queue has them. */
    private List<Map<String, Object>> send(String topic, String broker, int queueId, int count, String tag)
        throws Exception {
        MessageQueue queue = new MessageQueue(topic, broker, queueId);
        List<Map<String, Object>> sent = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            String key = topic + "-" + i;
            byte[] body = ("body of " + key).getBytes(StandardCharsets.UTF_8);
            SendResult ack = sender.send(new Message(topic, tag, key, body), queue);
            Map<String, Object> line = new LinkedHashMap<>();
            line.put("key", key);
            line.put("id", ack.getMsgId());
            line.put("offset_id", ack.getOffsetMsgId());
            line.put("offset", ack.getQueueOffset());
            sent.add(line);
        }
        long wanted = (long) sent.get(count - 1).get("offset") + 1;
        await(() -> maxOffset(queue) == wanted, "greatest offset " + wanted + " of " + queue);
        return sent;
    }

    private long maxOffset(MessageQueue queue) {
        try {
            return sender.maxOffset(queue);
        } catch (MQClientException e) {
            throw new IllegalStateException(e);
        }
    }

    /** Waits until clients are told of so many queues of the topic. */
    private int awaitQueues(String topic, int count) throws Exception {
        await(() -> queues(topic) == count, count + " queues of " + topic);
        return count;
    }

    private int queues(String topic) {
        sender.getDefaultMQProducerImpl().getMqClientFactory().updateTopicRouteInfoFromNameServer(topic);
        try {
            return sender.fetchPublishMessageQueues(topic).size();
        } catch (MQClientException e) {
            return 0;
        }
    }

    /** A producer that all brokers of the topic have heard of. */
    private String produce(String group, String topic) throws Exception {
        DefaultMQProducer producer = producer(group);
        producers.put(group, producer);
        MQClientInstance client = producer.getDefaultMQProducerImpl().getMqClientFactory();
        client.updateTopicRouteInfoFromNameServer(topic);
        client.sendHeartbeatToAllBrokerWithLock();
        return producer.buildMQClientId();
    }

    private String consume(String group, String topic, String tags) throws Exception {
        DefaultMQPushConsumer consumer = configure(new DefaultMQPushConsumer(group), group);
        AtomicInteger count = consumed.computeIfAbsent(group, g -> new AtomicInteger());
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe(topic, tags);
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            count.addAndGet(messages.size());
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        consumers.put(group, consumer);
        return consumer.buildMQClientId();
    }

    /** Waits until the group has consumed so many messages, and its offsets are with the brokers. */
    private int awaitConsumed(String group, int count) throws Exception {
        await(() -> consumed.get(group).get() >= count, group + " consumes " + count);
        var impl = consumers.get(group).getDefaultMQPushConsumerImpl();
        await(() -> impl.getRebalanceImpl().getProcessQueueTable().values().stream()
            .allMatch(queue -> queue.getMsgCount().get() == 0), "listener of " + group + " returned from everything");
        impl.persistConsumerOffset();
        return consumed.get(group).get();
    }

    private String shut(String group) {
        if (producers.containsKey(group)) {
            producers.remove(group).shutdown();
        } else {
            consumers.remove(group).shutdown();
        }
        return group;
    }

    private static void await(BooleanSupplier condition, String what) throws InterruptedException {
        long deadlineMs = System.currentTimeMillis() + PATIENCE_MS;
        while (!condition.getAsBoolean()) {
            if (System.currentTimeMillis() > deadlineMs) {
                throw new IllegalStateException("not within " + PATIENCE_MS + " ms: " + what);
            }
            Thread.sleep(5);
        }
    }

    @Override
    public void close() {
        producers.values().forEach(DefaultMQProducer::shutdown);
        consumers.values().forEach(DefaultMQPushConsumer::shutdown);
        sender.shutdown();
    }
}
