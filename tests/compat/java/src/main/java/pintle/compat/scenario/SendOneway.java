package pintle.compat.scenario;

import java.util.List;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import pintle.compat.Collector;
import pintle.compat.Messages;
import pintle.compat.Result;
import pintle.compat.Rig;
import pintle.compat.Scenario;

/** Oneway sends: no answer, and yet all arrive on a healthy connection. */
final class SendOneway implements Scenario {
    private static final int COUNT = 200;

    @Override
    public void run(Rig rig, Result result) throws Exception {
        DefaultMQProducer producer = rig.producer();
        String topic = rig.topic(producer);
        Collector got = new Collector();
        rig.consume(rig.fresh("group"), topic, "*", got);
        List<String> keys = Messages.keys("oneway", COUNT);
        for (String key : keys) {
            producer.sendOneway(Messages.make(topic, "T", key));
        }
        Rig.await(() -> got.hasAll(keys), "all oneway messages consumed");
        got.exactly(keys, result, "consumer");
        Messages.bodies(got.all(), result);
        result.figure("queues", Messages.contiguous(got.all(), result));
        // The connection still pairs requests and answers.
        producer.send(Messages.make(topic, "T", "after"));
        Rig.await(() -> got.has("after"), "a sync message after the oneway ones");
    }
}
