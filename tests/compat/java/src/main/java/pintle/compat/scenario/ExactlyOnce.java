package pintle.compat.scenario;

import java.util.List;
import java.util.concurrent.Semaphore;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendCallback;
import org.apache.rocketmq.client.producer.SendResult;
import pintle.compat.Collector;
import pintle.compat.Messages;
import pintle.compat.Result;
import pintle.compat.Rig;
import pintle.compat.Scenario;

/** 10,000 messages through a quiet system: each consumed exactly once, every queue without a hole. */
final class ExactlyOnce implements Scenario {
    private static final int COUNT = 10_000;
    private static final int OUTSTANDING = 64;

    @Override
    public void run(Rig rig, Result result) throws Exception {
        DefaultMQProducer producer = rig.producer();
        String topic = rig.topic(producer);
        String group = rig.fresh("group");
        Collector got = new Collector();
        rig.consume(group, topic, "*", got);
        List<String> keys = Messages.keys("once", COUNT);
        Semaphore window = new Semaphore(OUTSTANDING);
        AtomicInteger acked = new AtomicInteger();
        long startNs = System.nanoTime();
        for (String key : keys) {
            window.acquire();
            producer.send(Messages.make(topic, "T", key), new SendCallback() {
                @Override
                public void onSuccess(SendResult ack) {
                    acked.incrementAndGet();
                    window.release();
                }

                @Override
                public void onException(Throwable e) {
                    result.check(false, "send of " + key + ": " + e);
                    window.release();
                }
            });
        }
        window.acquire(OUTSTANDING);
        result.figure("send_ms", (System.nanoTime() - startNs) / 1_000_000);
        result.same(COUNT, acked.get(), "acknowledged");
        Rig.await(() -> got.hasAll(keys), "all " + COUNT + " consumed");
        result.figure("all_ms", (System.nanoTime() - startNs) / 1_000_000);
        // A second delivery would come after the first; a last message per queue shows that all before it is passed.
        List<String> last = Messages.keys("last", Rig.queues(producer, topic).size());
        for (String key : last) {
            producer.send(Messages.make(topic, "T", key),
                Rig.queues(producer, topic).get(Integer.parseInt(key.substring(key.indexOf('-') + 1))));
        }
        Rig.await(() -> got.hasAll(last), "last messages");
        keys.addAll(last);
        got.exactly(keys, result, "group");
        Messages.bodies(got.all(), result);
        result.figure("queues", Messages.contiguous(got.all(), result));
    }
}
