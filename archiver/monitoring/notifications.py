"""Notifications through apprise, which is an optional extra; imported only where somebody wants to be notified.

Addresses hold tokens: no message here shows one, they are told apart by their number in the settings.
"""

import asyncio
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from archiver.errors import SettingsError
from archiver.monitoring.patience import Patience

if TYPE_CHECKING:
    from apprise import NotifyBase

_INSTALL = "monitoring.notify_urls needs apprise, which is not installed: pip install 'recording-archiver[notify]'"


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent: a subject, a few lines, and whether it is good news."""

    title: str
    body: str
    good: bool


def check_addresses(urls: Sequence[str]) -> None:
    """See, before hours of work, that somebody could be notified; nothing is sent.

    Raises:
        SettingsError: apprise is not installed, or doesn't know an address.
    """
    for number, url in enumerate(urls, 1):
        if _service(url) is None:
            raise SettingsError(
                f"monitoring.notify_urls: number {number} is no address that apprise understands; see "
                "https://appriseit.com/services/"
            )


async def notify(urls: Sequence[str], message: Message, patience: Patience) -> list[str]:
    """Send a message to every address at once; gives back what did not work, in words, one for each that failed.

    Each address has a thread that nobody waits for at the end: a service that hangs doesn't keep the process.
    """
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_sent_in_thread(url, message, patience)) for url in urls]
    found = [(number, task.result()) for number, task in enumerate(tasks, 1)]
    return [
        f"the notification could not be sent to monitoring.notify_urls, number {n}: {why}" for n, why in found if why
    ]


async def _sent_in_thread(url: str, message: Message, patience: Patience) -> str:
    loop = asyncio.get_running_loop()
    done: asyncio.Future[str] = loop.create_future()

    def settle(why: str) -> None:
        if not done.done():
            done.set_result(why)

    def work() -> None:
        try:
            why = _sent(url, message, patience)
        except SettingsError as error:
            why = str(error)
        except Exception as error:  # noqa: BLE001 - a hundred plugins of others; none may spoil how a command ends
            why = f"its plugin failed ({type(error).__name__})"
        try:
            loop.call_soon_threadsafe(settle, why)
        except RuntimeError:
            return  # nobody waits any more

    threading.Thread(target=work, name="notification", daemon=True).start()
    return await done


def _sent(url: str, message: Message, patience: Patience) -> str:
    """Why it could not be sent, or ''."""
    from apprise import NotifyFormat, NotifyType

    service = _service(url)
    if service is None:
        return "apprise does not understand the address"
    kind = NotifyType.SUCCESS if message.good else NotifyType.FAILURE
    for number in range(patience.tries):
        if number:
            time.sleep(patience.pause_s * 2 ** (number - 1))
        if service.notify(body=message.body, title=message.title, notify_type=kind, body_format=NotifyFormat.TEXT):
            return ""
    return "the service did not take it"


def _service(url: str) -> "NotifyBase | None":
    """Whoever delivers to an address; None when apprise doesn't understand it.

    Raises:
        SettingsError: apprise is not installed.
    """
    try:
        from apprise import Apprise, AppriseAsset
    except ImportError:
        raise SettingsError(_INSTALL) from None
    # No pictures from elsewhere, no redirects that would carry a token away.
    asset = AppriseAsset(
        app_id="recording archiver",
        app_desc="recording archiver",
        app_url="",
        image_url_mask="",
        image_url_logo="",
        image_path_mask="",
        http_redirects=False,
        async_mode=False,
    )
    found: Any = Apprise.instantiate(url, asset=asset)
    return found or None
