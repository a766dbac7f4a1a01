"""What every command has at hand: the options before it, a loop that signals stop, and how a result is said."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Collection, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click
import msgspec
import structlog

from archiver.cli.progress import Progress
from archiver.engine.loop import run_tuned
from archiver.errors import ExitCode
from archiver.logs import Redaction

T = TypeVar("T")

since = click.option("--since", metavar="T", help="ISO date or date-time, or an age such as 7d, 36h.")
until = click.option("--until", metavar="T", help="Likewise; the period ends before it. [default: now]")
accounts = click.option("--account", "account_ids", metavar="ID", multiple=True, help="Only this account; repeatable.")
scheduler = click.option(
    "--scheduler", metavar="ADDRESS", help="Work on the cluster of this Dask scheduler. [default: cluster.scheduler]"
)
as_json = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")


@dataclass
class Context:
    """What the options before the command said."""

    settings_file: Path | None
    quiet: bool
    redaction: Redaction
    stop_signals: list[int] = field(default_factory=list)

    @property
    def stopped_by(self) -> int | None:
        """The signal that ended the command's work early."""
        return next(iter(self.stop_signals), None)

    def settings(self, *, only: Collection[str] = (), flags: Mapping[str, object] | None = None) -> Any:
        """The settings, or some sections of them, with their secrets hidden from the log; `flags` by their dotted keys."""
        from archiver.monitoring.secrets_in_urls import passwords, secret_parts
        from archiver.settings import load

        found = load(self.settings_file, only=only, overrides=flags)
        self.redaction.hide([found.pbx.password.get_secret_value()])
        self.redaction.hide(passwords(found.ledger.url.get_secret_value()))
        for url in (found.monitoring.heartbeat_url, *found.monitoring.notify_urls):
            self.redaction.hide(secret_parts(url.get_secret_value()))
        return found

    def progress(self) -> contextlib.closing[Progress]:
        """A progress bar, where there is somebody to see it."""
        return contextlib.closing(Progress(quiet=self.quiet))

    def loop(self, work: Callable[[asyncio.Event], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine to its end; the first SIGINT, SIGTERM or SIGHUP sets its event, the second ends the process."""

        async def with_signals() -> T:
            stop = asyncio.Event()

            def on_signal(number: int) -> None:
                if self.stop_signals:
                    # Nothing partial has a final name, and the ledger is durable by itself: there is nothing to wait for.
                    os._exit(128 + self.stop_signals[0])
                self.stop_signals.append(signal.SIGTERM if number == signal.SIGHUP else number)
                structlog.get_logger().warning(
                    "stopping: work under way is finished first; a second signal ends at once"
                )
                stop.set()

            loop = asyncio.get_running_loop()
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                loop.add_signal_handler(number, on_signal, number)
            return await work(stop)

        return run_tuned(with_signals())

    def measured(
        self,
        settings: Any,
        command: str,
        work: Callable[[asyncio.Event, Any], Coroutine[Any, Any, T]],
        *,
        watcher: Progress | None = None,
        listen: bool = True,
    ) -> T:
        """As `loop`, with the metrics that the settings ask for; `work` gets the event and who watches."""
        if settings.monitoring.metrics_file is None and not settings.monitoring.metrics_listen:
            return self.loop(lambda stop: work(stop, watcher))
        from archiver.commands.measuring import measured

        warn = structlog.get_logger().warning
        return self.loop(
            lambda stop: measured(
                settings, command, lambda seen: work(stop, seen), warn=warn, watcher=watcher, listen=listen
            )
        )

    @property
    def code_of_signal(self) -> ExitCode | None:
        """After a signal the exit code is its own."""
        return None if self.stopped_by is None else ExitCode(128 + self.stopped_by)


def say(report: Any, to_words: Callable[[Any], str], as_json: bool) -> None:
    """A report on stdout, in words or as one JSON object."""
    tell(msgspec.json.encode(report).decode() if as_json else to_words(report))


def tell(text: str) -> None:
    """A result on stdout, all of it: an unbuffered stream (PYTHONUNBUFFERED) drops what a pipe does not take at once."""
    try:
        rest = memoryview(f"{text}\n".encode(sys.stdout.encoding or "utf-8", "backslashreplace"))
        while rest:
            rest = rest[sys.stdout.buffer.write(rest) or 0 :]
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has left; the exit code still tells how it went (click would make it 1).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def leave(code: ExitCode) -> NoReturn:
    """End the command with an exit code."""
    raise click.exceptions.Exit(code)
