// 16-bit floats (IEEE binary16) as their bits: compilers for phones and desktops do not agree on a type for them.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

namespace deeplab {

struct Half {
  std::uint16_t bits = 0;
};

// The nearest, halves to even; infinity from 65520 on.
inline Half to_half(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
  std::uint32_t half;
  if (magnitude > 0x7f800000) {
    half = 0x7e00;  // NaN
  } else if (magnitude >= 0x477ff000) {
    half = 0x7c00;
  } else if (magnitude < 0x38800000) {  // below 2^-14 they are multiples of 2^-24
    half = static_cast<std::uint32_t>(std::nearbyint(std::abs(value) * 0x1p24f));
  } else {  // 13 bits of the mantissa go, and the exponent's bias falls from 127 to 15
    half = (magnitude + 0xfff + (magnitude >> 13 & 1) - (112u << 23)) >> 13;
  }
  return {static_cast<std::uint16_t>(sign | half)};
}

// Without branches, so that loops over it are vectorised, and right where the processor takes subnormals for 0.
inline float to_float(Half half) {
  const std::int32_t sign = (half.bits & 0x8000) << 16, exponent = half.bits & 0x7c00, mantissa = half.bits & 0x3ff;
  const std::int32_t normal = ((exponent | mantissa) << 13) + (112 << 23);
  const std::int32_t endless = 0x7f800000 | mantissa << 13;
  const auto subnormal = std::bit_cast<std::int32_t>(static_cast<float>(mantissa) * 0x1p-24f);
  const std::int32_t finite = exponent == 0 ? subnormal : normal;
  return std::bit_cast<float>(sign | (exponent == 0x7c00 ? endless : finite));
}

}  // namespace deeplab
