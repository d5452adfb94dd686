#!/usr/bin/env python3
"""Copies the two commands, and what they need of MLX, below a prefix; `make install PREFIX=…` runs it.

    PREFIX/bin/fuseline, PREFIX/bin/fuseline-run
    PREFIX/lib/fuseline/      MLX's libraries, as they lie in its wheel (Linux)
    PREFIX/share/doc/fuseline/  licences

The folder may be moved as a whole: fuseline-run finds the libraries from its own place. On a Mac MLX is part
of the command, but for its kernels, mlx.metallib, which belong beside it.
"""

import argparse
import pathlib
import re
import shutil
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--bin", required=True, type=pathlib.Path, help="the folder that Cargo built the commands in")
    parser.add_argument("--prefix", required=True, type=pathlib.Path)
    arguments = parser.parse_args()
    try:
        install(arguments.bin, arguments.prefix)
    except OSError as error:
        sys.exit(f"install: {error}")


def install(built, prefix):
    for name in ["fuseline", "fuseline-run"]:
        copy(built / name, prefix / "bin" / name)
    documents = prefix / "share" / "doc" / "fuseline"
    for name in ["LICENSE-MIT", "LICENSE-APACHE"]:
        copy(ROOT / name, documents / name)
    if sys.platform == "darwin":
        for kernels in sorted(built.rglob("mlx.metallib"))[:1]:
            copy(kernels, prefix / "bin" / kernels.name)
        return
    library = mlx_library()
    wheel = library.parent.parent
    forget(prefix / "bin" / "fuseline-run", library)
    target = prefix / "lib" / "fuseline"
    for folder in [library, *wheel.glob("*.libs")]:
        for file in sorted(folder.glob("lib*.so*")):
            copy(file, target / file.relative_to(wheel))
    for file in sorted(wheel.glob("*.dist-info/licenses/**/*")):
        if file.is_file():
            copy(file, documents / "mlx" / file.name)


def mlx_library():
    """The folder of libmlx.so, from the Cargo configuration that setup.py wrote."""
    config = (ROOT / ".cargo" / "config.toml").read_text(encoding="utf-8")
    return pathlib.Path(re.search(r"-rpath,([^\"]+)\"", config).group(1))


def forget(command, library):
    """Takes the folder of this machine out of the list of those that the command looks for MLX in."""
    own = b"$ORIGIN/../lib/fuseline/mlx/lib\0"
    listed = str(library).encode() + b":" + own
    content = command.read_bytes()
    if content.count(listed) != 1:
        sys.exit(f"install: {command} does not look for MLX in {library} and in its own place")
    command.write_bytes(content.replace(listed, own.ljust(len(listed), b"\0")))


def copy(source, target):
    """Replaces a file rather than writing into it: it may be running."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    shutil.copy2(source, partial)
    partial.replace(target)
    print(target)


if __name__ == "__main__":
    main()
