// Standard output for this program alone. Engines print to it what they like (MNN says what the processor has), which
// would stand among labels and JSON. So std::cout writes to a copy of it, and theirs leads to nowhere, or where the user
// wants to see it to standard error.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cstddef>
#include <iostream>
#include <streambuf>

namespace deeplab::tool {

class OwnOutput : public std::streambuf {
 public:
  explicit OwnOutput(bool show_engines) : descriptor_(dup(STDOUT_FILENO)) {
    if (descriptor_ < 0) return;  // closed by the caller: then nothing can be written, and nobody listens
    const int elsewhere = show_engines ? dup(STDERR_FILENO) : open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (elsewhere >= 0) {
      dup2(elsewhere, STDOUT_FILENO);
      close(elsewhere);
    }
    before_ = std::cout.rdbuf(this);
  }
  ~OwnOutput() override {
    if (before_) std::cout.rdbuf(before_);
    if (descriptor_ >= 0) close(descriptor_);
  }
  OwnOutput(const OwnOutput&) = delete;
  OwnOutput& operator=(const OwnOutput&) = delete;

 protected:
  std::streamsize xsputn(const char* text, std::streamsize size) override {
    std::streamsize done = 0;
    while (done < size) {
      const ssize_t count = write(descriptor_, text + done, static_cast<std::size_t>(size - done));
      if (count <= 0) break;
      done += count;
    }
    return done;
  }
  int_type overflow(int_type letter) override {
    const char text = traits_type::to_char_type(letter);
    return xsputn(&text, 1) == 1 ? letter : traits_type::eof();
  }

 private:
  int descriptor_;
  std::streambuf* before_ = nullptr;
};

}  // namespace deeplab::tool
