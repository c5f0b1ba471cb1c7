/* Why a send was refused: one row per reason. A row's number stands in ledger entries (append only): a successor that
 * answers again gives the same code. */
#pragma once

#include <stdint.h>

enum refusal {
    REFUSAL_NONE = 0,
#define X(id, code, remark) REFUSAL_##id,
#include "refusal.def"
#undef X
    REFUSAL_COUNT
};

int32_t refusal_code(unsigned refusal);
const char *refusal_remark(unsigned refusal);
