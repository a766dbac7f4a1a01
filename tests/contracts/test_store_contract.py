"""The store's promise (`archiver.stores.base`), held against every store in `stores.KINDS`."""

import hashlib
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stores import KINDS, Breaking, Bytes, Endless, fixity, new, old

from archiver.errors import ArchiverError, InvalidKey, ObjectDiffers, ObjectNotFound, StoreMismatch
from archiver.recording import Fixity
from archiver.stores.base import Media, NewObject, Store, StoredObject

BODY = bytes(range(256)) * 40
KEY = "acc/2022/05/06/202205-04f5.mp3"
SIDECAR = "acc/2022/05/06/202205-04f5.json"


@pytest.fixture(params=sorted(KINDS))
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with KINDS[request.param](tmp_path) as opened:
        opened.prepare()
        yield opened


def content(store: Store, key: str) -> bytes:
    return b"".join(store.open(key))


def keys(store: Store, prefix: str = "") -> list[str]:
    return [head.key for head in store.list(prefix)]


def test_what_was_put_is_read_back_byte_for_byte(store: Store) -> None:
    store.put([new(KEY, BODY)])
    assert content(store, KEY) == BODY


def test_put_says_the_size_and_that_the_object_is_new(store: Store) -> None:
    assert list(store.put([new(KEY, BODY)])) == [StoredObject(KEY, len(BODY), adopted=False)]


def test_an_empty_object_is_an_object(store: Store) -> None:
    store.put([new(KEY, b"")])
    head = store.head(KEY)
    assert head is not None
    assert head.size_bytes == 0
    assert content(store, KEY) == b""


def test_an_object_of_five_mebibytes_is_read_back_in_chunks_of_at_most_one(store: Store) -> None:
    body = random.Random(5).randbytes(5 << 20)
    store.put([NewObject(KEY, Bytes(body, chunk_bytes=300_001), "audio/mpeg")])
    chunks = list(store.open(KEY))
    assert b"".join(chunks) == body
    assert max(map(len, chunks)) <= 1 << 20


@pytest.mark.parametrize("size", [1, 2, 4095, 4096, 4097, 65535, 65536, 65537, (1 << 20) - 1, 1 << 20, (1 << 20) + 1])
def test_every_size_around_a_buffer_edge_is_kept_whole(store: Store, size: int) -> None:
    body = random.Random(size).randbytes(size)
    store.put([new(KEY, body)])
    assert content(store, KEY) == body


def test_empty_chunks_are_no_bytes(store: Store) -> None:
    class Gappy(Bytes):
        def chunks(self) -> Iterator[bytes]:
            yield from (b"", self.data[:10], b"", self.data[10:], b"")

    store.put([NewObject(KEY, Gappy(BODY), "audio/mpeg")])
    assert content(store, KEY) == BODY


def test_media_and_sidecar_go_in_one_put_and_come_back_in_its_order(store: Store) -> None:
    done = store.put([new(KEY, BODY), new(SIDECAR, b"{}")])
    assert [each.key for each in done] == [KEY, SIDECAR]
    assert keys(store) == [SIDECAR, KEY]


def test_a_put_of_nothing_does_nothing(store: Store) -> None:
    assert list(store.put([])) == []
    assert keys(store) == []


def test_the_same_bytes_again_are_adopted(store: Store) -> None:
    store.put([new(KEY, BODY)])
    assert list(store.put([new(KEY, BODY)])) == [StoredObject(KEY, len(BODY), adopted=True)]


def test_an_adopted_object_is_not_written_again(store: Store) -> None:
    store.put([new(KEY, BODY)])
    before = store.head(KEY)
    store.put([new(KEY, BODY)])
    assert store.head(KEY) == before


def test_a_crash_between_media_and_sidecar_is_mended_by_the_same_put(store: Store) -> None:
    store.put([new(KEY, BODY)])
    done = store.put([new(KEY, BODY), new(SIDECAR, b"{}")])
    assert [each.adopted for each in done] == [True, False]
    assert content(store, SIDECAR) == b"{}"


@pytest.mark.parametrize(
    "other", [b"", BODY[:-1], BODY + b"x", bytes(len(BODY))], ids=["empty", "less", "more", "same"]
)
def test_a_key_that_holds_other_bytes_is_left_alone(store: Store, other: bytes) -> None:
    store.put([new(KEY, BODY)])
    with pytest.raises(ObjectDiffers):
        store.put([new(KEY, other)])
    assert content(store, KEY) == BODY


