"""A day's CDRs as they are archived: gzip-compressed JSON lines, each CDR verbatim, once, in a stable order.

What a later look finds anew goes into a further part, so that nothing archived is ever written over. The same rows give the
same bytes.
"""

import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Protocol

from archiver.errors import ObjectNotFound
from archiver.keys import safe_id
from archiver.ledger.values_reconciling import CdrFile
from archiver.pbx.payloads import cdr as decoded
from archiver.pipeline.checks import ReceivedMedia
from archiver.pipeline.tools import Spooling
from archiver.recording import Cdr, Counted, Fixity
from archiver.stores.base import NewObject, Origin, Store

_GZIP = 31
"""zlib's own way to say gzip; its header then has no name and no time."""
_CDR_KEY = re.compile(
    r"(?P<account>[^/]+)/(?P<year>\d{4})/(?P<month>\d\d)/(?P<day>\d\d)/cdrs(?:\.(?P<part>\d+))?\.jsonl\.gz\Z", re.ASCII
)
_BATCH_BYTES = 256 << 10
_LONGEST_LINE_BYTES = 64 << 20
CONTENT_TYPE = "application/gzip"


class Scratch(Protocol):
    """A temporary file (see `stores.temporaries`)."""

    def write(self, data: bytes) -> None:
        """Append."""
        ...

    def read(self, size_bytes: int, offset_bytes: int) -> bytes:
        """Up to so many bytes from an offset."""
        ...

    def discard(self) -> None:
        """Give it up."""
        ...


@dataclass(frozen=True, slots=True)
class Tools:
    """What a day's CDRs are kept with: scratch files, spools, the store; `now` and the run's id for what is written."""

    store: Store
    scratch: Callable[[], Scratch]
    spool: Callable[[int, bool], Spooling]
    now: Callable[[], datetime]
    run_id: str


def cdr_key(account_id: str, day: date, part: int) -> str:
    """Where a part of a day's CDRs lies."""
    name = "cdrs.jsonl.gz" if part == 1 else f"cdrs.{part}.jsonl.gz"
    return f"{safe_id(account_id)}/{day:%Y/%m/%d}/{name}"


class DayOfCdrs:
    """A day's CDRs as they were listed, in a scratch file; in memory are their ids and places alone.

    Its methods block. `discard` in the end.

    Raises:
        StoreFull, StoreDenied, StoreUnavailable: from any method; the scratch file can't be used.
    """

    def __init__(self, tools: Tools, account_id: str, day: date) -> None:
        self.account_id = account_id
        self.day = day
        self._tools = tools
        self._scratch = tools.scratch()
        self._places: dict[str, tuple[int, int, int]] = {}
        self._end = 0

    def __len__(self) -> int:
        return len(self._places)

    def add(self, rows: Iterable[Cdr]) -> list[Cdr]:
        """Take CDRs in; those that are new here."""
        fresh: list[Cdr] = []
        lines: list[bytes] = []
        for row in rows:
            if row.cdr_id in self._places:
                continue
            line = _line(row.metadata)
            at_s = int(row.at.timestamp()) if row.at else 0
            self._places[row.cdr_id] = (at_s, self._end, len(line))
            self._end += len(line)
            lines.append(line)
            fresh.append(row)
        if lines:
            self._scratch.write(b"".join(lines))
        return fresh

    def keep(self, known: Sequence[CdrFile]) -> "Kept":
        """Archive what no earlier part holds; the new parts lie in the store on return, and are to be noted.

        A part of a run that was killed before it could note it is taken over; a known part that is gone or damaged holds
        nothing, so that its rows are archived again.

        Raises:
            StoreError: also when the key is taken meanwhile.
        """
        held: set[str] = set()
        kept = Kept([], [], [], 0)
        for file in known:
            found = self._look(file.key)
            if found is None or found.fixity != file.fixity:
                kept.damaged.append(file.key)
                continue
            held |= found.ids
            kept.changed += found.others
            kept.files.append(file)
        part = max((file.part for file in known), default=0) + 1
        while (found := self._look(self._key(part))) is not None:
            # Only what a run of ours must have written: rows that are all listed still, to the byte.
            if found.ids and found.fixity and not found.others and not found.strange:
                held |= found.ids
                kept.fresh.append(self._file(part, found.fixity, len(found.ids)))
            part += 1
        wanted = sorted((place[0], cdr_id) for cdr_id, place in self._places.items() if cdr_id not in held)
        if wanted:
            fixity = self._put([cdr_id for _, cdr_id in wanted], part)
            kept.fresh.append(self._file(part, fixity, len(wanted)))
        return kept

    def discard(self) -> None:
        """Give the scratch file up."""
        self._scratch.discard()

    def _key(self, part: int) -> str:
        return cdr_key(self.account_id, self.day, part)

    def _file(self, part: int, fixity: Fixity, rows: int) -> CdrFile:
        return CdrFile(self.account_id, self.day, part, self._key(part), fixity, rows, self._tools.now())

    def _put(self, cdr_ids: Sequence[str], part: int) -> Fixity:
        media = self._media(cdr_ids)
        try:
            # Retention counts from a day's end, lest it end for the last call before its time.
            dated_at = datetime(self.day.year, self.day.month, self.day.day, tzinfo=UTC) + timedelta(days=1)
            origin = Origin(self.account_id, "cdrs", self._tools.run_id, dated_at)
            self._tools.store.put([NewObject(self._key(part), media, CONTENT_TYPE, origin)])
            return media.fixity
        finally:
            media.discard()

    def _media(self, cdr_ids: Iterable[str]) -> ReceivedMedia:
        spool = self._tools.spool(1 << 62, False)
        try:
            packer = zlib.compressobj(9, zlib.DEFLATED, _GZIP)
            for cdr_id in cdr_ids:
                if packed := packer.compress(self._stored(cdr_id)):
                    spool.write([packed])
            spool.write([packer.flush()])
            return spool.finish()
        except BaseException:
            spool.discard()
            raise

    def _stored(self, cdr_id: str) -> bytes:
        _, offset, size_bytes = self._places[cdr_id]
        return self._scratch.read(size_bytes, offset)

    def _look(self, key: str) -> "_Part | None":
        """What a part holds, None when there is none."""
        try:
            chunks = Counted(self._tools.store.open(key))
        except ObjectNotFound:
            return None
        part = _Part(set(), 0, 0)
        try:
            for line in lines_of(chunks):
                self._compare(line, part)
        except ValueError:
            part.strange += 1
        for _ in chunks:
            pass
        part.fixity = chunks.fixity
        return part

    def _compare(self, line: bytes, part: "_Part") -> None:
        row = decoded(line, account_id=self.account_id)
        if row is None or row.cdr_id not in self._places:
            part.strange += 1
            return
        part.ids.add(row.cdr_id)
        part.others += self._stored(row.cdr_id) != line


