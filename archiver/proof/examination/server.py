"""How the PBX behaves towards whoever asks: parameters, accounts, refusals, token, limits of requests, speed."""

from statistics import median

from archiver.errors import RequestRefused, WrongAccount
from archiver.pbx.probe import Question
from archiver.proof.examination.behaviours import Behaviour, Name, untold
from archiver.proof.examination.fetching import Fetched
from archiver.proof.examination.scene import Scene

_NOBODY = "0" * 32
_MOST_ACCOUNTS = 9
_SHORT_TOKEN_S = 60
_BODIES = {"text": "plain text", "json": "JSON", "html": "HTML", "empty": "nothing"}
_FORBIDDEN, _NOT_FOUND = 403, 404


async def wrong_parameters(scene: Scene) -> Behaviour:
    """What a parameter does that nobody knows."""
    page = await scene.ask(scene.tiny, odd_parameter=True)
    if page.refusal is not None:
        return Behaviour(Name.WRONG_PARAMETERS, "refuse", f"an unknown parameter is refused: {page.refusal}")
    return Behaviour(Name.WRONG_PARAMETERS, "ignore", "an unknown parameter is passed over")


async def unknown_account(scene: Scene) -> Behaviour:
    """What a listing of an account gets that is none of ours."""
    name = Name.UNKNOWN_ACCOUNT
    if _NOBODY in scene.expected.account_ids:
        return untold(name, "pbx.account_ids names the account that would have been asked for")
    try:
        page = await scene.probe.recordings(Question(_NOBODY, scene.tiny, scene.sample.unit, 1))
    except WrongAccount:
        found = "recordings of other accounts are listed for an account that does not exist"
        return Behaviour(name, "others", found, "weak", "ask whoever runs the PBX what this user may read")
    if page.refusal is None:
        found = "an account that does not exist looks like one without calls"
        advice = "see that every id in pbx.account_ids is right: a wrong one would stay unnoticed"
        return Behaviour(name, "empty", found, "weak", advice)
    status = page.refusal.http_status if isinstance(page.refusal, RequestRefused) else 0
    word = {_FORBIDDEN: "forbidden", _NOT_FOUND: "not_found"}.get(status, f"http_{status}")
    return Behaviour(name, word, f"an account that is none of ours is refused: {page.refusal}")


async def other_accounts(scene: Scene) -> Behaviour:
    """Whether the other accounts of the settings may be listed; the first one was."""
    others = scene.expected.account_ids[1:_MOST_ACCOUNTS]
    for account_id in others:
        page = await scene.probe.recordings(Question(account_id, scene.tiny, scene.sample.unit, 1))
        if page.refusal is not None:
            found = f"the listing of account {account_id} is refused: {page.refusal}"
            advice = "take it out of pbx.account_ids, or let this user read it"
            return Behaviour(Name.OTHER_ACCOUNTS, "refused", found, "failed", advice)
    more = len(scene.expected.account_ids) - 1 - len(others)
    found = f"{len(others)} more of pbx.account_ids may be listed" if others else "there is only one account"
    return Behaviour(Name.OTHER_ACCOUNTS, "listed", found + (f"; {more} were not asked for" if more else ""))


async def error_bodies(scene: Scene) -> Behaviour:
    """What refusals carry, of those that were met."""
    met = scene.probe.signs.error_bodies
    if not met:
        return untold(Name.ERROR_BODIES, "nothing was refused")
    return Behaviour(
        Name.ERROR_BODIES, " and ".join(met), f"refusals carry {' or '.join(_BODIES[form] for form in met)}"
    )


async def token_lifetime(scene: Scene) -> Behaviour:
    """How long the token lives by its own word."""
    lived_s = scene.probe.token_lifetime_s
    if lived_s is None:
        return untold(Name.TOKEN_LIFETIME, "the token is no JWT with an end")
    found = f"the token lives for {lived_s:,.0f} s"
    if lived_s < _SHORT_TOKEN_S:
        advice = "have it made longer at the PBX: every new sign-in is one request more"
        return Behaviour(Name.TOKEN_LIFETIME, f"{lived_s:.0f} s", found, "weak", advice)
    return Behaviour(Name.TOKEN_LIFETIME, f"{lived_s:.0f} s", found)


async def rate_limit(scene: Scene) -> Behaviour:
    """Signs of a limit of requests; none is provoked."""
    signs, limit = scene.probe.signs, scene.expected.requests_per_s
    headers = f"; headers about it: {', '.join(signs.rate_headers)}" if signs.rate_headers else ""
    if signs.too_many:
        when = "with Retry-After" if signs.retry_after else "without Retry-After"
        found = f"{signs.too_many} of {signs.requests} requests got 429 (too many), {when}{headers}"
        advice = f"transfer.requests_per_s below {limit:g}" if limit else "transfer.requests_per_s = 10, or lower"
        return Behaviour(Name.RATE_LIMIT, "429" + (" Retry-After" if signs.retry_after else ""), found, "weak", advice)
    if headers:
        found = f"no request was refused{headers}"
        return Behaviour(Name.RATE_LIMIT, "headers", found)
    return untold(Name.RATE_LIMIT, f"none of {signs.requests} requests was refused, and it was not provoked")


async def speed(scene: Scene, fetched: Fetched) -> Behaviour:
    """How long pages and media took to begin, and how fast the recording came."""
    waits_s = scene.probe.signs.waits_s
    if not waits_s:
        return untold(Name.SPEED, "no page was asked for")
    middle_ms, longest_ms = median(waits_s) * 1000, max(waits_s) * 1000
    found = f"a page begins to come after {middle_ms:,.0f} ms, {longest_ms:,.0f} ms at most, of {len(waits_s)} pages"
    if fetched.framing is not None:
        found += f"; the recording after {fetched.waited_s * 1000:,.0f} ms, at {fetched.bytes_per_s / 1e6:.3f} MB/s"
    return Behaviour(Name.SPEED, f"{middle_ms:.0f} ms", found)
