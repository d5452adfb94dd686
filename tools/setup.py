#!/usr/bin/env python3
"""Sets up what the Rust build cannot fetch by itself; `make setup` runs it.

On Linux: MLX's library and headers from its PyPI wheel, mlx-c compiled from the
sources inside the mlx-sys crate, the Rust declarations of mlx-c, and
`.cargo/config.toml`, which puts these in the place of mlx-sys's build script.
On macOS mlx-rs builds by itself, so only the tools that it needs are checked.

Everything lands in `build/mlx` (FUSELINE_MLX_DIR overrides it, so that several
checkouts can share one set). A run that finds everything in place does nothing.
"""

import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHIMS = ROOT / "tools" / "mlx-linux"
BINDINGS_TOOL = ROOT / "tools" / "mlx-bindings"
CONFIG = ROOT / ".cargo" / "config.toml"
MLX_DIR = Path(os.environ.get("FUSELINE_MLX_DIR") or ROOT / "build" / "mlx").resolve()
MARK = "# Written by tools/setup.py for this checkout. `make setup` renews it."
# mlx-sys binds one release of mlx-c, which is written for one release of MLX.
MLX_RELEASE = {"0.7.0": "0.32.2"}
LIBCLANG = "libclang==18.1.1"
# Raised when the steps below come to make something else of the same sources.
RECIPE = 1


class Missing(Exception):
    """Something that the user has to supply; the text says how."""


def main():
    os.chdir(ROOT)
    try:
        rust_host = check_rust()
        if sys.platform == "darwin":
            set_up_macos()
        elif sys.platform.startswith("linux"):
            set_up_linux(rust_host)
        else:
            raise Missing(f"{sys.platform} is not supported: MLX runs on Linux and macOS.")
    except Missing as missing:
        sys.exit(f"setup: {missing}")
    except OSError as error:
        sys.exit(f"setup: {error}")


def say(text):
    print(f"setup: {text}", file=sys.stderr, flush=True)


def run(command, what, **options):
    """Runs a command quietly; its output is shown when it fails."""
    done = subprocess.run(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        **options,
    )
    if done.returncode:
        raise Missing(f"{what} failed:\n$ {' '.join(map(str, command))}\n{done.stdout.strip()}")
    return done.stdout


def check_rust():
    """Checks the Rust toolchain's version and returns its host triple."""
    if not shutil.which("cargo") or not shutil.which("rustc"):
        raise Missing("no Rust toolchain (cargo, rustc) on PATH: see https://rustup.rs")
    about = run(["rustc", "-vV"], "rustc")
    have = re.search(r"release: (\d+)\.(\d+)", about)
    need = re.search(r'rust-version = "(\d+)\.(\d+)"', (ROOT / "Cargo.toml").read_text())
    if tuple(map(int, have.groups())) < tuple(map(int, need.groups())):
        raise Missing(
            f"Rust {'.'.join(need.groups())} or newer is needed, "
            f"this is {'.'.join(have.groups())}: `rustup update stable`"
        )
    return re.search(r"host: (\S+)", about).group(1)


def mlx_sys_version():
    lock = (ROOT / "Cargo.lock").read_text()
    found = re.search(r'name = "mlx-sys"\nversion = "([^"]+)"', lock)
    if not found:
        raise Missing("Cargo.lock does not name mlx-sys: is the checkout complete?")
    if found.group(1) not in MLX_RELEASE:
        raise Missing(
            f"mlx-sys is now {found.group(1)}: add the MLX release that it binds to "
            "MLX_RELEASE in tools/setup.py"
        )
    return found.group(1)


# --- Linux ----------------------------------------------------------------------------


def set_up_linux(rust_host):
    if not rust_host.endswith("-linux-gnu"):
        raise Missing(
            f"the Rust toolchain builds for {rust_host}; MLX's wheel needs a -linux-gnu toolchain"
        )
    check_config_is_ours()
    mlx_sys = mlx_sys_version()
    compiler = find_compiler()
    MLX_DIR.mkdir(parents=True, exist_ok=True)
    with open(MLX_DIR / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp = MLX_DIR / "stamp.json"
        wanted = {
            "mlx_sys": mlx_sys,
            "rust_host": rust_host,
            "compiler": compiler,
            "sources": sources_digest(),
        }
        made = [MLX_DIR / part for part in ("bindings.rs", "lib/libmlxc.a", "wheel/mlx/lib/libmlx.so")]
        if read_json(stamp) != wanted or not all(path.exists() for path in made):
            stamp.unlink(missing_ok=True)
            build_mlx_parts(mlx_sys, compiler, rust_host)
            stamp.write_text(json.dumps(wanted, indent=1))
            say(f"MLX is ready in {MLX_DIR}")
    write_config(cargo_config(rust_host))


def sources_digest():
    """A digest of the files that decide what is built."""
    digest = hashlib.sha256(str(RECIPE).encode())
    for path in [*sorted(SHIMS.iterdir()), BINDINGS_TOOL / "src" / "main.rs", BINDINGS_TOOL / "Cargo.lock"]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def read_json(path):
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def find_compiler():
    """The C++ compiler, as [command, version line]."""
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]
    for name in names:
        command = name.split()
        if shutil.which(command[0]):
            version = run([*command, "--version"], name).splitlines()[0]
            if not shutil.which("cc"):
                raise Missing("no C compiler named `cc`, which Rust links with: " + how_to_get("gcc"))
            return [name, version]
    raise Missing(f"no C++ compiler ({', '.join(names)}): " + how_to_get("g++"))


