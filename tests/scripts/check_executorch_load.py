#!/usr/bin/env python3
"""Loads .pte files with ExecuTorch's own loader and says which of them it takes.

    check_executorch_load.py FILE.pte ...

On Linux the wheel has no MLX backend, so a method with an MLX delegate can't be initialised. What can be
checked: the program passes Verification.InternalConsistency, and loading each method gets as far as looking
for the backend: all values have been parsed by then. Needs `pip install executorch==1.5.1` (with torch).
Exit code 0: every file is taken; 1: some file is not; 2: ExecuTorch itself can't be used.
"""

import re
import sys

try:
    from executorch.extension.pybindings.portable_lib import (
        Verification,
        _load_program,
    )
except (ImportError, ValueError, OSError) as error:
    print(f"can't use ExecuTorch: {error}", file=sys.stderr)
    sys.exit(2)

# executorch::runtime::Error::NotFound: what Method::init returns for a backend that is not registered.
NOT_FOUND = re.compile(r"0x:?20\b")


def verdict(path):
    """What the loader does with a file: None if it takes it, else the reason."""
    try:
        program = _load_program(
            path, program_verification=Verification.InternalConsistency
        )
    except RuntimeError as error:
        return f"the program is refused: {error}"
    for number in range(program.num_methods()):
        name = program.get_method_name(number)
        try:
            program.load_method(name)
        except RuntimeError as error:
            if not NOT_FOUND.search(str(error)):
                return f"method {name!r} is refused: {error}"
    return None


def main(paths):
    refused = 0
    for path in paths:
        reason = verdict(path)
        refused += reason is not None
        print(f"{path}: {reason or 'taken'}")
    print(f"{len(paths) - refused} of {len(paths)} taken")
    return 1 if refused or not paths else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
