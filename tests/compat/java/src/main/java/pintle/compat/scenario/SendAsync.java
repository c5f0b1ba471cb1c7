package pintle.compat.scenario;

import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendCallback;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import pintle.compat.Collector;
import pintle.compat.Messages;
import pintle.compat.Result;
import pintle.compat.Rig;
import pintle.compat.Scenario;

/** Asynchronous sends: many at once on one connection, each answered exactly once and with its own answer. */
final class SendAsync implements Scenario {
    private static final int COUNT = 500;

    @Override
    public void run(Rig rig, Result result) throws Exception {
        DefaultMQProducer producer = rig.producer();
        String topic = rig.topic(producer);
        Collector got = new Collector();
        rig.consume(rig.fresh("group"), topic, "*", got);
        List<String> keys = Messages.keys("async", COUNT);
        Map<String, SendResult> acks = new ConcurrentHashMap<>();
        AtomicInteger answers = new AtomicInteger();
        for (String key : keys) {
            producer.send(Messages.make(topic, "T", key), new SendCallback() {
                @Override
                public void onSuccess(SendResult ack) {
                    acks.put(key, ack);
                    answers.incrementAndGet();
                }

                @Override
                public void onException(Throwable e) {
                    result.check(false, "send of " + key + ": " + e);
                    answers.incrementAndGet();
                }
            });
        }
        Rig.await(() -> answers.get() >= COUNT, "every async send answered");
        Rig.await(() -> got.hasAll(acks.keySet()), "all async messages consumed");
        result.same(COUNT, answers.get(), "answers");
        got.exactly(keys, result, "consumer");
        Messages.bodies(got.all(), result);
        result.figure("queues", Messages.contiguous(got.all(), result));
        acks.forEach((key, ack) -> {
            result.same(SendStatus.SEND_OK, ack.getSendStatus(), "status of " + key);
            result.same(got.first(key).getQueueOffset(), ack.getQueueOffset(), "queue offset of " + key);
            result.same(Messages.offsetId(got.first(key)), ack.getOffsetMsgId(), "offset id of " + key);
        });
    }
}
