"""Cells of a CSV that no spreadsheet takes for a formula, and back again.

Metadata are other people's words. A cell that begins like a formula gets an apostrophe in front (OWASP, CSV injection), and
so does what follows a character inside of a cell at which a spreadsheet of another country may split it. Whatever would
begin a new line, or is invisible, is written as an escape, so that each row is one line.
"""

import csv
import io
import re
from collections.abc import Sequence

BEGINNING = "\ufeff"
"""The byte order mark: without it Excel takes UTF-8 for something else."""
MOST_LETTERS = 8000
"""A longer cell is cut: beyond 32,767 letters Excel goes on in the next row."""
CUT = " [cut]"
_STARTERS = "=+\\-@\\uff1d\\uff0b\\uff0d\\uff20"
_SPLITS = '[;,|"]'
_ATTACK = re.compile(rf"(?:\A|(?<={_SPLITS}))(?=\s*['{_STARTERS}])")
_GUARD = re.compile(rf"(?:\A|(?<={_SPLITS}))'")
_AWKWARD = re.compile(
    r"[\\\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff\ufeff\ufff9-\ufffb]"
)
_PLAIN = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9 _.:/-]{0,999})?\Z")
"""Nothing to look for in these: most cells of millions are ids, keys, dates and numbers."""
_ESCAPED = re.compile(r"\\(?:\\|u([0-9a-f]{4}))")


def harmless(text: str) -> str:
    """The text as a cell; `original` gives it back, unless it was longer than `MOST_LETTERS`."""
    if _PLAIN.match(text):
        return text
    escaped = _AWKWARD.sub(_escape, text[: MOST_LETTERS + 1])
    if len(text) > MOST_LETTERS:
        escaped = _AWKWARD.sub(_escape, text[:MOST_LETTERS]) + CUT
    return _ATTACK.sub("'", escaped)


def original(cell: str) -> str:
    """The text that `harmless` was given."""
    return _ESCAPED.sub(_unescape, _GUARD.sub("", cell))


def line_of(texts: Sequence[str]) -> bytes:
    """A row as RFC 4180 wants it, in UTF-8."""
    row = io.StringIO()
    csv.writer(row, lineterminator="\r\n").writerow([harmless(text) for text in texts])
    return row.getvalue().encode()


def _escape(found: re.Match[str]) -> str:
    letter = found[0]
    return "\\\\" if letter == "\\" else f"\\u{ord(letter):04x}"


def _unescape(found: re.Match[str]) -> str:
    return chr(int(found[1], 16)) if found[1] else "\\"
