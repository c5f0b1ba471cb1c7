/* The table of refusals (refusal.def). */
#include "refusal.h"

#include "base/panic.h"

static const struct {
    int32_t code;
    const char *remark;
} rows[REFUSAL_COUNT] = {
    [REFUSAL_NONE] = {0, ""},
#define X(id, number, text) [REFUSAL_##id] = {number, text},
#include "refusal.def"
#undef X
};
_Static_assert(REFUSAL_COUNT <= 256, "a ledger entry has 8 bits for it");

int32_t refusal_code(unsigned refusal)
{
    return refusal < REFUSAL_COUNT ? rows[refusal].code : 1;
}

const char *refusal_remark(unsigned refusal)
{
    return refusal < REFUSAL_COUNT ? rows[refusal].remark : "refused";
}
