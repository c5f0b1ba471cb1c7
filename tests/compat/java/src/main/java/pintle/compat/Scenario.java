package pintle.compat;

/** One promise of the broker as a client sees it. */
public interface Scenario {
    void run(Rig rig, Result result) throws Exception;
}
