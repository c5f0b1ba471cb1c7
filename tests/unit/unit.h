/* What every unit test includes first: cmocka with the headers it wants, and numbers that are random but the same in
 * each run (splitmix64), so that a failure comes again. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct unit_random {
    uint64_t state;
};

static inline uint64_t unit_random(struct unit_random *random)
{
    uint64_t z = random->state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static inline uint64_t unit_random_below(struct unit_random *random, uint64_t bound)
{
    return unit_random(random) % bound;
}
