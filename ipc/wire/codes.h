/* Request and response codes of the remoting protocol, made from the two tables beside this file. */
#pragma once

#include <stdint.h>

enum request_code {
#define X(name, code) REQUEST_##name = code,
#include "wire/request_code.def"
#undef X
};
enum response_code {
#define X(name, code) RESPONSE_##name = code,
#include "wire/response_code.def"
#undef X
};

/* "SEND_MESSAGE_V2"; NULL for a number that RocketMQ does not know. */
const char *request_code_name(int32_t code);
const char *response_code_name(int32_t code);
