package pintle.compat.scenario;

import java.util.Arrays;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import pintle.compat.Result;
import pintle.compat.Rig;
import pintle.compat.Scenario;
import pintle.compat.Version;

/**
 * 4 MiB - 1 KiB passes whole; more than 4 MiB is refused by the broker with MESSAGE_ILLEGAL on a connection that goes
 * on. Random bytes and no compression, and a client limit out of the way, so that the broker decides.
 */
final class Big implements Scenario {
    private static final int LIMIT = 4 << 20;
    private static final int[] PASS = {LIMIT - 1024, 1 << 20, LIMIT - 1024};
    private static final int[] REFUSED = {LIMIT + 1, LIMIT + 4096, 8 << 20};

    @Override
    public void run(Rig rig, Result result) throws Exception {
        DefaultMQProducer producer = rig.producer();
        producer.setMaxMessageSize(64 << 20);
        producer.setCompressMsgBodyOverHowmuch(Integer.MAX_VALUE);
        String topic = rig.topic(producer);
        Map<String, byte[]> got = new ConcurrentHashMap<>();
        rig.consume(rig.fresh("group"), topic, "*", (messages, context) -> {
            for (MessageExt message : messages) {
                got.put(message.getKeys(), message.getBody());
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        Random random = new Random(42);
        for (int i = 0; i < PASS.length; i++) {
            byte[] body = new byte[PASS[i]];
            random.nextBytes(body);
            String key = "big-" + i;
            producer.send(new Message(topic, "T", key, body));
            Rig.await(() -> got.containsKey(key), PASS[i] + " bytes consumed");
            result.check(Arrays.equals(body, got.get(key)), PASS[i] + " bytes came back different");
        }
        for (int size : REFUSED) {
            byte[] body = new byte[size];
            random.nextBytes(body);
            try {
                producer.send(new Message(topic, "T", "refused-" + size, body));
                result.check(false, size + " bytes were taken");
            } catch (MQBrokerException e) {
                result.same(Version.MESSAGE_ILLEGAL, e.getResponseCode(), "code for " + size + " bytes");
            }
        }
        producer.send(new Message(topic, "T", "after", new byte[] {1}));
        Rig.await(() -> got.containsKey("after"), "a small message after the refused ones");
        result.same(PASS.length + 1, got.size(), "messages consumed");
    }
}
