package pintle.compat.load;

import java.io.BufferedWriter;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.atomic.AtomicInteger;

/**
 * The files of one load run. Plain columns with a space between, for grep and join:
 * acked.txt      key broker/queue offset offset-id ms
 * failed.txt     key exception code ms text
 * consumed.txt   group key broker/queue offset reconsume-times ms
 * orderly.txt    member broker/queue first-offset last-offset from-ns to-ns
 * events.txt     ms what who text
 * `ms` counts from the start of the run; whoever kills things notes its own times by `mark`.
 */
final class Journal implements AutoCloseable {
    private final long startedNs = System.nanoTime();
    private final Map<String, BufferedWriter> files = new TreeMap<>();
    private final Map<String, AtomicInteger> events = new TreeMap<>();

    Journal(Path folder) throws IOException {
        Files.createDirectories(folder);
        for (String name : new String[] {"acked", "failed", "consumed", "orderly", "events"}) {
            files.put(name, Files.newBufferedWriter(folder.resolve(name + ".txt")));
        }
    }

    long nowMs() {
        return (System.nanoTime() - startedNs) / 1_000_000;
    }

    void acked(String key, String queue, long offset, String offsetId) {
        write("acked", key + " " + queue + " " + offset + " " + offsetId + " " + nowMs());
    }

    void failed(String key, String exception, int code, String text) {
        write("failed", key + " " + exception + " " + code + " " + nowMs() + " " + oneLine(text));
    }

    void consumed(String group, String key, String queue, long offset, int reconsumeTimes) {
        write("consumed", group + " " + key + " " + queue + " " + offset + " " + reconsumeTimes + " " + nowMs());
    }

    void orderly(String member, String queue, long first, long last, long fromNs, long toNs) {
        write("orderly", member + " " + queue + " " + first + " " + last + " " + fromNs + " " + toNs);
    }

    /** Something that may tell of trouble; counted by `what`. */
    void event(String what, String who, String text) {
        synchronized (events) {
            events.computeIfAbsent(what, k -> new AtomicInteger()).incrementAndGet();
        }
        write("events", nowMs() + " " + what + " " + who + " " + oneLine(text));
        flush("events");
    }

    int count(String what) {
        synchronized (events) {
            AtomicInteger n = events.get(what);
            return n == null ? 0 : n.get();
        }
    }

    private static String oneLine(String text) {
        return String.valueOf(text).replaceAll("\\s+", " ");
    }

    private void write(String file, String line) {
        BufferedWriter out = files.get(file);
        synchronized (out) {
            try {
                out.write(line);
                out.write('\n');
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
        }
    }

    private void flush(String file) {
        BufferedWriter out = files.get(file);
        synchronized (out) {
            try {
                out.flush();
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
        }
    }

    @Override
    public void close() {
        files.keySet().forEach(this::flush);
    }
}
