package pintle.compat.scenario;

import java.util.ArrayList;
import java.util.List;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import pintle.compat.Collector;
import pintle.compat.Messages;
import pintle.compat.Result;
import pintle.compat.Rig;
import pintle.compat.Scenario;

/**
 * Batches: every element is a message of its own, at consecutive offsets of one queue, with its own offset id, tag,
 * keys.
 *
 * An element is delivered with the unique key that the sender was told. Apache 5.3.3 appends the properties of the batch
 * to those of each element, and of two UNIQ_KEY the last one counts: there all elements carry the batch's key instead (its
 * successors do not). Either is right, a mixture is not.
 */
final class SendBatch implements Scenario {
    private static final int BATCHES = 10;
    private static final int BATCH = 32;

    @Override
    public void run(Rig rig, Result result) throws Exception {
        DefaultMQProducer producer = rig.producer();
        String topic = rig.topic(producer);
        Collector got = new Collector();
        rig.consume(rig.fresh("group"), topic, "*", got);
        List<String> all = new ArrayList<>();
        List<SendResult> acks = new ArrayList<>();
        for (int b = 0; b < BATCHES; b++) {
            List<Message> batch = new ArrayList<>();
            for (String key : Messages.keys("batch" + b, BATCH)) {
                batch.add(Messages.make(topic, "tag-of-" + key, key));
                all.add(key);
            }
            acks.add(producer.send(batch));
        }
        Rig.await(() -> got.hasAll(all), "all elements of all batches consumed");
        got.exactly(all, result, "consumer");
        Messages.bodies(got.all(), result);
        result.figure("queues", Messages.contiguous(got.all(), result));
        for (int b = 0; b < BATCHES; b++) {
            SendResult ack = acks.get(b);
            result.same(SendStatus.SEND_OK, ack.getSendStatus(), "status of batch " + b);
            String[] uniqueKeys = ack.getMsgId().split(",");
            String[] offsetIds = ack.getOffsetMsgId().split(",");
            result.same(BATCH, uniqueKeys.length, "unique keys of batch " + b);
            result.same(BATCH, offsetIds.length, "offset ids of batch " + b);
            for (int i = 0; i < BATCH && i < offsetIds.length; i++) {
                MessageExt message = got.first("batch" + b + "-" + i);
                String what = "element " + i + " of batch " + b;
                result.same(ack.getQueueOffset() + i, message.getQueueOffset(), "offset of " + what);
                result.same(ack.getMessageQueue().getQueueId(), message.getQueueId(), "queue of " + what);
                result.same(offsetIds[i], Messages.offsetId(message), "offset id of " + what);
                boolean own = uniqueKeys[0].equals(got.first("batch" + b + "-0").getMsgId());
                result.same(own ? uniqueKeys[i] : got.first("batch" + b + "-0").getMsgId(), message.getMsgId(),
                        "unique key of " + what);
                result.check(own || !List.of(uniqueKeys).contains(message.getMsgId()), "one kind of key: " + what);
                result.same("tag-of-" + message.getKeys(), message.getTags(), "tag of " + what);
            }
        }
    }
}
