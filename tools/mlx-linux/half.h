/* mlx-c declares its 16-bit float types and their accessors on Arm only; mlx-rs
 * uses them everywhere. This header is force-included when the bindings for
 * another processor are generated, and tells mlx/c/array.h to declare them. */
#pragma once

#include <stdint.h>

#define HAS_FLOAT16
#define HAS_BFLOAT16
typedef _Float16 float16_t;
typedef uint16_t bfloat16_t;
