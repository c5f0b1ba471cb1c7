/* What operators change in the routes by hand. */
#pragma once

#include "answer.h"

void query_admin_wipe_write(struct query *query);   /* 205 */
void query_admin_add_write(struct query *query);    /* 327 */
void query_admin_delete_topic(struct query *query); /* 216 */
void query_admin_put_topic(struct query *query);    /* 217 */
