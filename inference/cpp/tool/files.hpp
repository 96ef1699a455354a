// Which pictures a command means, and what their results are called.
#pragma once

#include <string>
#include <vector>

#include "options.hpp"

namespace deeplab::tool {

struct Job {
  std::string picture;  // path
  std::string name;     // of its results, unique, without extension
};

// The pictures of -i and --list in order; those of a folder sorted by name. Throws Error (data): nothing there, an empty
// list or folder, a name of the list without a picture.
std::vector<Job> find_pictures(const Command& command);

// The lines of a list file, without blanks around them and without empty ones. Throws Error (data).
std::vector<std::string> read_list(const std::string& path);

// The picture that a line of a list means in a folder: the line itself, or with .jpg, .jpeg or .png. Throws Error (data).
std::string picture_of(const std::string& folder, const std::string& line);

// Make the folder of the results before the work begins. Throws Error (data).
void make_folder(const std::string& path);

}  // namespace deeplab::tool
