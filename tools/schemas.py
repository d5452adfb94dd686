#!/usr/bin/env python3
"""Makes program/src/generated/*.rs from program/schema/*.fbs.

Uses the flatc that FLATC names, else the one in ExecuTorch's wheel, fetched once into build/flatc. The output
depends on flatc's version, so only VERSION is used; what it makes works with the `flatbuffers` crate of
Cargo.lock.
"""

import os
import pathlib
import re
import subprocess
import sys
import tempfile
import zipfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
SCHEMAS = ROOT / "program" / "schema"
OUTPUT = ROOT / "program" / "src" / "generated"
KEPT = ROOT / "build" / "flatc"
VERSION = "24.3.25"
WHEEL = "executorch==1.5.1"
MEMBER = "executorch/data/bin/flatc"


def fetch():
    """Takes flatc out of the wheel that has the version wanted."""
    KEPT.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=KEPT.parent) as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, WHEEL]
        subprocess.run(pip, check=True)
        (wheel,) = pathlib.Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            binary = archive.read(MEMBER)
    new = KEPT.with_suffix(".new")
    new.write_bytes(binary)
    new.chmod(0o755)
    new.replace(KEPT)
    return str(KEPT)


def say_alignment(path):
    """Lets every struct say how it is aligned in a table: this flatc leaves it out, and the crate then takes
    that of the bytes, which is 1. A reader that verifies alignment, as C++ does, refuses such a file."""
    struct = re.compile(
        r"// struct \w+, aligned to (\d+)\n.*?impl<'b> flatbuffers::Push for \w+ \{\n    type Output = \w+;\n", re.DOTALL
    )
    method = "    #[inline]\n    fn alignment() -> flatbuffers::PushAlignment {\n        flatbuffers::PushAlignment::new(%s)\n    }\n"
    path.write_text(struct.sub(lambda found: found[0] + method % found[1], path.read_text()))


def main():
    flatc = os.environ.get("FLATC") or (str(KEPT) if KEPT.exists() else fetch())
    said = subprocess.run([flatc, "--version"], check=True, capture_output=True, text=True).stdout.strip()
    if said != f"flatc version {VERSION}":
        sys.exit(f"schemas: {flatc} is {said!r}, wanted is version {VERSION}")
    schemas = sorted(str(schema) for schema in SCHEMAS.glob("*.fbs"))
    subprocess.run([flatc, "--rust", "-o", str(OUTPUT), *schemas], check=True)
    for path in OUTPUT.glob("*_generated.rs"):
        say_alignment(path)
    print(f"schemas: {len(schemas)} written to {OUTPUT.relative_to(ROOT)}")


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"schemas: {error}")
