#!/usr/bin/env python3
"""Write compiler/src/pt2/schemas.txt: the ATen operator schemas that an export can name.

    python3 tests/scripts/aten_schemas.py TORCH_WHEEL > compiler/src/pt2/schemas.txt

TORCH_WHEEL is a wheel of PyTorch (`pip download --no-deps torch==2.13.0`); the schemas are read from the
operator list that it carries, without importing it. Only the Python standard library is needed.

Left out are operators that no inference export holds: `out=` overloads, gradients, optimiser steps over lists,
sparse and nested tensors, vendor kernels.
"""

import re
import sys
import zipfile

OPERATORS = "torchgen/packaged/ATen/native/native_functions.yaml"
NOT_EXPORTED = re.compile(
    r"backward|_foreach_|_fused_|sparse|nested|jagged|cudnn|mkldnn|miopen|mps|fbgemm|cslt|cufft|_cuda_|overrideable|"
    r"quantized_|q_per_channel|q_scale|q_zero|qscheme|_test_|ctc_loss|_loss$|_loss_|coalesce|crow_|ccol_|col_indices|"
    r"row_indices|_cdist_|segment_reduce|_ddp|_thnn|record_stream|_fw_primal|_make_dual|_unpack_dual|retains_grad|"
    r"requires_grad|^_version|is_leaf|output_nr|set_data|_pack_padded|_pad_packed|pin_memory|^is_pinned|^_pin|resize|"
    r"_validate|histogramdd|spdiags|_nnpack|_use_|_debug_|_saturate|_wrapped|_transformer_encoder|_native_multi_head|"
    r"_flash_|retain_grad|^_c\w*_helper|_triton|_dyn_quant|_scaled_mm|_mixed_dtypes|_linalg_|lstsq|"
    r"^_?lu_|(^|_)qr$|svd|cholesky|triangular|ormqr|geqrf|orgqr|(^|_)eigh?$|eigvals|slogdet|logdet|^det$|^inverse$|^_amp_|^_foobar|_batch_dim$|^_sobol|^_dim[IV]$|^_nnz$|"
    r"linalg_(?!vector_norm|norm|matrix_norm|cross|diagonal|vecdot|multi_dot)"
)


def main() -> None:
    with zipfile.ZipFile(sys.argv[1]) as wheel:
        text = wheel.read(OPERATORS).decode()
    rows = []
    for schema in re.findall(r"^- func: (.*)$", text, re.M):
        schema = re.sub(r"\s+", " ", schema).strip()
        name, rest = schema.split("(", 1)
        base, _, overload = name.partition(".")
        arguments = rest.rsplit(") -> ", 1)[0]
        if re.search(r"\*,.*\(a!\)", arguments) or overload in ("out", "grad_input"):
            continue
        unwanted = NOT_EXPORTED.search(base) and not base.startswith("_scaled_dot_product")
        if unwanted or "Dimname" in rest:
            continue
        rows.append((f"{base}.{overload or 'default'}", rest))
    for name, rest in sorted(set(rows)):
        print(f"aten.{name}({rest}")


if __name__ == "__main__":
    main()
