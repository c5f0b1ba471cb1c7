/* `pintle config show|check|diff`, which the pintle program passes on: the supervisor alone reads configuration. */
#pragma once

/* argv[0] is "config". Returns the exit code. */
int config_command(int argc, char **argv);
