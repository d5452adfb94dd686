"""Fails when a snapshot in snapshots/ belongs to no test.

usage: snapshots.py REFERENCES

REFERENCES is what insta writes to INSTA_SNAPSHOT_REFERENCES_FILE while the tests run: the path of every snapshot that a test looked at, one a line.
"""
import pathlib
import sys


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    lines = pathlib.Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()
    used = {pathlib.Path(line).resolve() for line in lines if line}
    stale = sorted(p for p in (root / "snapshots").rglob("*.snap") if p.resolve() not in used)
    for path in stale:
        print(f"no test looks at {path.relative_to(root)}: remove it", file=sys.stderr)
    sys.exit(1 if stale else 0)


if __name__ == "__main__":
    main()
