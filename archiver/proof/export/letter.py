"""`data/README.txt`: what is in the bag, for a person who has never heard of bags."""

import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

from archiver.proof.export.call_records import Found
from archiver.proof.export.gathering import Gathered
from archiver.proof.export.payload import Handed, Payload
from archiver.proof.export.selection import Conditions
from archiver.proof.export.table import COLUMNS
from archiver.proof.verification.findings import Finding
from archiver.window import Window

LETTER = "data/README.txt"
_WIDTH = 78
_CONTENTS = """\
data/media/          the recordings, byte for byte as the telephone system
                     gave them
data/metadata/       a text file (JSON) for each recording: size, SHA-256, when
                     and from where it was archived, and under "recording" all
                     that the telephone system said of it, unchanged
data/cdrs/           the call records of these calls, one a line (JSON),
                     unchanged; a call has one for each of its legs
data/recordings.csv  a table of all recordings, one line for each
data/audit.jsonl     what the archive's audit trail says of these recordings,
                     one record a line (JSON), unchanged
manifest-sha256.txt  the SHA-256 of every file under data/; the other files
                     beside it describe the bag itself
"""
_TABLE = """\
data/recordings.csv opens in any spreadsheet; it is UTF-8, with commas between the cells. To keep leading zeros of phone
numbers, import it with all columns as text. So that no cell can be taken for a formula, an apostrophe (') stands in front
of a cell that begins with = + - @ or an apostrophe, and of such a letter after ; , | or a quotation mark inside of a cell.
It does not belong to the text: +49301234 is written '+49301234. Line ends and invisible letters are written as \\u and four
hexadecimal digits, a backslash as two. A cell of over 8,000 letters is cut and ends with [cut]. The files under
data/metadata/ have every text as it was.

A recording that changed in the telephone system after it had been archived has a line for each version. The columns:
"""
_LISTENING = """\
The files under data/media/ are ordinary audio files, most of them MP3: a double click, a browser or any player (VLC for
one) plays them. The column path of the table says which file belongs to which call. Don't save them anew with an audio
editor, and don't edit their tags: work on copies.
"""
_CHECKING = """\
Nothing in here needs the program that made it. On Linux or macOS, in the folder with this bag:

    sha256sum --quiet -c manifest-sha256.txt          (macOS: shasum -a 256 -c manifest-sha256.txt)

says nothing when every file is as it was handed out, and names each that is not. The same, and that no file was added, says
the Library of Congress's tool (Python; `pip install bagit`):

    bagit.py --validate .

On Windows, `certutil -hashfile FILE SHA256` shows the digest of one file, to be compared with its line in
manifest-sha256.txt.
"""
_TRAIL = """\
Whoever keeps the archive has noted this export in the audit trail (`exported`), with the SHA-256 of this bag's
manifest-sha256.txt: `sha256sum manifest-sha256.txt` shows it. That record was written after this bag was closed, so it is
not among the lines in data/audit.jsonl.

Each line of the trail holds the SHA-256 of the line before it ("previous"), so that none can be changed, added or removed
unseen. The lines in data/audit.jsonl are some of them; that they are in the whole trail, unchanged, can be checked where
the archive is:

    archiver audit check                                  (the whole trail is whole)
    grep -vxFf .archiver/audit.jsonl data/audit.jsonl     (shows nothing: each line is in it)
"""


@dataclass(frozen=True, slots=True)
class Asked:
    """What an export was asked for, by whom and when, for those who read the bag."""

    case: str
    reference: str
    by: str
    who: str
    at: datetime
    conditions: Conditions
    named: Sequence[str] = ()
    timezone: tzinfo = UTC


def write_letter(
    payload: Payload, asked: Asked, gathered: Gathered, handed: Sequence[Handed], cdrs: Found, not_found: Sequence[str]
) -> None:
    """Write it; blocking.

    Raises:
        StoreDenied, StoreFull, StoreUnavailable.
    """
    with payload.writing(LETTER) as file:
        for paragraph in _paragraphs(asked, gathered, handed, cdrs, not_found):
            file.write(paragraph.encode("utf-8", "backslashreplace") + b"\n")


