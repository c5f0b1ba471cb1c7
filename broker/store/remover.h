/* Takes files away off the deciding thread: whole folders, which are first moved into STORE/removed by one rename, and
 * queue files below an offset. What a dead store left in STORE/removed its successor takes away. */
#pragma once

#include <stdint.h>

struct remover;

int remover_new(const char *store_root, struct remover **ret_remover);
/* Ends behind the file at hand. */
void remover_free(struct remover *remover);
/* The folder is gone from its place when this returns; 0 also if it was not there. */
int remover_take(struct remover *remover, const char *path);
/* Files of the folder whose names are positions below `pos`. */
int remover_trim(struct remover *remover, const char *folder, int64_t pos);
