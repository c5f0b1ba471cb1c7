/* What fuzz targets share. A target is a file NAME_fuzz.c with LLVMFuzzerTestOneInput, linked twice: with libFuzzer
 * (preset fuzz) and with replay_main.c, which feeds it the files of corpus/NAME (unit suites of every preset). A target
 * complains by FUZZ_CHECK: about what must hold whatever the bytes are. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv); /* where a target needs one */

#define FUZZ_CHECK(e)                                                                                                  \
    do {                                                                                                               \
        if (!(e)) {                                                                                                    \
            fprintf(stderr, "%s:%d: %s(): does not hold: %s\n", __FILE__, __LINE__, __func__, #e);                     \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

/* A copy of exactly this size, so that each byte read or written outside of it is seen. Not NULL. */
static inline uint8_t *fuzz_copy(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);
    FUZZ_CHECK(copy);
    if (size)
        memcpy(copy, data, size);
    return copy;
}

/* Reads every byte, for the address sanitizer's sake. */
static inline void fuzz_touch(struct bytes bytes)
{
    static volatile uint8_t sink;
    for (size_t i = 0; i < bytes.size; i++)
        sink = (uint8_t)(sink ^ bytes.data[i]);
}

static inline bool fuzz_inside(struct bytes part, const uint8_t *data, size_t size)
{
    return part.size == 0 || (part.data >= data && part.data + part.size <= data + size);
}
