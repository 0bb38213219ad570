"""Make the list of common passwords: `.venv/bin/python -m tests.tools.common_passwords`.

The source is the list "passwords" of the package zxcvbn, which tests/requirements.txt pins: 30,000 passwords that
leaked most often. Left out are those that are another one with digits or punctuation added, which are rejected anyway.
"""

import zlib
from pathlib import Path

from zxcvbn.frequency_lists import FREQUENCY_LISTS  # type: ignore[import-untyped]

from chalicelib.authentication.password_rules import COMMON_PASSWORDS, END_OF_HEADER, cores, fold

HEADER = """\
Common passwords, sorted and in lower case, one a line: a zlib stream after the line "--".
Made by tests/tools/common_passwords.py from the list "passwords" of zxcvbn 4.5.0 (https://pypi.org/project/zxcvbn),
which is from zxcvbn (https://github.com/dropbox/zxcvbn). Both are under the MIT License:

Copyright (c) 2012-2016 Dan Wheeler and Dropbox, Inc.
Copyright (c) 2016 Daniel Wolf

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE."""


def leaked_passwords() -> set[str]:
    """Return the passwords of the source, folded."""
    return {fold(password) for password in FREQUENCY_LISTS["passwords"]}


def listed_passwords(leaked: set[str]) -> list[str]:
    """Return those that are not another one with digits and punctuation added, sorted."""
    return sorted(word for word in leaked if leaked.isdisjoint(core for core in cores(word) if core != word))


def make(file: Path = COMMON_PASSWORDS) -> int:
    """Write the file, and return its size in bytes."""
    packed = zlib.compress("\n".join(listed_passwords(leaked_passwords())).encode(), 9)
    return file.write_bytes(HEADER.encode() + END_OF_HEADER + packed)


if __name__ == "__main__":
    print(f"{COMMON_PASSWORDS}: {make():,} bytes")
