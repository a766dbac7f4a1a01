"""What a notification says, in short plain words."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from archiver.errors import ExitCode
from archiver.monitoring.health import News
from archiver.monitoring.notifications import Message

_SHOWN = 5
_MEANING = {
    ExitCode.BUG: "a bug",
    ExitCode.USAGE: "wrong usage or settings",
    ExitCode.LEFT: "finished, but something is left",
    ExitCode.SIGN_IN_REFUSED: "the login was refused",
    ExitCode.DESTINATION: "the destination can't be used",
    ExitCode.IN_USE: "the archive is in use by another run",
    ExitCode.DAMAGE: "damage that is not repaired",
    ExitCode.PBX: "the PBX could not be reached or kept failing",
}
_ADVICE = {
    ExitCode.BUG: "keep the traceback from the log and report it; the next run goes on",
    ExitCode.USAGE: "correct what the message names; `archiver doctor` looks at everything",
    ExitCode.LEFT: "usually nothing, the next one takes up what is left; `archiver status` shows how much that is",
    ExitCode.SIGN_IN_REFUSED: "check user, domain and password, and that the user isn't locked at the PBX",
    ExitCode.DESTINATION: "look at the disk or the bucket: is it full, read-only, denied, or gone?",
    ExitCode.IN_USE: "let that run finish; if this comes often, start them further apart",
    ExitCode.DAMAGE: "delete nothing; look at the disk, then try `archiver verify --repair`",
    ExitCode.PBX: "check that the PBX is up, its certificate, and the network between",
}


@dataclass(frozen=True, slots=True)
class Ending:
    """How a command ended: what it counted, why not all is well (each reason with how often), or what ended it early."""

    command: str
    exit_code: ExitCode
    at: datetime
    run_id: str = ""
    counts: str = ""
    reasons: Sequence[tuple[str, int]] = ()
    error: str = ""


def message_of(
    ending: Ending, news: News, bad_since: datetime | None, *, host: str, place: str, clean: Callable[[str], str]
) -> Message:
    """The words for an ending; `clean` takes out of each line what must not be shown."""
    good = news is News.RECOVERED
    title = f"archiver {ending.command} on {host}: {'well again' if good else f'exit code {int(ending.exit_code)}'}"
    lines = _recovered(ending, bad_since) if good else _failed(ending, bad_since)
    return Message(title, "\n".join(clean(line) for line in [f"Archive: {place} on {host}", *lines]), good)


def _recovered(ending: Ending, bad_since: datetime | None) -> Iterator[str]:
    before = f", after it had been bad since {_stamp(bad_since)}" if bad_since is not None else ""
    yield f"Outcome: all well at {_stamp(ending.at)}{before}"
    yield from _counted(ending)


def _failed(ending: Ending, bad_since: datetime | None) -> Iterator[str]:
    yield f"Outcome: {_MEANING[ending.exit_code]} (exit code {int(ending.exit_code)}) at {_stamp(ending.at)}"
    if bad_since is not None and bad_since < ending.at:
        yield f"Bad since: {_stamp(bad_since)}"
    yield from _counted(ending)
    yield from (f"Error: {line}" for line in ending.error.splitlines()[:_SHOWN])
    for reason, count in ending.reasons[:_SHOWN]:
        yield f"- {reason}{f' ({count:,} times)' if count > 1 else ''}"
    if len(ending.reasons) > _SHOWN:
        yield f"- and {len(ending.reasons) - _SHOWN:,} more reasons"
    yield f"What to do: {_ADVICE[ending.exit_code]}"


def _counted(ending: Ending) -> Iterator[str]:
    if ending.counts:
        yield f"Counts: {ending.counts}"
    if ending.run_id:
        yield f"Report: .archiver/reports/{ending.run_id}.json"


def _stamp(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