def how_to_get(package):
    return f"`sudo apt-get install {package}`, or your distribution's package of that name"


def build_mlx_parts(mlx_sys, compiler, rust_host):
    release = MLX_RELEASE[mlx_sys]
    say("fetching the crates that Cargo.lock names")
    run(["cargo", "fetch", "--locked", "--target", rust_host], "cargo fetch")
    mlx_c = find_crate("mlx-sys", mlx_sys) / "src" / "mlx-c"

    say(f"downloading MLX {release} (CPU) and libclang from PyPI")
    wheel = unpack_wheel(f"mlx-cpu=={release}", "wheel", may_fail_on=platform.libc_ver())
    clang = os.environ.get("LIBCLANG_PATH") or find_libclang(unpack_wheel(LIBCLANG, "libclang"))

    say("compiling mlx-c and generating its Rust declarations (about a minute)")
    with ThreadPoolExecutor(1) as aside:
        bindings = aside.submit(generate_bindings, mlx_c, clang, compiler)
        compile_mlx_c(mlx_c, wheel / "mlx" / "include", compiler)
        bindings.result()
    shutil.rmtree(MLX_DIR / "libclang", ignore_errors=True)


def find_crate(name, version):
    command = ["cargo", "metadata", "--format-version", "1", "--locked"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise Missing(f"cargo metadata failed:\n{done.stderr.strip()}")
    metadata = json.loads(done.stdout)
    for package in metadata["packages"]:
        if package["name"] == name and package["version"] == version:
            return Path(package["manifest_path"]).parent
    raise Missing(f"cargo metadata does not list {name} {version}")


def unpack_wheel(requirement, folder, may_fail_on=None):
    """Downloads one wheel with pip and unpacks it into `MLX_DIR / folder`."""
    target = MLX_DIR / folder
    partial = MLX_DIR / f"{folder}.partial"
    for stale in (target, partial):
        shutil.rmtree(stale, ignore_errors=True)
    pip = [sys.executable, "-m", "pip"]
    if subprocess.run([*pip, "--version"], capture_output=True).returncode:
        raise Missing(f"{sys.executable} has no pip: " + how_to_get("python3-pip"))
    try:
        run(
            [*pip, "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
            + ["--only-binary", ":all:", "--dest", partial, requirement],
            f"downloading {requirement}",
        )
    except Missing as missing:
        if may_fail_on and "No matching distribution" in str(missing):
            raise Missing(
                f"{missing}\nMLX's wheels are for glibc 2.35 or newer on x86-64 and aarch64; "
                f"this is {' '.join(may_fail_on)} on {platform.machine()}. "
                "A very old pip does not know such wheels either."
            ) from None
        raise
    [archive] = partial.glob("*.whl")
    with zipfile.ZipFile(archive) as wheel:
        wheel.extractall(partial / "unpacked")
    (partial / "unpacked").rename(target)
    shutil.rmtree(partial)
    return target


def find_libclang(unpacked):
    for library in unpacked.rglob("libclang*.so*"):
        return library.parent
    raise Missing(f"no libclang library in {unpacked}")


def generate_bindings(mlx_c, clang, compiler):
    target = MLX_DIR / "bindings-tool"
    manifest = BINDINGS_TOOL / "Cargo.toml"
    environment = {**os.environ, "LIBCLANG_PATH": str(clang)}
    run(
        ["cargo", "build", "--locked", "--manifest-path", manifest, "--target-dir", target],
        "building tools/mlx-bindings",
        env=environment,
    )
    headers = run([*compiler[0].split(), "-print-file-name=include"], "the compiler").strip()
    run(
        [target / "debug" / "mlx-bindings", MLX_DIR / "bindings.rs", mlx_c]
        + ["-isystem", headers],
        "generating the declarations of mlx-c",
        env=environment,
    )
    shutil.rmtree(target)


def compile_mlx_c(mlx_c, mlx_include, compiler):
    objects = MLX_DIR / "objects"
    shutil.rmtree(objects, ignore_errors=True)
    objects.mkdir()
    command = [*compiler[0].split(), "-std=c++20", "-O2", "-fPIC", "-I", mlx_include, "-I", mlx_c]

    def compiles(text):
        probe = objects / "probe.cpp"
        probe.write_text(text)
        tried = [str(part) for part in [*command, "-c", probe, "-o", objects / "probe.out"]]
        return subprocess.run(tried, capture_output=True).returncode == 0

    if not compiles("#include <concepts>\n#include <span>\nint main() {}\n"):
        raise Missing(
            f"{compiler[0]} ({compiler[1]}) cannot compile C++20: GCC 11 or Clang 14, or newer, is "
            "needed. The variable CXX can name another compiler."
        )
    if not compiles("#include <format>\nint main() { return std::format(\"{}\", 1).size(); }\n"):
        command += ["-include", SHIMS / "format.h"]

    sources = sorted((mlx_c / "mlx" / "c").glob("*.cpp"))
    # The longest first, so that no worker is left alone with it at the end.
    sources.sort(key=lambda path: (-path.stat().st_size, path.name))

    def compile_one(source):
        output = objects / f"{source.stem}.o"
        run([*command, "-c", source, "-o", output], f"compiling {source.name}")
        return output

    with ThreadPoolExecutor(os.cpu_count() or 1) as workers:
        outputs = list(workers.map(compile_one, sources))
    archive = MLX_DIR / "lib" / "libmlxc.a"
    archive.parent.mkdir(exist_ok=True)
    archive.unlink(missing_ok=True)
    run([os.environ.get("AR", "ar"), "rcs", archive, *sorted(outputs)], "making libmlxc.a")
    shutil.rmtree(objects)


def cargo_config(rust_host):
    library = MLX_DIR / "wheel" / "mlx" / "lib"
    quoted = json.dumps  # a JSON string is a TOML string
    # A RUNPATH (what --enable-new-dtags asks for) yields to LD_LIBRARY_PATH, so the
    # binaries can be run with another build of the same MLX, such as the CUDA one.
    rpath = f"link-arg=-Wl,--enable-new-dtags,-rpath,{library}"
    return f"""{MARK}

[target.{rust_host}]
rustflags = ["-C", {quoted(rpath)}]
rustdocflags = ["-C", {quoted(rpath)}]

[target.{rust_host}.mlx]
rustc-link-search = [{quoted(f"native={MLX_DIR / 'lib'}")}, {quoted(f"native={library}")}]
rustc-link-lib = ["static=mlxc", "dylib=mlx", "dylib=stdc++"]
rustc-env = {{ OUT_DIR = {quoted(str(MLX_DIR))} }}
"""


def check_config_is_ours():
    if CONFIG.exists() and not CONFIG.read_text().startswith(MARK):
        raise Missing(
            f"{CONFIG} is not ours, so it stays as it is. Move your settings to a folder above "
            "the checkout or to ~/.cargo/config.toml, remove the file, and run this again."
        )


def write_config(text):
    """Writes .cargo/config.toml unless it says the same already."""
    if CONFIG.exists() and CONFIG.read_text() == text:
        return
    check_config_is_ours()
    CONFIG.parent.mkdir(exist_ok=True)
    partial = CONFIG.with_suffix(".partial")
    partial.write_text(text)
    partial.replace(CONFIG)
    say(f"wrote {CONFIG.relative_to(ROOT)}")


# --- macOS ----------------------------------------------------------------------------


def set_up_macos():
    if subprocess.run(["xcode-select", "-p"], capture_output=True).returncode:
        raise Missing("no Xcode: install it from the App Store, then `xcode-select --install`")
    metal = ["xcrun", "-sdk", "macosx", "metal", "--version"]
    if subprocess.run(metal, capture_output=True).returncode:
        raise Missing(
            "Xcode's Metal compiler does not run: `xcodebuild -downloadComponent MetalToolchain` "
            "(the command-line tools alone do not have it; Xcode itself is needed)"
        )
    if shutil.which("cmake"):
        return
    # mlx-sys builds MLX with CMake, which Xcode does not bring; PyPI does.
    found = sorted((MLX_DIR / "cmake").rglob("bin/cmake"))
    if not found:
        say("downloading CMake from PyPI")
        MLX_DIR.mkdir(parents=True, exist_ok=True)
        unpack_wheel("cmake>=3.28,<5", "cmake")
        found = sorted((MLX_DIR / "cmake").rglob("bin/cmake"))
        if not found:
            raise Missing("no cmake on PATH, and none in PyPI's wheel: `brew install cmake`")
        for tool in found[0].parent.iterdir():
            tool.chmod(0o755)
    write_config(f"{MARK}\n\n[env]\nCMAKE = {json.dumps(str(found[0]))}\n")


if __name__ == "__main__":
    main()
