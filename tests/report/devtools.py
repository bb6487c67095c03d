"""A headless Chromium driven over a pipe by the DevTools protocol: messages are JSON, each ended by a zero byte."""

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --hide-scrollbars --mute-audio "
    "--remote-debugging-pipe"
)


def find_browser() -> str | None:
    """Return the first Chromium on the PATH."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One page of one browser; ``events`` holds what it has told, in order.

    Args:
        program: the browser.
        profile: an empty folder.
        limit: seconds to wait for an answer.
    """

    def __init__(self, program: str, profile: Path, limit: float = 60) -> None:
        self.limit, self.events, self.number, self.rest = limit, list[dict[str, Any]](), 0, b""
        there, self.out = os.pipe()
        self.back, here = os.pipe()
        command = f'exec "$0" {FLAGS} --user-data-dir="$1" 3<&{there} 4>&{here}'
        self.process = subprocess.Popen(
            ["bash", "-c", command, program, str(profile)],
            pass_fds=(there, here),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(there)
        os.close(here)
        target = self.call("Target.createTarget", session=None, url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", session=None, targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, session: str | None = "", **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session or self.session
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self.number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self.events.append(answer)

    def _receive(self) -> dict[str, Any]:
        end = time.monotonic() + self.limit
        while b"\0" not in self.rest:
            ready, _, _ = select.select([self.back], [], [], max(0.0, end - time.monotonic()))
            assert ready, "the browser does not answer"
            part = os.read(self.back, 1 << 16)
            assert part, "the browser is gone"
            self.rest += part
        message, _, self.rest = self.rest.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found

    def open(self, url: str, *, width: int = 1280, height: int = 900, scheme: str = "light") -> None:
        """Open a page in a window of a size, with a colour scheme, and wait until it has loaded."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call("Page.navigate", url=url)
        loaded = "new Promise(done => document.readyState === 'complete' ? done(1) : addEventListener('load', done))"
        self.run(f"{loaded}.then(() => new Promise(done => setTimeout(done, 200)))")

    def run(self, script: str) -> Any:
        """Evaluate an expression on the page as if a person had asked for it; wait for a promise."""
        found = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def screenshot(self, path: Path) -> Path:
        """Write a picture of the whole page."""
        found = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))
        return path

    def told(self, *methods: str) -> list[dict[str, Any]]:
        """Return the parameters of the events of some kinds."""
        return [event["params"] for event in self.events if event.get("method") in methods]

    def close(self) -> None:
        """End it."""
        os.close(self.out)
        os.close(self.back)
        self.process.terminate()
        self.process.wait(20)
