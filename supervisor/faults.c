/* The one writer of the fault page. Runs in the supervisor; nothing is armed unless the cluster allows faults, which
 * control.c checks. */
#include "faults.h"

#include <string.h>

#include "fault/trespass.h"

enum fault_action faults_action_find(const char *name, uint64_t *argument)
{
    for (unsigned i = 0; i < TRESPASS_COUNT; i++)
        if (strcmp(trespass_names[i], name) == 0) {
            *argument = i;
            return FAULT_ACTION_TRESPASS;
        }
    static const struct {
        const char *name;
        enum fault_action action;
    } actions[] = {{"kill", FAULT_ACTION_KILL}, {"abort", FAULT_ACTION_ABORT}, {"stall", FAULT_ACTION_STALL},
                   {"match", FAULT_ACTION_MATCH}};
    for (size_t i = 0; i < sizeof actions / sizeof actions[0]; i++)
        if (strcmp(actions[i].name, name) == 0)
            return actions[i].action;
    return FAULT_ACTION_NONE;
}

/* A point without a target is spent by the first worker of its room that dies. */
static bool is_spent(const struct fault_slot *slot, enum fault_point point, const struct worker *worker)
{
    uint32_t action = atomic_load_explicit(&slot->action, memory_order_relaxed);
    uint32_t target = atomic_load_explicit(&slot->target, memory_order_relaxed);
    const char *prefix = worker->kind->point_prefix;
    if (action != FAULT_ACTION_KILL && action != FAULT_ACTION_ABORT && action != FAULT_ACTION_TRESPASS)
        return false;
    if (strncmp(fault_point_names[point], prefix, strlen(prefix)) != 0)
        return false;
    /* Reached only on the way to ready: the death that makes a store recover is not the one this point is for. */
    if (point == FAULT_STORE_RECOVERING && worker->state == CHILD_READY)
        return false;
    return target == 0 || target == worker->number;
}

void faults_target_died(struct fault_page *page, const struct worker *worker)
{
    for (unsigned point = 0; point < FAULT_POINT_COUNT; point++)
        if (is_spent(&page->slots[point], point, worker))
            fault_page_disarm(page, point);
}
