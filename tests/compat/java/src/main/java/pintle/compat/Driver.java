package pintle.compat;

import java.io.IOException;
import java.nio.file.Files;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.function.Supplier;
import pintle.compat.scenario.Scenarios;

/**
 * Runs scenarios with the stock client against a cluster that is already up.
 *
 * <pre>Driver SCENARIO[,SCENARIO...]|all|list|load --namesrv host:port[;host:port] [--option value ...]</pre>
 *
 * One JSON line per scenario; exit code 0 = all hold, 1 = some do not, 64 = usage. `load` has its own conversation, see
 * {@link load.Load}. The client is used through its public API only; the few reads of its insides are in {@link load.Wire}.
 */
public final class Driver {
    private static final int EXIT_FAILED = 1;
    private static final int EXIT_USAGE = 64;

    private Driver() {
    }

    public static void main(String[] args) throws Exception {
        if (args.length == 0) {
            usage("no scenario given");
        }
        if (args[0].equals("list")) {
            Scenarios.ALL.keySet().forEach(System.out::println);
            return;
        }
        Options options = Options.parse(args);
        quietClientLog();
        earlyRebalance();
        int code = args[0].equals("load") ? Version.load(options) : runScenarios(args[0], options);
        System.out.flush();
        // The client leaves non-daemon threads behind on some error paths; our verdict must not wait for them.
        Runtime.getRuntime().halt(code);
    }

    private static int runScenarios(String names, Options options) {
        boolean ok = true;
        for (String name : pick(names)) {
            Result result = new Result(name);
            try (Rig rig = new Rig(options, name)) {
                Scenarios.ALL.get(name).get().run(rig, result);
            } catch (Throwable e) {
                result.threw(e);
            }
            System.out.println(result.json());
            System.out.flush();
            ok &= result.ok();
        }
        return ok ? 0 : EXIT_FAILED;
    }

    private static List<String> pick(String names) {
        Map<String, Supplier<Scenario>> all = Scenarios.ALL;
        List<String> picked = new ArrayList<>(names.equals("all") ? all.keySet() : List.of(names.split(",")));
        for (String name : picked) {
            if (!all.containsKey(name)) {
                usage("no scenario '" + name + "'; there are: " + String.join(" ", all.keySet()));
            }
        }
        return picked;
    }

    /** The client writes to ~/logs unless told otherwise before its first class is loaded. */
    private static void quietClientLog() throws IOException {
        if (System.getProperty("rocketmq.log.root") == null) {
            System.setProperty("rocketmq.log.root", Files.createTempDirectory("pintle-client-log").toString());
        }
        if (System.getProperty("rocketmq.log.level") == null) {
            System.setProperty("rocketmq.log.level", "warn");
        }
    }

    /**
     * A consumer's first rebalance waits this long, by default 1000 ms, which is also when its first periodic
     * heartbeat goes out. Where the two meet, the client gives up the heartbeat that tells its brokers of the new
     * subscription version (MQClientInstance: "lock heartBeat, but failed"), and consumers with a tag then stand still
     * until the next rebalance, 20 s later; seen with Apache's broker in one start of ten. This keeps the two apart.
     */
    private static void earlyRebalance() {
        if (System.getProperty("rocketmq.client.rebalance.minInterval") == null) {
            System.setProperty("rocketmq.client.rebalance.minInterval", "200");
        }
    }

    static void usage(String why) {
        System.err.println(why);
        System.err.println(
            "usage: Driver SCENARIO[,SCENARIO]|all|list|load --namesrv host:port[;host:port] [--option value]");
        System.exit(EXIT_USAGE);
    }
}
