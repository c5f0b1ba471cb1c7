/* Names of request and response codes, from the two tables. Used by front, name server and the command line for remarks
 * and logs. Pure data; a number twice in a table does not compile. */
#include "wire/codes.h"

#include <stdio.h>

const char *request_code_name(int32_t code)
{
    switch (code) {
#define X(name, number, who, later)                                                                                    \
    case number:                                                                                                       \
        return #name;
#include "wire/request_code.def"
#undef X
    default:
        return NULL;
    }
}

const char *response_code_name(int32_t code)
{
    switch (code) {
#define X(name, number)                                                                                                \
    case number:                                                                                                       \
        return #name;
#include "wire/response_code.def"
#undef X
    default:
        return NULL;
    }
}

static const char *elsewhere(enum request_server who)
{
    switch (who) {
    case SERVER_BROKER:
        return "brokers answer it";
    case SERVER_NAMESRV:
        return "name servers answer it";
    case SERVER_CLIENT:
        return "clients answer it";
    case SERVER_CONTROLLER:
        return "controllers answer it, and there is none here";
    case SERVER_CONTAINER:
        return "containers of brokers answer it, and there are none here";
    case SERVER_NOBODY:
        return "nobody answers it any more";
    }
    return "";
}

void request_code_refusal(int32_t code, enum request_server asked, char *ret_text, size_t text_size)
{
    const char *name = NULL, *why = NULL;
    switch (code) {
#define X(id, number, who, later)                                                                                      \
    case number:                                                                                                       \
        name = #id;                                                                                                    \
        why = SERVER_##who == asked ? later : elsewhere(SERVER_##who);                                                 \
        break;
#include "wire/request_code.def"
#undef X
    default:
        why = "RocketMQ has no such request";
        break;
    }
    snprintf(ret_text, text_size, "request code %d%s%s%s is not supported%s%s", code, name ? " (" : "", name ? name : "",
             name ? ")" : "", why ? ": " : "", why ? why : "");
}
