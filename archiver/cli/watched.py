"""A command that is watched: however it ends, its end passes here, and whoever should know is told."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
import msgspec
import structlog

from archiver.cli.context import Context
from archiver.errors import ArchiverError, ExitCode, SettingsError

if TYPE_CHECKING:
    # A command loads what it needs and nothing else.
    from archiver.commands.watching import Watch
    from archiver.settings import Settings

_FIRST_SIGNAL_CODE = 128
_SHORT_S = 5.0
"""Who asked us to end doesn't wait long."""


class Watched:
    """One command under watch; `settings` are there from the beginning."""

    def __init__(self, context: Context, settings: "Settings", watch: "Watch") -> None:
        self.settings = settings
        self._context = context
        self._watch = watch
        self._told: ExitCode | None = None

    def ended(self, code: ExitCode, report: Any) -> Any:
        """The command is over and will leave with this code. Gives the report back, with a note on what did not work.

        The report is kept first: what comes then may be cut short.
        """
        self._warn([problem] if (problem := self._watch.keep(report)) else [])
        problems = self._tell(code, report, "")
        if problems and hasattr(report, "notes"):
            report = msgspec.structs.replace(report, notes=[*report.notes, *map(_sentence, problems)])
            self._watch.keep(report)
        return report

    def broke_off(self, code: ExitCode, error: str) -> None:
        """The command ended without coming to its end."""
        self._tell(code, None, error)

    def _tell(self, code: ExitCode, report: Any, error: str) -> list[str]:
        """What could not be told, in words; after a signal nobody is told anything."""
        if code >= _FIRST_SIGNAL_CODE or code is self._told or not self._watch.has_to_tell(code):
            return []
        self._told = code
        limits = {"limit_s": _SHORT_S} if self._context.stopped_by is not None else {}
        try:
            problems = self._context.loop(lambda stop: self._watch.deliver(code, report, error, stop, **limits))
        except Exception:  # noqa: BLE001 - an archive run must not fail because nobody could be told of it
            structlog.get_logger().error("a bug in the archiver's monitoring; please report it", exc_info=True)
            return []
        self._warn(problems)
        return problems

    def _warn(self, problems: list[str]) -> None:
        for problem in problems:
            structlog.get_logger().warning(problem)


@contextmanager
def watched(
    context: Context,
    command: str,
    *,
    heartbeat: bool = False,
    notify: bool = False,
    flags: Mapping[str, object] | None = None,
) -> Iterator[Watched]:
    """Read the settings and watch what follows: a good end may send a heartbeat, any other than by a signal a notification.

    Raises:
        SettingsError: of the settings; whatever the command raises goes through.
    """
    from archiver.commands.watching import Watch, check_watch

    settings, check = _settings(context, flags)

    def clean(line: str) -> str:
        return str(context.redaction.clean(line))

    it = Watched(context, settings, Watch(settings, command, heartbeat, notify, clean))
    try:
        check()
        if notify:
            check_watch(settings)
        yield it
    except click.exceptions.Exit:
        raise
    except ArchiverError as error:
        it.broke_off(error.exit_code, str(error))
        raise
    except (click.Abort, click.ClickException, BrokenPipeError):
        raise
    except Exception as error:
        it.broke_off(ExitCode.BUG, f"{type(error).__name__}; the log has the traceback")
        raise


def _settings(context: Context, flags: Mapping[str, object] | None) -> tuple["Settings", Callable[[], None]]:
    """The settings, and what raises the error if they are wrong; then they are only those that tell whom to notify.

    Raises:
        SettingsError: not even those can be read.
    """
    try:
        return context.settings(flags=flags), lambda: None
    except SettingsError as error:
        wrong = error
    try:
        settings = context.settings(only=("archive", "store", "monitoring"))
    except SettingsError:
        raise wrong from None

    def complain() -> None:
        raise wrong

    return settings, complain


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
