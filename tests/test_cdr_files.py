"""Archived CDRs: verbatim, each once, in parts that are never written over, and never all in memory."""

import gzip
import json
import random
import sys
import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.keys import check_key
from archiver.ledger.values_reconciling import CdrFile
from archiver.proof.reconciliation.cdr_files import DayOfCdrs, Kept, Tools, cdr_key, lines_of
from archiver.recording import Cdr, Fixity
from archiver.stores.base import NewObject
from archiver.stores.local import LocalStore
from archiver.stores.spool import Spool, SpooledMedia

ACCOUNT = "a" * 32
DAY = date(2024, 5, 6)
START = datetime(2024, 5, 6, 9, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalStore]:
    made = LocalStore(tmp_path / "archive", durable=False, reserve_bytes=0)
    made.prepare()
    yield made
    made.close()


def tools(store: LocalStore) -> Tools:
    return Tools(
        store,
        store.folder.temporaries.new,
        lambda limit, want_md5: Spool(store.folder.temporaries, limit_bytes=limit, want_md5=want_md5),
        lambda: START,
        run_id="run",
    )


def cdr(ordinal: int, text: bytes = b"", *, at: datetime | None = START) -> Cdr:
    cdr_id = f"leg-{ordinal:06d}"
    raw = b'{ "id":"%s" , "caller":"%s","x":1.50 }' % (cdr_id.encode(), text)
    return Cdr(ACCOUNT, cdr_id, None if at is None else at + timedelta(seconds=ordinal), (), metadata=raw)


def kept(store: LocalStore, rows: Sequence[Cdr], known: Sequence[CdrFile] = ()) -> Kept:
    day = DayOfCdrs(tools(store), ACCOUNT, DAY)
    try:
        day.add(rows)
        return day.keep(known)
    finally:
        day.discard()


def lines(store: LocalStore, part: int = 1) -> list[bytes]:
    data = b"".join(store.open(cdr_key(ACCOUNT, DAY, part)))
    return gzip.decompress(data).splitlines()


def put(store: LocalStore, key: str, data: bytes) -> None:
    store.put([NewObject(key, SpooledMedia.of(data), "application/gzip")])


def test_each_cdr_stands_on_its_line_byte_for_byte_as_the_pbx_sent_it(store: LocalStore) -> None:
    rows = [cdr(n, bytes(f"Jürgen \\ud800 {n} \\n", "utf-8")) for n in range(50)]
    found = kept(store, rows)
    assert lines(store) == [row.metadata for row in rows]
    (file,) = found.fresh
    data = b"".join(store.open(file.key))
    assert (file.rows, file.fixity) == (50, Fixity(len(data), sha256(data).digest()))
    assert data[4:8] == b"\0\0\0\0"


def test_a_cdr_over_several_lines_becomes_one_and_says_the_same(store: LocalStore) -> None:
    raw = b'{\r\n  "id": "leg",\n  "caller": "a\\nb"\n}'
    kept(store, [Cdr(ACCOUNT, "leg", START, (), metadata=raw)])
    (line,) = lines(store)
    assert json.loads(line) == json.loads(raw)


