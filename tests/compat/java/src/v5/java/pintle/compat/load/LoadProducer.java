package pintle.compat.load;

import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Random;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendCallback;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/**
 * One stock producer that sends without retries, at a rate, until told to stop; sync or with a window of async sends.
 */
final class LoadProducer implements Runnable {
    private final String name;
    private final DefaultMQProducer producer;
    private final LoadOptions options;
    private final Sent sent;
    private final Journal journal;
    private final Semaphore window; // null = sync
    private volatile boolean stop;
    private volatile boolean sending = true;
    private long acks;
    private long lastAckNs;
    private long longestPauseNs;
    private long longestPauseEndMs;

    LoadProducer(String name, boolean sync, DefaultMQProducer producer, LoadOptions options, Sent sent,
        Journal journal) {
        this.name = name;
        this.producer = producer;
        this.options = options;
        this.sent = sent;
        this.journal = journal;
        this.window = sync ? null : new Semaphore(options.window);
    }

    /** A body that tells its key and is incompressible after it, so that a torn one is seen. */
    static byte[] body(String key, int size) {
        byte[] name = (key + " ").getBytes(StandardCharsets.US_ASCII);
        byte[] body = new byte[Math.max(size, name.length)];
        new Random(key.hashCode()).nextBytes(body);
        System.arraycopy(name, 0, body, 0, name.length);
        return body;
    }

    static boolean intact(MessageExt message) {
        return message.getKeys() != null
            && Arrays.equals(message.getBody(), body(message.getKeys(), message.getBody().length));
    }

    @Override
    public void run() {
        lastAckNs = System.nanoTime();
        long dueNs = lastAckNs;
        try {
            for (long seq = 0; !stop; seq++) {
                String key = name + "-" + seq;
                Message message = new Message(options.topic, "load", key, body(key, options.body));
                if (window == null) {
                    sendSync(key, message);
                } else {
                    sendAsync(key, message);
                }
                if (options.rate > 0) {
                    dueNs = Math.max(dueNs + 1_000_000_000L / options.rate, System.nanoTime() - 1_000_000_000L);
                    LockSupport.parkNanos(dueNs - System.nanoTime());
                }
            }
            if (window != null && !window.tryAcquire(options.window, 60, TimeUnit.SECONDS)) {
                journal.event("unanswered", name, (options.window - window.availablePermits()) + " async sends");
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        } finally {
            sending = false;
        }
    }

    private void sendSync(String key, Message message) throws InterruptedException {
        try {
            acked(key, producer.send(message));
        } catch (InterruptedException e) {
            throw e;
        } catch (Exception e) {
            failed(key, e);
        }
    }

    private void sendAsync(String key, Message message) throws InterruptedException {
        window.acquire();
        try {
            producer.send(message, new SendCallback() {
                @Override
                public void onSuccess(SendResult result) {
                    window.release();
                    acked(key, result);
                }

                @Override
                public void onException(Throwable e) {
                    window.release();
                    failed(key, e);
                }
            });
        } catch (InterruptedException e) {
            throw e;
        } catch (Exception e) {
            window.release();
            failed(key, e);
        }
    }

    private void acked(String key, SendResult result) {
        if (result.getSendStatus() != SendStatus.SEND_OK) {
            journal.event("bad-status", name, key + " " + result.getSendStatus());
        }
        String queue = result.getMessageQueue().getBrokerName() + "/" + result.getMessageQueue().getQueueId();
        journal.acked(key, queue, result.getQueueOffset(), result.getOffsetMsgId());
        String had = sent.acked.putIfAbsent(key, Sent.place(result.getMessageQueue().getBrokerName(),
            result.getMessageQueue().getQueueId(), result.getQueueOffset()));
        if (had != null) {
            journal.event("acked-twice", name, key + " at " + had + " and " + queue + "@" + result.getQueueOffset());
        }
        synchronized (this) {
            pause();
            acks++;
        }
    }

    private void failed(String key, Throwable e) {
        int code = e instanceof MQBrokerException broker ? broker.getResponseCode()
            : e instanceof MQClientException client ? client.getResponseCode() : 0;
        Throwable root = e;
        while (root.getCause() != null) {
            root = root.getCause();
        }
        String kind = e.getClass().getSimpleName() + (root == e ? "" : "<" + root.getClass().getSimpleName());
        sent.failed(kind + ":" + code);
        journal.failed(key, kind, code, root.getMessage());
        // A dead address fails at once; without this a loop of failures would take the machine from the restart.
        LockSupport.parkNanos(TimeUnit.MILLISECONDS.toNanos(1));
    }

    private void pause() {
        long nowNs = System.nanoTime();
        if (nowNs - lastAckNs > longestPauseNs) {
            longestPauseNs = nowNs - lastAckNs;
            longestPauseEndMs = journal.nowMs();
        }
        lastAckNs = nowNs;
    }

    void stop() {
        stop = true;
        synchronized (this) {
            pause();
        }
    }

    boolean sending() {
        return sending;
    }

    synchronized long acks() {
        return acks;
    }

    synchronized double longestPauseMs() {
        return longestPauseNs / 1e6;
    }

    synchronized long longestPauseEndMs() {
        return longestPauseEndMs;
    }

    String name() {
        return name;
    }

    void shutdown() {
        producer.shutdown();
    }
}
