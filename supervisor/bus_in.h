/* What workers say over the bus. */
#pragma once

#include "base/bytes.h"

/* bus_handler; the context is the supervisor. */
void bus_in_message(void *context, struct bytes peer, struct bytes message);
