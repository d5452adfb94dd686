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
    r"quantized_|q_per_channel|q_scale|q_zero|qscheme|_test_|ctc_loss|coalesce|crow_|ccol_|col_indices|"
    r"row_indices|_ddp|_thnn|record_stream|_fw_primal|_make_dual|_unpack_dual|retains_grad|"
    r"requires_grad|^_version|is_leaf|output_nr|set_data|_pack_padded|_pad_packed|pin_memory|^is_pinned|^_pin|resize|"
    r"_validate|histogramdd|spdiags|_nnpack|_use_|_debug_|_saturate|_wrapped|"
    r"_flash_|retain_grad|^_c\w*_helper|_triton|_dyn_quant|_scaled_mm|_mixed_dtypes|^_amp_|^_foobar|_batch_dim$|^_sobol|^_dim[IV]$|^_nnz$"
)

# Functional forms that PyTorch generates, without a row of their own in its list.
GENERATED = [
    (
        "_native_batch_norm_legit_functional.default",
        "Tensor input, Tensor? weight, Tensor? bias, Tensor running_mean, Tensor running_var, bool training, float momentum, float eps)"
        " -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    )
]

# Operators outside ATen that exports for ExecuTorch's MLX delegate hold, from their definitions in ExecuTorch 1.5.1 and TorchAO 0.18.
CUSTOM = """\
mlx.custom_sdpa.default(Tensor query, Tensor key, Tensor value, SymInt start_pos, Tensor? attn_mask=None, float dropout_p=0.0, bool is_causal=False, float? scale=None) -> Tensor
mlx.gated_delta_rule.default(Tensor q, Tensor k, Tensor v, Tensor g, Tensor beta, Tensor(a!) state, bool use_custom_kernel=True) -> Tensor
mlx.gather_mm.default(Tensor a, Tensor b, Tensor? rhs_indices=None, Tensor? lhs_indices=None, Tensor? sorted_indices=None) -> Tensor
mlx.gather_qmm.default(Tensor x, Tensor w, Tensor scales, Tensor? biases=None, Tensor? rhs_indices=None, Tensor? lhs_indices=None, bool transpose=True, SymInt group_size=32, SymInt bits=4, str mode='affine', Tensor? sorted_indices=None) -> Tensor
mlx.kv_cache_update.default(Tensor(a!) cache, Tensor new_values, SymInt start_pos, SymInt ring_size=0) -> Tensor
mlx.moe_gather_inputs.default(Tensor x, Tensor expert_indices, SymInt top_k, SymInt sort_cutoff) -> (Tensor, Tensor, Tensor, Tensor)
mlx.moe_scatter_outputs.default(Tensor down, Tensor sort_experts, Tensor inv_order, SymInt top_k) -> Tensor
mlx.rope.default(Tensor x, SymInt dims, SymInt pos, bool traditional=False, float base=500000.0, float scale=1.0, Tensor? freqs=None) -> Tensor
mlx.sample.default(Tensor logits, Tensor temperature, Tensor top_k, Tensor top_p, Tensor? seed=None) -> Tensor
torchao.choose_qparams_affine.default(Tensor? input, str mapping_type, SymInt[] block_size, ScalarType target_dtype, Scalar? quant_min=None, Scalar? quant_max=None, float? eps=None, ScalarType? scale_dtype=None, ScalarType? zero_point_dtype=None, bool keepdim=False) -> (Tensor, Tensor)
torchao.dequantize_affine.default(Tensor input, SymInt[] block_size, Tensor scale, Tensor? zero_point, ScalarType input_dtype, Scalar? quant_min=None, Scalar? quant_max=None, ScalarType output_dtype=float) -> Tensor
torchao.dequantize_int4_tensor.default(Tensor qdata, Tensor scale, Tensor zero_point, SymInt group_size, ScalarType output_dtype=bfloat16) -> Tensor
torchao.dequantize_mx.default(Tensor qdata, Tensor scale, ScalarType elem_dtype, SymInt block_size, ScalarType output_dtype=float) -> Tensor
torchao.dequantize_nvfp4.default(Tensor qdata, Tensor scale, Tensor per_tensor_scale, SymInt block_size, ScalarType output_dtype=float) -> Tensor
torchao.quantize_affine.default(Tensor input, SymInt[] block_size, Tensor scale, Tensor? zero_point, ScalarType output_dtype, Scalar? quant_min=None, Scalar? quant_max=None) -> Tensor
transformers.grouped_mm_fallback.default(Tensor input, Tensor weight, Tensor offs) -> Tensor
"""


def main() -> None:
    with zipfile.ZipFile(sys.argv[1]) as wheel:
        text = wheel.read(OPERATORS).decode()
    rows = list(GENERATED)
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
    print(CUSTOM, end="")


if __name__ == "__main__":
    main()
