"""Debian's Chromium without a window, driven over its DevTools protocol; everything it says and asks for is kept."""

import asyncio
import base64
import itertools
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from s3_servers import MUST_RUN

DEADLINE_S = 60.0
_NO_MORE = "chromium is not installed: apt-get install chromium"


def binary() -> str:
    """The browser; the test is skipped where there is none, and fails where ARCHIVER_MUST_RUN names it."""
    found = shutil.which("chromium")
    if found is None:
        if "chromium" in MUST_RUN:
            pytest.fail(_NO_MORE)
        pytest.skip(_NO_MORE)
    return found


class Browser:
    """A page in the browser: what stood in its console, what it asked for, which dialogs opened."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._loaded = asyncio.Event()
        self.messages: list[str] = []
        self.requests: list[str] = []
        self.dialogs: list[str] = []

    async def listen(self) -> None:
        """Take in what the browser says, until it ends."""
        async for message in self._socket:
            said = json.loads(message.data)
            if "id" in said:
                self._answers.pop(said["id"]).set_result(said)
            else:
                self._event(said["method"], said["params"])

    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """One command of the protocol, and its result."""
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": params})
        said = await asyncio.wait_for(answer, DEADLINE_S)
        assert "error" not in said, said
        result = said["result"]
        assert isinstance(result, dict)
        return result

    async def open(self, file: Path) -> None:
        """Show a file, and wait until it has loaded."""
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.ask(f"{domain}.enable")
        self._loaded.clear()
        await self.ask("Page.navigate", url=file.as_uri())
        await asyncio.wait_for(self._loaded.wait(), DEADLINE_S)

    async def evaluate(self, expression: str) -> Any:
        """What an expression comes to in the page; the page's own policy does not bind the tester."""
        found = await self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def look(self, *, width: int, height: int = 900, scheme: str = "light") -> None:
        """Emulate a window's size and the colours that the user prefers."""
        await self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        await self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    async def screenshot(self, to: Path) -> bytes:
        """The whole page as a PNG, kept for people."""
        found = await self.ask("Page.captureScreenshot", captureBeyondViewport=True)
        return _kept(to, found["data"])

    async def printed(self, to: Path) -> bytes:
        """The page as a PDF, as it would be printed, kept for people."""
        found = await self.ask("Page.printToPDF", preferCSSPageSize=True, printBackground=False)
        return _kept(to, found["data"])

    def _event(self, method: str, params: dict[str, Any]) -> None:
        match method:
            case "Page.loadEventFired":
                self._loaded.set()
            case "Runtime.consoleAPICalled" | "Runtime.exceptionThrown" | "Log.entryAdded":
                self.messages.append(json.dumps(params))
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            case "Page.javascriptDialogOpening":
                self.dialogs.append(params["message"])


def _kept(to: Path, data: str) -> bytes:
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_bytes(base64.b64decode(data))
    return to.read_bytes()


@asynccontextmanager
async def browser(folder: Path) -> AsyncIterator[Browser]:
    """A browser with a profile of its own, which ends with the context."""
    command = [
        binary(),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--remote-debugging-port=0",
    ]
    command += [f"--user-data-dir={folder}", "--no-first-run", "--disable-dev-shm-usage", "about:blank"]
    process = _started(command)
    try:
        async with aiohttp.ClientSession() as session:
            socket = await session.ws_connect(await _address(session, folder, process), max_msg_size=0)
            shown = Browser(socket)
            listening = asyncio.create_task(shown.listen())
            try:
                yield shown
            finally:
                with suppress(AssertionError, TimeoutError, ConnectionError):
                    await shown.ask("Browser.close")
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)
                await socket.close()
    finally:
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()


def _started(command: list[str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


async def _address(session: aiohttp.ClientSession, folder: Path, process: "subprocess.Popen[bytes]") -> str:
    told = folder / "DevToolsActivePort"
    async with asyncio.timeout(DEADLINE_S):
        while not told.exists() or "\n" not in told.read_text():
            assert process.poll() is None, "the browser ended by itself"
            await asyncio.sleep(0.05)
        port = told.read_text().split()[0]
        async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
            pages = [page for page in await answer.json() if page["type"] == "page"]
    return str(pages[0]["webSocketDebuggerUrl"])
