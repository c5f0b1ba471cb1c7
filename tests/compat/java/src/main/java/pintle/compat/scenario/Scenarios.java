package pintle.compat.scenario;

import java.util.LinkedHashMap;
import java.util.Map;
import java.util.function.Supplier;
import pintle.compat.Scenario;

/** The table of scenarios, in the order in which `all` runs them. */
public final class Scenarios {
    public static final Map<String, Supplier<Scenario>> ALL = new LinkedHashMap<>();

    static {
        ALL.put("sync", SendSync::new);
        ALL.put("async", SendAsync::new);
        ALL.put("oneway", SendOneway::new);
        ALL.put("batch", SendBatch::new);
        ALL.put("autocreate", AutoCreate::new);
        ALL.put("unicode", Unicode::new);
        ALL.put("tags", Tags::new);
        ALL.put("restart", Restart::new);
        ALL.put("offsets", Offsets::new);
        ALL.put("idle", Idle::new);
        ALL.put("once", ExactlyOnce::new);
        ALL.put("big", Big::new);
        ALL.put("orderly", Orderly::new);
        ALL.put("share", Share::new);
        ALL.put("death", MemberDeath::new);
        ALL.put("handover", HandOver::new);
        ALL.put("broadcast", Broadcast::new);
        ALL.put("from", From::new);
        ALL.put("compressed", Compressed::new);
        ALL.put("litepull", LitePull::new);
        ALL.put("delay", Delay::new);
        ALL.put("retry", Retry::new);
        ALL.put("suspend", Suspend::new);
    }

    private Scenarios() {
    }
}
