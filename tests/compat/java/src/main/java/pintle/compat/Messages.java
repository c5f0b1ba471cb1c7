package pintle.compat;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageClientExt;
import org.apache.rocketmq.common.message.MessageExt;

/** Messages whose body tells the key, so that a delivery can be checked without asking the sender. */
public final class Messages {
    private Messages() {
    }

    public static Message make(String topic, String tag, String key) {
        return new Message(topic, tag, key, body(key));
    }

    public static byte[] body(String key) {
        return ("body of " + key).getBytes(StandardCharsets.UTF_8);
    }

    public static List<String> keys(String prefix, int count) {
        List<String> keys = new ArrayList<>(count);
        for (int i = 0; i < count; i++) {
            keys.add(prefix + "-" + i);
        }
        return keys;
    }

    /** The id that tells the place in the log; getMsgId() of a delivery is the sender's unique key. */
    public static String offsetId(MessageExt delivery) {
        return ((MessageClientExt) delivery).getOffsetMsgId();
    }

    /** Every delivery carries the body of its key. */
    public static void bodies(Collection<MessageExt> deliveries, Result result) {
        for (MessageExt message : deliveries) {
            result.check(Arrays.equals(body(message.getKeys()), message.getBody()), "body of " + message.getKeys());
        }
    }

    /** The offsets of each queue are 0, 1, 2, … without a hole; returns the number of queues seen. */
    public static int contiguous(Collection<MessageExt> deliveries, Result result) {
        Map<String, TreeSet<Long>> queues = new TreeMap<>();
        for (MessageExt message : deliveries) {
            queues.computeIfAbsent(message.getBrokerName() + "/" + message.getQueueId(), k -> new TreeSet<>())
                .add(message.getQueueOffset());
        }
        queues.forEach((queue, seen) -> result.check(seen.first() == 0 && seen.last() == seen.size() - 1,
            "offsets of queue " + queue + ": " + seen.size() + " from " + seen.first() + " to " + seen.last()));
        return queues.size();
    }
}
