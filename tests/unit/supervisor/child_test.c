/* The state table of a worker: every pair, and the backoff. */
#include "tests/unit/unit.h"

#include <stdbool.h>
#include <string.h>

#include "supervisor/child.h"

/* Every pair leads somewhere, and only deaths without a process are called bugs. */
static void test_every_pair(void **state)
{
    for (unsigned s = 0; s < CHILD_STATE_COUNT; s++)
        for (unsigned e = 0; e < CHILD_EVENT_COUNT; e++) {
            struct child_step step = child_step(s, e);
            bool has_process = s == CHILD_STARTING || s == CHILD_READY || s == CHILD_STOPPING;
            bool is_death = e == CHILD_EVENT_DIED || e == CHILD_EVENT_DIED_USELESS || e == CHILD_EVENT_CUT_SHORT ||
                            e == CHILD_EVENT_REFUSED;
            bool finishes = s == CHILD_STOPPING && e == CHILD_EVENT_CUT_SHORT;
            assert_true((unsigned)step.next < CHILD_STATE_COUNT);
            assert_int_equal(step.action == CHILD_ACTION_BUG, is_death && !has_process);
            bool spawns = step.action == CHILD_ACTION_SPAWN || step.action == CHILD_ACTION_RESPAWN;
            /* A process is started exactly on the way into `starting`, or to finish a stop, and never beside another one. */
            if (spawns)
                assert_true(step.next == (finishes ? CHILD_STOPPING : CHILD_STARTING) && (!has_process || is_death));
            if (step.next == CHILD_STARTING && s != CHILD_STARTING)
                assert_true(spawns);
            if (is_death && has_process && !spawns)
                assert_true(step.next == CHILD_BACKOFF || step.next == CHILD_FAILED || step.next == CHILD_STOPPED);
        }
}

/* From every state a stop leads to `stopped`, whatever the process does then. */
static void test_stop_ends(void **state)
{
    for (unsigned s = 0; s < CHILD_STATE_COUNT; s++) {
        struct child_step step = child_step(s, CHILD_EVENT_STOP);
        if (step.next == CHILD_STOPPED)
            assert_int_equal(step.action, CHILD_ACTION_GONE);
        else {
            assert_int_equal(step.next, CHILD_STOPPING);
            assert_int_equal(child_step(CHILD_STOPPING, CHILD_EVENT_STOP_LATE).action, CHILD_ACTION_KILL);
            assert_int_equal(child_step(CHILD_STOPPING, CHILD_EVENT_DIED).next, CHILD_STOPPED);
        }
    }
}

/* A path of events, its states and actions. */
static void test_lives(void **state)
{
    static const struct {
        enum child_event event;
        enum child_state next;
        enum child_action action;
    } life[] = {
        {CHILD_EVENT_START, CHILD_STARTING, CHILD_ACTION_SPAWN},
        {CHILD_EVENT_DIED, CHILD_BACKOFF, CHILD_ACTION_WAIT},
        {CHILD_EVENT_WAITED, CHILD_STARTING, CHILD_ACTION_SPAWN},
        {CHILD_EVENT_SAID_READY, CHILD_READY, CHILD_ACTION_SERVE},
        {CHILD_EVENT_SAID_READY, CHILD_READY, CHILD_ACTION_NONE},
        {CHILD_EVENT_DIED, CHILD_STARTING, CHILD_ACTION_RESPAWN},
        {CHILD_EVENT_SAID_READY, CHILD_READY, CHILD_ACTION_SERVE},
        {CHILD_EVENT_DIED_USELESS, CHILD_BACKOFF, CHILD_ACTION_WAIT},
        {CHILD_EVENT_WAITED, CHILD_STARTING, CHILD_ACTION_SPAWN},
        {CHILD_EVENT_REFUSED, CHILD_FAILED, CHILD_ACTION_GIVE_UP},
        {CHILD_EVENT_START, CHILD_FAILED, CHILD_ACTION_NONE},
        {CHILD_EVENT_STOP, CHILD_STOPPED, CHILD_ACTION_GONE},
    };
    enum child_state now = CHILD_STOPPED;
    for (size_t i = 0; i < sizeof life / sizeof life[0]; i++) {
        struct child_step step = child_step(now, life[i].event);
        assert_int_equal(step.next, life[i].next);
        assert_int_equal(step.action, life[i].action);
        now = step.next;
    }
}

static void test_names(void **state)
{
    for (unsigned s = 0; s < CHILD_STATE_COUNT; s++)
        assert_true(strlen(child_state_name(s)) > 0);
    for (unsigned e = 0; e < CHILD_EVENT_COUNT; e++)
        assert_true(strlen(child_event_name(e)) > 0);
    for (unsigned a = 0; a < CHILD_ACTION_COUNT; a++)
        assert_true(strlen(child_action_name(a)) > 0);
    assert_string_equal(child_state_name(CHILD_BACKOFF), "backoff");
}

static void test_backoff(void **state)
{
    static const uint64_t expected_ms[] = {10, 20, 40, 80, 160, 320, 640, 1280, 2560, 5120, 10000, 10000};
    for (unsigned i = 0; i < sizeof expected_ms / sizeof expected_ms[0]; i++)
        assert_int_equal(child_backoff_ms(i + 1), expected_ms[i]);
    assert_int_equal(child_backoff_ms(1000000), 10000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_pair), cmocka_unit_test(test_stop_ends), cmocka_unit_test(test_lives),
        cmocka_unit_test(test_names),      cmocka_unit_test(test_backoff),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
