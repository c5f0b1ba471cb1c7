/* What the stores of this host tell over the bus. */
#pragma once

#include "namesrv.h"

/* A bus_handler; the context is the struct namesrv. */
void bus_in_message(void *context, struct bytes peer, struct bytes message);
