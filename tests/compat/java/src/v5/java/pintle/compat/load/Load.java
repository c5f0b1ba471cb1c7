package pintle.compat.load;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.apache.rocketmq.client.ClientConfig;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListener;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.common.topic.TopicValidator;
import pintle.compat.Json;
import pintle.compat.Options;
import pintle.compat.Rig;

/**
 * Load for kill tests: stock clients that send and consume until told to stop, and then say what was lost, stored
 * twice, reordered or refused. Start it on a topic that nobody used (holes and places are counted from its beginning).
 *
 * Conversation, one JSON line for each answer: prints `ready` when every producer has an acknowledgement and every
 * group has consumed; reads `stats`, `mark TEXT` (goes to events.txt) and `stop` (also end of input, SIGTERM); then
 * drains and prints `summary`. Exit code 0 = nothing lost, doubled, misplaced, torn or held twice.
 */
public final class Load {
    private static final int QUEUES = 4;

    private final LoadOptions options;
    private final Journal journal;
    private final Sent sent = new Sent();
    private final List<LoadProducer> producers = new ArrayList<>();
    private final List<DefaultMQPushConsumer> consumers = new ArrayList<>();
    private final List<DefaultMQPushConsumer> orderly = new ArrayList<>();
    private final Map<String, Seen> groups = new LinkedHashMap<>();
    private final CountDownLatch stopping = new CountDownLatch(1);
    private final CountDownLatch ended = new CountDownLatch(1);
    private final CountDownLatch shutDown = new CountDownLatch(1);
    private OrderlyWitness witness;
    private DefaultMQProducer observer;
    private Watcher watcher;

    private Load(LoadOptions options) throws Exception {
        this.options = options;
        this.journal = new Journal(Path.of(options.out));
    }

    public static int run(Options options) throws Exception {
        Load load = new Load(new LoadOptions(options));
        Runtime.getRuntime().addShutdownHook(new Thread(load::terminated));
        try {
            load.start();
            say("ready", Map.of());
            Thread listener = new Thread(load::listen, "stdin");
            listener.setDaemon(true);
            listener.start();
            load.stopping.await();
            return load.finish();
        } finally {
            load.ended.countDown();
        }
    }

    private void start() throws Exception {
        observer = new DefaultMQProducer("load-observer");
        configure(observer, "observer", new Wire("observer", journal));
        observer.start();
        List<MessageQueue> queues = createTopic();
        for (int i = 0; i < options.consumers; i++) {
            Seen seen = groups.computeIfAbsent(options.topic + "-group", group -> new Seen(group, journal));
            consumer("consumer" + i, options.topic + "-group", (MessageListenerConcurrently) (messages, context) -> {
                messages.forEach(seen::take);
                return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
            });
        }
        for (int i = 0; i < options.orderly; i++) {
            Seen seen = groups.computeIfAbsent(options.topic + "-orderly", group -> new Seen(group, journal));
            witness = witness == null ? new OrderlyWitness(seen, journal, options.orderlyHoldMs) : witness;
            orderly.add(consumer("orderly" + i, options.topic + "-orderly", witness.listener("orderly" + i)));
        }
        for (int i = 0; i < options.sync + options.async; i++) {
            producer("p" + i, i < options.sync);
        }
        Rig.await(() -> producers.stream().allMatch(p -> p.acks() > 0)
            && groups.values().stream().allMatch(g -> g.distinct() > 0),
            "a first message of every producer, to every group");
        if (options.pollMs > 0) {
            awaitMembers(queues);
            watcher = new Watcher(observer, options, journal, List.copyOf(groups.keySet()), orderly, queues);
            thread("watcher", watcher);
        }
    }

    private void awaitMembers(List<MessageQueue> queues) throws InterruptedException {
        for (String broker : Rig.brokers(queues)) {
            for (String group : groups.keySet()) {
                int wanted = group.endsWith("-orderly") ? options.orderly : options.consumers;
                Rig.await(() -> {
                    try {
                        return Watcher.members(observer, broker, group) == wanted;
                    } catch (Exception e) {
                        return false;
                    }
                }, wanted + " members of " + group + " at " + broker);
            }
        }
    }

    private List<MessageQueue> createTopic() throws Exception {
        List<String> brokers = Rig.brokers(Rig.queues(observer, TopicValidator.AUTO_CREATE_TOPIC_KEY_TOPIC));
        observer.createTopic(TopicValidator.AUTO_CREATE_TOPIC_KEY_TOPIC, options.topic, QUEUES, null);
        Rig.await(() -> Rig.queues(observer, options.topic).size() == QUEUES * brokers.size(),
            "route of " + options.topic);
        return Rig.queues(observer, options.topic);
    }

    private void configure(ClientConfig client, String name, Wire wire) throws ReflectiveOperationException {
        client.setNamesrvAddr(options.namesrv);
        client.setInstanceName(name);
        wire.install(client);
    }

    private void producer(String name, boolean sync) throws Exception {
        Wire wire = new Wire(name, journal);
        DefaultMQProducer producer = new DefaultMQProducer("load-producers", wire);
        producer.setRetryTimesWhenSendFailed(0);
        producer.setRetryTimesWhenSendAsyncFailed(0);
        producer.setSendMsgTimeout(options.sendTimeoutMs);
        configure(producer, name, wire);
        producer.start();
        LoadProducer load = new LoadProducer(name, sync, producer, options, sent, journal);
        producers.add(load);
        thread(name, load);
    }

    private DefaultMQPushConsumer consumer(String name, String group,
        MessageListener listener) throws Exception {
        Wire wire = new Wire(name, journal);
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(group, wire);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.setPersistConsumerOffsetInterval(options.persistMs);
        consumer.setConsumeThreadMin(4);
        consumer.setConsumeThreadMax(4);
        consumer.setConsumeMessageBatchMaxSize(16);
        consumer.subscribe(options.topic, "*");
        consumer.setMessageListener(listener);
        configure(consumer, name, wire);
        consumer.start();
        consumers.add(consumer);
        return consumer;
    }

