package pintle.compat.load;

import io.netty.channel.Channel;
import java.lang.reflect.Field;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.rocketmq.client.ClientConfig;
import org.apache.rocketmq.client.impl.MQClientManager;
import org.apache.rocketmq.client.impl.factory.MQClientInstance;
import org.apache.rocketmq.remoting.ChannelEventListener;
import org.apache.rocketmq.remoting.RPCHook;
import org.apache.rocketmq.remoting.netty.NettyRemotingClient;
import org.apache.rocketmq.remoting.protocol.RemotingCommand;
import org.apache.rocketmq.remoting.protocol.RequestCode;
import org.apache.rocketmq.remoting.protocol.ResponseCode;

/**
 * Watches the connections and answers of one client without changing it: an RPC hook, which is public API, and a
 * listener put in front of the client's own, which forwards everything.
 */
final class Wire implements RPCHook, ChannelEventListener {
    private final String who;
    private final Journal journal;
    private final Set<String> known = ConcurrentHashMap.newKeySet();
    private final Set<String> open = ConcurrentHashMap.newKeySet();
    private ChannelEventListener clients;
    private static volatile boolean over;

    Wire(String who, Journal journal) {
        this.who = who;
        this.journal = journal;
    }

    /** To be called before the client is started, and with its instance name set: it then finds this instance. */
    void install(ClientConfig client) throws ReflectiveOperationException {
        MQClientInstance instance = MQClientManager.getInstance().getOrCreateMQClientInstance(client, this);
        NettyRemotingClient remoting = (NettyRemotingClient) instance.getMQClientAPIImpl().getRemotingClient();
        Field field = NettyRemotingClient.class.getDeclaredField("channelEventListener");
        field.setAccessible(true);
        clients = (ChannelEventListener) field.get(remoting);
        field.set(remoting, this);
    }

    /** From now on closed connections are our own doing. */
    static void clientsEnd() {
        over = true;
    }

    @Override
    public void doBeforeRequest(String address, RemotingCommand request) {
    }

    @Override
    public void doAfterResponse(String address, RemotingCommand request, RemotingCommand response) {
        if (response != null && !expected(request.getCode(), response.getCode())) {
            journal.event("bad-answer", who, "request code " + request.getCode() + ", answer code " + response.getCode()
                + " from " + address + ": " + response.getRemark());
        }
    }

    private static boolean expected(int request, int answer) {
        switch (answer) {
            case ResponseCode.SUCCESS:
                return true;
            case ResponseCode.PULL_NOT_FOUND:
            case ResponseCode.PULL_RETRY_IMMEDIATELY:
                return request == RequestCode.PULL_MESSAGE;
            case ResponseCode.QUERY_NOT_FOUND:
                return request == RequestCode.QUERY_CONSUMER_OFFSET;
            case ResponseCode.TOPIC_NOT_EXIST: // the topic before its creation, retry topics before their first use
                return request == RequestCode.GET_ROUTEINFO_BY_TOPIC;
            default:
                return false;
        }
    }

    @Override
    public void onChannelActive(String address, Channel channel) {
        open.add(channel.id().asLongText());
        journal.event(known.add(address) ? "connect" : "reconnect", who, address);
        clients.onChannelActive(address, channel);
    }

    @Override
    public void onChannelConnect(String address, Channel channel) {
        clients.onChannelConnect(address, channel);
    }

    @Override
    public void onChannelClose(String address, Channel channel) {
        // The client closes closed channels again, and those that never came to be: neither is a connection lost.
        if (open.remove(channel.id().asLongText()) && !over) {
            journal.event("close", who, address);
        }
        clients.onChannelClose(address, channel);
    }

    @Override
    public void onChannelException(String address, Channel channel) {
        if (!over) {
            journal.event("channel-exception", who, address);
        }
        clients.onChannelException(address, channel);
    }

    @Override
    public void onChannelIdle(String address, Channel channel) {
        journal.event("channel-idle", who, address);
        clients.onChannelIdle(address, channel);
    }
}
