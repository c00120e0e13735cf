#!/usr/bin/env bash
# Prepare a fresh clone: virtual environment, Python packages, OpenGL libraries. Safe to run again.
# pyproject.toml says which Python, constraints.txt which version of every package.
#   tools/setup.sh browser    only what the tests need besides: Chromium
set -euo pipefail
cd "$(dirname "$0")/.."

readonly GL_PACKAGES="libegl1 libegl-mesa0 libgl1 libgl1-mesa-dri libgles2 libopengl0 libglib2.0-0"

say() { echo "setup: $*"; }

# Whether this interpreter is one that pyproject.toml allows; those without tomllib are too old.
is_right_python() {
    "$1" - 2>/dev/null <<'PY'
import re
import sys
import tomllib

with open("pyproject.toml", "rb") as file:
    needed = tomllib.load(file)["project"]["requires-python"]
least, end = (tuple(map(int, text.split("."))) for text in re.findall(r"[0-9.]+", needed))
sys.exit(not least <= sys.version_info[:2] < end)
PY
}

find_python() {
    local candidate
    for candidate in "${PYTHON311:-python3.11}" python3.12 python3.13 python3 python; do
        if is_right_python "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    echo "setup: no Python found of those that pyproject.toml allows ($(grep requires-python pyproject.toml));" \
        "install one (Debian/Ubuntu: apt-get install python3.11 python3.11-venv, or uv python install 3.11)" \
        "or set PYTHON311=/path/to/python" >&2
    return 1
}

has_gl() {
    "$1" - <<'PY'
import ctypes
import glob
import sys

try:
    for name in ("libEGL.so.1", "libOpenGL.so.0", "libGL.so.1", "libgthread-2.0.so.0"):
        ctypes.CDLL(name)
except OSError:
    sys.exit(1)
folders = ("/usr/lib/*", "/usr/lib64", "/usr/lib")
drivers = ("dri/swrast_dri.so", "libgallium-*.so", "libEGL_nvidia.so.0")
sys.exit(not any(glob.glob(f"{folder}/{driver}") for folder in folders for driver in drivers))
PY
}

has_browser() {
    local name
    for name in "${CHROMIUM:-chromium}" chromium-browser google-chrome; do
        if command -v "$name" >/dev/null; then return; fi
    done
    return 1
}

# Installs packages if this user may; prints nothing if not.
apt_install() {
    local sudo=""
    if [ "$(id -u)" != 0 ]; then sudo="sudo -n"; fi
    command -v apt-get >/dev/null || return 1
    [ -z "$sudo" ] || sudo -n true 2>/dev/null || return 1
    $sudo apt-get update -qq
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

install_gl() {
    say "installing OpenGL libraries: $GL_PACKAGES"
    # shellcheck disable=SC2086
    if ! apt_install $GL_PACKAGES; then
        say "OpenGL libraries are missing and cannot be installed from here; run: sudo apt-get install $GL_PACKAGES" >&2
        return 1
    fi
}

# Only tests of the report need a browser; without one they are skipped.
install_browser() {
    say "installing Chromium for the tests of the report"
    apt_install chromium || say "no Chromium and none can be installed from here; tests of the report will be skipped" >&2
}

if [ "${1:-}" = browser ]; then
    if ! has_browser; then install_browser; fi
    exit 0
fi

python="$(find_python)"
if ! [ -x .venv/bin/python ]; then
    say "creating .venv with $python"
    if ! "$python" -m venv .venv; then
        rm -rf .venv
        version="$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
        say "$python cannot create virtual environments; run: sudo apt-get install python$version-venv" >&2
        exit 1
    fi
fi

# TORCH_INDEX=https://download.pytorch.org/whl/cpu avoids the CUDA libraries on a machine without a GPU.
say "installing Python packages into .venv (a few minutes the first time)"
.venv/bin/python -m pip install --quiet --disable-pip-version-check ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} "$(grep "^torch==" constraints.txt)"
.venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
# openpi's client and server, for tests and benchmarks: they ask for numpy 1, and run with numpy 2.
# shellcheck disable=SC2046
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps $(grep "^openpi-" constraints.txt)

if has_gl .venv/bin/python; then say "OpenGL libraries are present"; else install_gl; fi

touch .venv/.ready
say "ready"
