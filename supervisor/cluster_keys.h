/* Keys of the cluster file, by section. */
#pragma once

#include "base/keys.h"

extern const struct key keys_cluster[]; /* [cluster] */
extern const struct key keys_namesrv[]; /* [namesrv NAME] */
extern const struct key keys_broker[];  /* [broker NAME] */
