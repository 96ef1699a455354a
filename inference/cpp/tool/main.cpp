#include <exception>
#include <iostream>

#include "error.hpp"
#include "modes.hpp"
#include "options.hpp"
#include "own_output.hpp"

int main(int argc, char** argv) {
  using namespace deeplab;
  try {
    const tool::Command command = tool::parse_command(argc, argv);
    if (command.help) {
      std::cout << tool::help_text();
      return 0;
    }
    const tool::OwnOutput output(command.verbose);
    if (command.evaluate) return tool::evaluate(command);
    return command.frames.height ? tool::segment_frames(command) : tool::segment_pictures(command);
  } catch (const Error& error) {
    std::cerr << "error: " << error.what() << '\n';
    return static_cast<int>(error.code);
  } catch (const std::bad_alloc&) {
    std::cerr << "error: there is too little memory for this picture or model.\n";
    return static_cast<int>(Code::data);
  } catch (const std::exception& error) {
    std::cerr << "error: unexpected: " << error.what() << '\n';
    return static_cast<int>(Code::internal);
  }
}
