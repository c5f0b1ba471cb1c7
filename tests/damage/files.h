/* A store's folder in memory: every file's bytes, to be laid down again and again, and to be damaged. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum file_kind { FILE_LOG, FILE_QUEUE, FILE_INDEX, FILE_CHECKPOINT, FILE_JOURNAL, FILE_JSON, FILE_OTHER, FILE_KINDS };

struct file {
    char name[128]; /* from the folder on */
    enum file_kind kind;
    uint8_t *bytes;
    size_t size;
    int64_t changed_ns;
    int64_t first; /* of a log file its position, of a queue file its first byte's place in the queue */
};

struct files {
    struct file *list;
    unsigned count;
};

void files_load(struct files *files, const char *folder);
void files_lay(const struct files *files, const char *folder); /* the folder is emptied first */
void files_free(struct files *files);

/* One place: a bit, or a page of zeros. */
struct damage_place {
    unsigned file;
    size_t at, size; /* bytes that it hits */
    int bit;         /* −1: zeros */
};
/* On the disk; the time of change stays, as a disk's own damage leaves it. False: those bytes are zeros already. */
bool files_damage(const struct files *files, const char *folder, const struct damage_place *place);
/* The bytes of the place are as they were. */
bool files_healed(const struct files *files, const char *folder, const struct damage_place *place);
