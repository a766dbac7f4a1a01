"""The rows of a page byte for byte, where the strict decoder gives up on one odd text in one of them."""

import json
from collections.abc import Collection, Iterator

_BLANK = " \t\n\r"


def raw_rows(body: bytes, names: Collection[str]) -> dict[str, list[bytes]]:
    """The elements of a page's arrays of these names, each as it was sent; `body` is an object that `json` can read.

    Raises:
        ValueError, IndexError: it is none.
    """
    encoding = json.detect_encoding(body)
    text = body.decode(encoding, "surrogatepass")
    decoder = json.JSONDecoder()
    found: dict[str, list[bytes]] = {}
    at = _after_blanks(text, 0) + 1
    while text[at := _after_blanks(text, at)] != "}":
        name, at = decoder.raw_decode(text, at)
        at = _after_blanks(text, _after_blanks(text, at) + 1)
        if name in names and text[at] == "[":
            spans = list(_elements(decoder, text, at))
            found[name] = [text[start:end].encode("utf-8", "surrogatepass") for start, end in spans]
        _, at = decoder.raw_decode(text, at)
        at = _after_blanks(text, at)
        at += text[at] == ","
    return found


def _elements(decoder: json.JSONDecoder, text: str, at: int) -> Iterator[tuple[int, int]]:
    """Where the elements of the array that begins at `at` begin and end."""
    at = _after_blanks(text, at + 1)
    while text[at] != "]":
        _, end = decoder.raw_decode(text, at)
        yield at, end
        at = _after_blanks(text, end)
        if text[at] == ",":
            at = _after_blanks(text, at + 1)


def _after_blanks(text: str, at: int) -> int:
    while text[at] in _BLANK:
        at += 1
    return at
