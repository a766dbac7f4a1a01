"""A corpus frozen into files: the PBX's pages and media as a plain web server can serve them, and an index of both.

Each UTC day is one window. The page files are named `<endDate>-<startKey>.json`, since the end of a query names its day
while its start reaches back by the archiver's overlap; the last day stands under a second name, `overlap` later.
"""

import hashlib
import json
import shutil
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from archiver.simulator import GREGORIAN_OFFSET_S, MediaSource, Mp3Media, SimulatedRecording, Switches
from archiver.simulator.documents import Documents

ACCOUNT_ID = "0123456789abcdef0123456789abcdef"
BEGIN = datetime(2024, 5, 6, tzinfo=UTC)
OVERLAP = timedelta(hours=6)
DAY_S = 86_400
# Rows are spread over this much of a day, from its second hour on (later, if calls are longer), so that no call begins
# the day before.
SPREAD_S = 82_000
FIRST_S = 3_600


@dataclass(frozen=True)
class Workload:
    """So many recordings of one length (64 kbit/s, so 8 bytes a millisecond).

    Attributes:
        shares_media: all recordings have the same bytes, in one file.
    """

    name: str
    count: int
    duration_ms: int
    shares_media: bool = False

    def scaled(self, scale: float) -> "Workload":
        return Workload(self.name, max(1, round(self.count * scale)), self.duration_ms, self.shares_media)

    @property
    def days(self) -> int:
        """As many windows; none is empty, since the archiver asks for an empty one again."""
        return min(self.count, 10) if self.count <= 20_000 else 20


WORKLOADS = {
    "small": Workload("small", 20_000, 6_000),
    "typical": Workload("typical", 4_000, 75_000),
    "large": Workload("large", 400, 875_000),
}
TINY = (
    Workload("tiny", 20_000, 100, shares_media=True),
    Workload("tiny", 200_000, 100, shares_media=True),
)


TO_S3 = Workload("s3", 2_000, 62_500)
HEAVY = Workload("heavy", 64, 7_500_000, shares_media=True)


@dataclass(frozen=True)
class Frozen:
    """A corpus on disk; `sizes` maps each recording id to its media's bytes, `keys` to where the archiver puts it."""

    workload: Workload
    folder: Path
    page_count: int
    sizes: dict[str, int]
    keys: dict[str, str]

    @property
    def total_bytes(self) -> int:
        return sum(self.sizes.values())

    @property
    def until(self) -> datetime:
        return BEGIN + timedelta(days=self.workload.days)

    def media_file(self, recording_id: str) -> Path:
        return self.folder / ("tiny.mp3" if self.workload.shares_media else f"media/{recording_id}")

    def warm(self) -> None:
        """Read all media once, so that the server sends from memory whoever comes first."""
        paths = {self.media_file(recording_id) for recording_id in self.sizes}
        for path in sorted(paths):
            with path.open("rb") as file:
                while file.read(1 << 20):
                    pass


def frozen(workload: Workload, work: Path, *, page_size: int, digest: bool) -> Frozen:
    """The workload's corpus under `work`, made unless a complete one is there."""
    name = f"{workload.name}-{workload.count}-{workload.duration_ms}ms-{page_size}{'-md5' if digest else ''}"
    folder = work / "corpus" / name
    index = folder / "index.json"
    if not index.exists():
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "media").mkdir(parents=True)
        (folder / "pages").mkdir()
        made = _make(workload, folder, page_size, digest=digest)
        unfinished = folder / "index.tmp"
        unfinished.write_text(json.dumps(made), encoding="ascii")
        unfinished.rename(index)
    found = json.loads(index.read_text(encoding="ascii"))
    return Frozen(workload, folder, found["page_count"], found["sizes"], found["keys"])


def _make(workload: Workload, folder: Path, page_size: int, *, digest: bool) -> dict[str, Any]:
    documents = Documents(Switches())
    sizes: dict[str, int] = {}
    keys: dict[str, str] = {}
    page_count = 0
    shared = Mp3Media("tiny", workload.duration_ms) if workload.shares_media else None
    shared_md5 = _write(shared, folder / "tiny.mp3") if shared else ""
    for day, rows in enumerate(rows_by_day(workload, shared)):
        listed = []
        for row in rows:
            name = row.recording_id
            md5 = shared_md5 or _write(row.source, folder / "media" / name)
            document = documents.recording(row)
            for attachment in document["_attachments"].values():
                attachment["digest"] = md5 if digest else ""
            listed.append(document)
            sizes[name] = row.source.length_bytes
            keys[name] = f"{ACCOUNT_ID}/{datetime.fromtimestamp(row.start_unix_s, UTC):%Y/%m/%d}/{name}.mp3"
        page_count += _write_pages(folder / "pages", listed, page_size, day, is_last=day == workload.days - 1)
    return {"page_count": page_count, "sizes": sizes, "keys": keys}


def rows_by_day(workload: Workload, shared: MediaSource | None) -> Iterator[list[SimulatedRecording]]:
    """The workload's recordings, evenly spread."""
    per_day = -(-workload.count // workload.days)
    first_s = max(FIRST_S, workload.duration_ms // 1000)
    step_s = max(1, min(SPREAD_S, DAY_S - first_s) // per_day)
    for day in range(workload.days):
        begin = int(BEGIN.timestamp()) + day * DAY_S + first_s
        ordinals = range(day * workload.count // workload.days, (day + 1) * workload.count // workload.days)
        yield [
            SimulatedRecording(
                account_id=ACCOUNT_ID,
                recording_id=f"202405-{hashlib.md5(f'{workload.name}/{ordinal}'.encode()).hexdigest()}",
                start_unix_s=begin + place * step_s - workload.duration_ms // 1000,
                duration_ms=workload.duration_ms,
                media=shared,
            )
            for place, ordinal in enumerate(ordinals)
        ]


def _write(media: Any, path: Path) -> str:
    """Write media to a file; returns the digest as a CouchDB attachment names it."""
    md5 = hashlib.md5()
    with path.open("wb") as file:
        for chunk in media.chunks():
            md5.update(chunk)
            file.write(chunk)
    return f"md5-{b64encode(md5.digest()).decode('ascii')}"


def _write_pages(folder: Path, rows: list[dict[str, Any]], page_size: int, day: int, *, is_last: bool) -> int:
    """Write a day's chain of pages; returns how many there are."""
    end_unix_s = int(BEGIN.timestamp()) + (day + 1) * DAY_S
    # A last page as long as was asked for makes a careful walker look again, and frozen pages know no shorter windows.
    a_page = page_size - 1 if page_size > 1 and len(rows) % page_size == 0 else page_size
    pages = [rows[at : at + a_page] for at in range(0, len(rows), a_page)] or [[]]
    names = [""] + [str(page[0]["pvt_created"]) for page in pages[1:]]
    if not all(text.isdigit() and int(text) > GREGORIAN_OFFSET_S for text in names[1:]):
        raise ValueError(f"cursors must be Gregorian seconds: {names}")
    for ordinal, (name, page) in enumerate(zip(names, pages, strict=True)):
        answer: dict[str, Any] = {"recordings": page}
        if ordinal + 1 < len(pages):
            answer["next_start_key"] = names[ordinal + 1]
        answer["page_size"] = len(page)
        text = json.dumps(answer, separators=(",", ":"))
        ends = [end_unix_s, end_unix_s + int(OVERLAP.total_seconds())] if is_last else [end_unix_s]
        for end in ends:
            (folder / f"{end}-{name}.json").write_text(text, encoding="ascii")
    return len(pages)
