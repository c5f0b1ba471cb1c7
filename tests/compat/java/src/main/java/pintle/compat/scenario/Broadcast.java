package pintle.compat.scenario;

import java.util.List;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import pintle.compat.Collector;
import pintle.compat.Messages;
import pintle.compat.Result;
import pintle.compat.Rig;
import pintle.compat.Scenario;
import pintle.compat.Version;

/** Every member of a broadcasting group gets every message. */
final class Broadcast implements Scenario {
    private static final int COUNT = 100;

    @Override
    public void run(Rig rig, Result result) throws Exception {
        DefaultMQProducer producer = rig.producer();
        String topic = rig.topic(producer);
        String group = rig.fresh("group");
        List<Collector> members = List.of(new Collector(), new Collector(), new Collector());
        for (Collector member : members) {
            DefaultMQPushConsumer consumer = rig.consumer(group, topic, "*");
            Version.broadcast(consumer);
            consumer.registerMessageListener(member);
            rig.started(consumer);
        }
        List<String> keys = Messages.keys("all", COUNT);
        for (String key : keys) {
            producer.send(Messages.make(topic, "T", key));
        }
        for (Collector member : members) {
            Rig.await(() -> member.hasAll(keys), "all messages for each member");
            member.exactly(keys, result, "member");
            Messages.bodies(member.all(), result);
        }
    }
}
