package pintle.compat;

import java.util.LinkedHashMap;
import java.util.Map;

/** `--name value` pairs of the command line. */
public final class Options {
    private final Map<String, String> values = new LinkedHashMap<>();

    static Options parse(String[] args) {
        Options options = new Options();
        for (int i = 1; i < args.length; i += 2) {
            if (!args[i].startsWith("--") || i + 1 == args.length) {
                Driver.usage("not an option with a value: " + args[i]);
            }
            options.values.put(args[i].substring(2), args[i + 1]);
        }
        if (!options.values.containsKey("namesrv")) {
            Driver.usage("--namesrv is missing");
        }
        return options;
    }

    public String namesrv() {
        return values.get("namesrv");
    }

    public String text(String name, String otherwise) {
        return values.getOrDefault(name, otherwise);
    }

    public int number(String name, int otherwise) {
        return Integer.parseInt(values.getOrDefault(name, Integer.toString(otherwise)));
    }
}
