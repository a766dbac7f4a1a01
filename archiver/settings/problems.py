"""What is said of a setting that is wrong: where it came from, what was given (never a secret), what is allowed."""

import difflib
from collections.abc import Collection, Mapping
from typing import Any

_LONGEST_SHOWN = 100


def unknown(key: str, keys: Collection[str]) -> str:
    """A key that is no setting, with those that it may be a slip of: in name, or right but for the section."""
    return f"{key!a} is not a setting{hint(near(key, keys))}"


def near(key: str, keys: Collection[str]) -> list[str]:
    """The keys that the given one may have meant."""
    name = key.rpartition(".")[2]
    close = difflib.get_close_matches(key, keys, n=1, cutoff=0.75)
    return close or [known for known in keys if known.rpartition(".")[2] == name]


def hint(names: Collection[str]) -> str:
    """The end of a sentence about a key that is not known."""
    return f"; did you mean {' or '.join(names)}?" if names else "; settings.example.toml lists them all"


def wrong(key: str, error: Mapping[str, Any], allowed: str | None, *, secret: bool) -> str:
    """A value that pydantic refused; `allowed` is the field's own description, None for what is no field."""
    said = str(error["msg"]).replace("Input should be", "must be")
    if error["type"] == "value_error":
        said = str(error["ctx"]["error"])
    elif allowed:
        said = allowed
    elif allowed is None:
        said = "must be a section"
    given = ascii(error["input"])
    if allowed is None or secret or "@" in given:
        return f"{key} {said}" if key else said
    return f"{key} = {given[:_LONGEST_SHOWN]}{'…' if len(given) > _LONGEST_SHOWN else ''}: {said}"
