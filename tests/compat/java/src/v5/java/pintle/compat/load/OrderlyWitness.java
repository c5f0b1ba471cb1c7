package pintle.compat.load;

import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import java.util.concurrent.locks.LockSupport;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyContext;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.common.message.MessageExt;

/**
 * The listener of all orderly consumers of a run: notes who holds messages of which queue and when, and sees it when
 * two hold one queue at once, or when a queue jumps forward. (Going back is redelivery, which a death may cause.)
 */
final class OrderlyWitness {
    private final Map<String, AtomicReference<String>> holders = new ConcurrentHashMap<>();
    private final Map<String, Long> lastOffset = new ConcurrentHashMap<>();
    private final Map<String, AtomicInteger> work = new ConcurrentHashMap<>();
    private final Seen seen;
    private final Journal journal;
    private final int holdMs;

    OrderlyWitness(Seen seen, Journal journal, int holdMs) {
        this.seen = seen;
        this.journal = journal;
        this.holdMs = holdMs;
    }

    MessageListenerOrderly listener(String member) {
        return (messages, context) -> consume(member, messages, context);
    }

    private ConsumeOrderlyStatus consume(String member, List<MessageExt> messages, ConsumeOrderlyContext context) {
        String queue = context.getMessageQueue().getBrokerName() + "/" + context.getMessageQueue().getQueueId();
        AtomicReference<String> holder = holders.computeIfAbsent(queue, k -> new AtomicReference<>());
        long fromNs = System.nanoTime();
        String other = holder.compareAndExchange(null, member);
        if (other != null) {
            journal.event("orderly-overlap", member, queue + " held by " + other);
        }
        long first = messages.get(0).getQueueOffset();
        long last = messages.get(messages.size() - 1).getQueueOffset();
        Long before = lastOffset.put(queue, last);
        if (before != null && first > before + 1) {
            journal.event("orderly-jump", member, queue + " from " + before + " to " + first);
        }
        messages.forEach(seen::take);
        LockSupport.parkNanos(holdMs * 1_000_000L);
        work.computeIfAbsent(member, k -> new AtomicInteger()).addAndGet(messages.size());
        holder.compareAndSet(member, null);
        journal.orderly(member, queue, first, last, fromNs, System.nanoTime());
        return ConsumeOrderlyStatus.SUCCESS;
    }

    Map<String, AtomicInteger> work() {
        return work;
    }
}
