"""Examines the PBX for `doctor`: what a run needs of it as checks, then how it behaves where its makers are silent.

A few dozen requests at most, through a run's own limits; no more than one recording is fetched, and nothing is kept.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Protocol

from archiver.check import Check, failed
from archiver.errors import BadSignInReply, PbxError, SignInRefused
from archiver.pbx.base import Pbx
from archiver.pbx.probe import Probe
from archiver.proof.examination import documents, limits, paging, server, times
from archiver.proof.examination.behaviours import Behaviour, Name
from archiver.proof.examination.fetching import Fetched, fetch_one
from archiver.proof.examination.media import media_behaviours
from archiver.proof.examination.sample import take_sample
from archiver.proof.examination.scene import Expected, Sample, Scene
from archiver.proof.examination.tls import tls_check

_ODD_SKEW_S = 60


class OpenPbx(Pbx, Protocol):
    """A PBX that can be signed in to without asking it for anything."""

    @property
    def skew_s(self) -> float | None:
        """How far this machine's clock is ahead of the PBX's; None before the sign-in, or when it does not tell."""
        ...

    async def sign_in(self) -> None:
        """Sign in now.

        Raises:
            PbxError.
        """
        ...


@dataclass(frozen=True, slots=True)
class PbxFindings:
    """What was found; no behaviours where the examination ended before them."""

    checks: tuple[Check, ...]
    behaviours: tuple[Behaviour, ...] = ()


async def examine(pbx: OpenPbx, probe: Probe, expected: Expected, *, now: datetime) -> PbxFindings:
    """TLS, sign-in, clocks, the listing, one recording, and the behaviours. Stops where the rest says nothing.

    Raises:
        SettingsError: a `pbx.ca_file` that is none.
    """
    before, signed_in = await _signed_in(pbx, probe, expected, now)
    if not signed_in:
        return PbxFindings(before)
    name, checks = "listing", list(before)
    try:
        sample = await take_sample(probe, expected, now=now)
        checks.append(_listing(sample, expected, now))
        if sample.page.refusal is not None:
            return PbxFindings(tuple(checks))
        fetched = await fetch_one(pbx, sample.page.recordings, probe.retries)
        checks.append(fetched.check)
        name = "behaviours"
        found = await _behaviours(Scene(probe, expected, sample, now), fetched)
    except PbxError as error:
        return PbxFindings((*checks, failed(name, error)))
    return PbxFindings(tuple(checks), tuple(sorted(found, key=lambda one: list(Name).index(one.name))))


async def _signed_in(pbx: OpenPbx, probe: Probe, expected: Expected, now: datetime) -> tuple[tuple[Check, ...], bool]:
    """TLS, sign-in and clocks, and whether we are signed in."""
    checks: list[Check] = []
    try:
        tls = await probe.tls()
        if tls is not None:
            checks.append(tls_check(tls, expected.base_url, now=now))
            if tls.problem:
                return tuple(checks), False
        await pbx.sign_in()
    except (SignInRefused, BadSignInReply) as error:
        return (*checks, _reached(expected), _clock(pbx), failed("sign_in", error)), False
    except PbxError as error:
        return (*checks, failed("reachable", error)), False
    checks += [_reached(expected), _clock(pbx), Check("sign_in", "ok", "the PBX takes the user and the password")]
    return tuple(checks), True


async def _behaviours(scene: Scene, fetched: Fetched) -> list[Behaviour]:
    """All of them; what the time filter goes by first, since others build on it."""
    unit = await scene.look(Name.TIME_UNIT, times.time_unit)
    field = await scene.look(Name.TIME_FIELD, times.time_field)
    end = await scene.look(Name.END_BOUND, partial(times.end_bound, field=field.seen))
    order = await scene.look(Name.ORDER, partial(paging.order, field=field.seen))
    found = [unit, field, end, order]
    inclusive, ways = end.seen == "inclusive", limits.Ways(field.seen, order.seen)
    looks: dict[Name, Callable[[Scene], Awaitable[Behaviour]]] = {
        Name.CURSOR: partial(paging.cursor, field=field.seen, end_inclusive=inclusive),
        Name.EMPTY_PAGE: times.empty_page,
        Name.DEFAULT_PAGE_SIZE: limits.default_page_size,
        Name.LONG_RANGE: partial(limits.long_range, ways=ways),
        Name.LONGEST_QUERY: partial(limits.longest_query, ways=ways),
        Name.MONTH_EDGES: partial(times.month_edges, field=field.seen),
        Name.WRONG_PARAMETERS: server.wrong_parameters,
        Name.NUMBERS: documents.numbers,
        Name.ATTACHMENTS: documents.attachments,
        Name.DIGEST: documents.digest,
        Name.OTHER_ACCOUNTS: server.other_accounts,
        Name.UNKNOWN_ACCOUNT: server.unknown_account,
    }
    found += [await scene.look(name, look) for name, look in looks.items()]
    found += await limits.page_behaviours(scene)
    found += await documents.cdr_behaviours(scene)
    found += await media_behaviours(scene, fetched)
    # What all the answers before show together.
    together: dict[Name, Callable[[Scene], Awaitable[Behaviour]]] = {
        Name.RECORDINGS_CURSOR: paging.recordings_cursor,
        Name.LAST_CURSOR: paging.last_cursor,
        Name.ERROR_BODIES: server.error_bodies,
        Name.TOKEN_LIFETIME: server.token_lifetime,
        Name.RATE_LIMIT: server.rate_limit,
        Name.SPEED: partial(server.speed, fetched=fetched),
    }
    return [*found, *[await look(scene) for look in together.values()]]


def _reached(expected: Expected) -> Check:
    by = (
        "TLS with a certificate that is trusted" if expected.base_url.startswith("https:") else "plain HTTP on loopback"
    )
    return Check("reachable", "ok", f"{expected.base_url} answers, {by}")


def _clock(pbx: OpenPbx) -> Check:
    if pbx.skew_s is None:
        return Check("clock", "weak", "the PBX does not tell its time")
    if abs(pbx.skew_s) > _ODD_SKEW_S:
        advice = "set both (NTP): what was just recorded may be listed a night late"
        return Check("clock", "weak", f"this machine's clock is {pbx.skew_s:+.0f} s off the PBX's", advice)
    return Check("clock", "ok", f"within {_ODD_SKEW_S} s of the PBX's")


def _listing(sample: Sample, expected: Expected, now: datetime) -> Check:
    page, account_id = sample.page, expected.account_ids[0]
    if page.refusal is not None:
        return failed("listing", page.refusal)
    if page.unreadable:
        said = f"{page.unreadable} rows of account {account_id} have no usable id: such windows stay incomplete"
        return Check("listing", "weak", said, "ask whoever runs the PBX")
    hours = (now - sample.window.start_at).total_seconds() / 3600
    if page.recordings:
        more = ", and there are more" if page.cursor is not None else ""
        said = f"account {account_id}: {len(page.recordings)} recordings on a page of the last {hours:g} hours{more}"
        return Check("listing", "ok", said)
    said = f"account {account_id}: the listing answers, without a recording in the last {hours / 24:g} days"
    return Check("listing", "weak", said, "check that pbx.account_ids names accounts whose calls are recorded")
