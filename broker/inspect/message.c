/* What can be said of one record (see inspect.h). */
#include <stdio.h>
#include <string.h>

#include "base/java_hash.h"
#include "broker/format/properties.h"
#include "inspect.h"

void message_id(const uint8_t *data, const struct record *record, char *to)
{
    static const char digits[] = "0123456789ABCDEF";
    size_t at =
        RECORD_BORN_HOST_AT + (record->sys_flag & SYS_FLAG_BORN_IPV6 ? RECORD_HOST_V6_SIZE : RECORD_HOST_V4_SIZE) + 8;
    size_t size = record->sys_flag & SYS_FLAG_STORE_IPV6 ? RECORD_HOST_V6_SIZE : RECORD_HOST_V4_SIZE;
    for (size_t i = 0; i < size; i++) {
        *to++ = digits[data[at + i] >> 4];
        *to++ = digits[data[at + i] & 15];
    }
    snprintf(to, 17, "%016llX", (unsigned long long)record->pos);
}

int64_t tags_code_of(const struct record *record)
{
    struct properties found;
    properties_scan(record->properties, &found);
    return found.tags.size > 0 ? java_hash(found.tags) : 0;
}

bool topic_is_plain(const struct record *record)
{
    const struct bytes topic = record->topic;
    return topic.size > 0 && topic.size < 256 && topic.data[0] != '.' && !memchr(topic.data, '/', topic.size) &&
           !memchr(topic.data, 0, topic.size);
}
