#!/usr/bin/env python3
"""Write compiler/src/import/tests/core_aten.txt: the overloads of core ATen, which is what `run_decompositions()` leaves.

    python3 tests/scripts/core_aten.py > compiler/src/import/tests/core_aten.txt

They are the operators that PyTorch tags as core. Needs torch 2.13.0.
"""

import torch


def main() -> None:
    names = set()
    for name in dir(torch.ops.aten):
        packet = getattr(torch.ops.aten, name, None)
        for overload in getattr(packet, "overloads", list)():
            if torch.Tag.core in getattr(packet, overload).tags:
                names.add(f"aten.{name}.{overload}")
    print("\n".join(sorted(names)))


if __name__ == "__main__":
    main()
