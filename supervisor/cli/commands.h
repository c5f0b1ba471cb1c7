/* The commands of the pintle program: one file each, listed once in main.c. */
#pragma once

/* Each gets its own arguments (argv[0] is its name) and returns the exit code: 0, or enum exit_code of contract.h. */
int command_up(int argc, char **argv);
int command_down(int argc, char **argv);
int command_status(int argc, char **argv);
int command_reload(int argc, char **argv);
int command_fault(int argc, char **argv);
int command_send(int argc, char **argv);
int command_consume(int argc, char **argv);
int command_config(int argc, char **argv);
int command_inspect(int argc, char **argv); /* fsck and log */

/* Becomes another program of ours, "pintle-…", with these arguments (the first is replaced); returns only on failure, said. */
void command_become(const char *program, char **arguments);

/* Name servers for a command that acts as a client: those given, else $NAMESRV_ADDR, else those of the cluster that runs
 * in `dir` (NULL: the system's folder). malloc'ed, never NULL: ends the program with a message if there are none. */
char *command_namesrvs(const char *given, const char *dir);
