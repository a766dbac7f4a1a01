"""One ledger takes another's place: killed between any two steps, there is the old one or the new one, and all is kept."""

import contextlib
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from archiver.errors import LedgerError
from archiver.ledger.files import clear_new, new_beside, put_in_place

AT = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


class Killed(BaseException):
    """The process ends here."""


def laid(folder: Path) -> Path:
    path = folder / "ledger.sqlite3"
    path.write_bytes(b"old")
    Path(f"{path}-wal").write_bytes(b"old log")
    Path(f"{path}-shm").write_bytes(b"old index")
    new_beside(path).write_bytes(b"new")
    return path


def names(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_old_one_is_kept_with_its_log_under_a_name_with_a_date(tmp_path: Path) -> None:
    path = laid(tmp_path)
    aside = put_in_place(new_beside(path), path, at=AT)
    assert aside == f"{path}.until-20261123T120000Z"
    assert names(tmp_path) == {
        "ledger.sqlite3": b"new",
        "ledger.sqlite3.until-20261123T120000Z": b"old",
        "ledger.sqlite3.until-20261123T120000Z-wal": b"old log",
    }


def test_two_in_one_second_are_both_kept(tmp_path: Path) -> None:
    path = laid(tmp_path)
    put_in_place(new_beside(path), path, at=AT)
    new_beside(path).write_bytes(b"newer")
    assert put_in_place(new_beside(path), path, at=AT).endswith("Z-2")
    assert sorted(names(tmp_path).values()) == [b"new", b"newer", b"old", b"old log"]


STEPS = [(os, "link"), (Path, "rename"), (Path, "unlink"), (Path, "replace"), (os, "fsync")]


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize(("owner", "step"), STEPS, ids=[step for _, step in STEPS])
@pytest.mark.parametrize("nth", [1, 2])
def test_a_kill_at_any_step_leaves_one_of_them_and_a_second_try_completes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, step: str, nth: int, before: bool
) -> None:
    path = laid(tmp_path)
    real: Callable[..., object] = getattr(owner, step)
    count = 0

    def dies(*given: Any, **more: Any) -> object:
        nonlocal count
        count += 1
        if count == nth and before:
            raise Killed
        found = real(*given, **more)
        if count == nth:
            raise Killed
        return found

    with monkeypatch.context() as patched, contextlib.suppress(Killed):
        patched.setattr(owner, step, dies)
        put_in_place(new_beside(path), path, at=AT)
    there = path.read_bytes()
    assert there in {b"old", b"new"}
    # A log beside the database belongs to it.
    assert there == b"old" or not Path(f"{path}-wal").exists()
    clear_new(path)
    new_beside(path).write_bytes(b"second")
    put_in_place(new_beside(path), path, at=AT)
    assert path.read_bytes() == b"second"
    assert {b"old", b"old log"} <= set(names(tmp_path).values())


def test_a_log_alone_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    Path(f"{path}-wal").write_bytes(b"log")
    assert put_in_place(None, path, at=AT) == ""
    assert names(tmp_path) == {"ledger.sqlite3.until-20261123T120000Z-wal": b"log"}


def test_a_ledger_that_is_in_its_place_keeps_its_log(tmp_path: Path) -> None:
    path = laid(tmp_path)
    assert put_in_place(None, path, at=AT) == ""
    assert names(tmp_path)["ledger.sqlite3-wal"] == b"old log"


def test_what_can_t_be_moved_is_the_ledgers_error(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    with pytest.raises(LedgerError, match="put in its place"):
        put_in_place(tmp_path / "nowhere", path, at=AT)
