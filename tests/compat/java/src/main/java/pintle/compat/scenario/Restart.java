package pintle.compat.scenario;

import java.util.ArrayList;
import java.util.List;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import pintle.compat.Collector;
import pintle.compat.Messages;
import pintle.compat.Result;
import pintle.compat.Rig;
import pintle.compat.Scenario;

/** A consumer that comes back goes on where it stopped: what was sent meanwhile, and nothing that it had. */
final class Restart implements Scenario {
    @Override
    public void run(Rig rig, Result result) throws Exception {
        DefaultMQProducer producer = rig.producer();
        String topic = rig.topic(producer);
        String group = rig.fresh("group");
        List<String> sentBefore = new ArrayList<>();
        for (int life = 0; life < 3; life++) {
            List<String> keys = Messages.keys("life" + life, 100);
            Collector got = new Collector();
            for (String key : keys) {
                producer.send(Messages.make(topic, "T", key));
            }
            DefaultMQPushConsumer consumer = rig.consume(group, topic, "*", got);
            Rig.await(() -> got.hasAll(keys), "messages of life " + life);
            // One more for each queue: whatever the offset said, the consumer has now passed all before it.
            List<String> last = new ArrayList<>(keys);
            for (var queue : Rig.queues(producer, topic)) {
                String key = "last" + life + "-" + queue.getBrokerName() + "-" + queue.getQueueId();
                producer.send(Messages.make(topic, "T", key), queue);
                last.add(key);
            }
            Rig.await(() -> got.hasAll(last), "last messages of life " + life);
            got.exactly(last, result, "life " + life);
            // The client commits on shutdown what its listener has returned from; wait for that, not for luck.
            Rig.await(() -> unfinished(consumer) == 0, "listener returned from everything");
            consumer.shutdown();
            sentBefore.addAll(last);
        }
        result.figure("messages", sentBefore.size());
        Collector latecomer = new Collector();
        rig.consume(rig.fresh("group"), topic, "*", latecomer);
        Rig.await(() -> latecomer.hasAll(sentBefore), "a new group gets all from the first");
        latecomer.exactly(sentBefore, result, "a new group");
    }

    private static long unfinished(DefaultMQPushConsumer consumer) {
        return consumer.getDefaultMQPushConsumerImpl().getRebalanceImpl().getProcessQueueTable().values().stream()
            .mapToLong(queue -> queue.getMsgCount().get()).sum();
    }
}
