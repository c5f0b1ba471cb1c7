"""Who holds the other end of a TCP connection of this host, as /proc tells it."""
import os
import socket
from pathlib import Path


def _inodes(pid: int) -> set:
    found = set()
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.add(os.readlink(fd))
        except FileNotFoundError:
            pass  # closed meanwhile
    return found


def server_pid(connection: socket.socket, pids: list) -> int:
    """Which of the processes has accepted this IPv4 connection; 0: none of them."""
    server, client = connection.getpeername()[1], connection.getsockname()[1]
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        local, remote = (int(fields[i].rsplit(":", 1)[1], 16) for i in (1, 2))
        if (local, remote) == (server, client):
            inode = f"socket:[{fields[9]}]"
            return next((pid for pid in pids if inode in _inodes(pid)), 0)
    return 0
