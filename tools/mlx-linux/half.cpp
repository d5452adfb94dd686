// The accessors of 16-bit floats that mlx-c compiles on Arm only (see half.h).
// A half travels as its 16 bits: the callers hold pointers, so the C ABI of the
// float types themselves never comes into play.

#include <cstdint>
#include <cstring>
#include <exception>

#include "mlx/c/array.h"
#include "mlx/c/error.h"
#include "mlx/c/private/array.h"

namespace {

template <typename Half>
int read_item(uint16_t* bits, const mlx_array& array) {
  static_assert(sizeof(Half) == sizeof(uint16_t));
  try {
    const Half value = mlx_array_get_(array).item<Half>();
    std::memcpy(bits, &value, sizeof value);
    return 0;
  } catch (const std::exception& error) {
    mlx_error(error.what());
    return 1;
  }
}

template <typename Half>
const uint16_t* data_of(const mlx_array& array) {
  try {
    return reinterpret_cast<const uint16_t*>(mlx_array_get_(array).data<Half>());
  } catch (const std::exception& error) {
    mlx_error(error.what());
    return nullptr;
  }
}

} // namespace

extern "C" int mlx_array_item_float16(uint16_t* bits, const mlx_array array) {
  return read_item<mlx::core::float16_t>(bits, array);
}

extern "C" int mlx_array_item_bfloat16(uint16_t* bits, const mlx_array array) {
  return read_item<mlx::core::bfloat16_t>(bits, array);
}

extern "C" const uint16_t* mlx_array_data_float16(const mlx_array array) {
  return data_of<mlx::core::float16_t>(array);
}

extern "C" const uint16_t* mlx_array_data_bfloat16(const mlx_array array) {
  return data_of<mlx::core::bfloat16_t>(array);
}
