package pintle.compat.load;

import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.impl.consumer.ProcessQueue;
import org.apache.rocketmq.client.impl.factory.MQClientInstance;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.remoting.protocol.ResponseCode;
import org.apache.rocketmq.remoting.protocol.header.QueryConsumerOffsetRequestHeader;

/**
 * Asks, through a client of its own, what must not go back: committed and greatest offsets of each queue, the member
 * list of each group at each broker; and looks whether two orderly consumers believe to have one queue locked.
 */
final class Watcher implements Runnable {
    private static final long ASK_TIMEOUT_MS = 3000;

    private final DefaultMQProducer client;
    private final LoadOptions options;
    private final Journal journal;
    private final List<String> groups;
    private final List<DefaultMQPushConsumer> orderly;
    private final List<MessageQueue> queues;
    private final Map<String, Long> greatest = new HashMap<>();
    private volatile boolean stop;
    private volatile long rounds;

    Watcher(DefaultMQProducer client, LoadOptions options, Journal journal, List<String> groups,
        List<DefaultMQPushConsumer> orderly, List<MessageQueue> queues) {
        this.client = client;
        this.options = options;
        this.journal = journal;
        this.groups = groups;
        this.orderly = orderly;
        this.queues = queues;
    }

    /** The size of a group as its broker tells it. */
    static int members(DefaultMQProducer client, String broker, String group) throws Exception {
        MQClientInstance instance = client.getDefaultMQProducerImpl().getMqClientFactory();
        String address = instance.findBrokerAddressInPublish(broker);
        try {
            return instance.getMQClientAPIImpl().getConsumerIdListByGroup(address, group, ASK_TIMEOUT_MS).size();
        } catch (MQBrokerException e) {
            if (e.getResponseCode() == ResponseCode.SYSTEM_ERROR) {
                return 0; // how a broker says that it knows no member
            }
            throw e;
        }
    }

    @Override
    public void run() {
        try {
            while (!stop) {
                round();
                rounds++;
                Thread.sleep(options.pollMs);
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    private void round() throws InterruptedException {
        MQClientInstance instance = client.getDefaultMQProducerImpl().getMqClientFactory();
        for (MessageQueue queue : queues) {
            String name = queue.getBrokerName() + "/" + queue.getQueueId();
            ask("max-back", name, () -> client.maxOffset(queue));
            for (String group : groups) {
                ask("offset-back", group + " " + name, () -> committed(instance, group, queue));
            }
        }
        for (String broker : queues.stream().map(MessageQueue::getBrokerName).distinct().toList()) {
            for (String group : groups) {
                ask("members-shrink", group + " " + broker, () -> (long) members(client, broker, group));
            }
        }
        locks();
    }

    private interface Question {
        long ask() throws Exception;
    }

    private void ask(String event, String what, Question question) throws InterruptedException {
        if (stop) {
            return;
        }
        try {
            long now = question.ask();
            long before = greatest.merge(event + " " + what, now, Math::max);
            if (now < before && !stop) {
                journal.event(event, what, before + " to " + now);
            }
        } catch (InterruptedException e) {
            throw e;
        } catch (Exception e) {
            if (!stop) {
                journal.event("watch-error", event + " " + what, e.toString());
            }
        }
    }

    private long committed(MQClientInstance instance, String group, MessageQueue queue) throws Exception {
        QueryConsumerOffsetRequestHeader header = new QueryConsumerOffsetRequestHeader();
        header.setTopic(options.topic);
        header.setConsumerGroup(group);
        header.setQueueId(queue.getQueueId());
        try {
            return instance.getMQClientAPIImpl().queryConsumerOffset(
                instance.findBrokerAddressInPublish(queue.getBrokerName()), header, ASK_TIMEOUT_MS);
        } catch (MQBrokerException e) {
            if (e.getResponseCode() == ResponseCode.QUERY_NOT_FOUND) {
                return -1;
            }
            throw e;
        }
    }

    /** One has a queue locked before and after another is seen to have it locked: then both had it at once. */
    private void locks() {
        for (DefaultMQPushConsumer one : orderly) {
            for (DefaultMQPushConsumer two : orderly) {
                for (MessageQueue queue : queues) {
                    if (one != two && locked(one, queue) && locked(two, queue) && locked(one, queue)) {
                        journal.event("lock-overlap", one.getInstanceName(), queue + " also " + two.getInstanceName());
                    }
                }
            }
        }
    }

    private static boolean locked(DefaultMQPushConsumer consumer, MessageQueue queue) {
        ProcessQueue held =
            consumer.getDefaultMQPushConsumerImpl().getRebalanceImpl().getProcessQueueTable().get(queue);
        return held != null && !held.isDropped() && held.isLocked() && !held.isLockExpired();
    }

    void stop() {
        stop = true;
    }

    long rounds() {
        return rounds;
    }
}