    private static void thread(String name, Runnable work) {
        Thread thread = new Thread(work, name);
        thread.setDaemon(true);
        thread.start();
    }

    private void listen() {
        try (BufferedReader in = new BufferedReader(new InputStreamReader(System.in))) {
            for (String line = in.readLine(); line != null && !line.equals("stop"); line = in.readLine()) {
                if (line.equals("stats")) {
                    say("stats", stats());
                } else if (line.startsWith("mark ")) {
                    journal.event("mark", "-", line.substring("mark ".length()));
                }
            }
        } catch (Exception e) {
            journal.event("stdin", "-", e.toString());
        }
        stopping.countDown();
    }

    /** SIGTERM: the summary is printed before the machine goes down. */
    private void terminated() {
        stopping.countDown();
        try {
            ended.await();
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    private static synchronized void say(String kind, Map<String, Object> what) {
        Map<String, Object> line = new LinkedHashMap<>();
        line.put("kind", kind);
        line.putAll(what);
        System.out.println(Json.line(line));
        System.out.flush();
    }

    private Map<String, Object> stats() {
        Map<String, Object> stats = new LinkedHashMap<>();
        stats.put("ms", journal.nowMs());
        stats.put("acked", sent.acked.size());
        stats.put("failed", sent.failedCount());
        // The slowest group counts.
        stats.put("consumed", groups.values().stream().mapToInt(Seen::distinct).min().orElse(0));
        stats.put("producer_acks", producers.stream().map(LoadProducer::acks).toList());
        stats.put("reconnects", journal.count("reconnect"));
        stats.put("closes", journal.count("close"));
        return stats;
    }

    private int finish() throws Exception {
        producers.forEach(LoadProducer::stop);
        Rig.await(() -> producers.stream().noneMatch(LoadProducer::sending), 70_000, "the last answers");
        long sendingMs = journal.nowMs();
        long drainEndMs = sendingMs + options.drainMs;
        // Drained: every group has all that was acknowledged and nothing new comes, or it is given up.
        while (journal.nowMs() < drainEndMs && !(groups.values().stream()
            .allMatch(g -> g.quietMs() >= options.quietMs && g.hasAll(sent)))) {
            Thread.sleep(10);
        }
        if (watcher != null) {
            watcher.stop();
        }
        Map<String, Object> summary = summary(sendingMs);
        say("summary", summary);
        Wire.clientsEnd();
        thread("shutdown", this::shutdown);
        shutDown.await(3, TimeUnit.SECONDS);
        journal.close();
        return (boolean) summary.get("ok") ? 0 : 1;
    }

    private void shutdown() {
        producers.forEach(LoadProducer::shutdown);
        consumers.forEach(DefaultMQPushConsumer::shutdown);
        observer.shutdown();
        shutDown.countDown();
    }

    private Map<String, Object> summary(long sendingMs) throws Exception {
        Map<String, Object> summary = new LinkedHashMap<>();
        summary.put("ok", true);
        summary.put("sending_ms", sendingMs);
        summary.put("drain_ms", journal.nowMs() - sendingMs);
        summary.put("acked", sent.acked.size());
        summary.put("failed", sent.failedCount());
        summary.put("failures", sent.failures);
        Map<String, Object> verdicts = new LinkedHashMap<>();
        long wrong = 0;
        for (Map.Entry<String, Seen> group : groups.entrySet()) {
            Map<String, Object> verdict = group.getValue().verdict(sent);
            verdicts.put(group.getKey(), verdict);
            for (String what : List.of("lost", "stored_twice", "misplaced", "corrupt", "holes")) {
                wrong += ((Number) verdict.get(what)).longValue();
                summary.merge(what, ((Number) verdict.get(what)).longValue(), (a, b) -> (Long) a + (Long) b);
            }
            summary.merge("redelivered", verdict.get("redelivered"), (a, b) -> (Long) a + (Long) b);
        }
        for (String what : List.of("acked-twice", "orderly-overlap", "orderly-jump", "lock-overlap")) {
            wrong += journal.count(what);
        }
        for (String what : List.of("acked-twice", "orderly-overlap", "orderly-jump", "lock-overlap", "offset-back",
            "max-back", "members-shrink", "watch-error", "bad-answer", "bad-status", "unanswered", "connect",
            "reconnect", "close", "channel-exception")) {
            summary.put(what.replace('-', '_'), journal.count(what));
        }
        summary.put("pull_errors", pullErrors());
        summary.put("watch_rounds", watcher == null ? 0 : watcher.rounds());
        Map<String, Object> pauses = new LinkedHashMap<>();
        producers.forEach(p -> pauses.put(p.name(), p.longestPauseMs()));
        summary.put("longest_pause_ms", pauses);
        Map<String, Object> ends = new LinkedHashMap<>();
        producers.forEach(p -> ends.put(p.name(), p.longestPauseEndMs()));
        summary.put("longest_pause_ended_at_ms", ends);
        summary.put("orderly_work", witness == null ? Map.of() : witness.work());
        summary.put("groups", verdicts);
        summary.put("ok", wrong == 0);
        return summary;
    }

    /** A push consumer tells of a failed pull only in its log. */
    private static long pullErrors() throws Exception {
        Path log = Path.of(System.getProperty("rocketmq.log.root"), "rocketmq_client.log");
        if (!Files.exists(log)) {
            return 0;
        }
        try (Stream<String> lines = Files.lines(log)) {
            return lines.filter(line -> line.contains("execute the pull request exception")).count();
        }
    }
}
