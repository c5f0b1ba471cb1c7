package pintle.mqadmin;

import java.util.Arrays;
import org.apache.rocketmq.common.ServiceThread;

/**
 * Every command ends by shutting its client down, and in one of three that waits for up to 3 s, until a thread of the
 * client has looked at its empty queue of connection events. This wakes it: the thread takes an interruption as an
 * empty queue.
 */
final class Hurry {
    private static final long STEP_MS = 10;

    private Hurry() {
    }

    static void up(Thread commands) {
        Thread hurry = new Thread(() -> watch(commands), "hurry");
        hurry.setDaemon(true);
        hurry.start();
    }

    private static void watch(Thread commands) {
        Thread[] all = new Thread[1000];
        while (true) {
            if (Arrays.stream(commands.getStackTrace()).anyMatch(Hurry::isShutdown)) {
                int count = Thread.enumerate(all);
                Arrays.stream(all, 0, count).filter(t -> t.getName().equals("NettyEventExecutor"))
                    .forEach(Thread::interrupt);
            }
            try {
                Thread.sleep(STEP_MS);
            } catch (InterruptedException e) {
                return;
            }
        }
    }

    private static boolean isShutdown(StackTraceElement frame) {
        return frame.getClassName().equals(ServiceThread.class.getName()) && frame.getMethodName().equals("shutdown");
    }
}
