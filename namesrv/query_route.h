/* Who has which topic: requests that change nothing. */
#pragma once

#include "answer.h"

void query_route_topic(struct query *query);                  /* 105 */
void query_route_clusters(struct query *query);               /* 106 */
void query_route_all_topics(struct query *query);             /* 206 */
void query_route_topics_of_cluster(struct query *query);      /* 224 */
void query_route_system_topics(struct query *query);          /* 304 */
void query_route_unit_topics(struct query *query);            /* 311 */
void query_route_unit_sub_topics(struct query *query);        /* 312 */
void query_route_unit_sub_ununit_topics(struct query *query); /* 313 */
void query_route_member_group(struct query *query);           /* 901 */
