/* The body of REGISTER_BROKER (remoting facts 2.4). */
#pragma once

#include <jansson.h>

#include "bus/bus_msg.h"

struct registration_body {
    struct bus_data_version version;
    struct bus_topic *topics; /* names point into the rest */
    uint32_t topic_count;
    json_t *json;
    uint8_t *inflated;
};

enum {
    REGISTRATION_BODY_INFLATED_MAX = 64 << 20,
    REGISTRATION_BODY_TOPIC_SIZE_MAX = 255, /* the longest name that a broker stores */
    REGISTRATION_BODY_VERSION_WRAPPED = 37, /* V3_0_11: before it the body was the topics alone */
};

/* An empty body is a broker without topics. -EBADMSG with a reason in `ret_error` (static). */
int registration_body_parse(struct bytes body, bool is_compressed, int32_t sender_version,
                            struct registration_body *ret_body, const char **ret_error);
void registration_body_free(struct registration_body *body);
/* A DataVersion; what is missing is 0. */
void registration_body_version(const json_t *json, struct bus_data_version *ret_version);
