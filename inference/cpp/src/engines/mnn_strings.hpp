// What passes std::string to or from MNN. libstdc++ has two of them (_GLIBCXX_USE_CXX11_ABI), and Python's wheel has
// the old one, so mnn_strings.cpp is compiled with the one that the library has, and no std::string crosses this line.
#pragma once

#include <MNN/Interpreter.hpp>

namespace deeplab::mnn {

MNN::Session* create_session(MNN::Interpreter& interpreter, MNNForwardType device, int threads, bool half);

// Call `visit` with `context` for every input or output, in the order of their names.
using Visit = void (*)(void* context, const char* name, MNN::Tensor* tensor);
void visit_inputs(const MNN::Interpreter& interpreter, const MNN::Session* session, void* context, Visit visit);
void visit_outputs(const MNN::Interpreter& interpreter, const MNN::Session* session, void* context, Visit visit);

}  // namespace deeplab::mnn
