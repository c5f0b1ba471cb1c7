/* Removes brokers that were silent for too long. */
#pragma once

#include "namesrv.h"

int expiry_start(struct namesrv *namesrv);
