"""The Debian package on a fresh machine: it installs and serves, an upgrade keeps what is there, its removal leaves nothing."""
import subprocess

import pytest
from cluster import build_dir
from machine import Machine, why_not
from service import Service, read_all, send_all

BODIES = [b"body %d" % i for i in range(20)]
VERSIONS = ("0.0.1", "0.0.2")


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """The same build twice, under two versions."""
    made = []
    for version in VERSIONS:
        folder = tmp_path_factory.mktemp(f"package-{version}")
        subprocess.run(["cpack", "-G", "DEB", "--config", build_dir() / "CPackConfig.cmake", "-B", folder,
                        "-D", f"CPACK_PACKAGE_VERSION={version}", "-D", "CPACK_DEBIAN_COMPRESSION_TYPE=gzip"], check=True, capture_output=True, cwd=build_dir())
        made.append(next(folder.glob("*.deb")))
    return made


@pytest.fixture()
def machine(request):
    if why_not():
        pytest.skip(why_not())
    with Machine() as booted:
        request.config.booted_machine = booted
        booted.run("rm", "-f", "/usr/sbin/policy-rc.d")  # of container images: nothing may start
        yield booted


def dpkg(machine, *words):
    """Other packages' triggers (the index of all manual pages) are not of interest."""
    return machine.run("env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "--no-triggers", "--force-unsafe-io", *words)


def test_install_upgrade_remove(machine, packages):
    service = Service(machine)
    for package in packages:
        machine.copy(package.parent, "/tmp")
    old, new = (f"/tmp/{package.name}" for package in packages)

    dpkg(machine, "-i", old)
    assert (service.show("ActiveState"), service.show("UnitFileState")) == ("active", "enabled")
    assert service.show("StatusText") == "3 of 3 workers serve"
    assert machine.run("dpkg-query", "-W", "-f", "${Version}", "pintle").stdout == VERSIONS[0]
    send_all(service, BODIES[:10])

    machine.run("bash", "-c", "sed -i 's/^#name = .*/name = MyCluster/' /etc/pintle/cluster.conf")
    pid = service.main_pid()
    dpkg(machine, "-i", new)
    assert service.show("ActiveState") == "active" and service.main_pid() != pid
    assert machine.run("dpkg-query", "-W", "-f", "${Version}", "pintle").stdout == VERSIONS[1]
    assert service.status()["cluster"] == "MyCluster"
    send_all(service, BODIES[10:])
    assert read_all(service) == BODIES

    dpkg(machine, "-r", "pintle")
    assert service.left_over() == []
    assert machine.run("bash", "-c", "ls -d /usr/bin/pintle /usr/libexec/pintle 2>/dev/null; true").stdout == ""
    dpkg(machine, "-i", new)
    assert (service.show("ActiveState"), service.show("UnitFileState")) == ("active", "enabled")
    assert service.status()["cluster"] == "MyCluster" and read_all(service) == BODIES

    done = dpkg(machine, "-P", "pintle")
    assert "/var/lib/pintle stay" in done.stdout
    assert service.left_over() == []
    files = "/etc/pintle /etc/systemd/system/*/pintle* /etc/systemd/system/pintle*"
    assert machine.run("bash", "-c", f"ls -d {files} 2>/dev/null; true").stdout == ""
    assert machine.run("test", "-d", "/var/lib/pintle/store/broker-a/commitlog", check=False).returncode == 0
