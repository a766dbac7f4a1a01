"""Made-up recordings of 200 accounts over two years, the same each time, and their way into a ledger by COPY."""

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import psycopg

from archiver.recording import Recording
from archiver.window import Window

ACCOUNTS = 200
DAYS = 730
BEGIN = datetime(2024, 1, 1, tzinfo=UTC)
_BEGIN_S = int(BEGIN.timestamp())
_DAY_S = 86_400
_PENDING_EVERY = 100
_CHUNK = 5_000
METADATA = b'{"name":"' + b"x" * 880 + b'"}'
"""As long as the vendor's."""

_ENTRIES = (
    "COPY entries (entry_id, account_no, recording_id, status, run_no, listed_at, start_at, saved_at, duration_ms, "
    "length_bytes, extension, key, size_bytes, sha256, sidecar_sha256, archived_ms, archived_run_no, attempts, "
    "next_attempt_at, reason, manifest_part) FROM STDIN"
)
_NONE = r"\N"


@dataclass(frozen=True)
class Made:
    """So many recordings; `number` counts them by day, and within a day by account."""

    rows: int

    def of_day(self, day: int) -> range:
        return range(day * self.rows // DAYS, (day + 1) * self.rows // DAYS)

    def of_account(self, account: int, first_day: int) -> Iterator[int]:
        """An account's recordings in the order of their calls, from a day on."""
        for day in range(first_day, DAYS):
            numbers = self.of_day(day)
            # Every account has its turn at the day's beginning, so that each has some however few there are.
            turn = (account - day) % ACCOUNTS
            begin, end = (-(-len(numbers) * each // ACCOUNTS) for each in (turn, turn + 1))
            yield from numbers[begin:end]

    def place(self, number: int, day: int) -> tuple[int, int]:
        """The account, and the second at which the call began."""
        numbers = self.of_day(day)
        at = number - numbers.start
        return (at * ACCOUNTS // len(numbers) + day) % ACCOUNTS, _BEGIN_S + _DAY_S * day + at * _DAY_S // len(numbers)


def account_id(account: int) -> str:
    return hashlib.blake2b(b"account %d" % account, digest_size=16).hexdigest()


def window_of(day: int) -> Window:
    return Window(BEGIN + timedelta(days=day), BEGIN + timedelta(days=day + 1))


def listed(made: Made, account: int, number: int) -> Recording:
    """A recording that the ledger holds, as the PBX lists it again."""
    day = number * DAYS // made.rows
    while number >= made.of_day(day).stop:
        day += 1
    whose, at = made.place(number, day)
    if whose != account:
        raise RuntimeError("the recording is another account's")
    return _recording(account, _id_of(number, at), at, 6_000 + number % 600_000)


def fresh(account: int, number: int) -> Recording:
    """A recording that no ledger holds yet; each number is another one."""
    at = _BEGIN_S + _DAY_S * DAYS + number % _DAY_S
    return _recording(account, _id_of(10**12 + number, at), at, 60_000)


def _recording(account: int, recording_id: str, at: int, duration_ms: int) -> Recording:
    started = datetime.fromtimestamp(at, UTC)
    return Recording(
        account_id=account_id(account),
        recording_id=recording_id,
        start_at=started,
        saved_at=started + timedelta(seconds=duration_ms // 1000 + 2),
        duration_ms=duration_ms,
        length_bytes=duration_ms * 4,
        digest_md5=None,
        extension="mp3",
        metadata=METADATA,
    )


def _digest(number: int) -> bytes:
    return hashlib.blake2b(b"%d" % number).digest()


def _id_of(number: int, at: int) -> str:
    return f"{time.strftime('%Y%m', time.gmtime(at))}-{_digest(number)[16:32].hex()}"


def is_pending(number: int) -> bool:
    return number % _PENDING_EVERY == 7


def load(url: str, made: Made) -> float:
    """Fill an empty ledger; how long the entries took, in seconds."""
    with psycopg.connect(url) as connection:
        _load_around(connection, made)
        begun_s = time.monotonic()
        with connection.cursor() as cursor, cursor.copy(_ENTRIES) as copy:
            chunk: list[str] = []
            for line in _lines(made):
                chunk.append(line)
                if len(chunk) == _CHUNK:
                    copy.write("".join(chunk))
                    chunk.clear()
            copy.write("".join(chunk))
        connection.commit()
        took_s = time.monotonic() - begun_s
        connection.execute(
            "INSERT INTO listed_metadata SELECT entry_id, %s FROM entries WHERE status = 'pending'", [METADATA]
        )
        connection.execute(
            "INSERT INTO tallies SELECT account_no, status, count(*), sum(coalesce(size_bytes, length_bytes)) "
            "FROM entries GROUP BY account_no, status"
        )
        connection.execute("SELECT setval(pg_get_serial_sequence('entries', 'entry_id'), %s)", [made.rows])
        connection.commit()
    return took_s


def _load_around(connection: "psycopg.Connection[tuple[object, ...]]", made: Made) -> None:
    with connection.cursor() as cursor:
        with cursor.copy("COPY accounts (account_no, account_id) FROM STDIN") as copy:
            for account in range(ACCOUNTS):
                copy.write_row((account + 1, account_id(account)))
        with cursor.copy("COPY runs (run_no, run_id, started_ms, ended_ms, outcome, report) FROM STDIN") as copy:
            for day in range(DAYS):
                at = (_BEGIN_S + _DAY_S * (day + 1)) * 1000
                copy.write_row(
                    (day + 1, f"night-{day}", at, at + 600_000, "complete", b'{"made":' + b"1" * 2000 + b"}")
                )
        columns = "account_no, start_at, end_at, state, scanned_at, pages, rows, run_no"
        with cursor.copy(f"COPY calendar ({columns}) FROM STDIN") as copy:
            for day in range(DAYS):
                start = _BEGIN_S + _DAY_S * day
                rows = len(made.of_day(day)) // ACCOUNTS
                for account in range(ACCOUNTS):
                    copy.write_row(
                        (account + 1, start, start + _DAY_S, "complete", start + 5 * _DAY_S, 1, rows, day + 1)
                    )
        for name, column, count in (("accounts", "account_no", ACCOUNTS), ("runs", "run_no", DAYS)):
            cursor.execute("SELECT setval(pg_get_serial_sequence(%s, %s), %s)", [name, column, count])


def _lines(made: Made) -> Iterator[str]:
    """Rows as COPY's text has them."""
    ids = [account_id(account) for account in range(ACCOUNTS)]
    for day in range(DAYS):
        date = BEGIN + timedelta(days=day)
        month, folder, run_no = f"{date:%Y%m}", f"{date:%Y/%m/%d}", day + 1
        night_s = _BEGIN_S + _DAY_S * (day + 1)
        for number in made.of_day(day):
            account, at = made.place(number, day)
            digest = _digest(number)
            recording_id = f"{month}-{digest[16:32].hex()}"
            duration_ms = 6_000 + number % 600_000
            size = duration_ms * 4
            begun = (
                f"{number + 1}\t{account + 1}\t{recording_id}\t%s\t{run_no}\t{night_s}\t{at}\t"
                f"{at + duration_ms // 1000 + 2}\t{duration_ms}\t{size}\tmp3\t"
            )
            if is_pending(number):
                nothing = "\t".join([_NONE] * 5)
                yield f"{begun % 'pending'}\t{nothing}\t1\t{night_s + 900}\tnot_yet\t{_NONE}\n"
                continue
            key = f"{ids[account]}/{folder}/{recording_id}.mp3"
            fixity = f"\\\\x{digest[:32].hex()}\t\\\\x{digest[32:].hex()}"
            yield f"{begun % 'archived'}{key}\t{size}\t{fixity}\t{night_s}250\t{run_no}\t1\t{_NONE}\t\t1\n"
