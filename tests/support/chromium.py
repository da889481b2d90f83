"""A real Chromium without a window, driven by the DevTools protocol over a pipe: no driver, no port, no library."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

__all__ = ["Tab", "browser", "needs_chromium"]

_PATH = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
needs_chromium = pytest.mark.skipif(_PATH is None, reason="no Chromium is installed")

# Chromium takes commands from descriptor 3 and answers on 4.
_WRAPPER = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(one), fcntl.F_DUPFD, 10) for one in sys.argv[1:3]]
for number, end in enumerate(ends, 3):
    os.dup2(end, number)
os.execv(sys.argv[3], sys.argv[3:])
"""
_KEYS = {
    "Tab": ("Tab", 9, ""),
    "Enter": ("Enter", 13, "\r"),
    "ArrowLeft": ("ArrowLeft", 37, ""),
    "Home": ("Home", 36, ""),
    "End": ("End", 35, ""),
    "/": ("Slash", 191, "/"),
}


class Tab:
    """One page."""

    def __init__(self, reader: asyncio.StreamReader, writer: int) -> None:
        self.faults: list[str] = []
        """What went wrong in it: exceptions, dialogues, what the content security policy has refused."""
        self._writer = writer
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._session: str | None = None
        self._loaded = asyncio.Event()
        self.reading = asyncio.ensure_future(self._read(reader))

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command's result."""
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        os.write(self._writer, json.dumps(message).encode() + b"\0")
        found: dict[str, Any] = await answer
        return found

    async def open(self) -> None:
        """Attach to a page of its own."""
        made = await self.call("Target.createTarget", url="about:blank")
        attached = await self.call("Target.attachToTarget", targetId=made["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            await self.call(f"{domain}.enable")

    async def show(self, url: str, width: int = 1600, *, dark: bool = False) -> None:
        """Go there, and wait until it is loaded."""
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=1000, deviceScaleFactor=1, mobile=False
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])
        await self.load(self.call("Page.navigate", url=url))

    async def load(self, doing: Any) -> None:
        """Do something that leads to another page, and wait until that is loaded."""
        self._loaded.clear()
        await doing
        await self._loaded.wait()

    async def value(self, expression: str) -> Any:
        """What a JavaScript expression is."""
        found = await self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def until(self, expression: str) -> Any:
        """Wait until a JavaScript expression is true."""
        while not (found := await self.value(expression)):
            await asyncio.sleep(0.05)
        return found

    async def press(self, key: str) -> None:
        """Press a key."""
        code, number, text = _KEYS[key]
        fields: dict[str, Any] = {"key": key, "code": code, "windowsVirtualKeyCode": number}
        await self.call("Input.dispatchKeyEvent", type="keyDown", **fields, **({"text": text} if text else {}))
        await self.call("Input.dispatchKeyEvent", type="keyUp", **fields)

    async def press_letter(self, letter: str) -> None:
        """Press the key of a small letter."""
        fields: dict[str, Any] = {"key": letter, "code": f"Key{letter.upper()}"}
        fields["windowsVirtualKeyCode"] = ord(letter.upper())
        await self.call("Input.dispatchKeyEvent", type="keyDown", text=letter, **fields)
        await self.call("Input.dispatchKeyEvent", type="keyUp", **fields)

    async def write(self, text: str) -> None:
        """Write into what has the focus."""
        await self.call("Input.insertText", text=text)

    async def picture(self, path: Path) -> bytes:
        """A PNG of what is seen."""
        data = base64.b64decode((await self.call("Page.captureScreenshot", format="png"))["data"])
        path.write_bytes(data)
        return data

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while True:
            try:
                text = await reader.readuntil(b"\0")
            except asyncio.IncompleteReadError:
                break
            message = json.loads(text[:-1])
            if (waiting := self._waiting.pop(message.get("id", 0), None)) is not None and not waiting.done():
                if "error" in message:
                    waiting.set_exception(RuntimeError(str(message["error"])))
                else:
                    waiting.set_result(message["result"])
            self._note(message.get("method"), message.get("params", {}))
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(EOFError("Chromium has ended"))

    def _note(self, method: str | None, parameters: dict[str, Any]) -> None:
        match method:
            case "Page.loadEventFired":
                self._loaded.set()
            case "Page.javascriptDialogOpening" | "Runtime.exceptionThrown":
                self.faults.append(json.dumps(parameters))
            case "Log.entryAdded" if parameters["entry"]["level"] == "error":
                self.faults.append(parameters["entry"]["text"])


@asynccontextmanager
async def browser(folder: Path) -> AsyncIterator[Tab]:
    """A Chromium with a profile in ``folder``."""
    assert _PATH is not None
    commands, writer = os.pipe()
    answers, theirs = os.pipe()
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]
    flags += ("--no-first-run", "--disable-background-networking", "--remote-debugging-pipe")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _WRAPPER, str(commands), str(theirs), _PATH, *flags, f"--user-data-dir={folder}"),
        pass_fds=(commands, theirs),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(commands)
    os.close(theirs)
    reader = asyncio.StreamReader(limit=64 << 20)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(answers, "rb", 0)
    )
    tab = Tab(reader, writer)
    try:
        await tab.open()
        yield tab
    finally:
        # It ends, with its children, when its pipe does.
        os.close(writer)
        try:
            async with asyncio.timeout(10):
                await process.wait()
        except TimeoutError:
            os.killpg(process.pid, 9)
            await process.wait()
        tab.reading.cancel()
        await asyncio.gather(tab.reading, return_exceptions=True)
        transport.close()
