// Whether a model file and a spec fit each other: what every engine asks before it runs anything. The twin of
// deeplabv3p/runtime/fit.py, for one picture at a time. All functions throw Error (data) with `path` in the message.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "../engine.hpp"
#include "../error.hpp"

namespace deeplab {

// The index of the tensor of that name, or of the only one. With an assumed spec: the first.
std::size_t pick(const std::vector<std::string>& names, const std::string& name, const ModelSpec& spec,
                 const std::string& path);

// The input and the output that the spec means are what it says. `inputs` is how many inputs the file has.
void check_fit(const TensorInfo& input, std::size_t inputs, const TensorInfo& output, const ModelSpec& spec,
               const std::string& path);

// One picture of that shape can go into the input.
void check_input_shape(const TensorInfo& input, const std::vector<std::int64_t>& shape, const std::string& path);

// The bytes of a dense tensor; its sides must be at least 1.
std::size_t tensor_bytes(const std::vector<std::int64_t>& shape, Dtype dtype, const std::string& path);

// An element type that specs do not know: what to say about it.
Error unknown_type(const std::string& tensor, const std::string& path);

// A device that an engine does not have.
Error unknown_device(const std::string& engine, const std::string& device, const std::string& known);

// "ENGINE cannot open PATH: REASON." with the first line of what an engine says.
Error engine_error(const std::string& what, const std::string& reason);

// "1.31.1" → "1.31"
std::string short_version(const std::string& version);

}  // namespace deeplab
