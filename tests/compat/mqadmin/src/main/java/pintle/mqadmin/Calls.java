package pintle.mqadmin;

import java.util.ArrayList;
import java.util.List;
import org.apache.rocketmq.remoting.RPCHook;
import org.apache.rocketmq.remoting.protocol.RemotingCommand;

/** Which request codes a command sent, and with which code each was answered (-1: not at all, or sent oneway). */
final class Calls implements RPCHook {
    private final List<int[]> calls = new ArrayList<>();

    @Override
    public synchronized void doBeforeRequest(String address, RemotingCommand request) {
        if (request.isOnewayRPC()) {
            calls.add(new int[] {request.getCode(), -1});
        }
    }

    @Override
    public synchronized void doAfterResponse(String address, RemotingCommand request, RemotingCommand response) {
        calls.add(new int[] {request.getCode(), response == null ? -1 : response.getCode()});
    }

    synchronized List<int[]> take() {
        List<int[]> taken = new ArrayList<>(calls);
        calls.clear();
        return taken;
    }
}
