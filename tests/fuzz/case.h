/* Requests as text, so that mutations of the text stay requests and a corpus file can be read:
 *
 *     #310 c1 V479 L1 b        code; then c0–c3 connection, V version, L language, and
 *     a=ProducerGroup              b ROCKETMQ header, o oneway, r response, v fast port, f a peer that may not administrate,
 *     b=TopicTest                  z zlib-compressed body, h hang up instead, s<n> opaque of the n-th request from us
 *                              an empty line ends the fields
 *     body up to the next line that begins with #
 */
#pragma once

#include "fuzz.h"
#include "wire/frame.h"

enum { CASE_FIELDS_MAX = 64, CASE_REQUESTS_MAX = 24, CASE_CONNECTIONS = 4 };

struct case_request {
    int32_t code, version, language;
    unsigned connection, served; /* served: which of the requests that came from the other side is answered */
    bool binary, oneway, response, fast, foreign, compressed, hang_up;
    unsigned field_count;
    struct frame_field fields[CASE_FIELDS_MAX];
    struct bytes body;
};

/* The next request of a text; false at its end. Points into the text. */
bool case_next(struct bytes *rest, struct case_request *ret_request);
/* The whole frame, malloc'ed. */
struct bytes case_frame(const struct case_request *request, int32_t opaque);
/* Strict JSON (any bytes above ASCII count as text), with the keys that a client looks for. */
void case_check_header(struct bytes header);
