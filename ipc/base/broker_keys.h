/* Keys of Apache's broker.conf: those that this version honours, then every other one that Apache 5.3.3 knows
 * (KEY_UNUSED). The supervisor reads files by it, the store judges changes at run time by it. */
#pragma once

#include "base/keys.h"

extern const struct key broker_keys[];

/* In storePathRootDir/config: what was changed at run time. The store writes it, the supervisor reads it at the start. */
#define BROKER_RUN_TIME_FILE "broker.properties"
