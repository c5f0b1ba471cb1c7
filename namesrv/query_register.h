/* Brokers of other hosts: they come, live, leave. */
#pragma once

#include "answer.h"

void query_register_broker(struct query *query);    /* 103 */
void query_register_leave(struct query *query);     /* 104 */
void query_register_version(struct query *query);   /* 322 */
void query_register_heartbeat(struct query *query); /* 904 */
