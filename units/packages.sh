# Debian packages, for quickstart and tests/run; sourced. need_packages installs what is missing, or says the one line.
BUILD_PACKAGES="gcc cmake ninja-build pkg-config libc6-dev libzmq3-dev libmsgpack-dev libsystemd-dev libisal-dev libjansson-dev libseccomp-dev uthash-dev"
TEST_PACKAGES="libcmocka-dev python3 python3-pytest openjdk-17-jdk-headless maven golang-go nodejs npm procps iproute2 util-linux systemd dpkg-dev strace git zlib1g-dev clang-14 libclang-rt-14-dev"

need_packages() {
    local missing="" package status
    for package in "$@"; do
        status=$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) || status=""
        [ "$status" = "install ok installed" ] || missing="$missing $package"
    done
    # Java, Maven, Go, Node and pytest may be there without Debian's package.
    command -v javac >/dev/null && missing=${missing/ openjdk-17-jdk-headless/}
    command -v mvn >/dev/null && missing=${missing/ maven/}
    command -v go >/dev/null && missing=${missing/ golang-go/}
    command -v npm >/dev/null && missing=${missing/ nodejs/} && missing=${missing/ npm/}
    python3 -m pytest --version >/dev/null 2>&1 && missing=${missing/ python3-pytest/}
    missing=${missing# }
    [ -n "$missing" ] || return 0
    local as=""
    if [ "$(id -u)" != 0 ]; then
        if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
            as=sudo
        else
            echo "Packages are missing. Run this, then try again:" >&2
            echo "    sudo apt-get update && sudo apt-get install -y $missing" >&2
            return 1
        fi
    fi
    echo "installing $missing"
    $as apt-get update -qq >/dev/null || return 1
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive $as apt-get install -y -qq $missing >/dev/null || {
        echo "apt-get install $missing failed" >&2
        return 1
    }
}
