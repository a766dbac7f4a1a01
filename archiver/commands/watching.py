"""What happens when a command has ended: its report is kept, the heartbeat called, and somebody notified."""

import asyncio
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import msgspec

from archiver.errors import ExitCode
from archiver.monitoring.health import Health, News, read_health, turned, untold, write_health
from archiver.monitoring.kept_reports import keep_report
from archiver.monitoring.messages import Ending, message_of
from archiver.monitoring.patience import Patience, unless_stopped
from archiver.settings import Settings

_LIMIT_S = 45.0
_GIVEN_UP = "heartbeat or notification given up: it took too long, or the process was asked to end"
_HEARTBEAT = Patience()
_NOTIFICATION = Patience(tries=2)
"""A service that was only slow must not tell it many times."""


def check_watch(settings: Settings) -> None:
    """See before the work begins that whoever is to be notified can be.

    Raises:
        SettingsError: the extra is not installed, or an address is none.
    """
    if urls := _notify_urls(settings):
        from archiver.monitoring.notifications import check_addresses

        check_addresses(urls)


@dataclass
class Watch:
    """Watches one command. `heartbeat` and `notify` say what its end may cause; `clean` makes a line fit to be shown.

    Nothing here raises for what does not work: it is told in words, and how the command ended stays as it is.
    """

    settings: Settings
    command: str
    heartbeat: bool
    notify: bool
    clean: Callable[[str], str]
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    _run_id: str = field(default="", init=False)

    def keep(self, report: Any) -> str:
        """Keep a report, again under the same name when it has changed; why that did not work, or ''."""
        kept = self.settings.monitoring.reports_kept
        self._run_id = self._run_id or self._id_of(report)
        root, durable = self.settings.store.local.root, self.settings.archive.durable
        try:
            keep_report(root, self._run_id, msgspec.json.encode(report), most=kept, durable=durable)
        except OSError as error:
            run_id, self._run_id = self._run_id, ""
            return f"the report could not be kept as .archiver/reports/{run_id}.json: {error.strerror or error}"
        return ""

    def has_to_tell(self, code: ExitCode) -> bool:
        """Whether an end with this code may be told to anybody."""
        monitoring = self.settings.monitoring
        beats = self.heartbeat and code is ExitCode.DONE and bool(monitoring.heartbeat_url.get_secret_value())
        return beats or (self.notify and bool(monitoring.notify_urls))

    async def deliver(
        self, code: ExitCode, report: Any, error: str, stop: asyncio.Event, *, limit_s: float = _LIMIT_S
    ) -> list[str]:
        """Tell the world how the command ended; what did not work, in words. `stop` and the limit end it early."""
        done = await unless_stopped(self._delivered(code, report, error), stop, limit_s=limit_s)
        return [_GIVEN_UP] if done is None else done

    async def _delivered(self, code: ExitCode, report: Any, error: str) -> list[str]:
        async with asyncio.TaskGroup() as group:
            beating = group.create_task(self._beat(code))
            telling = group.create_task(self._tell(code, report, error))
        return [*beating.result(), *telling.result()]

    async def _beat(self, code: ExitCode) -> list[str]:
        url = self.settings.monitoring.heartbeat_url.get_secret_value()
        if not (url and self.heartbeat and code is ExitCode.DONE):
            return []
        from archiver.monitoring.heartbeat import beat

        why = await beat(url, _HEARTBEAT)
        return [f"the heartbeat could not be delivered: {why}"] if why else []

    async def _tell(self, code: ExitCode, report: Any, error: str) -> list[str]:
        urls = _notify_urls(self.settings)
        if not (urls and self.notify):
            return []
        from archiver.monitoring.notifications import notify

        at = self.now().replace(microsecond=0)
        former, problems = await asyncio.to_thread(self._read)
        health, news = turned(former, code, at)
        if news is None:
            return problems
        since = former.bad_since if news is News.RECOVERED and former is not None else health.bad_since
        ending = await asyncio.to_thread(self._ending, code, at, report, error)
        message = message_of(
            ending, news, since, host=socket.gethostname(), place=_place(self.settings), clean=self.clean
        )
        # A failure is remembered even if nobody can be told of it, a recovery only when somebody was.
        if news is News.FAILED:
            problems += await asyncio.to_thread(self._remember, health)
        failed = await notify(urls, message, _NOTIFICATION)
        if news is News.RECOVERED:
            told = health if len(failed) < len(urls) else untold(former)
            problems += await asyncio.to_thread(self._remember, told)
        return [*problems, *failed]

    def _ending(self, code: ExitCode, at: datetime, report: Any, error: str) -> Ending:
        ending = Ending(self.command, code, at, run_id=self._run_id, error=error)
        if report is None:
            return ending
        from archiver.reports.summary import summary_of

        said = summary_of(report)
        return replace(ending, counts=said.counts, reasons=said.reasons, error=error or said.error)

    def _read(self) -> tuple[Health | None, list[str]]:
        try:
            return read_health(self.settings.store.local.root, self.command), []
        except OSError as error:
            return None, [f".archiver/monitoring can't be read: {error.strerror or error}"]

    def _remember(self, health: Health) -> list[str]:
        durable = self.settings.archive.durable
        try:
            write_health(self.settings.store.local.root, self.command, health, durable=durable)
        except OSError as error:
            return [f".archiver/monitoring can't be written: {error.strerror or error}"]
        return []

    def _id_of(self, report: Any) -> str:
        run_id = getattr(report, "run_id", None) or getattr(report, "repair_run_id", None)
        return run_id or f"{self.now():%Y%m%dT%H%M%SZ}-{self.command}-{secrets.token_hex(4)}"


def _notify_urls(settings: Settings) -> list[str]:
    return [url.get_secret_value() for url in settings.monitoring.notify_urls]


def _place(settings: Settings) -> str:
    root = str(settings.store.local.root)
    if settings.archive.store == "local":
        return root
    s3 = settings.store.s3
    return f"s3://{s3.bucket}{f'/{s3.prefix}' if s3.prefix else ''} (with {root})"
