// The part of MNN's C++ interface that this program uses, declared by hand because Python's wheel brings the library
// without headers. Functions are found by their mangled names; the types below are those of MNN 3.6, member by member,
// so a library of another version is refused when it is opened (DEEPLAB_MNN_ABI). With MNN_ROOT the headers of MNN
// itself are found instead of this file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#define DEEPLAB_MNN_ABI "3.6."

enum MNNForwardType {
  MNN_FORWARD_CPU = 0,
  MNN_FORWARD_METAL = 1,
  MNN_FORWARD_CUDA = 2,
  MNN_FORWARD_OPENCL = 3,
  MNN_FORWARD_VULKAN = 7,
  MNN_FORWARD_CPU_EXTENSION = 13
};

enum halide_type_code_t { halide_type_int = 0, halide_type_uint = 1, halide_type_float = 2 };

struct halide_type_t {
  halide_type_t(halide_type_code_t type_code, std::uint8_t type_bits) : code(type_code), bits(type_bits), lanes(1) {}
  halide_type_code_t code;
  std::uint8_t bits;
  std::uint16_t lanes;
};

// The beginning of a tensor.
struct halide_buffer_t {
  std::uint64_t device;
  const void* device_interface;
  std::uint8_t* host;
  std::uint64_t flags;
  halide_type_t type;
};

namespace MNN {

const char* getVersion();

struct BackendConfig {
  enum MemoryMode { Memory_Normal = 0 };
  enum PowerMode { Power_Normal = 0 };
  enum PrecisionMode { Precision_Normal = 0, Precision_High = 1, Precision_Low = 2 };
  MemoryMode memory = Memory_Normal;
  PowerMode power = Power_Normal;
  PrecisionMode precision = Precision_Normal;
  void* sharedContext = nullptr;
};

struct ScheduleConfig {
  std::vector<std::string> saveTensors;
  MNNForwardType type = MNN_FORWARD_CPU;
  int numThread = 4;
  struct Path {
    std::vector<std::string> inputs;
    std::vector<std::string> outputs;
    enum Mode { Op = 0 };
    Mode mode = Op;
  };
  Path path;
  MNNForwardType backupType = MNN_FORWARD_CPU;
  BackendConfig* backendConfig = nullptr;
};

enum ErrorCode { NO_ERROR = 0 };

class Session;

// Made and destroyed by MNN only.
class Tensor {
 public:
  enum DimensionType { TENSORFLOW = 0, CAFFE = 1 };

  static Tensor* create(const std::vector<int>& shape, halide_type_t type, void* data, DimensionType order);
  static void destroy(Tensor* tensor);
  bool copyFromHostTensor(const Tensor* source);
  bool copyToHostTensor(Tensor* target) const;
  DimensionType getDimensionType() const;
  std::vector<int> shape() const;
  halide_type_t getType() const { return buffer_.type; }

  Tensor(const Tensor&) = delete;
  Tensor& operator=(const Tensor&) = delete;

 private:
  ~Tensor();
  halide_buffer_t buffer_;
};

// Made and destroyed by MNN only.
class Interpreter {
 public:
  enum SessionInfoCode { BACKENDS = 2, RESIZE_STATUS = 3 };

  static Interpreter* createFromFile(const char* path);
  static void destroy(Interpreter* interpreter);
  Session* createSession(const ScheduleConfig& config);
  bool getSessionInfo(const Session* session, SessionInfoCode code, void* value);
  const std::map<std::string, Tensor*>& getSessionInputAll(const Session* session) const;
  const std::map<std::string, Tensor*>& getSessionOutputAll(const Session* session) const;
  void resizeTensor(Tensor* tensor, const std::vector<int>& shape);
  void resizeSession(Session* session);
  ErrorCode runSession(Session* session) const;

  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;

 private:
  ~Interpreter();
};

}  // namespace MNN
