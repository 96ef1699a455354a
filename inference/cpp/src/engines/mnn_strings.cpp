#include "mnn_strings.hpp"

namespace deeplab::mnn {
namespace {

void visit_all(const std::map<std::string, MNN::Tensor*>& tensors, void* context, Visit visit) {
  for (const auto& [name, tensor] : tensors) visit(context, name.c_str(), tensor);
}

}  // namespace

MNN::Session* create_session(MNN::Interpreter& interpreter, MNNForwardType device, int threads, bool half) {
  MNN::BackendConfig backend;
  backend.precision = half ? MNN::BackendConfig::Precision_Low : MNN::BackendConfig::Precision_High;
  MNN::ScheduleConfig config;
  config.type = device;
  config.numThread = threads;
  config.backendConfig = &backend;
  return interpreter.createSession(config);
}

void visit_inputs(const MNN::Interpreter& interpreter, const MNN::Session* session, void* context, Visit visit) {
  visit_all(interpreter.getSessionInputAll(session), context, visit);
}

void visit_outputs(const MNN::Interpreter& interpreter, const MNN::Session* session, void* context, Visit visit) {
  visit_all(interpreter.getSessionOutputAll(session), context, visit);
}

}  // namespace deeplab::mnn
