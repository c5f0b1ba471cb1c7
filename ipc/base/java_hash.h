/* java.lang.String.hashCode of UTF-8 text: h = 31 * h + u over UTF-16 code units, modulo 2^32. The consume queue's tag
 * code and the index key are made of it (rocketmq 5.3.3, store/ConsumeQueue). Malformed UTF-8 counts as U+FFFD. */
#pragma once

#include "base/bytes.h"

int32_t java_hash(struct bytes text);
/* Of a text that goes on: `hash` is what stands before `text`, which must begin with a character. */
uint32_t java_hash_add(uint32_t hash, struct bytes text);
