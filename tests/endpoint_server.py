"""An endpoint of OpenAI's kind for tests: ``python endpoint_server.py FOLDER`` prints its port and answers as prompts say.

A prompt is a JSON object: ``say`` (the answer), ``think`` (words of reasoning), ``how`` it is sent, ``first`` (what goes wrong with
the first requests for it, one after the other). A word is a token. Every request is a line in ``FOLDER/asked.jsonl``, with the
tokens that it is billed for, written before anything is sent.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

FOLDER = Path(sys.argv[1])
KEY = "sk-secret-of-the-test"
LOCK = threading.Lock()
SEEN: Counter[str] = Counter()
NOW = [0]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        text = asked["messages"][-1]["content"]
        prompt = json.loads(text)
        cap = asked.get("max_tokens") or asked.get("max_completion_tokens")
        if prompt.get("how") == "ignores cap":
            cap = None
        thinking, words = ["hm"] * prompt.get("think", 0), prompt.get("say", "").split(" ")
        made = (thinking + words)[:cap]
        with LOCK:
            number = SEEN[text]
            SEEN[text] += 1
            NOW[0] += 1
            trouble = (prompt.get("first", [])[number:] or [None])[0]
            free = trouble in (429, 503, 400, 401, 302)
            line = {
                "prompt": text,
                "cap": cap,
                "trouble": trouble,
                "prompt_tokens": 0 if free else len(text.split()),
                "output_tokens": 0 if free else len(made),
                "auth": self.headers["authorization"],
                "seed": asked.get("seed"),
                "keys": sorted(asked),
                "path": self.path,
                "at_once": NOW[0],
            }
            with (FOLDER / "asked.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
        try:
            self.answer(prompt, trouble, made, len(thinking), len(made) < len(thinking) + len(words), len(text.split()))
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            with LOCK:
                NOW[0] -= 1

    def answer(self, prompt: Any, trouble: Any, made: list[str], thought: int, stopped: bool, asked: int) -> None:
        how = prompt.get("how", "counted")
        if isinstance(trouble, int):
            headers = {"Retry-After": prompt.get("wait", "0.2")} if trouble in (429, 503) else {}
            headers |= {"Location": "http://127.0.0.1:9/v1"} if trouble == 302 else {}
            said = f"status for {self.headers['authorization']} \x1b[31m"
            self.plainly(trouble, "application/json", json.dumps({"error": {"message": said}}), headers)
            return
        if trouble == "html":
            self.plainly(200, "text/html", "<html>\x1b[31mWelcome</html>", {})
            return
        if trouble == "json":
            self.plainly(200, "application/json", '{"choices": []}', {})
            return
        if trouble == "hang":
            time.sleep(3)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.chunk({"role": "assistant", "content": ""})
        if trouble == "nonsense":
            self.data("no JSON at all \x1b[31m")
        if trouble == "error":
            self.data(json.dumps({"error": {"message": "overloaded"}}))
        pause = prompt.get("pause", 0) / max(len(made), 1)
        for k, word in enumerate(made):
            time.sleep(pause)
            if trouble == "cut" and k >= len(made) // 2:
                self.connection.close()
                self.close_connection = True
                return
            if trouble == "end" and k >= len(made) // 2:
                self.wfile.write(b"0\r\n\r\n")
                return
            if k < thought and how == "hidden":
                continue
            spaced = word if k in (0, thought) else f" {word}"
            if k < thought and how in ("content", "reasoning"):
                self.chunk({"reasoning_content" if how == "content" else "reasoning": spaced})
            elif k < thought and how == "closing tag":
                self.chunk({"content": spaced + ("</think>" if k == thought - 1 else "")})
            elif k < thought and how == "tags":
                self.chunk(
                    {"content": ("<think>" if k == 0 else "") + spaced + ("</think>" if k == thought - 1 else "")}
                )
            elif k < thought:
                self.chunk({"reasoning_content": spaced})
            else:
                self.chunk({"content": spaced})
        self.chunk({}, "length" if stopped else "stop")
        if how != "no usage":
            usage: dict[str, Any] = {"prompt_tokens": asked, "completion_tokens": len(made)}
            reasoning = min(thought, len(made))
            if how in ("counted", "hidden"):
                usage["completion_tokens_details"] = {"reasoning_tokens": reasoning}
            if how == "beside":
                usage |= {"completion_tokens": len(made) - reasoning, "total_tokens": asked + len(made)}
                usage["completion_tokens_details"] = {"reasoning_tokens": reasoning}
            self.data(json.dumps({"model": "served-1", "choices": [], "usage": usage}))
        self.data("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def plainly(self, status: int, kind: str, text: str, headers: dict[str, str]) -> None:
        content = text.encode()
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def chunk(self, delta: dict[str, str], reason: str | None = None) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        self.data(json.dumps({"model": "served-1", "choices": [choice], "usage": None}))

    def data(self, text: str) -> None:
        content = f"data: {text}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))
        self.wfile.flush()


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    print(server.server_port, flush=True)
    server.serve_forever()
