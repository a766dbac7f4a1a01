"""`doctor`: examines settings, store, ledger, cluster and PBX in turn; what one lacks does not keep the others back.

Synchronous but for cluster and PBX, so that Ctrl-C ends it at once: it holds nothing that would have to be finished.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from archiver.assembly import access, utc_now
from archiver.check import Check, failed, guarded
from archiver.commands.cluster_checks import cluster_checks
from archiver.commands.crew import check_cluster
from archiver.commands.pbx_profile import profile_checks
from archiver.commands.watching import check_watch
from archiver.destination import COMPLIANCE_FLAG, accept_compliance, access_of, attributes_of
from archiver.errors import LedgerError, SettingsError, StoreError
from archiver.ledger import ledger_doctor
from archiver.ledger.places import words_for
from archiver.monitoring.secrets_in_urls import secret_parts
from archiver.pbx.base import Access
from archiver.pbx.probing import SessionProbe
from archiver.pbx.session import PbxSession
from archiver.proof.examination import pbx as pbx_examiner
from archiver.proof.examination.pbx import PbxFindings
from archiver.proof.examination.scene import Expected
from archiver.reports.doctor import DoctorReport, Examined, doctor_report
from archiver.settings import Settings, load
from archiver.stores import local_doctor
from archiver.window import Window, listing_windows

_STORE_SECTIONS = ("archive", "store", "ledger")
_MOST_RETRIES = 1
"""A person waits: a fault that passes within a run's patience is worth being seen here."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What could be read of the settings: all, only what the store needs (`pbx` is None then), or nothing."""

    checks: tuple[Check, ...]
    settings: Settings | None = None
    pbx: Access | None = None


def examine(
    settings_file: Path | None,
    *,
    hide: Callable[[Iterable[str]], None],
    write_profile: bool = False,
    now: Callable[[], datetime] = utc_now,
) -> DoctorReport:
    """Look at everything that a run needs, and say what to mend. `hide` is told the secrets before they are used.

    Makes what a run would make at the destination, and archives nothing. With `write_profile` what was learnt of the
    PBX is saved there.
    """
    known = _read(settings_file)
    settings = known.settings
    if settings is None:
        why = "the settings can't be read"
        others = [Examined(name, not_examined=why) for name in ("store", "ledger", "pbx")]
        return doctor_report([Examined("settings", checks=known.checks), *others])
    hide([settings.pbx.password.get_secret_value(), known.pbx.password.text if known.pbx else ""])
    for url in (settings.monitoring.heartbeat_url, *settings.monitoring.notify_urls):
        hide(secret_parts(url.get_secret_value()))
    store = tuple(_destination(settings, now))
    return doctor_report(
        [
            Examined("settings", settings.source_file, known.checks),
            *store,
            _ledger(settings, store[-1]),
            *_cluster(settings, known.checks, store),
            _pbx(settings, known.pbx, now, write_profile=write_profile),
        ]
    )


def _read(settings_file: Path | None) -> _Known:
    """The settings; what is wrong outside of the store's sections still leaves the store to be examined."""
    try:
        settings = load(settings_file)
    except SettingsError as error:
        wrong = tuple(Check("values", "failed", line) for line in str(error).splitlines())
        try:
            return _Known(wrong, load(settings_file, only=_STORE_SECTIONS))
        except SettingsError:
            return _Known(wrong)
    checks = [Check("values", "ok", f"{settings.source_file} and the environment hold no mistake")]
    try:
        check_cluster(settings)
    except SettingsError as error:
        checks.append(failed("cluster", error))
    if settings.monitoring.notify_urls:
        checks.append(guarded("notifications", lambda: _notifications(settings)))
    if not settings.archive.durable:
        said = "archive.durable is false: a power loss may take what counts as archived"
        checks.append(Check("durable", "weak", said, "set it to true, unless this archive is a trial"))
    try:
        pbx = access(settings)
    except SettingsError as error:
        return _Known((*checks, failed("pbx", error)), settings)
    count = len(settings.pbx.account_ids)
    said = f"{pbx.base_url}, {count} account{'s'[: count > 1]}; the password comes from {settings.password_source()}"
    return _Known((*checks, Check("pbx", "ok", said)), settings, pbx)


def _notifications(settings: Settings) -> Check:
    check_watch(settings)
    count = len(settings.monitoring.notify_urls)
    return Check("notifications", "ok", f"apprise knows {'the address' if count == 1 else f'all {count} addresses'}")


