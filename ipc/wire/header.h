/* Inside of ipc/wire: the two header readers that frame.c chooses between. Not for other rooms. */
#pragma once

#include "wire/frame.h"

/* Both get the whole header and fill code, version, opaque, flag, language, remark and fields. Never FRAME_MORE. */
enum frame_result header_json_parse(uint8_t *data, size_t size, struct frame *frame);
enum frame_result header_rocketmq_parse(uint8_t *data, size_t size, struct frame *frame);

/* Ordinal of LanguageCode by name; LANGUAGE_OTHER if unknown. */
uint8_t header_language(struct bytes name);
/* Decimal text, optional sign, nothing else. */
int header_integer(struct bytes text, int64_t *ret_value);

enum { HEADER_LANGUAGE_COUNT = 14 };
