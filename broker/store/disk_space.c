/* See disk_space.h. */
#include "disk_space.h"

#include <errno.h>
#include <sys/statvfs.h>

enum disk_level disk_space_level(const struct store_config *config, unsigned used_percent, int64_t free_bytes)
{
    if (free_bytes < config->disk_free_least)
        return DISK_FULL;
    if (config->disk_free_enough > 0 && free_bytes >= config->disk_free_enough)
        return DISK_PLENTY;
    if (used_percent > (unsigned)config->disk_warning_percent)
        return DISK_FULL;
    if (used_percent > (unsigned)config->disk_force_percent)
        return DISK_FORCE;
    return used_percent > (unsigned)config->disk_clean_percent ? DISK_CLEAN : DISK_PLENTY;
}

static int look_at(const struct store_config *config, const char *folder, struct disk_space *space)
{
    struct statvfs st;
    if (statvfs(folder, &st) < 0)
        return -errno;
    uint64_t used = st.f_blocks - st.f_bfree, all = used + st.f_bavail;
    unsigned percent = all ? (unsigned)((used * 100 + all - 1) / all) : 0;
    int64_t left = (int64_t)(st.f_bavail * st.f_frsize);
    int64_t excess = (int64_t)((used - all * (uint64_t)config->disk_force_percent / 100) * st.f_frsize);
    if (percent <= (unsigned)config->disk_force_percent)
        excess = 0;
    if (config->disk_free_least - left > excess)
        excess = config->disk_free_least - left;
    if (percent > space->used_percent)
        space->used_percent = percent;
    if (left < space->free_bytes)
        space->free_bytes = left;
    if (excess > space->excess_bytes)
        space->excess_bytes = excess;
    return 0;
}

int disk_space_look(const struct store_config *config, struct disk_space *ret_space)
{
    struct disk_space space = {.free_bytes = INT64_MAX};
    int r = look_at(config, config->commit_log_dir, &space);
    if (r == 0)
        r = look_at(config, config->store_root, &space);
    if (r < 0)
        return r;
    space.level = disk_space_level(config, space.used_percent, space.free_bytes);
    *ret_space = space;
    return 0;
}
