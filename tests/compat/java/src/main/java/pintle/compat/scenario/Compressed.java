package pintle.compat.scenario;

import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import pintle.compat.Collector;
import pintle.compat.Result;
import pintle.compat.Rig;
import pintle.compat.Scenario;

/**
 * The client compresses long bodies; the broker keeps them as they came and hands on the flag that says so, which the
 * newer client takes off when it has unpacked the body.
 */
final class Compressed implements Scenario {
    @Override
    public void run(Rig rig, Result result) throws Exception {
        DefaultMQProducer producer = rig.producer();
        String topic = rig.topic(producer);
        Collector got = new Collector();
        rig.consume(rig.fresh("group"), topic, "*", got);
        byte[] body = "compressible ".repeat(100_000).getBytes(StandardCharsets.UTF_8);
        producer.send(new Message(topic, "T", "long", body));
        producer.send(new Message(topic, "T", "short", new byte[] {1, 2, 3}));
        Rig.await(() -> got.has("long") && got.has("short"), "both messages");
        MessageExt message = got.first("long");
        result.check(Arrays.equals(body, message.getBody()), "the body comes back whole");
        result.check(message.getStoreSize() < body.length / 10, "stored in " + message.getStoreSize() + " bytes");
        result.figure("body", body.length);
        result.figure("stored", message.getStoreSize());
    }
}
