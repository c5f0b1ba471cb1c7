package pintle.mqadmin;

import com.alibaba.fastjson.JSON;
import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.apache.rocketmq.tools.command.MQAdminStartup;

/**
 * Apache's mqadmin in one JVM, command after command (a JVM for each would take a minute for what takes seconds).
 *
 * <pre>stdin:  ["mqadmin", "topicRoute", "-t", "T"]        one JSON array a line
 * stdout: {"out": …, "err": …, "calls": [[105, 0], …], "took_ms": …}</pre>
 *
 * The other words make state with the stock client, see {@link Clients}. mqadmin itself calls System.exit only for
 * arguments that it cannot parse; then this program ends, and the other side sees that.
 */
public final class Shell {
    private Shell() {
    }

    public static void main(String[] args) throws Exception {
        PrintStream answers = System.out;
        System.setOut(System.err); // what the client says on its own must not get between our answers
        Calls calls = new Calls();
        Hurry.up(Thread.currentThread());
        try (Clients clients = new Clients(args[0])) {
            BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
            for (String line = lines.readLine(); line != null; line = lines.readLine()) {
                List<String> words = JSON.parseArray(line, String.class);
                answers.println(JSON.toJSONString(answer(words, clients, calls)));
                answers.flush();
            }
        }
        // The client leaves non-daemon threads behind on some error paths.
        Runtime.getRuntime().halt(0);
    }

    private static Map<String, Object> answer(List<String> words, Clients clients, Calls calls) {
        Map<String, Object> answer = new LinkedHashMap<>();
        long startedNs = System.nanoTime();
        try {
            if (words.get(0).equals("mqadmin")) {
                run(words.subList(1, words.size()).toArray(new String[0]), calls, answer);
            } else {
                answer.put("result", clients.answer(words.get(0), words.subList(1, words.size())));
            }
        } catch (Throwable e) {
            answer.put("threw", e.toString());
        }
        answer.put("took_ms", (System.nanoTime() - startedNs) / 1_000_000);
        return answer;
    }

    /** Some commands keep a client in a field and start it once: every run gets new ones. */
    private static final class Commands extends MQAdminStartup {
        static void main0(String[] command, Calls calls) {
            SUB_COMMANDS.clear();
            MQAdminStartup.main0(command, calls);
        }
    }

    private static void run(String[] command, Calls calls, Map<String, Object> answer) {
        PrintStream out = System.out;
        PrintStream err = System.err;
        ByteArrayOutputStream outBytes = new ByteArrayOutputStream();
        ByteArrayOutputStream errBytes = new ByteArrayOutputStream();
        calls.take();
        System.setOut(new PrintStream(outBytes, true, StandardCharsets.UTF_8));
        System.setErr(new PrintStream(errBytes, true, StandardCharsets.UTF_8));
        try {
            Commands.main0(command, calls);
        } finally {
            System.setOut(out);
            System.setErr(err);
        }
        answer.put("out", outBytes.toString(StandardCharsets.UTF_8));
        answer.put("err", errBytes.toString(StandardCharsets.UTF_8));
        answer.put("calls", calls.take());
    }
}
