/* The table behind plan.h. Stop order: fronts first, so that nothing new comes in; then stores, which flush and take
 * their leave from the name servers; then the name servers. */
#include "plan.h"

const struct plan_kind plan_kinds[ROLE_COUNT] = {
    [ROLE_NAMESRV] = {ROLE_NAMESRV, "namesrv", "pintle-namesrv", "namesrv.", 2,
                      (const enum plan_channel[]){PLAN_LISTEN, PLAN_END}},
    [ROLE_STORE] = {ROLE_STORE, "store", "pintle-store", "store.", 1,
                    (const enum plan_channel[]){PLAN_QUEUE_TABLE_WRITE, PLAN_LEDGER, PLAN_IMAGE, PLAN_PEERS, PLAN_END}},
    [ROLE_FRONT] = {ROLE_FRONT, "front", "pintle-front", "front.", 0,
                    (const enum plan_channel[]){PLAN_LISTEN, PLAN_QUEUE_TABLE_READ, PLAN_OWN_INTEREST, PLAN_OWN_RINGS,
                                                PLAN_BROKER_BOARDS, PLAN_END}},
};
