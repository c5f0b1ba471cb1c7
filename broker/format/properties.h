/* A message's properties in their text form: name 0x01 value 0x02 name 0x01 value 0x02 … (the last 0x02 may be
 * missing). Parsed as Apache does: a segment without 0x01, with an empty name or an empty value is nothing; of two with
 * one name the last wins. One pass finds every name that the store has use for. */
#pragma once

#include "base/bytes.h"

struct properties {
    struct bytes tags, keys, uniq_key, wait, delay, tran_msg, timer, region, trace_on, cluster, poison;
    struct bytes timer_name; /* which TIMER_* it was */
    bool has_reserved;       /* POP_CK or __CRC32#, which only a broker may write */
    bool ends_open;          /* not empty and no 0x02 at the end */
};

void properties_scan(struct bytes text, struct properties *ret_properties);
/* Copies text without the reserved names; returns the bytes written, at most text.size + 1. */
size_t properties_copy_clean(struct bytes text, uint8_t *to);
/* For names that one pass does not look for: the value, empty if there is none. */
struct bytes properties_find(struct bytes text, const char *name);
/* Copies text without these names (NULL ends the list), each segment closed; returns the bytes written, at most
 * text.size + 1. */
size_t properties_copy_without(struct bytes text, const char *const *names, uint8_t *to);
/* Appends one property; returns what is behind it: name and value and two bytes. */
uint8_t *properties_put(uint8_t *to, const char *name, struct bytes value);