def _paragraphs(
    asked: Asked, gathered: Gathered, handed: Sequence[Handed], cdrs: Found, not_found: Sequence[str]
) -> Iterator[str]:
    media = [each for each in handed if each.path]
    size_bytes = sum(each.version.fixity.size_bytes for each in media if each.version is not None)
    yield _headed(f"Call recordings: {asked.case}", "=")
    yield "\n".join(_facts(asked))
    yield _flowing(
        f"Recordings selected: {len(gathered.chosen):,}. In this bag: audio files: {len(media):,} ({size_bytes:,} bytes), "
        f"call records: {cdrs.rows:,}."
    )
    yield _headed("What is not in here", "-")
    yield "\n".join(_absent(gathered, handed, cdrs, not_found))
    yield _headed("What is in here", "-")
    yield _CONTENTS
    yield _headed("Listening", "-")
    yield _flowing(_LISTENING)
    yield _headed("Checking that nothing was changed", "-")
    yield _flowing(_CHECKING)
    yield _headed("The table", "-")
    yield _flowing(_TABLE)
    yield "\n".join(_columns())
    yield _headed("The audit trail", "-")
    yield _flowing(_TRAIL)


def _facts(asked: Asked) -> Iterator[str]:
    conditions, sought = asked.conditions, asked.conditions.sought
    yield f"Case:         {asked.case}"
    if asked.reference:
        yield f"Reference:    {asked.reference}"
    yield f"Exported by:  {asked.by} (signed in as {asked.who})"
    yield f"Exported at:  {asked.at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    yield f"Time zone:    {asked.timezone} (of the times that are called local, and of the folders' dates)"
    yield "Selected:     calls that fit all of these"
    if sought.period is not None:
        yield f"              - begun {_period(sought.period, asked.timezone)}"
    if sought.account_ids:
        yield f"              - of account {' or '.join(map(_shown, sought.account_ids))}"
    if conditions.parties:
        yield f"              - with {' or '.join(map(_shown, conditions.parties))} among the numbers, names and addresses"
    if conditions.call_ids:
        yield f"              - of one of {len(conditions.call_ids):,} calls by id"
    if sought.recording_ids:
        yield f"              - one of {len(sought.recording_ids):,} recordings by id"


def _absent(gathered: Gathered, handed: Sequence[Handed], cdrs: Found, not_found: Sequence[str]) -> Iterator[str]:
    waiting = Counter(each.known.status.value for each in handed if each.version is None)
    findings = [found for each in handed for found in each.findings] + cdrs.findings
    if not (waiting or gathered.undecided or not_found or findings or gathered.findings):
        yield "Nothing is missing: every recording that was selected is in this bag."
    for status, count in sorted(waiting.items()):
        yield _flowing(f"- Selected, but not archived: {count:,} {status} ({_MEANING[status]}). See the table.")
    if not_found:
        yield f"- {len(not_found):,} of the ids asked for belong to no selected recording:"
        yield from (f"    {_shown(each)}" for each in not_found)
    if gathered.undecided:
        yield _flowing(
            f"- Of {gathered.undecided:,} further recordings it can't be told whether they were meant: nothing in the "
            "archive says who took part in them (they have expired, or their metadata are not there or are damaged)."
        )
    if findings:
        yield _flowing(
            f"- {len(findings):,} objects are not what was archived, or are gone. They were left out on purpose:"
        )
        yield from map(_damage, findings)
    if gathered.findings:
        yield f"- {len(gathered.findings):,} files with metadata could not be used to select by:"
        yield from map(_damage, gathered.findings)
    if cdrs.rows == 0:
        yield "- The archive has no call records of these calls."


_MEANING = {
    "pending": "known, and still to be fetched",
    "missing": "the telephone system has none",
    "quarantined": "what came contradicts its description",
    "expired": "removed when its retention was over",
}


def _damage(found: Finding) -> str:
    return f"    {found.kind.value}: {found.key}"


def _columns() -> Iterator[str]:
    for name, meaning in COLUMNS.items():
        yield f"    {name:<16}{meaning}"
    yield ""


def _period(period: Window, timezone: tzinfo) -> str:
    start, end = period.start_at.astimezone(timezone), period.end_at.astimezone(timezone)
    return f"from {start.isoformat(timespec='seconds')} until before {end.isoformat(timespec='seconds')}"


def _headed(text: str, line: str) -> str:
    return f"\n{text}\n{line * len(text)}\n"


def _flowing(text: str) -> str:
    """Paragraphs in lines that any window shows; what is indented stays as it is."""
    paragraphs = []
    for paragraph in text.strip("\n").split("\n\n"):
        if paragraph.startswith("    "):
            paragraphs.append(paragraph)
        else:
            paragraphs.append(textwrap.fill(paragraph, _WIDTH, break_long_words=False, break_on_hyphens=False))
    return "\n\n".join(paragraphs) + ("\n" if text.endswith("\n") else "")


def _shown(text: str) -> str:
    """A text on one line, without anything invisible."""
    return "".join(letter if letter.isprintable() else f"\\u{ord(letter):04x}" for letter in text[:200])
