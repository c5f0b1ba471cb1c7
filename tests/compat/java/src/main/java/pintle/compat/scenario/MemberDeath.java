package pintle.compat.scenario;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.MessageQueue;
import pintle.compat.Collector;
import pintle.compat.Messages;
import pintle.compat.Result;
import pintle.compat.Rig;
import pintle.compat.Scenario;

/** A consumer process that is killed with -9 takes leave of nobody; the other member has its queues within 30 s. */
final class MemberDeath implements Scenario {
    private static final long TAKE_OVER_MS = 30_000;

    @Override
    public void run(Rig rig, Result result) throws Exception {
        DefaultMQProducer producer = rig.producer();
        String topic = rig.topic(producer);
        String group = rig.fresh("group");
        List<MessageQueue> queues = Rig.queues(producer, topic);
        Collector survivor = new Collector();
        Process member = member(rig.options().namesrv(), group, topic);
        try {
            BufferedReader out = new BufferedReader(new InputStreamReader(member.getInputStream()));
            // It is a member once it consumes: one message from every queue.
            for (MessageQueue queue : queues) {
                producer.send(Messages.make(topic, "T", "before"), queue);
            }
            for (int i = 0; i < queues.size(); i++) {
                result.same("got before", String.valueOf(out.readLine()), "output of the other process");
            }
            rig.consume(group, topic, "*", survivor);
            // Both at work: a probe of every queue, until a round was shared between the two processes.
            int rounds = 0;
            boolean shared = false;
            for (long untilNs = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(TAKE_OVER_MS); !shared; rounds++) {
                result.check(System.nanoTime() < untilNs, "the two processes never shared the queues");
                if (System.nanoTime() >= untilNs) {
                    return;
                }
                int had = survivor.distinct();
                for (int i = 0; i < queues.size(); i++) {
                    producer.send(Messages.make(topic, "T", "probe-" + rounds + "-" + i), queues.get(i));
                }
                Thread.sleep(300);
                int now = survivor.distinct() - had;
                shared = now == queues.size() / 2;
            }
            result.figure("probe_rounds", rounds);
        } finally {
            member.destroyForcibly().waitFor();
        }
        long diedNs = System.nanoTime();
        List<String> keys = Messages.keys("after", queues.size());
        for (int i = 0; i < keys.size(); i++) {
            producer.send(Messages.make(topic, "T", keys.get(i)), queues.get(i));
        }
        Rig.await(() -> survivor.hasAll(keys), TAKE_OVER_MS, "the survivor gets from all queues");
        result.figure("take_over_ms", (System.nanoTime() - diedNs) / 1_000_000);
    }

    private static Process member(String namesrv, String group, String topic) throws Exception {
        String java = Path.of(System.getProperty("java.home"), "bin", "java").toString();
        return new ProcessBuilder(java, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx128m",
            "-Drocketmq.log.root=" + System.getProperty("rocketmq.log.root") + "/member",
            "-Drocketmq.log.level=warn",
            "-Drocketmq.client.rebalance.minInterval=" + System.getProperty("rocketmq.client.rebalance.minInterval"),
            "-cp", System.getProperty("java.class.path"), "pintle.compat.Member", namesrv, group, topic)
            .redirectError(ProcessBuilder.Redirect.INHERIT).start();
    }
}
