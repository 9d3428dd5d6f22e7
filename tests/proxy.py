"""A plan behind `ttc-sim serve` in a process of its own, and an upstream in this one that answers as each test says."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import yaml

from .conftest import ROOT

KEY = "sk-of-the-deployment"
CALLERS = "sk-of-the-caller"
USAGE = {
    "prompt_tokens": 10,
    "completion_tokens": 30,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 20},
}
USD = (6 * 1.0 + 4 * 0.5 + 30 * 10.0) / 1e6  # of that, at the prices below

_API: dict[str, Any] = {
    "kind": "api",
    "price": {"input_usd_per_mtok": 1.0, "cached_input_usd_per_mtok": 0.5, "output_usd_per_mtok": 10.0},
    "first_token": {"median_s": 0.5},
    "per_token": {"median_s": 0.01},
}
_POOL: dict[str, Any] = {
    "kind": "gpu_pool",
    "replicas": 1,
    "usd_per_replica_hour": 3.6,
    "max_num_seqs": 8,
    "step_time": {"base_s": 0.012, "per_prefill_token_s": 6e-5, "per_sequence_s": 3e-4, "per_kv_token_s": 6e-8},
}
ONCE = {"retries": 0}
_SOON = {"base_s": 0.02, "max_s": 0.05}
# One source for each way to be asked, with an arm and a deployment of its own, all three of that name.
SOURCES: dict[str, dict[str, Any]] = {
    "plain": {"retry": ONCE},
    "patient": {"retry": {"retries": 2, **_SOON}, "timeout_s": 5},
    "timed": {"retry": ONCE, "timeout_s": 0.5},
    "backed": {"retry": ONCE, "timeout_s": 0.5, "fallback": "plain"},
    "each": {"retry": {"retries": 1, "on": ["timeout"], **_SOON}, "timeout_s": 0.5},
    "over": {"retry": ONCE, "deadline_s": 0.5, "fallback": "plain"},
    "waits": {"retry": {"retries": 1, **_SOON}, "deadline_s": 5, "fallback": "plain"},
    "free": {"retry": ONCE},
    "nobody": {"retry": {"retries": 1, **_SOON}, "fallback": "plain"},
    "voted": {"retry": ONCE, "timeout_s": 2, "strategy": "MajorityVote(n=3, cap=30)"},
    "staged": {"retry": ONCE, "strategy": "Cascade(stages=(Single(cap=20), 'plain'), judge='judge', tpr=0.9, fpr=0.1)"},
    "judge": {"retry": ONCE},
    "pooled": {"retry": {"retries": 1, **_SOON}},
    "nobody-else": {"retry": ONCE},
}
CAP = 50


def write_plan(folder: Path, names: tuple[str, ...] = tuple(SOURCES), **changes: Any) -> Path:
    """A plan for traffic without problems, whose every source has an arm of its own."""
    said = {name: SOURCES[name] for name in names}
    lengths = {"prompt_tokens": 100, "output_tokens": 50}
    scenario = {
        "name": "tried",
        "workload": {
            "arrivals": {"process": "poisson", "rate_per_s": 1.0},
            "requests": 20,
            "sources": {name: {"share": 1 / len(names), "lengths": lengths} for name in names},
        },
        "deployments": {
            name: {
                **(_POOL if name == "pooled" else _API),
                **{key: value for key, value in one.items() if key not in ("fallback", "strategy")},
            }
            for name, one in said.items()
        },
        "arms": {
            name: {
                "deployment": name,
                "strategy": one.get("strategy", "Single()" if name == "free" else f"Single(cap={CAP})"),
                **({"fallback": one["fallback"]} if "fallback" in one else {}),
            }
            for name, one in said.items()
        },
        "policy": {name: f"Always('{name}')" for name in names},
        **changes,
    }
    path = folder / "plan.yaml"
    raw = {"ttc_sim_plan": 3, "status": "met", "promised": {}, "made_from": "scenario.yaml", "scenario": scenario}
    path.write_text(yaml.safe_dump(raw))
    return path


def write_endpoints(folder: Path, port: int) -> Path:
    """All at one upstream, but for those that nobody answers for."""
    said: dict[str, Any] = {}
    for name in SOURCES:
        at = 9 if name.startswith("nobody") else port
        said[name] = {"url": f"http://127.0.0.1:{at}/{name}/v1", "model": f"model-of-{name}", "key_env": "TRIED_KEY"}
    said["voted"]["takes_n"] = False
    said["free"] |= {"limit_by": "max_completion_tokens", "body": {"reasoning_effort": "high"}}
    del said["free"]["key_env"]
    path = folder / "endpoints.yaml"
    path.write_text(yaml.safe_dump(said))
    return path


class Exchange:
    """One request as the upstream sees it, to be answered by a test's own function."""

    def __init__(self, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        self.handler, self.body = handler, body
        self.headers = dict(handler.headers.items())

    def start(self, kind: str = "text/event-stream", status: int = 200) -> None:
        self.handler.send_response(status)
        self.handler.send_header("Content-Type", kind)
        self.handler.send_header("Transfer-Encoding", "chunked")
        self.handler.end_headers()

    def raw(self, content: bytes) -> None:
        self.handler.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))
        self.handler.wfile.flush()

    def chunk(self, delta: dict[str, Any], reason: str | None = None, **more: Any) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        self.raw(b"data: " + json.dumps({"id": "c", "model": "served", "choices": [choice], **more}).encode() + b"\n\n")

    def end(self, usage: dict[str, Any] | None = USAGE, linger_s: float = 0) -> None:
        """The end of a stream, and so much later of the connection's part in it."""
        self.chunk({}, "stop")
        if usage is not None and (self.body.get("stream_options") or {}).get("include_usage"):
            self.raw(
                b"data: " + json.dumps({"id": "c", "model": "served", "choices": [], "usage": usage}).encode() + b"\n\n"
            )
        self.raw(b"data: [DONE]\n\n")
        time.sleep(linger_s)
        self.handler.wfile.write(b"0\r\n\r\n")

    def json(self, content: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        text = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.handler.send_response(status)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(text)),
            **(headers or {}),
        }.items():
            self.handler.send_header(name, value)
        self.handler.end_headers()
        self.handler.wfile.write(text)

    def cut(self) -> None:
        self.handler.connection.close()
        self.handler.close_connection = True

    def gone(self, within_s: float = 5.0) -> bool:
        """Whether whoever asked closes the connection."""
        self.handler.connection.settimeout(within_s)
        try:
            return not self.handler.connection.recv(1)
        except TimeoutError:
            return False
        except OSError:
            return True


