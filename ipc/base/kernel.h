/* What newer kernels than the floor (6.1, Debian 12) can do, and what is lost without it. Everything here is asked for at
 * run time and done without where it is missing; nobody else compares kernel versions.
 *
 * | ability | from | without it |
 * |---|---|---|
 * | Landlock: folders (may be built in but switched off) | 5.13 | a worker may open any file of its user for reading; the
 *   store and the name server also for writing. seccomp still keeps a front from every file |
 * | Landlock 3: truncation | 6.2 | a file outside of a worker's folders could be cut by its path |
 * | Landlock 4: TCP | 6.7 | nothing: store and name server have no TCP socket to connect, seccomp sees to that |
 * | Landlock 6: signals, abstract sockets | 6.12 | signals: nothing (seccomp); abstract Unix sockets of other programs can
 *   be connected to |
 */
#pragma once

/* The level of Landlock that the kernel offers; 0: none. */
int kernel_landlock_level(void);
