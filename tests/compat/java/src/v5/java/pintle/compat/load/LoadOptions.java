package pintle.compat.load;

import pintle.compat.Options;

/** Options of `Driver load`, with their defaults. */
final class LoadOptions {
    final String namesrv;
    final String topic;
    final String out;
    final int sync; // producers
    final int async;
    final int consumers;
    final int orderly;
    final int rate; // messages a second for each producer, 0 = as fast as it goes
    final int window; // outstanding sends of an async producer
    final int body; // bytes
    final int sendTimeoutMs;
    final int orderlyHoldMs;
    final int pollMs; // of the watcher, 0 = no watcher
    final int persistMs; // how often consumers commit offsets
    final int quietMs; // drained = nothing new for so long
    final int drainMs; // and no longer than this

    LoadOptions(Options given) {
        namesrv = given.namesrv();
        topic = given.text("topic", "LoadTest");
        out = given.text("out", "load-out");
        sync = given.number("sync", 1);
        async = given.number("async", 1);
        consumers = given.number("consumers", 2);
        orderly = given.number("orderly", 0);
        rate = given.number("rate", 500);
        window = given.number("window", 16);
        body = given.number("body", 256);
        sendTimeoutMs = given.number("send-timeout-ms", 3000);
        orderlyHoldMs = given.number("orderly-hold-ms", 1);
        pollMs = given.number("poll-ms", 250);
        persistMs = given.number("persist-ms", 1000);
        quietMs = given.number("quiet-ms", 3000);
        drainMs = given.number("drain-ms", 60_000);
    }
}
