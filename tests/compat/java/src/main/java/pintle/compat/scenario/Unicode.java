package pintle.compat.scenario;

import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import pintle.compat.Collector;
import pintle.compat.Result;
import pintle.compat.Rig;
import pintle.compat.Scenario;

/** Properties, keys, tags and bodies beyond ASCII come back as they went, by both send and batch. */
final class Unicode implements Scenario {
    private static final String BODY = "Grüße, мир, 世界, 🚀 \u0000\u0001\u0002 end";
    private static final String TAG = "タグ-été-🚀";
    private static final String KEYS = "schlüssel клавиша 键 🗝";

    @Override
    public void run(Rig rig, Result result) throws Exception {
        DefaultMQProducer producer = rig.producer();
        String topic = rig.topic(producer);
        Collector got = new Collector();
        Collector filtered = new Collector();
        rig.consume(rig.fresh("all"), topic, "*", got);
        rig.consume(rig.fresh("tagged"), topic, TAG, filtered);
        Map<String, String> properties = new LinkedHashMap<>();
        properties.put("größe", "ß ä ö ü");
        properties.put("имя", "Ёлка");
        properties.put("名前", "値 と 空白");
        properties.put("rocket🚀", "\uD83D\uDE80\uD83C\uDF0D");
        properties.put("json", "{\"a\":[1,\"\\u00e9\"],'b':null}\t\r\n");
        properties.put("long", "ü".repeat(8000));
        producer.send(make(topic, properties));
        producer.send(List.of(make(topic, properties), make(topic, properties)));
        Rig.await(() -> got.all().size() >= 3 && filtered.all().size() >= 3, "three messages for both groups");
        for (MessageExt message : got.all()) {
            result.check(Arrays.equals(BODY.getBytes(StandardCharsets.UTF_8), message.getBody()), "body differs");
            result.same(TAG, message.getTags(), "tag");
            result.same(KEYS, message.getKeys(), "keys");
            properties.forEach((name, value) -> result.check(value.equals(message.getUserProperty(name)),
                "property " + name + ": " + message.getUserProperty(name)));
        }
        result.same(3, got.all().size(), "deliveries");
        result.same(3, filtered.all().size(), "deliveries to the tag's subscriber");
        result.figure("properties", properties.size());
    }

    private static Message make(String topic, Map<String, String> properties) {
        Message message = new Message(topic, TAG, KEYS, BODY.getBytes(StandardCharsets.UTF_8));
        properties.forEach(message::putUserProperty);
        return message;
    }
}
