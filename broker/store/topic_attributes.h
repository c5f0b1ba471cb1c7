/* Attributes of a topic as UPDATE_AND_CREATE_TOPIC carries them: "+message.type=FIFO,-reserve.time". They are kept in
 * the topic's `extra` JSON object under "attributes". Pure; store process. */
#pragma once

#include <stdbool.h>

#include "base/bytes.h"

/* The extra text after the change, malloc'ed ("" if nothing is left). -EINVAL with a remark: a change that Apache
 * refuses, or one that asks for a kind of topic which this broker does not have. */
int topic_attributes_change(const char *extra, struct bytes change, bool is_new, char **ret_extra,
                            const char **ret_remark);
