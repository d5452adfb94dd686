// C++ standard libraries before GCC 13 have no <format>. mlx-c asks it for
// `{}` and nothing else, in messages of its reader and writer classes, so that
// is all this header supplies. Force-included where `#include <format>` fails.
#pragma once

#include <sstream>
#include <string>
#include <string_view>

namespace std {

inline void fuseline_format_step(ostringstream& out, string_view& rest) {
  out << rest;
  rest = {};
}

template <typename First, typename... Others>
void fuseline_format_step(
    ostringstream& out,
    string_view& rest,
    const First& first,
    const Others&... others) {
  const auto hole = rest.find("{}");
  if (hole == string_view::npos) {
    return fuseline_format_step(out, rest);
  }
  out << rest.substr(0, hole) << first;
  rest.remove_prefix(hole + 2);
  fuseline_format_step(out, rest, others...);
}

template <typename... Values>
string format(string_view text, const Values&... values) {
  ostringstream out;
  fuseline_format_step(out, text, values...);
  return out.str();
}

} // namespace std
