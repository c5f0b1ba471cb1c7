/* Takes files away off the deciding thread: folders and files, which are first moved into STORE/removed by one rename, and
 * queue files below an offset. What a dead store left in STORE/removed its successor takes away. Large files are shortened
 * piece by piece: the file system frees a gigabyte in one go only with everybody else waiting. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct remover;

int remover_new(const char *store_root, struct remover **ret_remover);
/* Ends behind the file at hand. */
void remover_free(struct remover *remover);
/* The folder or file is gone from its place when this returns; 0 also if it was not there. */
int remover_take(struct remover *remover, const char *path);
/* The same for a file that somebody may still have mapped: it keeps its length until it goes. */
int remover_take_whole(struct remover *remover, const char *path);
/* Something is still being taken away. */
bool remover_busy(struct remover *remover);
/* Files of the folder whose names are positions below `pos`. */
int remover_trim(struct remover *remover, const char *folder, int64_t pos);
