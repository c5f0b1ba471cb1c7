/* The recorder: every change that a store makes to its folder, in order, with its data; and from that the states in which a
 * power cut may leave the disk.
 *
 * What counts as kept (POSIX, no kinder): bytes and size of a file by a sync of the file; a name by a sync of its folder;
 * both by a sync of the file system. What is not synced may be there or not: any page (4 KiB) or sector (512 bytes) of a
 * file as it was at any moment since the last sync, its size too, whatever the other files show; names of a folder up to any
 * moment. A rename is whole or not there. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct trace;

/* What lies under `root` is the state at the beginning, all of it kept. Records until trace_end. */
struct trace *trace_begin(const char *root);
void trace_end(struct trace *trace);
void trace_free(struct trace *trace);
/* Changes recorded so far; any thread. */
size_t trace_count(struct trace *trace);
size_t trace_syncs(const struct trace *trace);

/* As if the store were broken. After trace_end. */
/* Syncs at sites whose names begin so were never made. Returns how many. */
size_t trace_leave_out(struct trace *trace, const char *site);
/* Syncs at the first kind of site are made only behind so many syncs at the second. */
size_t trace_delay(struct trace *trace, const char *site, const char *behind, unsigned times);

/* A moment for a cut: any; if syncs were delayed, one at which one of them is owed. */
size_t trace_choose(const struct trace *trace, uint64_t *random);
/* The disk after a cut behind the first `upto` changes; which of the many, says the seed. 0: everything is kept. Written to
 * the folder `to`, which is empty. */
void trace_materialize(const struct trace *trace, size_t upto, uint64_t seed, const char *to);
/* For people: what was recorded from `from` on, at most `count`. */
void trace_print(const struct trace *trace, size_t from, size_t count);

static inline uint64_t mix(uint64_t *state)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static inline uint64_t mix_below(uint64_t *state, uint64_t bound)
{
    return mix(state) % bound;
}
