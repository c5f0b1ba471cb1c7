package pintle.compat.scenario;

import java.util.List;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.message.MessageQueue;
import pintle.compat.Collector;
import pintle.compat.Messages;
import pintle.compat.Result;
import pintle.compat.Rig;
import pintle.compat.Scenario;

/**
 * A send to a topic that nobody made: the client finds TBW102's route, the broker makes the topic from its template.
 */
final class AutoCreate implements Scenario {
    @Override
    public void run(Rig rig, Result result) throws Exception {
        DefaultMQProducer producer = rig.producer();
        producer.setDefaultTopicQueueNums(3);
        String topic = rig.fresh("nobody-made-me");
        result.check(Rig.queues(producer, topic).isEmpty(), "a fresh topic already has a route");
        Collector got = new Collector();
        long startNs = System.nanoTime();
        SendResult ack = producer.send(Messages.make(topic, "T", "first"));
        result.same(SendStatus.SEND_OK, ack.getSendStatus(), "status");
        Rig.await(() -> !Rig.queues(producer, topic).isEmpty(), "route of the new topic");
        result.figure("route_ms", (System.nanoTime() - startNs) / 1_000_000);
        List<MessageQueue> queues = Rig.queues(producer, topic);
        // Only the broker that took the message knows the topic; the template's 8 queues yield to the client's 3.
        result.same(List.of(ack.getMessageQueue().getBrokerName()), Rig.brokers(queues), "brokers of the new topic");
        result.same(3, queues.size(), "queues of the new topic");
        rig.consume(rig.fresh("group"), topic, "*", got);
        producer.send(Messages.make(topic, "T", "second"));
        Rig.await(() -> got.hasAll(List.of("first", "second")), "both messages of the new topic");
        got.exactly(List.of("first", "second"), result, "consumer");
    }
}
