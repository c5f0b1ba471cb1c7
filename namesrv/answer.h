/* What the takers of requests (query_*.c) have in common: the request under way, and the ways to answer it. */
#pragma once

#include "json/json_body.h"
#include "query.h"
#include "wire/codes.h"

struct query {
    struct namesrv *namesrv;
    struct connection *connection;
    const struct frame *frame;
    struct query_peer *peer;
};

struct answer_field {
    const char *key;
    struct bytes value;
};

/* With no `fields` at all (NULL) the answer has no extFields, with none of them an empty one: some clients look into
 * it. A oneway request gets nothing, whatever is said here. */
void answer(struct query *query, enum response_code code, const char *remark, const struct answer_field *fields,
            unsigned field_count, struct bytes body);
void answer_ok(struct query *query);
/* Takes the text and frees it. */
void answer_text(struct query *query, struct text *text);
void answer_refuse(struct query *query, enum response_code code, const char *remark, ...)
    __attribute__((format(printf, 3, 4)));
void answer_number(struct query *query, const char *key, int64_t value);

/* A field that must be there: without it the request is refused (1, naming it) and NULL returned. */
const struct bytes *answer_need(struct query *query, const char *key);

static inline void text_add_literal(struct text *text, const char *literal)
{
    text_add_bytes(text, bytes_of(literal));
}
