/* JSON bodies of frames: the room of its own that the store reads its files with too. */
#pragma once

#include "json/json_body.h"