def _destination(settings: Settings, now: Callable[[], datetime]) -> Iterator[Examined]:
    """The store, and with S3 the local folder that ledger, lock and temporary files lie in; the folder is the last."""
    root, remote = settings.store.local.root, settings.archive.store == "s3"
    folder = local_doctor.examine(root, objects=not remote)
    if remote:
        s3 = settings.store.s3
        yield Examined("store", f"s3://{s3.bucket}", tuple(_bucket(settings, now)))
    yield Examined("folder" if remote else "store", str(root), folder)


def _bucket(settings: Settings, now: Callable[[], datetime]) -> Iterator[Check]:
    from archiver.stores import s3_doctor
    from archiver.stores.s3_connection import S3Connection

    try:
        attributes = attributes_of(settings.store.s3)
    except SettingsError as error:
        yield failed("settings", error)
        return
    try:
        accept_compliance(settings, accepted=False)
    except (SettingsError, StoreError):
        # What nobody accepted yet is not tried out either: GOVERNANCE needs the same of the bucket and can be undone.
        attributes = replace(attributes, lock=replace(attributes.lock, mode="GOVERNANCE"))
        said = "locks in COMPLIANCE mode were not accepted yet: they are tried out below in GOVERNANCE mode"
        yield Check("compliance", "weak", said, f"the first run asks for {COMPLIANCE_FLAG}")
    try:
        connection = S3Connection(replace(access_of(settings.store.s3, threads=1), attempts=1 + _MOST_RETRIES))
    except StoreError as error:
        yield failed("bucket", error)
        return
    try:
        yield from s3_doctor.examine(connection, attributes, now=now)
    finally:
        connection.close()


def _ledger(settings: Settings, folder: Examined) -> Examined:
    url = settings.ledger_url()
    if not settings.ledger.url.get_secret_value() and any(
        check.state == "failed" and check.name == "root" for check in folder.checks
    ):
        return Examined("ledger", not_examined=f"it lies in {folder.place}, which can't be used")
    checks = ledger_doctor.examine(url)
    try:
        place = words_for(url)
    except LedgerError:
        # Its address can't be read, which a check says; it may hold a password.
        place = "ledger.url"
    return Examined("ledger", place, checks)


def _cluster(settings: Settings, known: Iterable[Check], store: Iterable[Examined]) -> Iterator[Examined]:
    """Only where the settings name one."""
    address = settings.cluster.scheduler
    if any(check.name == "cluster" for check in known):
        yield Examined("cluster", address, not_examined="its settings are wrong, see above")
    elif address:
        works = not any(check.state == "failed" for part in store for check in part.checks)
        yield Examined("cluster", address, cluster_checks(settings, store_works=works))


def _pbx(settings: Settings, reach: Access | None, now: Callable[[], datetime], *, write_profile: bool) -> Examined:
    if reach is None:
        return Examined("pbx", settings.pbx.base_url, not_examined="its settings are wrong or not complete, see above")
    quick = replace(reach, max_retries=min(reach.max_retries, _MOST_RETRIES))

    expected = Expected(
        base_url=reach.base_url,
        account_ids=settings.pbx.account_ids,
        unit=settings.pbx.time_unit,
        page_size=reach.page_size,
        requests_per_s=reach.requests_per_s,
        window_hours=settings.listing.window_hours,
        longest_query=partial(_longest_query, settings),
    )
    at = now().replace(microsecond=0)

    async def look() -> PbxFindings:
        async with PbxSession(quick) as pbx:
            return await pbx_examiner.examine(pbx, SessionProbe(pbx, quick), expected, now=at)

    try:
        found = asyncio.run(look())
    except SettingsError as error:
        return Examined("pbx", reach.base_url, (failed("settings", error),))
    root, behaviours = settings.store.local.root, found.behaviours
    profile = profile_checks(root, reach.base_url, behaviours, write=write_profile, at=at)
    return Examined("pbx", reach.base_url, (*found.checks, *profile), behaviours=behaviours)


def _longest_query(settings: Settings, window_hours: int) -> timedelta:
    """The longest query that a run makes with such windows: the one that reaches back over a month's edge."""
    months = Window(datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 4, 1, tzinfo=UTC))
    windows = listing_windows(
        months,
        length=timedelta(hours=window_hours),
        overlap=timedelta(hours=settings.listing.overlap_hours),
        now=months.end_at + timedelta(days=31),
    )
    return max(window.query.length for window in windows)
