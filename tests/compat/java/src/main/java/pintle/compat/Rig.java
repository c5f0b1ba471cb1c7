package pintle.compat;

import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.BooleanSupplier;
import org.apache.rocketmq.client.ClientConfig;
import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.common.topic.TopicValidator;

/**
 * Makes stock clients for one scenario and ends them with it. Each client gets an instance name, so it has connections
 * of its own as if it were another process; each scenario gets topics and groups that nobody used before.
 */
public final class Rig implements AutoCloseable {
    public static final int QUEUES = 4;
    /** How long anything that must happen may take before the scenario fails; nothing waits longer than it needs. */
    public static final long PATIENCE_MS = 30_000;
    private static final AtomicInteger SERIAL = new AtomicInteger();
    private static final String RUN = Long.toString(System.currentTimeMillis(), 36);

    private final Options options;
    private final String name;
    private final Deque<AutoCloseable> open = new ArrayDeque<>();

    Rig(Options options, String name) {
        this.options = options;
        this.name = name;
    }

    public Options options() {
        return options;
    }

    /** A name for a topic or group that was never used before, in this run or another. */
    public String fresh(String what) {
        return "t-" + name + "-" + what + "-" + RUN + "-" + SERIAL.incrementAndGet();
    }

    private void configure(ClientConfig config) {
        config.setNamesrvAddr(options.namesrv());
        config.setInstanceName("rig-" + RUN + "-" + SERIAL.incrementAndGet());
    }

    public DefaultMQProducer producer() throws MQClientException {
        DefaultMQProducer producer = new DefaultMQProducer(fresh("producers"));
        configure(producer);
        producer.setSendMsgTimeout(10_000);
        producer.start();
        open.push(producer::shutdown);
        return producer;
    }

    /** A consumer that starts at the first message; not started yet. */
    public DefaultMQPushConsumer consumer(String group, String topic, String tags) throws MQClientException {
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(group);
        configure(consumer);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.setConsumeThreadMin(4);
        consumer.setConsumeThreadMax(4);
        consumer.subscribe(topic, tags);
        return consumer;
    }

    public DefaultMQPushConsumer consume(String group, String topic, String tags, MessageListenerConcurrently listener)
        throws MQClientException {
        DefaultMQPushConsumer consumer = consumer(group, topic, tags);
        consumer.registerMessageListener(listener);
        return started(consumer);
    }

    public DefaultMQPushConsumer consumeOrderly(String group, String topic, MessageListenerOrderly listener)
        throws MQClientException {
        DefaultMQPushConsumer consumer = consumer(group, topic, "*");
        consumer.registerMessageListener(listener);
        return started(consumer);
    }

    /** Any consumer of a group and a topic that wants to be started; ended with the scenario. */
    public DefaultMQPushConsumer started(DefaultMQPushConsumer consumer) throws MQClientException {
        consumer.start();
        open.push(consumer::shutdown);
        return consumer;
    }

    /** A pull consumer that commits by itself; not started yet. */
    public DefaultLitePullConsumer litePull(String group) {
        DefaultLitePullConsumer consumer = new DefaultLitePullConsumer(group);
        configure(consumer);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.setPollTimeoutMillis(100);
        open.push(consumer::shutdown);
        return consumer;
    }

    /** Creates a topic with QUEUES queues on every broker and waits until clients are told so; returns its name. */
    public String topic(DefaultMQProducer producer) throws Exception {
        String topic = fresh("topic");
        List<String> brokers = brokers(queues(producer, TopicValidator.AUTO_CREATE_TOPIC_KEY_TOPIC));
        Version.createTopic(producer, TopicValidator.AUTO_CREATE_TOPIC_KEY_TOPIC, topic, QUEUES);
        await(() -> queues(producer, topic).size() == QUEUES * brokers.size(),
            "route of " + topic + " with " + QUEUES + " queues on each of " + brokers);
        return topic;
    }

    /** All queues that a producer may write to, in order; asks the name server each time. Empty if it knows none. */
    public static List<MessageQueue> queues(DefaultMQProducer producer, String topic) {
        producer.getDefaultMQProducerImpl().getMqClientFactory().updateTopicRouteInfoFromNameServer(topic);
        try {
            List<MessageQueue> queues = new ArrayList<>(producer.fetchPublishMessageQueues(topic));
            queues.sort(null);
            return queues;
        } catch (MQClientException e) {
            return List.of();
        }
    }

    public static List<String> brokers(List<MessageQueue> queues) {
        return queues.stream().map(MessageQueue::getBrokerName).distinct().toList();
    }

    public static void await(BooleanSupplier condition, String what) throws InterruptedException {
        await(condition, PATIENCE_MS, what);
    }

    public static void await(BooleanSupplier condition, long patienceMs, String what) throws InterruptedException {
        long deadlineNs = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(patienceMs);
        while (!condition.getAsBoolean()) {
            if (System.nanoTime() > deadlineNs) {
                throw new IllegalStateException("not within " + patienceMs + " ms: " + what);
            }
            Thread.sleep(2);
        }
    }

    @Override
    public void close() throws Exception {
        while (!open.isEmpty()) {
            open.pop().close();
        }
    }
}