def test_the_same_rows_in_any_order_and_with_repetitions_give_the_same_bytes(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(2**32)
    sys.stderr.write(f"seed {seed}\n")
    chance, seen = random.Random(seed), set()
    rows = [*(cdr(n) for n in range(100)), *(cdr(n, at=None) for n in range(200, 210))]
    for turn in range(3):
        store = LocalStore(tmp_path / str(turn), durable=False, reserve_bytes=0)
        store.prepare()
        mixed = rows + chance.sample(rows, 20)
        chance.shuffle(mixed)
        seen.add(kept(store, mixed).fresh[0].fixity)
        store.close()
    assert len(seen) == 1


def test_what_a_later_look_finds_anew_goes_into_a_further_part(store: LocalStore) -> None:
    first = kept(store, [cdr(n) for n in (1, 3)]).fresh
    before = b"".join(store.open(first[0].key))
    second = kept(store, [cdr(n) for n in (1, 2, 3, 4)], first).fresh
    assert [file.key for file in second] == [f"{ACCOUNT}/2024/05/06/cdrs.2.jsonl.gz"]
    assert lines(store, 2) == [cdr(2).metadata, cdr(4).metadata]
    assert b"".join(store.open(first[0].key)) == before
    third = kept(store, [cdr(n) for n in (1, 2, 3, 4)], [*first, *second])
    assert (third.fresh, third.damaged, third.changed) == ([], [], 0)
    assert len(third.files) == 2


def test_a_cdr_that_changed_at_the_source_stays_as_it_was_archived_and_is_counted(store: LocalStore) -> None:
    first = kept(store, [cdr(1), cdr(2)]).fresh
    again = kept(store, [replace(cdr(1), metadata=b'{"id":"leg-000001","now":2}'), cdr(2)], first)
    assert (again.fresh, again.changed) == ([], 1)
    assert lines(store) == [cdr(1).metadata, cdr(2).metadata]


def test_a_part_that_a_killed_run_could_not_note_is_taken_over(store: LocalStore) -> None:
    lost = kept(store, [cdr(n) for n in (1, 2)]).fresh
    found = kept(store, [cdr(n) for n in (1, 2, 3)]).fresh
    assert [(file.part, file.rows) for file in found] == [(1, 2), (2, 1)]
    assert found[0].fixity == lost[0].fixity
    assert lines(store, 2) == [cdr(3).metadata]


@pytest.mark.parametrize(
    "strange",
    [
        b"no gzip at all",
        gzip.compress(b'{"id":"leg-000001"}\n'),
        gzip.compress(cdr(1).metadata + b"\n" + cdr(9).metadata + b"\n"),
        gzip.compress(cdr(1).metadata + b"\n")[:-9],
        gzip.compress(b""),
    ],
    # The bytes have the time in them, and each process of the tests must give a test the same name.
    ids=["no gzip", "another id", "another order", "cut", "empty"],
)
def test_what_no_run_of_ours_wrote_is_left_alone_and_never_noted(store: LocalStore, strange: bytes) -> None:
    put(store, cdr_key(ACCOUNT, DAY, 1), strange)
    found = kept(store, [cdr(1)]).fresh
    assert [(file.part, file.rows) for file in found] == [(2, 1)]
    assert b"".join(store.open(cdr_key(ACCOUNT, DAY, 1))) == strange


def test_the_rows_of_a_part_that_is_damaged_or_gone_are_archived_again(store: LocalStore) -> None:
    first = kept(store, [cdr(1), cdr(2)]).fresh
    path = Path(store.folder.path) / first[0].key
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    again = kept(store, [cdr(1), cdr(2)], first)
    assert (again.damaged, again.fresh[0].rows) == ([first[0].key], 2)
    path.unlink()
    (Path(store.folder.path) / again.fresh[0].key).unlink()
    anew = kept(store, [cdr(1)], [*first, *again.fresh])
    assert len(anew.damaged) == 2
    assert (anew.fresh[0].part, lines(store, 3)) == (3, [cdr(1).metadata])


def test_a_day_without_cdrs_leaves_no_file(store: LocalStore) -> None:
    assert kept(store, []).fresh == []
    assert list(store.list()) == []


def test_keys_are_valid_whatever_the_account_is_called() -> None:
    for account_id in ("A" * 32, "../x", "con", "é"):
        for part in (1, 2, 100):
            assert check_key(cdr_key(account_id, DAY, part))


def test_thirty_thousand_cdrs_of_a_day_never_lie_in_memory(store: LocalStore) -> None:
    count, body = 30_000, b"x" * 1500
    day = DayOfCdrs(tools(store), ACCOUNT, DAY)
    tracemalloc.start()
    try:
        for start in range(0, count, 1000):
            day.add(cdr(n, body) for n in range(start, start + 1000))
        fresh = day.keep([]).fresh
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        day.discard()
    assert [file.rows for file in fresh] == [count]
    # The ids and places of thirty thousand are 9 MB, the CDRs themselves 47.
    assert peak < 20 << 20
    assert sum(1 for _ in lines_of(store.open(fresh[0].key))) == count


@given(st.lists(st.binary(max_size=200).map(lambda data: data.replace(b"\n", b"") + b"\n")), st.integers(1, 64))
def test_lines_come_back_whole_however_the_file_is_cut_into_chunks(wanted: list[bytes], size: int) -> None:
    data = gzip.compress(b"".join(wanted), mtime=0)
    chunks = [data[at : at + size] for at in range(0, len(data), size)]
    assert list(lines_of(chunks)) == wanted


def test_a_line_that_compresses_extremely_comes_back_whole() -> None:
    wanted = [b"0" * (3 << 20) + b"\n", b"end\n"]
    assert list(lines_of([gzip.compress(b"".join(wanted))])) == wanted
