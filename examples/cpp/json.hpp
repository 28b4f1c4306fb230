// SPDX-License-Identifier: Apache-2.0
// As much of JSON as a description needs. Where your program has a library for it, use that.
#pragma once

#include <cstdlib>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

struct Json {
  std::string text;  // of a string; "true", "false" and "null" of those
  double number = 0;
  std::vector<Json> items;
  std::map<std::string, Json> members;

  const Json& operator[](const std::string& name) const {
    const auto found = members.find(name);
    if (found == members.end()) throw std::runtime_error("the description has no \"" + name + "\"");
    return found->second;
  }
};

class JsonReader {
 public:
  explicit JsonReader(const std::string& source) : source_(source) {}

  Json read(int depth = 0) {
    if (depth > 50) fail();
    Json value;
    const char first = peek();
    if (first == '{') {
      list('}', [&] {
        const std::string name = string();
        expect(':');
        value.members[name] = read(depth + 1);
      });
    } else if (first == '[') {
      list(']', [&] { value.items.push_back(read(depth + 1)); });
    } else if (first == '"') {
      value.text = string();
    } else if (first == 't' || first == 'f' || first == 'n') {
      while (at_ < source_.size() && source_[at_] >= 'a' && source_[at_] <= 'z') value.text += source_[at_++];
    } else {
      char* end = nullptr;
      value.number = std::strtod(source_.c_str() + at_, &end);
      if (end == source_.c_str() + at_) fail();
      at_ = end - source_.c_str();
    }
    return value;
  }

 private:
  [[noreturn]] static void fail() { throw std::runtime_error("the description is not JSON"); }

  char peek() {
    at_ = source_.find_first_not_of(" \t\r\n", at_);
    if (at_ == std::string::npos) fail();
    return source_[at_];
  }

  void expect(char wanted) {
    if (peek() != wanted) fail();
    ++at_;
  }

  template <typename Read>
  void list(char end, Read read_one) {
    ++at_;
    if (peek() == end) {
      ++at_;
      return;
    }
    for (;;) {
      read_one();
      if (peek() == end) break;
      expect(',');
    }
    ++at_;
  }

  std::string string() {
    expect('"');
    std::string text;
    while (at_ < source_.size() && source_[at_] != '"') {
      if (source_[at_] != '\\') {
        text += source_[at_++];
        continue;
      }
      if (at_ + 1 >= source_.size()) fail();
      const char escaped = source_[at_ + 1];
      at_ += 2;
      const size_t known = std::string("nrtbf").find(escaped);
      if (escaped == 'u') {  // of control characters: export.py writes all others as they are
        text += static_cast<char>(std::stoi(source_.substr(at_, 4), nullptr, 16));
        at_ += 4;
      } else {
        text += known == std::string::npos ? escaped : "\n\r\t\b\f"[known];
      }
    }
    expect('"');
    return text;
  }

  const std::string& source_;
  size_t at_ = 0;
};
