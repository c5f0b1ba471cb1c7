package pintle.compat;

import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.remoting.protocol.ResponseCode;
import org.apache.rocketmq.remoting.protocol.heartbeat.MessageModel;
import pintle.compat.load.Load;

/** What differs between versions of the client. This is 5.3.3; java4 has its own for 4.9.8. */
public final class Version {
    public static final int MESSAGE_ILLEGAL = ResponseCode.MESSAGE_ILLEGAL;

    private Version() {
    }

    public static void createTopic(DefaultMQProducer producer, String key, String topic, int queues)
        throws MQClientException {
        producer.createTopic(key, topic, queues, null);
    }

    public static void broadcast(DefaultMQPushConsumer consumer) {
        consumer.setMessageModel(MessageModel.BROADCASTING);
    }

    static int load(Options options) throws Exception {
        return Load.run(options);
    }
}
