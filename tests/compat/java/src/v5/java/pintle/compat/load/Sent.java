package pintle.compat.load;

import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicLong;

/** What the producers were told: the place of each acknowledged message, and how many got an error instead. */
final class Sent {
    final Map<String, String> acked = new ConcurrentHashMap<>();
    final Map<String, AtomicLong> failures = new ConcurrentHashMap<>();

    /** A place is unique in the topic: broker/queue@offset. */
    static String place(String broker, int queue, long offset) {
        return broker + "/" + queue + "@" + offset;
    }

    void failed(String kind) {
        failures.computeIfAbsent(kind, k -> new AtomicLong()).incrementAndGet();
    }

    long failedCount() {
        return failures.values().stream().mapToLong(AtomicLong::get).sum();
    }
}
