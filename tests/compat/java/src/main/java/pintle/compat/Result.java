package pintle.compat;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** What one scenario found: figures to print, and the reasons why it does not hold (none = it holds). */
public final class Result {
    private static final int MAX_REASONS = 20;

    private final String scenario;
    private final long startedNs = System.nanoTime();
    private final Map<String, Object> figures = new LinkedHashMap<>();
    private final List<String> reasons = new ArrayList<>();

    Result(String scenario) {
        this.scenario = scenario;
    }

    public synchronized void figure(String name, Object value) {
        figures.put(name, value);
    }

    public synchronized void check(boolean holds, String reason) {
        if (!holds) {
            reasons.add(reason);
        }
    }

    public void same(Object wanted, Object got, String what) {
        check(wanted.equals(got), what + ": wanted " + wanted + ", got " + got);
    }

    synchronized void threw(Throwable e) {
        StackTraceElement at = e.getStackTrace().length > 0 ? e.getStackTrace()[0] : null;
        for (StackTraceElement frame : e.getStackTrace()) {
            if (frame.getClassName().startsWith("pintle.")) {
                at = frame;
                break;
            }
        }
        reasons.add(e + " at " + at);
    }

    synchronized boolean ok() {
        return reasons.isEmpty();
    }

    synchronized String json() {
        Map<String, Object> line = new LinkedHashMap<>();
        line.put("scenario", scenario);
        line.put("ok", reasons.isEmpty());
        line.put("took_ms", (System.nanoTime() - startedNs) / 1_000_000);
        line.putAll(figures);
        if (!reasons.isEmpty()) {
            line.put("reasons", reasons.subList(0, Math.min(MAX_REASONS, reasons.size())));
            line.put("reasons_count", reasons.size());
        }
        return Json.line(line);
    }
}
