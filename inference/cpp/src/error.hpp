// What library code throws inside; the public functions turn it into a Status. Nothing else is thrown on purpose.
#pragma once

#include <stdexcept>
#include <string>

#include "deeplab/deeplab.hpp"

namespace deeplab {

// The message is one complete sentence for the user: what is wrong, where, and what to do about it.
class Error : public std::runtime_error {
 public:
  Error(Code what_kind, const std::string& message) : std::runtime_error(message), code(what_kind) {}
  const Code code;
};

inline Error data_error(const std::string& message) { return {Code::data, message}; }
inline Error usage_error(const std::string& message) { return {Code::usage, message}; }
inline Error missing_error(const std::string& message) { return {Code::missing, message}; }

}  // namespace deeplab
