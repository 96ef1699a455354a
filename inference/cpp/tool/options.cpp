#include "options.hpp"

#include <getopt.h>

#include <charconv>
#include <string_view>

#include "classes.hpp"
#include "error.hpp"

namespace deeplab::tool {
namespace {

// Flags without a letter have numbers beyond all letters.
enum Flag : int { spec = 256, engine, device, window, output, overlay, legend, confidence, json, list, labels, ignore, frames, picture_max };

constexpr char short_flags[] = ":m:i:l:b:s:t:c:w:k:p:f:v:h";
const option long_flags[] = {
    {"model", required_argument, nullptr, 'm'},
    {"image", required_argument, nullptr, 'i'},
    {"classes", required_argument, nullptr, 'l'},
    {"input_mean", required_argument, nullptr, 'b'},
    {"input_std", required_argument, nullptr, 's'},
    {"threads", required_argument, nullptr, 't'},
    {"count", required_argument, nullptr, 'c'},
    {"warmup_runs", required_argument, nullptr, 'w'},
    {"mask", required_argument, nullptr, 'k'},
    {"keep_shape", required_argument, nullptr, 'p'},
    {"allow_fp16", required_argument, nullptr, 'f'},
    {"verbose", required_argument, nullptr, 'v'},
    {"help", no_argument, nullptr, 'h'},
    {"spec", required_argument, nullptr, Flag::spec},
    {"engine", required_argument, nullptr, Flag::engine},
    {"device", required_argument, nullptr, Flag::device},
    {"window", required_argument, nullptr, Flag::window},
    {"output", required_argument, nullptr, Flag::output},
    {"overlay", no_argument, nullptr, Flag::overlay},
    {"legend", no_argument, nullptr, Flag::legend},
    {"confidence", no_argument, nullptr, Flag::confidence},
    {"json", no_argument, nullptr, Flag::json},
    {"list", required_argument, nullptr, Flag::list},
    {"labels", required_argument, nullptr, Flag::labels},
    {"ignore_index", required_argument, nullptr, Flag::ignore},
    {"frames", required_argument, nullptr, Flag::frames},
    {"picture_max", required_argument, nullptr, Flag::picture_max},
    {nullptr, 0, nullptr, 0},
};

// A number that is all of `text` and lies in a range.
template <typename T>
T number(std::string_view text, T low, T high, const std::string& flag) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !(value >= low && value <= high)) {
    throw usage_error(flag + " takes a number from " + std::to_string(low) + " to " + std::to_string(high) + ", not '" +
                      std::string(text) + "'.");
  }
  return value;
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (;;) {
    const auto end = text.find(separator);
    parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

constexpr int max_side = 16384;  // pixels, as in Python; more is a typing error, and its memory would be there nowhere

// HxW
std::pair<int, int> size(std::string_view text, const std::string& flag) {
  const auto parts = split(text, 'x');
  if (parts.size() != 2) throw usage_error(flag + " takes height x width, such as 512x512, not '" + std::string(text) + "'.");
  return {number(parts[0], 1, max_side, flag), number(parts[1], 1, max_side, flag)};
}

std::vector<float> channels(std::string_view text, const std::string& flag) {
  std::vector<float> values;
  for (const auto part : split(text, ',')) values.push_back(number(part, -1e6f, 1e6f, flag));
  return values;
}

Window parse_window(std::string_view text) {
  const auto parts = split(text, ':');
  Window window;
  if (parts.size() > 2) throw usage_error("--window takes HxW or HxW:STRIDExSTRIDE, not '" + std::string(text) + "'.");
  std::tie(window.height, window.width) = size(parts[0], "--window");
  if (parts.size() == 2) std::tie(window.stride_y, window.stride_x) = size(parts[1], "--window");
  return window;
}

FrameFormat parse_frames(std::string_view text) {
  const auto parts = split(text, ':');
  FrameFormat frames;
  std::tie(frames.height, frames.width) = size(parts[0], "--frames");
  if (parts.size() == 1) return frames;
  static constexpr std::pair<std::string_view, PixelFormat> formats[] = {{"rgb", PixelFormat::rgb},
                                                                         {"bgr", PixelFormat::bgr},
                                                                         {"rgba", PixelFormat::rgba},
                                                                         {"bgra", PixelFormat::bgra},
                                                                         {"grey", PixelFormat::grey}};
  for (const auto& [name, format] : formats) {
    if (parts.size() == 2 && parts[1] == name) {
      frames.pixels = format;
      return frames;
    }
  }
  throw usage_error("--frames takes HxW:FORMAT with rgb, bgr, rgba, bgra or grey, not '" + std::string(text) + "'.");
}

bool yes(std::string_view text, const std::string& flag) { return number(text, 0, 1, flag) == 1; }

void apply(Command& command, int flag, const char* value) {
  Options& options = command.options;
  const std::string name = flag < 256 ? std::string("-") + static_cast<char>(flag) : "";
  switch (flag) {
    case 'm': command.model = value; break;
    case 'i': command.images.emplace_back(value); break;
    case 'l': options.classes = load_classes(value); break;
    case 'b': options.mean = channels(value, name); break;
    case 's': options.std_deviation = channels(value, name); break;
    case 't': options.threads = number(std::string_view(value), 0, 1024, name); break;
    case 'c': command.count = number(std::string_view(value), 1, 1'000'000, name); break;
    case 'w': command.warmup = number(std::string_view(value), 0, 1'000'000, name); break;
    case 'k': command.mask = value; break;
    case 'p': command.keep_shape = yes(value, name); break;
    case 'f': options.half = yes(value, name); break;
    case 'v': command.verbose = yes(value, name); break;
    case 'h': command.help = true; break;
    case Flag::spec: options.spec = value; break;
    case Flag::engine: options.engine = value; break;
    case Flag::device: options.device = value; break;
    case Flag::window: options.window = parse_window(value); break;
    case Flag::output: command.output = value; break;
    case Flag::overlay: command.overlays = true; break;
    case Flag::legend: command.legend = true; break;
    case Flag::confidence: command.confidence = options.scores = true; break;
    case Flag::json: command.json = true; break;
    case Flag::list: command.list = value; break;
    case Flag::labels: command.labels = value; break;
    case Flag::ignore:
      command.ignore = std::string_view(value) == "none" ? -1 : number(std::string_view(value), 0, 65535, "--ignore_index");
      break;
    case Flag::frames: command.frames = parse_frames(value); break;
    case Flag::picture_max: options.picture_max = number(std::string_view(value), 1, 65535, "--picture_max"); break;
    default: break;
  }
}

// Flags that do not fit together are refused, rather than left without effect.
void check(const Command& command) {
  const auto refuse = [](bool wrong, const char* sentence) {
    if (wrong) throw usage_error(sentence);
  };
  refuse(command.model.empty(), "name the model with -m.");
  if (command.evaluate) {
    refuse(command.images.size() != 1 || command.labels.empty() || command.list.empty(),
           "eval needs the folder of the pictures (-i), that of the label maps (--labels) and a list (--list).");
    refuse(!command.keep_shape, "eval scores at the picture's own size: leave out -p 0.");
    refuse(!command.mask.empty() || command.count > 1 || command.frames.height || command.confidence,
           "eval has no -k, -c, --frames and --confidence.");
    return;
  }
  refuse(!command.labels.empty() || command.ignore != -2, "--labels and --ignore_index are for deeplabSegment eval.");
  if (command.frames.height) {
    refuse(!command.images.empty() || !command.list.empty() || !command.mask.empty() || !command.output.empty() ||
               command.overlays || command.legend || command.confidence || command.json || command.count > 1 || !command.keep_shape,
           "--frames reads standard input and writes labels to standard output: leave out what is for pictures.");
    return;
  }
  refuse(command.images.empty(), "name a picture or a folder with -i, or --frames for standard input.");
  refuse(!command.list.empty() && command.images.size() != 1, "--list needs the one folder of its pictures with -i.");
  refuse(!command.mask.empty() && !command.output.empty(), "-k is the file of one picture, --output a folder: give one.");
}

}  // namespace

Command parse_command(int argc, char** argv) {
  Command command;
  if (argc > 1 && std::string_view(argv[1]) == "eval") {
    command.evaluate = true;
    argv[1] = argv[0];
    --argc;
    ++argv;
  }
  opterr = 0;  // messages are ours
  optind = 0;  // from the start, whatever was parsed before
  for (int flag; (flag = getopt_long(argc, argv, short_flags, long_flags, nullptr)) != -1;) {
    if (flag == '?' || flag == ':') {
      const std::string given = argv[optind - 1];
      throw usage_error(flag == ':' ? given + " needs a value." : "there is no flag " + given + ". See -h.");
    }
    apply(command, flag, optarg);
  }
  if (command.help) return command;
  if (optind < argc) throw usage_error("'" + std::string(argv[optind]) + "' belongs to no flag. Pictures come after -i.");
  command.options.assume_spec = true;
  check(command);
  return command;
}

std::string help_text() {
  std::string engines;
  for (const auto& name : Segmenter::engines()) engines += (engines.empty() ? "" : ", ") + name;
  return R"(usage: deeplabSegment -m MODEL -i PICTURE [-k mask.png] …
       deeplabSegment -m MODEL -i FOLDER [--list FILE] --output FOLDER …
       deeplabSegment -m MODEL --frames HxW[:FORMAT] … < frames > labels
       deeplabSegment eval -m MODEL -i FOLDER --labels FOLDER --list FILE …

Segment pictures with a model file. MODEL.spec.json, which the converters write, says what the model wants; flags override it.

model:
  -m, --model FILE         .tflite, .mnn, .xml (OpenVINO) or .onnx
      --spec FILE          its spec (default: MODEL.spec.json; without one the file's tensors are looked at)
      --engine NAME        )" +
         (engines.empty() ? std::string("none is built in") : engines) + R"( (default: by the file's extension)
      --device NAME        device, as the engine names it (default: the CPU)
  -t, --threads N          processor threads, 0: all (default: 0)
  -f, --allow_fp16 0|1     16-bit arithmetic where the engine has it (default: 0)
  -l, --classes FILE       class names, one a line, label 0 first (default: the spec's)
  -b, --input_mean X[,X,X] mean in units of 0 to 255 (default: the spec's)
  -s, --input_std X[,X,X]  standard deviation likewise (default: the spec's)
      --window HxW[:SxS]   slide a window with a stride (default: the spec's)
      --picture_max N      white in pictures of 16 bits: 4095 of a camera with 12 (default: the spec's)

pictures:
  -i, --image PATH         JPEG or PNG, or a folder of these; may be given several times
      --list FILE          names of the pictures in the folder -i, one a line, with or without extension
  -k, --mask FILE          palette PNG for the labels of a single picture (default: mask.png)
      --output FOLDER      folder for the results (default: result, if there are several pictures)
      --overlay            write the picture in its classes' colours, too
      --legend             write legend.png, which names the colours
      --confidence         write how sure the model is of each label, grey, 255 for 1
  -p, --keep_shape 0|1     0: the mask has the size of the model's input (default: 1)
      --json               a JSON object a picture on standard output, a line each
      --frames HxW[:FORMAT] raw frames (rgb, bgr, rgba, bgra, grey) from standard input; labels, a byte a pixel, to
                           standard output

benchmark:
  -c, --count N            run each picture so often and print percentiles (default: 1)
  -w, --warmup_runs N      runs before that, where N of -c is above 1 (default: 2)

eval:
      --labels FOLDER      label maps, PNG, of the names in --list
      --ignore_index N     number in the label maps that is not scored, or none (default: the spec's)

  -v, --verbose 0|1        more about the model and the time (default: 0)
  -h, --help               this text

Exit codes: 0 ok, 2 usage, 3 a file cannot be used, 5 an engine or device is missing.
)";
}

}  // namespace deeplab::tool
