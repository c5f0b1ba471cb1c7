"""A fresh machine for a test: a real systemd as PID 1 of namespaces of its own, on a private copy of the root.

    with Machine() as machine:
        machine.install()                            # `cmake --install` of the build, the service's user and files
        machine.run("systemctl", "start", "pintle")  # CompletedProcess; `check=False` for what may fail
        with machine.connect("127.0.0.1:10911") as client: ...

Its files are an overlay in memory, its network has only a loopback device, its processes end with it (the kernel kills
them if this process dies, too): nothing of the real machine is changed. Wants root, or rather the right to make
namespaces; `why_not()` says what is missing.
"""
import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "lib"))
from cluster import build_dir, wait_for  # noqa: E402
from remoting import Connection  # noqa: E402

NAMESPACES = ("--pid", "--mount", "--ipc", "--uts", "--net", "--cgroup", "--fork", "--kill-child", "--mount-proc")
CLONE_NEWNET = 0x40000000
SYSTEMD = "/lib/systemd/systemd"

# The first process of the namespaces: makes the root that systemd may change, and becomes systemd.
BOOT = r"""
set -eu
mount --make-rprivate /
mount -t tmpfs -o mode=0755 tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
root=$1/root
mount -t overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" overlay "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=0755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
rm -rf "$root/var/log/journal" "$root/etc/pintle" "$root/var/lib/pintle"
mount --bind /dev/null "$root/dev/console"
ip link set lo up
exec env -i container=x PATH="$PATH" chroot "$root" /lib/systemd/systemd --system --unit=basic.target --log-target=journal
"""


def why_not() -> str:
    """Empty if a machine can be made here."""
    if not Path(SYSTEMD).exists():
        return f"there is no {SYSTEMD} (Debian: apt-get install systemd)"
    tried = subprocess.run(["unshare", *NAMESPACES, "mount", "--make-rprivate", "/"], capture_output=True, text=True)
    return "" if tried.returncode == 0 else f"no namespaces here: {tried.stderr.strip()}"


class Machine:
    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="pintle-machine-")
        self.console = open(Path(self.folder.name) / "console", "w+")
        mount = Path(self.folder.name) / "mount"
        mount.mkdir()
        # The kernel ends it, and so all of it, with us.
        self.unshare = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "unshare", *NAMESPACES, "bash", "-c", BOOT, "boot", str(mount)],
            stdin=subprocess.DEVNULL, stdout=self.console, stderr=self.console)
        try:
            self.pid = wait_for(self._find_systemd, 60, "systemd as PID 1")
            wait_for(self._is_up, 60, "a running systemd")
        except BaseException:
            print(self.console_text())
            self.stop()
            raise

    def _find_systemd(self) -> int:
        if self.unshare.poll() is not None:
            raise RuntimeError(f"unshare: exit code {self.unshare.returncode}\n{self.console_text()}")
        for child in Path(f"/proc/{self.unshare.pid}/task/{self.unshare.pid}/children").read_text().split():
            try:
                if os.readlink(f"/proc/{child}/exe").endswith("/systemd"):
                    return int(child)
            except OSError:
                pass
        return 0

    def _is_up(self) -> bool:
        done = self.run("systemctl", "is-system-running", check=False)
        return done.stdout.strip() in ("running", "degraded")

    def console_text(self) -> str:
        return Path(self.console.name).read_text(errors="replace")

    def command(self, *words) -> list:
        return ["nsenter", "-t", str(self.pid), "-m", "-p", "-u", "-i", "-n", "-C", "-r", "-w", *map(str, words)]

    def run(self, *words, check=True, timeout_s=120, **more) -> subprocess.CompletedProcess:
        done = subprocess.run(self.command(*words), capture_output=True, text=True, timeout=timeout_s,
                              env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}, **more)
        if check and done.returncode != 0:
            raise RuntimeError(f"{' '.join(map(str, words))}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def start(self, *words, **more) -> subprocess.Popen:
        return subprocess.Popen(self.command(*words), env={"PATH": "/usr/bin:/bin"}, **more)

    def write(self, path: str, text: str):
        self.run("bash", "-c", 'mkdir -p "$(dirname "$0")" && cat >"$0"', path, input=text)

    def read(self, path: str) -> str:
        return self.run("cat", path).stdout

    def copy(self, folder: Path, to: str = "/"):
        """All in a folder of the real machine, as root's."""
        with subprocess.Popen(["tar", "-C", folder, "--owner=0", "--group=0", "-c", "."],
                              stdout=subprocess.PIPE) as packed:
            subprocess.run(self.command("tar", "-C", to, "--no-overwrite-dir", "-x"), stdin=packed.stdout, check=True)

    def install(self):
        """What the README tells a person to do."""
        with tempfile.TemporaryDirectory(prefix="pintle-install-") as stage:
            subprocess.run(["cmake", "--install", build_dir(), "--prefix", "/usr"], check=True, capture_output=True,
                           env={**os.environ, "DESTDIR": stage})
            os.chmod(stage, 0o755)
            self.copy(Path(stage))
        self.run("systemd-sysusers")
        self.run("systemd-tmpfiles", "--create", "pintle.conf")
        self.run("systemctl", "daemon-reload")

    def connect(self, address: str, timeout_s: float = 30) -> Connection:
        """A client in this machine's network: a socket belongs to the network in which its thread made it."""
        made = []

        def make():
            try:
                with open(f"/proc/{self.pid}/ns/net") as network:
                    if ctypes.CDLL(None, use_errno=True).setns(network.fileno(), CLONE_NEWNET) < 0:
                        raise OSError(ctypes.get_errno(), "setns")
                made.append(Connection(address, timeout_s))
            except BaseException as e:  # told to the caller
                made.append(e)
        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        if isinstance(made[0], BaseException):
            raise made[0]
        return made[0]

    def pids_of(self, program: str) -> list:
        """Processes of this machine, by the real machine's numbers: zombies are none."""
        namespace, found = os.readlink(f"/proc/{self.pid}/ns/pid"), []
        for entry in Path("/proc").iterdir():
            try:
                if (entry.name.isdigit() and os.readlink(entry / "ns/pid") == namespace
                        and Path(os.readlink(entry / "exe")).name.startswith(program)):
                    found.append(int(entry.name))
            except OSError:
                pass
        return found

    def stop(self):
        self.unshare.send_signal(signal.SIGKILL)
        self.unshare.wait()
        deadline = time.monotonic() + 30
        while getattr(self, "pid", 0) and Path(f"/proc/{self.pid}").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        self.console.close()
        self.folder.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.stop()


if __name__ == "__main__":  # for tests/run: one line if there can be no machine here
    print(why_not(), end="")
