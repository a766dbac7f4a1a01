"""Every kind of damage that a verification must find, done to an archive on a local disk.

Each takes two recordings' media and says what a full verification finds: kind and key.
"""

import json
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

from archive_rig import Rig


def ledger(it: Rig) -> Path:
    return it.root / ".archiver" / "ledger.sqlite3"


def name(it: Rig, path: Path) -> str:
    return path.relative_to(it.root).as_posix()


Damage = Callable[[Rig, Path, Path], list[tuple[str, str]]]


def flipped(it: Rig, one: Path, two: Path) -> list[tuple[str, str]]:
    data = bytearray(one.read_bytes())
    data[len(data) // 2] ^= 1
    one.write_bytes(data)
    return [("digest", name(it, one))]


def truncated(it: Rig, one: Path, two: Path) -> list[tuple[str, str]]:
    os.truncate(one, one.stat().st_size - 1)
    return [("size", name(it, one))]


def grown(it: Rig, one: Path, two: Path) -> list[tuple[str, str]]:
    with one.open("ab") as file:
        file.write(b"\0")
    return [("size", name(it, one))]


def deleted(it: Rig, one: Path, two: Path) -> list[tuple[str, str]]:
    one.unlink()
    return [("missing_object", name(it, one))]


def without_sidecar(it: Rig, one: Path, two: Path) -> list[tuple[str, str]]:
    beside = one.with_suffix(".json")
    beside.unlink()
    return [("missing_sidecar", name(it, beside))]


def swapped(it: Rig, one: Path, two: Path) -> list[tuple[str, str]]:
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    return sorted(("swapped", name(it, path)) for path in (one, two))


def renamed(it: Rig, one: Path, two: Path) -> list[tuple[str, str]]:
    one.rename(one.with_name(f"other-{one.name}"))
    return [("renamed", name(it, one))]


def edited_sidecar(it: Rig, one: Path, two: Path) -> list[tuple[str, str]]:
    """Not what it says of the bytes: a name in the metadata."""
    beside = one.with_suffix(".json")
    found = json.loads(beside.read_bytes())
    found["recording"]["name"] = "somebody else"
    beside.write_text(json.dumps(found))
    return [("sidecar", name(it, beside))]


def foreign(it: Rig, one: Path, two: Path) -> list[tuple[str, str]]:
    path = one.with_name(f"stranger-{one.name}")
    path.write_bytes(b"mine")
    return [("foreign_object", name(it, path))]


def stale_temporary(it: Rig, one: Path, two: Path) -> list[tuple[str, str]]:
    temporary = f".archiver/tmp/1-{one.stem}.part"
    (it.root / temporary).write_bytes(b"half")
    return [("stale_temporary", temporary)]


def edited_ledger(it: Rig, one: Path, two: Path) -> list[tuple[str, str]]:
    with sqlite3.connect(ledger(it)) as connection:
        connection.execute("UPDATE entries SET sha256 = zeroblob(32) WHERE key = ?", [name(it, one)])
    connection.close()
    return [("ledger", name(it, one))]


def deleted_entry(it: Rig, one: Path, two: Path) -> list[tuple[str, str]]:
    with sqlite3.connect(ledger(it)) as connection:
        connection.execute("DELETE FROM entries WHERE key = ?", [name(it, one)])
    connection.close()
    return [("foreign_object", name(it, path)) for path in (one.with_suffix(".json"), one)]


def edited_ledger_and_sidecar(it: Rig, one: Path, two: Path) -> list[tuple[str, str]]:
    """Nobody is left who could say that it was the ledger."""
    edited_ledger(it, one, two)
    return [("digest", name(it, one)), *edited_sidecar(it, one, two)]


def both(of_media: Damage, of_sidecar: Damage) -> Damage:
    """Two damages of one recording, the sidecar's first."""

    def done(it: Rig, one: Path, two: Path) -> list[tuple[str, str]]:
        return [*of_sidecar(it, one, two), *of_media(it, one, two)]

    return done


DAMAGES: dict[str, Damage] = {
    damage.__name__: damage
    for damage in (
        flipped,
        truncated,
        grown,
        deleted,
        without_sidecar,
        swapped,
        renamed,
        edited_sidecar,
        foreign,
        stale_temporary,
        edited_ledger,
        deleted_entry,
    )
}

TWICE: dict[str, Damage] = {
    "edited_ledger_and_sidecar": edited_ledger_and_sidecar,
    **{
        f"{of_media.__name__}_and_{of_sidecar.__name__}": both(of_media, of_sidecar)
        for of_media in (flipped, truncated, grown, deleted, renamed)
        for of_sidecar in (without_sidecar, edited_sidecar)
    },
}
"""Damages of media and sidecar together."""
