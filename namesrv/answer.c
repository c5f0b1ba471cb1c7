/* Writes answers: header, fields, body. Runs in the name server. */
#include "answer.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

void answer(struct query *query, enum response_code code, const char *remark, const struct answer_field *fields,
            unsigned field_count, struct bytes body)
{
    struct connection *connection = query->connection;
    struct frame_writer writer;
    struct bytes remark_bytes = remark ? bytes_of(remark) : (struct bytes){NULL, 0};
    size_t text_size = remark_bytes.size;
    if (query->frame->flag & FRAME_FLAG_ONEWAY)
        return;
    for (unsigned i = 0; i < field_count; i++)
        text_size += strlen(fields[i].key) + fields[i].value.size;
    size_t bound = frame_write_bound(text_size, field_count);
    frame_write_response(&writer, connection_reserve(connection, bound), bound, code, query->frame->opaque,
                         remark_bytes);
    for (unsigned i = 0; i < field_count; i++)
        frame_write_text(&writer, fields[i].key, fields[i].value);
    if (fields)
        frame_write_empty_fields(&writer);
    ssize_t size = frame_write_finish(&writer, body.size);
    if (size < 0) { /* a table of more than 16 MiB */
        answer(query, RESPONSE_SYSTEM_ERROR, "the answer is too large for a frame", NULL, 0, (struct bytes){NULL, 0});
        return;
    }
    connection_commit(connection, (size_t)size);
    if (body.size) {
        memcpy(connection_reserve(connection, body.size), body.data, body.size);
        connection_commit(connection, body.size);
    }
    board_add(query->namesrv->board, COUNTER_RESPONSES, 1);
}

void answer_ok(struct query *query)
{
    answer(query, RESPONSE_SUCCESS, NULL, NULL, 0, (struct bytes){NULL, 0});
}

void answer_text(struct query *query, struct text *text)
{
    answer(query, RESPONSE_SUCCESS, NULL, NULL, 0, (struct bytes){(const uint8_t *)text->data, text->size});
    text_free(text);
}

void answer_refuse(struct query *query, enum response_code code, const char *remark, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, remark);
    vsnprintf(text, sizeof text, remark, arguments);
    va_end(arguments);
    answer(query, code, text, NULL, 0, (struct bytes){NULL, 0});
}

void answer_number(struct query *query, const char *key, int64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRId64, value);
    answer(query, RESPONSE_SUCCESS, NULL, &(struct answer_field){key, bytes_of(text)}, 1, (struct bytes){NULL, 0});
}

const struct bytes *answer_need(struct query *query, const char *key)
{
    const struct bytes *value = frame_get(query->frame, key);
    if (!value)
        answer_refuse(query, RESPONSE_SYSTEM_ERROR, "%s is missing", key);
    return value;
}
