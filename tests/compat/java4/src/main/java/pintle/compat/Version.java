package pintle.compat;

import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.protocol.ResponseCode;
import org.apache.rocketmq.common.protocol.heartbeat.MessageModel;

/** What differs between versions of the client. This is 4.9.8; that of java/src/v5 is for 5.3.3. */
public final class Version {
    public static final int MESSAGE_ILLEGAL = ResponseCode.MESSAGE_ILLEGAL;

    private Version() {
    }

    public static void createTopic(DefaultMQProducer producer, String key, String topic, int queues)
        throws MQClientException {
        producer.createTopic(key, topic, queues);
    }

    public static void broadcast(DefaultMQPushConsumer consumer) {
        consumer.setMessageModel(MessageModel.BROADCASTING);
    }

    static int load(Options options) {
        throw new UnsupportedOperationException("the load reads the insides of client 5.3.3");
    }
}
