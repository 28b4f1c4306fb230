// SPDX-License-Identifier: Apache-2.0
// The five most likely classes of a picture, with ExecuTorch alone:
//
//     classify MODEL.pte PICTURE.ppm
//
// MODEL.pte is what `scripts/export.py executorch` writes, float or int8; MODEL.json beside it says how a picture
// becomes its input. examples/README.md has the command that builds this program, and the one that makes a PPM of any
// picture: decoding JPEG is left to what your device has for it, and so is turning by the camera orientation.

#include <executorch/extension/module/module.h>
#include <executorch/extension/tensor/tensor.h>
#include <executorch/runtime/platform/platform.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <numeric>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "json.hpp"

using executorch::aten::ScalarType;
using executorch::extension::TensorPtr;
using executorch::extension::make_tensor_ptr;

// ExecuTorch tells of its search for the processor's type; what went wrong is in the status that it returns.
void be_silent(et_timestamp_t, et_pal_log_level_t, const char*, const char*, size_t, const char*, size_t) {}

struct Picture {
  int width, height;
  std::vector<uint8_t> levels;  // RGB, row by row
};

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(path + ": no such file");
  return {std::istreambuf_iterator<char>(file), {}};
}

Picture read_ppm(const std::string& path) {
  std::istringstream content(read_file(path));
  std::string kind;
  int width = 0, height = 0, white = 0;
  content >> kind >> width >> height >> white;
  content.get();  // the one byte before the levels
  const bool is_right = content && kind == "P6" && white == 255 && std::clamp(width, 1, 65536) == width &&
                        std::clamp(height, 1, 65536) == height && int64_t{width} * height <= 178956970;
  if (!is_right) throw std::runtime_error(path + ": not a binary PPM (P6) with 8 bits a channel");
  Picture picture{width, height, std::vector<uint8_t>(size_t{3} * width * height)};
  content.read(reinterpret_cast<char*>(picture.levels.data()), picture.levels.size());
  if (content.gcount() != std::streamsize(picture.levels.size())) throw std::runtime_error(path + ": is cut short");
  return picture;
}

// Each row becomes `size` pixels long, and the rows become columns: called twice, it resizes both sides. Bilinear, over
// a wider part of the picture where it is made smaller (antialiased), which most libraries leave out.
Picture resize_rows(const Picture& picture, int size) {
  const double scale = double(picture.width) / size, support = std::max(scale, 1.0);
  Picture resized{picture.height, size, std::vector<uint8_t>(size_t{3} * size * picture.height)};
  for (int x = 0; x < size; ++x) {
    const double centre = (x + 0.5) * scale;
    const int first = std::max(0, int(centre - support + 0.5));
    const int end = std::min(picture.width, int(centre + support + 0.5));
    std::vector<double> weights;
    for (int i = first; i < end; ++i) weights.push_back(std::max(0.0, 1 - std::abs(i + 0.5 - centre) / support));
    const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
    for (int y = 0; y < picture.height; ++y) {
      for (int channel = 0; channel < 3; ++channel) {
        const uint8_t* source = &picture.levels[3 * (size_t{1} * y * picture.width + first) + channel];
        double level = 0.5;
        for (size_t i = 0; i < weights.size(); ++i) level += weights[i] / sum * source[3 * i];
        resized.levels[3 * (size_t{1} * x * picture.height + y) + channel] = uint8_t(std::min(level, 255.0));
      }
    }
  }
  return resized;
}

// The central square of a picture whose short side becomes what the description says: uint8 [S, S, 3].
std::vector<uint8_t> central_square(const Picture& picture, const Json& taken) {
  const int size = int(taken["image_size"].number);
  const int64_t target = int64_t(taken["resize"]["short_side"].number);
  const int shorter = std::min(picture.width, picture.height);
  const Picture turned = resize_rows(picture, int(target * picture.width / shorter));
  const Picture resized = resize_rows(turned, int(target * picture.height / shorter));
  const int left = int(std::nearbyint((resized.width - size) / 2.0));  // halves to the even number
  const int top = int(std::nearbyint((resized.height - size) / 2.0));
  std::vector<uint8_t> square;
  for (int y = top; y < top + size; ++y) {
    const auto row = resized.levels.begin() + 3 * (size_t{1} * y * resized.width + left);
    square.insert(square.end(), row, row + 3 * size);
  }
  return square;
}

TensorPtr create_input(std::vector<uint8_t> levels, const Json& taken) {
  const int size = int(taken["image_size"].number);
  if (taken["type"].text == "uint8") {
    return make_tensor_ptr({1, size, size, 3}, std::move(levels), {}, {}, ScalarType::Byte);
  }
  const size_t pixels = size_t{1} * size * size;
  std::vector<float> values(3 * pixels);  // one channel after the other
  for (size_t i = 0; i < values.size(); ++i) {
    const double mean = taken["mean"].items.at(i / pixels).number, std = taken["std"].items.at(i / pixels).number;
    values[i] = float((levels[3 * (i % pixels) + i / pixels] / 255.0 - mean) / std);
  }
  return make_tensor_ptr({1, 3, size, size}, std::move(values));
}

std::vector<double> probabilities_of(const std::string& model, const TensorPtr& input, bool is_softmax_inside) {
  executorch::extension::Module module(model);
  const auto outputs = module.forward(input);
  if (!outputs.ok()) throw std::runtime_error(model + ": ExecuTorch cannot run it on this picture");
  const auto& output = outputs->at(0).toTensor();
  const float* first = output.const_data_ptr<float>();
  std::vector<double> values(first, first + output.numel());
  if (is_softmax_inside) return values;
  const double largest = *std::max_element(values.begin(), values.end());
  for (double& value : values) value = std::exp(value - largest);
  const double sum = std::accumulate(values.begin(), values.end(), 0.0);
  for (double& value : values) value /= sum;
  return values;
}

int main(int count, char** words) try {
  if (count != 3) throw std::runtime_error("usage: classify MODEL.pte PICTURE.ppm");
  executorch::runtime::register_pal(executorch::runtime::PalImpl::create(be_silent, __FILE__));
  const std::string model = words[1];
  const std::string text = read_file(model.substr(0, model.rfind('.')) + ".json");
  const Json description = JsonReader(text).read();
  const Json& taken = description["input"];
  read_file(model);  // whose absence ExecuTorch would report in several lines
  const TensorPtr input = create_input(central_square(read_ppm(words[2]), taken), taken);
  const auto probabilities = probabilities_of(model, input, description["output"]["name"].text == "probabilities");
  std::vector<size_t> order(probabilities.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return probabilities[a] > probabilities[b]; });
  order.resize(std::min<size_t>(5, order.size()));
  for (const size_t index : order) {
    std::printf("%-75s (%.2f%%)\n", description["labels"].items.at(index).text.c_str(), 100 * probabilities[index]);
  }
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
