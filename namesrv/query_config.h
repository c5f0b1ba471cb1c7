/* KV configuration, and the configuration of the name server itself. */
#pragma once

#include "answer.h"

void query_config_put(struct query *query);        /* 100 */
void query_config_get(struct query *query);        /* 101 */
void query_config_delete(struct query *query);     /* 102 */
void query_config_list(struct query *query);       /* 219 */
void query_config_update_own(struct query *query); /* 318 */
void query_config_get_own(struct query *query);    /* 319 */