@dataclass(slots=True)
class _Part:
    """What lies under a part's key: ids that are listed now, how many of them differ, how many rows are none of them."""

    ids: set[str]
    others: int
    strange: int
    fixity: Fixity | None = None


@dataclass(slots=True)
class Kept:
    """A day's archived CDRs: the parts that were known, those that are new, and the keys of those gone or damaged.

    `changed` is how many rows the PBX shows otherwise now than they were archived.
    """

    files: list[CdrFile]
    fresh: list[CdrFile]
    damaged: list[str]
    changed: int


def lines_of(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The lines of a gzip file, with their ends; memory holds a line and a piece of the file at a time.

    Raises:
        ValueError: it is no whole gzip file of lines.
    """
    unpacker, rest = zlib.decompressobj(_GZIP), b""
    try:
        for chunk in chunks:
            packed = chunk
            while (data := unpacker.decompress(packed, _BATCH_BYTES)) or unpacker.unconsumed_tail:
                packed = unpacker.unconsumed_tail
                *whole, rest = (rest + data).split(b"\n")
                yield from (line + b"\n" for line in whole)
                if len(rest) > _LONGEST_LINE_BYTES:
                    raise ValueError("no file of lines")
    except zlib.error as error:
        raise ValueError(f"no gzip file: {error}") from None
    if not unpacker.eof or unpacker.unused_data or rest:
        raise ValueError("no whole gzip file of lines")


def read_cdr_file(store: Store, key: str) -> CdrFile | None:
    """What the store's own object says of a file with CDRs; None when it is none, or not whole.

    Raises:
        StoreError.
    """
    named = _CDR_KEY.match(key)
    head = store.head(key) if named else None
    if named is None or head is None:
        return None
    chunks = Counted(store.open(key))
    try:
        day = date(int(named["year"]), int(named["month"]), int(named["day"]))
        rows = sum(1 for _ in lines_of(chunks))
    except ValueError:
        return None
    account_id, part = named["account"], int(named["part"] or 1)
    if cdr_key(account_id, day, part) != key:
        return None
    return CdrFile(account_id, day, part, key, chunks.fixity, rows, head.modified_at)


def _line(metadata: bytes) -> bytes:
    """A CDR on a line of its own: byte for byte, but for line ends between its values, which become blanks."""
    return metadata.replace(b"\r", b" ").replace(b"\n", b" ") + b"\n"
