"""A browser that tests may drive, and a page on it that shows a widget of a live kernel as notebooks do."""

from __future__ import annotations

import base64
import json
import os
import queue
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import start_new_kernel

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WAIT_S = 60.0  # on a machine that is busy

# What a notebook does for a widget: a model with the kernel's state, one change on its way at a time, the latest after that.
_NOTEBOOK = """
window.model = {
  state: {}, listeners: {}, waiting: null, busy: false,
  get(name) { return this.state[name]; },
  set(name, value) { this.state[name] = value; this.changed = {...this.changed, [name]: value}; },
  save_changes() { this.waiting = {...this.waiting, ...this.changed}; this.changed = {}; this.flush(); },
  flush() {
    if (this.busy || !this.waiting) return;
    this.busy = true;
    toKernel(JSON.stringify(this.waiting));
    this.waiting = null;
  },
  idle() { this.busy = false; this.flush(); },
  on(name, call) { (this.listeners[name] ||= []).push(call); },
  off(name, call) { this.listeners[name] = (this.listeners[name] || []).filter((one) => one !== call); },
  update(state) {
    Object.assign(this.state, state);
    for (const name of Object.keys(state)) for (const call of this.listeners[`change:${name}`] || []) call();
  },
};
window.begin = async (state) => {
  model.state = state;
  document.head.append(Object.assign(document.createElement("style"), {textContent: state._css}));
  const module = await import(URL.createObjectURL(new Blob([state._esm], {type: "text/javascript"})));
  await module.default.render({model, el: document.getElementById("output")});
};
"""
_PAGE = (
    "<!doctype html><html lang=en><title>page</title><meta name=viewport content='width=device-width'>"
    "<style>html{color-scheme:light dark}body{margin:0}</style><body><main id=output></main></body></html>"
)


def chromium() -> str:
    """Its program; a test that needs it is skipped without it."""
    found = next((path for name in _NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("there is no Chromium on this machine")
    return found


class Browser:
    """Chromium without a screen, driven through a pipe by the DevTools protocol."""

    def __init__(self, folder: Path) -> None:
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()
        options = "--headless=new --no-sandbox --disable-gpu --no-first-run --remote-debugging-pipe --hide-scrollbars"
        line = f"exec {chromium()} {options} --user-data-dir={folder} about:blank 3<&{to_read} 4>&{to_write}"
        self._process = subprocess.Popen(
            ["bash", "-c", line], pass_fds=(to_read, to_write), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(to_read)
        os.close(to_write)
        self._number = 0
        self._answers: dict[int, dict[str, Any]] = {}
        self._came = threading.Condition()
        self.on_event: Callable[[str, dict[str, Any]], None] = lambda _name, _given: None
        self._session: str | None = None
        threading.Thread(target=self._listen, daemon=True).start()
        page = next(one for one in self.call("Target.getTargets")["targetInfos"] if one["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session = attached["sessionId"]
        self.call("Page.enable")
        self.call("Runtime.enable")

    def _listen(self) -> None:
        kept = b""
        while piece := os.read(self._read, 1 << 20):
            *whole, kept = (kept + piece).split(b"\0")
            for one in whole:
                message = json.loads(one)
                if "id" in message:
                    with self._came:
                        self._answers[message["id"]] = message
                        self._came.notify_all()
                else:
                    self.on_event(message["method"], message["params"])

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """What the browser answers."""
        number = self.tell(method, **params)
        with self._came:
            assert self._came.wait_for(lambda: number in self._answers, WAIT_S), f"no answer to {method}"
            answer = self._answers.pop(number)
        assert "error" not in answer, (method, answer["error"])
        found: dict[str, Any] = answer["result"]
        return found

    def tell(self, method: str, **params: Any) -> int:
        """Say something without waiting for the answer."""
        with self._came:
            self._number += 1
            number = self._number
            said: dict[str, Any] = {"id": number, "method": method, "params": params}
            if self._session is not None:
                said["sessionId"] = self._session
            os.write(self._write, json.dumps(said).encode() + b"\0")
        return number

    def run(self, script: str) -> Any:
        """What a script comes to on the page."""
        found = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def until(self, script: str) -> Any:
        """What it comes to, once that is something."""
        end_s = time.monotonic() + WAIT_S
        while time.monotonic() < end_s:
            if found := self.run(script):
                return found
            time.sleep(0.02)
        raise AssertionError(f"never came to anything: {script}")

    def press(self, key: str, code: int) -> None:
        """A key, as somebody at the keyboard would."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def look(self, width: int, dark: bool, file: Path, height: int = 900) -> None:
        """A picture of the page at that width."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=scheme)
        time.sleep(0.3)
        taken = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(taken["data"]))

    def close(self) -> None:
        """End it."""
        try:
            self.call("Browser.close")
            self._process.wait(10)
        except (AssertionError, subprocess.TimeoutExpired, OSError):
            self._process.kill()
            self._process.wait()
        os.close(self._write)


class WidgetPage:
    """A page that shows the widget that a kernel's code comes to.

    What passes between them are the messages of the Jupyter protocol that a notebook would send.
    """

    def __init__(self, browser: Browser, code: str) -> None:
        self.browser = browser
        self.manager, self.client = start_new_kernel(startup_timeout=WAIT_S)
        self.client.execute(code)
        opened: dict[str, dict[str, Any]] = {}
        view = None
        while True:
            message = self.client.get_iopub_msg(timeout=WAIT_S)
            kind, content = message["msg_type"], message["content"]
            assert kind != "error", content
            if kind == "comm_open":
                opened[content["comm_id"]] = content["data"]["state"]
            if kind in ("execute_result", "display_data"):
                view = content["data"].get("application/vnd.jupyter.widget-view+json", view)
            if kind == "status" and content["execution_state"] == "idle" and view is not None:
                break
        assert isinstance(view, dict)
        self.comm = view["model_id"]
        browser.call("Runtime.addBinding", name="toKernel")
        frame = browser.call("Page.getFrameTree")["frameTree"]["frame"]["id"]
        browser.call("Page.setDocumentContent", frameId=frame, html=_PAGE)
        browser.run(_NOTEBOOK)
        self._moves: queue.Queue[str | None] = queue.Queue()
        browser.on_event = self._heard
        self._threads = [threading.Thread(target=one, daemon=True) for one in (self._send, self._hear)]
        self._open = True
        for one in self._threads:
            one.start()
        browser.run(f"begin({json.dumps(opened[self.comm])})")

    def _heard(self, name: str, given: dict[str, Any]) -> None:
        if name == "Runtime.bindingCalled":
            self._moves.put(given["payload"])

    def _send(self) -> None:
        while (payload := self._moves.get()) is not None:
            data = {"method": "update", "state": json.loads(payload), "buffer_paths": []}
            message = self.client.session.msg("comm_msg", {"comm_id": self.comm, "data": data})
            self.client.shell_channel.send(message)

    def _hear(self) -> None:
        while self._open:
            try:
                message = self.client.get_iopub_msg(timeout=0.5)
            except queue.Empty:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "comm_msg" and content["comm_id"] == self.comm and content["data"]["method"] == "update":
                state = json.dumps(content["data"]["state"])
                self.browser.tell("Runtime.evaluate", expression=f"model.update({state})")
            parent = message["parent_header"].get("msg_type")
            if kind == "status" and content["execution_state"] == "idle" and parent == "comm_msg":
                self.browser.tell("Runtime.evaluate", expression="model.idle()")

    def close(self) -> None:
        """End the kernel."""
        self._open = False
        self._moves.put(None)
        for one in self._threads:
            one.join()
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