def test_an_empty_object_is_not_overwritten_either(store: Store) -> None:
    store.put([new(KEY, b"")])
    with pytest.raises(ObjectDiffers):
        store.put([new(KEY, BODY)])
    assert content(store, KEY) == b""


def test_a_sidecar_that_differs_leaves_the_media_whole_or_absent(store: Store) -> None:
    store.put([new(SIDECAR, b"{}")])
    with pytest.raises(ObjectDiffers):
        store.put([new(KEY, BODY), new(SIDECAR, b"[]")])
    assert content(store, SIDECAR) == b"{}"
    assert KEY not in keys(store) or content(store, KEY) == BODY


LIES: dict[str, Media] = {
    "one byte short": Bytes(BODY[:-1], fixity(BODY)),
    "one byte long": Bytes(BODY + b"x", fixity(BODY)),
    "nothing came": Bytes(b"", fixity(BODY)),
    "half came": Bytes(BODY[: len(BODY) // 2], fixity(BODY)),
    "twice came": Bytes(BODY * 2, fixity(BODY)),
    "one bit turned": Bytes(bytes([BODY[0] ^ 1]) + BODY[1:], fixity(BODY)),
    "zeros came": Bytes(bytes(len(BODY)), fixity(BODY)),
    "wrong digest": Bytes(BODY, Fixity(len(BODY), hashlib.sha256(b"other").digest())),
    "empty digest": Bytes(BODY, Fixity(len(BODY), b"")),
    "short digest": Bytes(BODY, Fixity(len(BODY), fixity(BODY).sha256[:16])),
    "wrong size": Bytes(BODY, Fixity(len(BODY) - 1, fixity(BODY).sha256)),
    "negative size": Bytes(BODY, Fixity(-1, fixity(BODY).sha256)),
    "bytes for an empty body": Bytes(BODY, fixity(b"")),
    "no end": Endless(fixity(BODY)),
}


@pytest.mark.parametrize("lie", sorted(LIES))
def test_media_that_are_not_what_they_say_leave_nothing_behind(store: Store, lie: str) -> None:
    with pytest.raises(StoreMismatch):
        store.put([NewObject(KEY, LIES[lie], "audio/mpeg")])
    assert store.head(KEY) is None
    assert keys(store) == []


@pytest.mark.parametrize("lie", ["one byte short", "one bit turned", "one byte long"])
def test_a_lie_about_a_key_that_is_taken_changes_nothing(store: Store, lie: str) -> None:
    store.put([new(KEY, b"first")])
    with pytest.raises((StoreMismatch, ObjectDiffers)):
        store.put([NewObject(KEY, LIES[lie], "audio/mpeg")])
    assert content(store, KEY) == b"first"


def test_a_sidecar_that_lies_leaves_the_media_whole_or_absent(store: Store) -> None:
    with pytest.raises(StoreMismatch):
        store.put([new(KEY, BODY), NewObject(SIDECAR, LIES["half came"], "application/json")])
    assert store.head(SIDECAR) is None
    assert keys(store) == [] or content(store, KEY) == BODY


def test_media_whose_source_breaks_leave_nothing_behind(store: Store) -> None:
    with pytest.raises(OSError, match="the source broke"):
        store.put([NewObject(KEY, Breaking(BODY[:100], fixity(BODY)), "audio/mpeg")])
    assert keys(store) == []


def test_after_a_failed_put_the_right_bytes_are_taken(store: Store) -> None:
    with pytest.raises(StoreMismatch):
        store.put([NewObject(KEY, LIES["half came"], "audio/mpeg")])
    assert list(store.put([new(KEY, BODY)])) == [StoredObject(KEY, len(BODY), adopted=False)]
    assert content(store, KEY) == BODY


def test_a_head_tells_size_and_time(store: Store) -> None:
    store.put([new(KEY, BODY)])
    head = store.head(KEY)
    assert head is not None
    assert (head.key, head.size_bytes) == (KEY, len(BODY))
    assert abs(head.modified_at - datetime.now(UTC)) < timedelta(minutes=5)
    assert head.sha256 in {None, fixity(BODY).sha256}


@pytest.mark.parametrize("key", ["nope.mp3", "acc/nope.mp3", "acc/2022/05/06/nope.mp3", "acc/2022", "acc"])
def test_the_head_of_what_is_absent_is_none(store: Store, key: str) -> None:
    store.put([new(KEY, BODY)])
    assert store.head(key) is None


def test_to_open_what_is_absent_says_so_by_the_first_chunk(store: Store) -> None:
    with pytest.raises(ObjectNotFound):
        list(store.open(KEY))


def test_an_open_that_is_given_up_does_no_harm(store: Store) -> None:
    store.put([new(KEY, BODY)])
    reading = store.open(KEY)
    assert next(iter(reading))
    del reading
    assert content(store, KEY) == BODY


def test_what_was_deleted_is_absent(store: Store) -> None:
    store.put([old(KEY, BODY), new(SIDECAR, b"{}")])
    store.delete(KEY)
    assert store.head(KEY) is None
    assert keys(store) == [SIDECAR]


def test_to_delete_what_is_absent_is_no_error(store: Store) -> None:
    store.delete(KEY)
    store.put([new(SIDECAR, b"{}")])
    store.delete(KEY)
    assert keys(store) == [SIDECAR]


def test_a_deleted_key_can_be_put_again(store: Store) -> None:
    store.put([old(KEY, BODY)])
    store.delete(KEY)
    store.put([new(KEY, b"other")])
    assert content(store, KEY) == b"other"


BAD_KEYS = [
    "", "/", "/etc/x", "../x", "a/../b", "a/./b", ".", "..", "a//b", "a/", "/a", ".hidden", ".archiver/tmp/x", "-rf",
    "~/x", "a\0b", "a\nb", "a b", "a\\b", "..\\x", "%2e%2e/x", "é", "a\u0301", "\ud800", "x" * 201, "a/" * 600 + "b",
    "=\r\nFAKE", ".archiver", ".archiver/", ".archiver/audit", ".archiver/audit/", ".archiver/manifests/", ".archiver/lock",
    ".archiver/audit.jsonl", ".archiver/manifests/../lock", ".archiver/manifests/a/../../lock", ".archiver/audit//x",
    ".archiver/ledger.sqlite3", ".archiver/auditx/y", ".archiver/audit/.hidden", ".archiver/manifests/a\nb",
    ".archiver/audit/.archiver/x", ".ARCHIVER/audit/x", "acc/.archiver/audit/x", ".archiver/quarantine/acc/x",
]  # fmt: skip
EVIDENCE = [".archiver/audit/000000000001-2.jsonl", ".archiver/manifests/acc/2022-05-06.sha256"]


@pytest.mark.parametrize("key", BAD_KEYS)
def test_a_key_that_could_leave_the_archive_is_refused_everywhere(store: Store, key: str) -> None:
    with pytest.raises(InvalidKey):
        store.put([new(key, BODY)])
    with pytest.raises(InvalidKey):
        store.head(key)
    with pytest.raises(InvalidKey):
        list(store.open(key))
    with pytest.raises(InvalidKey):
        store.delete(key)
    assert keys(store) == []


@pytest.mark.parametrize("key", EVIDENCE)
def test_evidence_is_an_object_that_only_those_see_who_ask_for_it(store: Store, key: str) -> None:
    store.put([new(KEY, BODY), new(key, b"evidence")])
    assert list(store.put([new(key, b"evidence")])) == [StoredObject(key, 8, adopted=True)]
    with pytest.raises(ObjectDiffers):
        store.put([new(key, b"otherwise")])
    head = store.head(key)
    assert head is not None
    assert head.size_bytes == 8
    assert content(store, key) == b"evidence"
    assert keys(store) == [KEY]
    folder = "/".join(key.split("/")[:2]) + "/"
    assert keys(store, folder) == keys(store, key) == [key]
    assert keys(store, ".archiver/") == keys(store, folder[:-1]) == keys(store, ".arch") == []
    with pytest.raises(InvalidKey):
        store.delete(key)
    assert keys(store, folder) == [key]


def test_pieces_of_evidence_are_listed_in_the_order_of_their_keys(store: Store) -> None:
    names = ["a/2022-05-06.2.sha256", "a/2022-05-06.sha256", "b/2022-05-06.sha256", "a-b/1.sha256"]
    every = [f".archiver/manifests/{name}" for name in names]
    store.put([new(key, key.encode()) for key in [*every, ".archiver/audit/1-2.jsonl"]])
    assert keys(store, ".archiver/manifests/") == sorted(every)
    assert keys(store, ".archiver/manifests/a/2022-05-06.") == sorted(every[:2])
    assert keys(store, ".archiver/manifests/../audit/") == keys(store, ".archiver/manifests/c") == []


def test_a_bad_key_among_good_ones_stops_the_put_before_anything_is_written(store: Store) -> None:
    with pytest.raises(InvalidKey):
        store.put([new(KEY, BODY), new("../x", BODY)])
    assert keys(store) == []


@pytest.mark.parametrize(
    "prefix", ["../", "/", "/etc", ".archiver", ".", "a/../b", "\0", "acc/2023", "zzz", "acc/2022/x"]
)
def test_a_prefix_that_no_key_has_lists_nothing(store: Store, prefix: str) -> None:
    store.put([new(KEY, BODY)])
    assert keys(store, prefix) == []


@pytest.mark.parametrize("prefix", ["", "a", "acc", "acc/", "acc/20", "acc/2022/05/06/202205-04f5", SIDECAR])
def test_a_prefix_lists_the_keys_that_begin_with_it(store: Store, prefix: str) -> None:
    store.put([new(KEY, BODY), new(SIDECAR, b"{}"), new("acd/x.mp3", b"1"), new("b/x.mp3", b"2")])
    every = [SIDECAR, KEY, "acd/x.mp3", "b/x.mp3"]
    assert keys(store, prefix) == [key for key in every if key.startswith(prefix)]


def test_keys_that_differ_around_the_slash_are_listed_in_string_order(store: Store) -> None:
    every = ["a-b/x", "a.json", "a/b", "a/b.c/d", "a/b0", "a0", "a=", "aa/b", "B", "_", "a.mp3/x"]
    store.put([new(key, key.encode()) for key in every])
    assert keys(store) == sorted(every)


EXAMPLES = count()
SEGMENT = st.text(alphabet="aB0-.=_", min_size=1, max_size=3).filter(lambda s: s[0] not in "-.")


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.sets(st.lists(SEGMENT, min_size=1, max_size=3).map("/".join), max_size=12), SEGMENT)
def test_any_set_of_keys_is_listed_like_sorted(store: Store, wanted: set[str], prefix: str) -> None:
    # A key can't be another's folder; such pairs never come from a template.
    wanted = {key for key in wanted if not any(other.startswith(key + "/") for other in wanted)}
    # Each example has a folder of its own: removing the last one's objects costs a real store more than all else here.
    place = f"example-{next(EXAMPLES)}/"
    folders = {f"{place}f{key}" for key in wanted}
    store.put([old(key + ".x", key.encode()) for key in folders])
    expected = sorted(key + ".x" for key in folders)
    assert keys(store, place) == expected
    assert keys(store, f"{place}f{prefix}") == [key for key in expected if key.startswith(f"{place}f{prefix}")]


def test_a_list_tells_the_sizes_that_heads_tell(store: Store) -> None:
    store.put([new(f"a/{n}.mp3", bytes(n)) for n in range(20)])
    for head in store.list():
        again = store.head(head.key)
        assert again is not None
        assert again.size_bytes == head.size_bytes


def test_a_list_that_is_given_up_does_no_harm(store: Store) -> None:
    store.put([new(f"a/{n}.mp3", bytes(n)) for n in range(5)])
    listing = store.list()
    assert next(iter(listing)).key == "a/0.mp3"
    del listing
    assert len(keys(store)) == 5


def test_what_is_deleted_during_a_list_does_not_break_it(store: Store) -> None:
    every = [f"a/{n}/x.mp3" for n in range(8)]
    store.put([old(key, b"x") for key in every])
    seen = []
    for head in store.list():
        seen.append(head.key)
        if len(seen) == 1:
            store.delete(every[5])
    assert [key for key in seen if key != every[5]] == [key for key in every if key != every[5]]


def test_no_temporary_is_ever_listed_while_puts_run(store: Store) -> None:
    allowed = {f"a/{n}.mp3": random.Random(n).randbytes(20_000) for n in range(40)}
    stop = threading.Event()
    seen: set[tuple[str, int]] = set()

    def watch() -> None:
        while not stop.is_set():
            seen.update((head.key, head.size_bytes) for head in store.list())

    with ThreadPoolExecutor(5) as pool:
        watching = pool.submit(watch)
        list(pool.map(lambda item: store.put([new(*item)]), allowed.items()))
        stop.set()
        watching.result()
    assert seen <= {(key, len(data)) for key, data in allowed.items()}


def test_many_threads_put_different_keys_at_once(store: Store) -> None:
    bodies = {f"acc/{n % 4}/{n}.mp3": random.Random(n).randbytes(1000 + n) for n in range(64)}
    with ThreadPoolExecutor(16) as pool:
        done = list(pool.map(lambda item: store.put([new(*item)])[0], bodies.items()))
    assert not any(each.adopted for each in done)
    assert {key: content(store, key) for key in keys(store)} == bodies


def test_many_puts_at_once_are_a_put_each_and_one_that_fails_leaves_the_others_alone(store: Store) -> None:
    store.put([new("a/taken.mp3", b"before")])
    bodies = {f"a/{n}.mp3": random.Random(n).randbytes(3000 + n) for n in range(12)}
    groups = [[new(key, data), new(key.replace(".mp3", ".json"), b"{}")] for key, data in bodies.items()]
    lie = NewObject("a/lie.mp3", Bytes(BODY, fixity(BODY[:-1])), "audio/mpeg")
    wrong = [[new("a/taken.mp3", b"others")], [new("../outside.mp3", b"x")], [lie]]
    outcomes = store.put_many([*groups[:6], *wrong, *groups[6:]])
    assert [type(each) for each in outcomes[6:9]] == [ObjectDiffers, InvalidKey, StoreMismatch]
    stored = [each for each in outcomes if not isinstance(each, ArchiverError)]
    assert [[one.key for one in each] for each in stored] == [[one.key for one in group] for group in groups]
    assert {key: content(store, key) for key in keys(store) if key.endswith(".mp3")} == bodies | {
        "a/taken.mp3": b"before"
    }
    again = store.put_many(groups)
    assert all(one.adopted for each in again if not isinstance(each, ArchiverError) for one in each)
    assert store.put_many([]) == []


def together(store: Store, bodies: list[bytes]) -> list[StoredObject | Exception]:
    """Put every body under one key at the same moment."""
    gate = threading.Barrier(len(bodies))

    def put(body: bytes) -> StoredObject | Exception:
        gate.wait()
        try:
            return store.put([new(KEY, body)])[0]
        except ObjectDiffers as error:
            return error

    with ThreadPoolExecutor(len(bodies)) as pool:
        return list(pool.map(put, bodies))


def test_of_concurrent_puts_of_the_same_bytes_one_writes_and_the_others_adopt(store: Store) -> None:
    done = together(store, [BODY] * 12)
    assert sorted(each.adopted for each in done if isinstance(each, StoredObject)) == [False] + [True] * 11
    assert content(store, KEY) == BODY


def test_of_concurrent_puts_of_different_bytes_exactly_one_wins(store: Store) -> None:
    bodies = [random.Random(n).randbytes(5000) for n in range(12)]
    done = together(store, bodies)
    winners = [body for body, each in zip(bodies, done, strict=True) if isinstance(each, StoredObject)]
    assert winners == [content(store, KEY)]
    assert sum(isinstance(each, ObjectDiffers) for each in done) == 11


def test_room_is_told_or_known_to_be_without_limit(store: Store) -> None:
    room = store.room()
    assert room.free_bytes is None or room.free_bytes > 0
    assert room.free_inodes is None or room.free_inodes > 0


def test_prepare_can_be_repeated_and_keeps_the_objects(store: Store) -> None:
    store.put([new(KEY, BODY)])
    store.prepare()
    assert keys(store) == [KEY]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_objects_are_there_for_the_next_run(kind: str, tmp_path: Path) -> None:
    with KINDS[kind](tmp_path) as first:
        first.prepare()
        first.put([new(KEY, BODY)])
    with KINDS[kind](tmp_path) as second:
        second.prepare()
        assert content(second, KEY) == BODY
        assert second.put([new(KEY, BODY)])[0].adopted
