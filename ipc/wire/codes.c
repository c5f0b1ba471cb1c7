/* Names of request and response codes, from the two tables. Used by front, name server and the command line for remarks
 * and logs. Pure data; a number twice in a table does not compile. */
#include "wire/codes.h"

#include <stddef.h>

const char *request_code_name(int32_t code)
{
    switch (code) {
#define X(name, number)                                                                                                \
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
