// Runs a fuzz target without libFuzzer, so that every build and CI try some thousand inputs: files as they are, then with
// bytes changed at random. No coverage guides it; `cmake --preset fuzz` builds the targets with libFuzzer for that.
//
//     fuzz_image RUNS FILE…
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>
#include <random>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
extern "C" [[gnu::weak]] std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t most,
                                                             unsigned seed);

namespace {

std::mt19937 generator(1);  // the same inputs every time: a failure can be repeated

std::size_t below(std::size_t count) { return std::uniform_int_distribution<std::size_t>(0, count - 1)(generator); }

}  // namespace

// A few bytes changed, taken out or repeated.
extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t most) {
  for (std::size_t change = 0; change <= below(4) && size > 1; ++change) {
    const std::size_t at = below(size), length = 1 + below(std::min<std::size_t>(size - at, 16));
    switch (below(4)) {
      case 0: data[at] = static_cast<std::uint8_t>(below(256)); break;
      case 1: data[at] ^= static_cast<std::uint8_t>(1u << below(8)); break;
      case 2:
        std::copy(data + at + length, data + size, data + at);
        size -= length;
        break;
      default:
        if (size + length > most) break;
        std::copy_backward(data + at, data + size, data + size + length);
        size += length;
    }
  }
  return size;
}

int main(int argc, char** argv) {
  if (argc < 3) {
    std::cerr << "usage: " << argv[0] << " RUNS FILE…\n";
    return 2;
  }
  std::vector<std::vector<std::uint8_t>> seeds;
  for (int i = 2; i < argc; ++i) {
    std::ifstream file(argv[i], std::ios::binary);
    seeds.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
    if (seeds.back().empty()) {
      std::cerr << "error: cannot read " << argv[i] << ".\n";
      return 3;
    }
    LLVMFuzzerTestOneInput(seeds.back().data(), seeds.back().size());
  }
  const int runs = std::atoi(argv[1]);
  for (int run = 0; run < runs; ++run) {
    std::vector<std::uint8_t> input = seeds[below(seeds.size())];
    const std::size_t size = input.size(), most = size + 64;
    input.resize(most);
    const std::size_t changed = LLVMFuzzerCustomMutator
                                    ? LLVMFuzzerCustomMutator(input.data(), size, most, static_cast<unsigned>(run))
                                    : LLVMFuzzerMutate(input.data(), size, most);
    input.resize(changed);
    input.shrink_to_fit();  // so that a sanitizer sees the end
    LLVMFuzzerTestOneInput(input.data(), input.size());
  }
  std::cout << runs << " inputs\n";
  return 0;
}
