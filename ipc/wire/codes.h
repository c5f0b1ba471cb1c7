/* Request and response codes of the remoting protocol, made from the two tables beside this file. */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum request_code {
#define X(name, code, who, later) REQUEST_##name = code,
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

enum request_server { SERVER_BROKER, SERVER_NAMESRV, SERVER_CLIENT, SERVER_CONTROLLER, SERVER_CONTAINER, SERVER_NOBODY };

/* Why `asked` has no answer to it, for people: "request code 37 (END_TRANSACTION) is not supported: …". */
void request_code_refusal(int32_t code, enum request_server asked, char *ret_text, size_t text_size);
