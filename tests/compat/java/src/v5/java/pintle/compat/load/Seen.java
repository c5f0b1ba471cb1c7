package pintle.compat.load;

import java.util.ArrayList;
import java.util.BitSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.rocketmq.common.message.MessageExt;

/** What one group was given, and the verdict on it. */
final class Seen {
    private static final int SHOWN = 10;

    private final String group;
    private final Journal journal;
    private final Map<String, String> placeOf = new ConcurrentHashMap<>();
    private final Map<String, BitSet> offsets = new ConcurrentHashMap<>();
    private final Set<String> storedTwice = ConcurrentHashMap.newKeySet();
    private final Set<String> corrupt = ConcurrentHashMap.newKeySet();
    private final AtomicLong redelivered = new AtomicLong();
    private final AtomicLong retried = new AtomicLong();
    private volatile long lastNewNs = System.nanoTime();

    Seen(String group, Journal journal) {
        this.group = group;
        this.journal = journal;
    }

    void take(MessageExt message) {
        String key = message.getKeys();
        String queue = message.getBrokerName() + "/" + message.getQueueId();
        journal.consumed(group, key, queue, message.getQueueOffset(), message.getReconsumeTimes());
        if (!LoadProducer.intact(message)) {
            corrupt.add(String.valueOf(key));
            journal.event("corrupt", group, key + " at " + queue + "@" + message.getQueueOffset());
            return;
        }
        if (message.getReconsumeTimes() > 0) {
            retried.incrementAndGet(); // a copy in the retry topic: its offsets are those of another queue
            return;
        }
        String place = Sent.place(message.getBrokerName(), message.getQueueId(), message.getQueueOffset());
        String had = placeOf.putIfAbsent(key, place);
        if (had == null) {
            lastNewNs = System.nanoTime();
        } else if (had.equals(place)) {
            redelivered.incrementAndGet();
        } else if (storedTwice.add(key)) {
            journal.event("stored-twice", group, key + " at " + had + " and " + place);
        }
        BitSet seen = offsets.computeIfAbsent(queue, k -> new BitSet());
        synchronized (seen) {
            seen.set(Math.toIntExact(message.getQueueOffset()));
        }
    }

    int distinct() {
        return placeOf.size();
    }

    boolean hasAll(Sent sent) {
        return placeOf.keySet().containsAll(sent.acked.keySet());
    }

    long quietMs() {
        return (System.nanoTime() - lastNewNs) / 1_000_000;
    }

    /**
     * Offsets between a queue's first and last delivery that never came: a stored message that is kept from the group.
     */
    private long holes() {
        long holes = 0;
        for (BitSet seen : offsets.values()) {
            synchronized (seen) {
                holes += seen.length() - Math.max(0, seen.nextSetBit(0)) - seen.cardinality();
            }
        }
        return holes;
    }

    Map<String, Object> verdict(Sent sent) {
        List<String> lost = new ArrayList<>();
        List<String> misplaced = new ArrayList<>();
        sent.acked.forEach((key, place) -> {
            String seenAt = placeOf.get(key);
            if (seenAt == null) {
                lost.add(key + " acknowledged at " + place);
            } else if (!seenAt.equals(place) && !storedTwice.contains(key)) {
                misplaced.add(key + " acknowledged at " + place + ", found at " + seenAt);
            }
        });
        lost.forEach(text -> journal.event("lost", group, text));
        misplaced.forEach(text -> journal.event("misplaced", group, text));
        Map<String, Object> verdict = new LinkedHashMap<>();
        verdict.put("consumed", placeOf.size());
        verdict.put("lost", lost.size());
        verdict.put("stored_twice", storedTwice.size());
        verdict.put("misplaced", misplaced.size());
        verdict.put("corrupt", corrupt.size());
        verdict.put("holes", holes());
        verdict.put("redelivered", redelivered.get());
        verdict.put("retried", retried.get());
        List<String> shown = new ArrayList<>(lost.subList(0, Math.min(SHOWN, lost.size())));
        storedTwice.stream().limit(SHOWN).forEach(key -> shown.add(key + " stored twice"));
        misplaced.stream().limit(SHOWN).forEach(shown::add);
        verdict.put("examples", shown);
        return verdict;
    }
}
