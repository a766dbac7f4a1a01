"""Logs to stderr: text or JSON, one line an event, without secrets, phone numbers or control characters."""

import re
import sys
from collections.abc import Callable, Iterable, MutableMapping
from typing import Any, TextIO

import structlog

_LEVELS = {"debug": 10, "info": 20, "warning": 30}
_NUMBER = re.compile(r"(?<![\w.-])\+?\d{7,15}(?![\w-])")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_IDENTIFIERS = frozenset({"account_id", "recording_id", "run_id", "key", "timestamp", "level"})
_LONGEST_TEXT = 500
# A traceback is the one thing with several lines; the margin keeps any of them from looking like an event.
_TRACEBACK_MARGIN = "  | "

Processor = Callable[[Any, str, MutableMapping[str, Any]], MutableMapping[str, Any]]


class Redaction:
    """The one processor that keeps secrets and numbers out, and makes one line of every value."""

    def __init__(self) -> None:
        self._secrets: set[str] = set()

    def hide(self, secrets: Iterable[str]) -> None:
        """From now on these texts never reach a log."""
        self._secrets.update(secret for secret in secrets if secret)

    def __call__(self, logger: Any, name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Redact an event's texts."""
        del logger, name
        clean = {key: self.clean(value, number=key not in _IDENTIFIERS) for key, value in event.items()}
        if isinstance(traceback := event.get("exception"), str):
            clean["exception"] = "\n".join(_TRACEBACK_MARGIN + self.clean(line) for line in traceback.split("\n"))
        return clean

    def clean(self, value: Any, *, number: bool = True) -> Any:
        """A value that is safe to print: texts without secrets, numbers and control characters."""
        if not isinstance(value, str):
            return value
        for secret in self._secrets:
            value = value.replace(secret, "[secret]")
        if number:
            value = _NUMBER.sub("[number]", value)
        value = _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), value)
        return value if len(value) <= _LONGEST_TEXT else value[:_LONGEST_TEXT] + "…"


def configure(*, level: str, log_format: str, write: Callable[[str], None]) -> Redaction:
    """Set the process's logging up; called once, by the command line. `write` takes a finished line."""
    redaction = Redaction()
    render: Any = (
        structlog.processors.JSONRenderer(ensure_ascii=True)
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(
            colors=False, pad_event_to=0, exception_formatter=structlog.dev.plain_traceback
        )
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            # Before the redaction, so that a traceback keeps secrets to itself as well.
            structlog.processors.format_exc_info,
            redaction,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=lambda *_: _LineLogger(write),
        cache_logger_on_first_use=False,
    )
    return redaction


class _LineLogger:
    """Hands finished lines over."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    def msg(self, line: str) -> None:
        self._write(line)

    debug = info = warning = error = critical = msg


def to_stream(stream: TextIO = sys.stderr) -> Callable[[str], None]:
    """Lines to a stream; one that is closed already is no reason to stop an archive run."""

    def write(line: str) -> None:
        try:
            stream.write(line + "\n")
            stream.flush()
        except (OSError, ValueError):
            return

    return write