Answer = Callable[[Exchange], None]


def plainly(exchange: Exchange) -> None:
    """As a well-behaved server does."""
    if not exchange.body.get("stream"):
        message = {"role": "assistant", "content": "it is 4", "reasoning_content": "2 and 2"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        exchange.json({"id": "c", "object": "chat.completion", "model": "served", "choices": [choice], "usage": USAGE})
        return
    exchange.start()
    exchange.chunk({"role": "assistant", "content": ""})
    for word in ("it ", "is ", "4"):
        exchange.chunk({"content": word})
    exchange.end()


def says(text: str) -> Answer:
    """An answer of that text."""

    def answer(exchange: Exchange) -> None:
        exchange.start()
        exchange.chunk({"role": "assistant", "content": text})
        exchange.end()

    return answer


class Upstream:
    """Answers each prompt as it was told to, the so-manieth time by the so-manieth function; the last goes on."""

    def __init__(self) -> None:
        self._answers: dict[str, list[Answer]] = {}
        self._lock = threading.Lock()
        self.seen: list[Exchange] = []
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, format: str, *args: object) -> None: ...

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                exchange = Exchange(self, body)
                with upstream._lock:
                    upstream.seen.append(exchange)
                    answers = upstream._answers.get(prompt_of(body), [plainly])
                    answer = answers.pop(0) if len(answers) > 1 else answers[0]
                try:
                    answer(exchange)
                except OSError:
                    self.close_connection = True

        class Many(ThreadingHTTPServer):
            request_queue_size = 256
            daemon_threads = True

        self._server = Many(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def told(self, prompt: str, *answers: Answer) -> None:
        with self._lock:
            self._answers[prompt] = list(answers)

    def asked(self, prompt: str) -> list[Exchange]:
        """Requests with that prompt, by arm the last part of their path."""
        with self._lock:
            return [one for one in self.seen if prompt_of(one.body) == prompt]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def prompt_of(body: dict[str, Any]) -> str:
    content = body["messages"][-1]["content"]
    return str(content if isinstance(content, str) else content[0]["text"])


class Served:
    """`ttc-sim serve` at work, and its log."""

    def __init__(self, plan: Path, endpoints: Path, log: Path, *words: str) -> None:
        self.log_file = log
        command = "from ttc_sim.cli import main; main()"
        given = ["serve", str(plan), "--endpoints", str(endpoints), "--port", "0", "--log", str(log), *words]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TRIED_KEY": KEY}
        self.process = subprocess.Popen(
            [sys.executable, "-c", command, *given],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert self.process.stdout is not None
        first = self.process.stdout.readline()
        found = re.search(r"http://\S+/v1", first)
        if found is None:
            raise AssertionError(first + self.process.communicate()[1])
        self.url = found[0]
        self.client = httpx2.Client(timeout=30, trust_env=False, limits=httpx2.Limits(max_connections=200))

    def post(self, prompt: str, source: str | None = "plain", **body: Any) -> httpx2.Response:
        headers = {} if source is None else {"x-ttc-source": source}
        return self.client.post(f"{self.url}/chat/completions", json=asking(prompt, **body), headers=headers)

    @contextmanager
    def stream(self, prompt: str, source: str = "plain", **body: Any) -> Iterator[httpx2.Response]:
        given = asking(prompt, stream=True, **body)
        headers = {"x-ttc-source": source, "authorization": f"Bearer {CALLERS}"}
        with self.client.stream("POST", f"{self.url}/chat/completions", json=given, headers=headers) as response:
            yield response

    def logged(self, request: str, kind: str = "outcome") -> dict[str, Any]:
        """The line of that kind about a request; an outcome may come a moment later than the answer."""
        until = time.monotonic() + 5
        while time.monotonic() < until:
            for text in self.log_file.read_text().splitlines():
                line: dict[str, Any] = json.loads(text)
                if line["request"] == request and f"ttc_sim_{kind}" in line:
                    return line
            time.sleep(0.01)
        raise AssertionError(f"no {kind} of {request}")

    def stop(self, by: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Its exit status, and what it said on stderr."""
        self.client.close()
        if self.process.poll() is None:
            self.process.send_signal(by)
        _, said = self.process.communicate(timeout=30)
        return self.process.returncode, said


def asking(prompt: str, **more: Any) -> dict[str, Any]:
    return {"model": "any", "messages": [{"role": "user", "content": prompt}], **more}


def events_of(text: str) -> list[Any]:
    """What the events of a stream say."""
    said = [line[6:] for line in text.split("\n\n") if line.startswith("data: ")]
    return [one if one == "[DONE]" else json.loads(one) for one in said]


def text_of(events: list[Any]) -> str:
    return "".join(
        choice["delta"].get("content") or "" for one in events if one != "[DONE]" for choice in one.get("choices", [])
    )
