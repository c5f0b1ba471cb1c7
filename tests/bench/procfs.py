"""What the kernel knows about the processes under measurement: CPU, memory, descendants.

CPU is read from each process's CPU clock: the same sum as utime + stime of /proc/PID/stat, all threads and past ones,
but in nanoseconds. (stat counts in ticks of 10 ms, too coarse for an idle cluster of many processes.)
"""
import os
import time


def cpu_ns(pid):
    # clock_getcpuclockid(3): the clock of a process is its complemented id over the type bits, 2 = scheduler.
    return time.clock_gettime_ns((~pid << 3) | 2)


def cpu_ns_of(pids):
    return {pid: cpu_ns(pid) for pid in pids}


def private_memory_bytes(pids):
    """Anonymous and shared memory, each shared page counted once over all sharers (Pss). Files are no part of it."""
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
            for line in f:
                if line.startswith(("Pss_Anon:", "Pss_Shmem:")):
                    total += int(line.split()[1]) * 1024
    return total


def descendants(root):
    parent_of = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as f:
                parent_of[int(name)] = int(f.read().rsplit(")", 1)[1].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    found = {root}
    grown = True
    while grown:
        grown = False
        for pid, parent in parent_of.items():
            if parent in found and pid not in found:
                found.add(pid)
                grown = True
    return found


def machine_busy_ns():
    """CPU time that the whole machine spent, so that a table can tell when strangers took part."""
    with open("/proc/stat", encoding="ascii") as f:
        user, nice, system, _idle, _iowait, irq, softirq, steal = (int(x) for x in f.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) * (10**9 // os.sysconf("SC_CLK_TCK"))
