"""A server of OpenAI's kind that replays attempts: ``python replaying_server.py FOLDER`` prints its port.

The first message is a JSON object: ``prompt_tokens``, and ``answers``, each with so many words to ``think`` and what to
``say``; a word is a token. Answers are given in turn over the calls of a prompt, several of one call side by side, one token
of each at a time, in one event. ``pause`` seconds pass before each, and after each that ends an answer ``hold``, unless the
client goes away. ``first`` names what goes wrong with the first calls, one after the other, ``always`` with the others;
``usage`` when it is told: at the ``end``, ``late`` seconds after all else, with ``each`` event or ``never``; with ``hidden``
thinking is not sent. An answer that was begun is continued from where it was. Every call is a line in
``FOLDER/asked.jsonl`` once it is over, with the tokens that were sent.
"""

from __future__ import annotations

import json
import select
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

FOLDER = Path(sys.argv[1])
LOCK = threading.Lock()
CALLS: Counter[str] = Counter()
GIVEN: Counter[str] = Counter()
THINK = "hm"
ANY = [{"think": 2, "say": "so it is 4"}]


class Answer:
    """One, from where it is to go on: words of thinking and of text that are still to come."""

    def __init__(self, said: dict[str, Any], prefix: str | None, limit: int | None, stop: bool) -> None:
        think, words = int(said.get("think", 0)), str(said.get("say", "")).split(" ")
        words = [] if words == [""] else words
        if prefix is not None:
            thought, closed, text = prefix.partition("</think>")
            think = max(think - thought.count(THINK), 0)
            if closed:
                think, words = 0, words[len(text.split()) :]
            elif "Wait" in thought:  # that it goes on for
                think = int(said.get("again", 0)) * thought.count("Wait") - max(
                    thought.count(THINK) - int(said["think"]), 0
                )
        self.coming = [("reasoning_content", THINK)] * think + [("content", word) for word in words]
        if stop:
            self.coming = self.coming[:think]
        self.whole = limit is None or len(self.coming) <= limit
        self.coming = self.coming[:limit]
        self.goes_on = prefix is not None and not prefix.endswith("\n")
        self.sent = 0
        self.thought = 0


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        text = asked["messages"][0]["content"]
        prompt: dict[str, Any] = (
            json.loads(text) if text.startswith("{") else {"prompt_tokens": len(text.split()), "answers": ANY}
        )
        last = asked["messages"][-1]
        prefix = last["content"] if last["role"] == "assistant" else None
        n = 1 if prompt.get("ignores n") else asked.get("n", 1)
        limit = None if prompt.get("ignores limit") else asked.get("max_tokens") or asked.get("max_completion_tokens")
        with LOCK:
            number = CALLS[text]
            CALLS[text] += 1
            first = GIVEN[text]
            trouble = (prompt.get("first", [])[number:] or [prompt.get("always")])[0]
            if trouble == 400 and n == 1 and prompt.get("refuses n"):
                trouble = None
            if trouble is None and prefix is None:
                GIVEN[text] += n
        said: list[dict[str, Any]] = prompt.get("answers", [])
        if prefix is not None:
            assert asked["continue_final_message"] is True
            assert asked["add_generation_prompt"] is False
            chosen = [said[0]]
        else:
            chosen = [said[(first + k) % len(said)] for k in range(n)] if said else []
        answers = [Answer(one, prefix, limit, "stop" in asked) for one in chosen]
        tokens = prompt["prompt_tokens"] + (0 if prefix is None else len(prefix.split()))
        line = {"prompt": text, "n": asked.get("n", 1), "limit": limit, "trouble": trouble, "model": asked["model"]}
        line |= {"prefix": prefix, "auth": self.headers["authorization"], "keys": sorted(asked)}
        try:
            if trouble is None and not asked.get("stream"):
                self.whole(answers, tokens)
            else:
                self.answer(prompt, trouble, answers, tokens)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            free = isinstance(trouble, int)
            sent = {"prompt_tokens": 0 if free else tokens, "output_tokens": sum(one.sent for one in answers)}
            with LOCK, (FOLDER / "asked.jsonl").open("a") as file:
                file.write(json.dumps({**line, **sent}) + "\n")

    def whole(self, answers: list[Answer], tokens: int) -> None:
        """In one piece, as who asks for no stream gets it."""
        choices = []
        for k, one in enumerate(answers):
            text = " ".join(word for kind, word in one.coming if kind == "content")
            choices.append({"index": k, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"})
            one.sent = len(one.coming)
            one.thought = sum(kind != "content" for kind, _ in one.coming)
        content = {"id": "c", "object": "chat.completion", "choices": choices, "usage": usage_of(tokens, answers)}
        self.plainly(200, "application/json", json.dumps(content), {})

    def answer(self, prompt: dict[str, Any], trouble: Any, answers: list[Answer], tokens: int) -> None:
        if isinstance(trouble, int):
            headers = {"Retry-After": prompt.get("wait", "0")} if trouble in (429, 503) else {}
            headers |= {"Location": "http://127.0.0.1:9/v1"} if trouble == 302 else {}
            self.plainly(trouble, "application/json", '{"error": {"message": "no"}}', headers)
            return
        if trouble == "html":
            self.plainly(200, "text/html", "<html>Welcome</html>", {})
            return
        if trouble == "nothing":
            self.connection.close()
            self.close_connection = True
            return
        if trouble == "hang":
            time.sleep(3)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.event([{"index": k, "delta": {"role": "assistant", "content": ""}} for k in range(len(answers))])
        if trouble == "nonsense":
            self.data("no JSON at all")
        if trouble == "empty":
            self.event([{"index": 0, "delta": {}, "finish_reason": "stop"}])
            self.data("[DONE]")
            self.wfile.write(b"0\r\n\r\n")
            return
        while trouble == "endless":
            self.event([{"index": 0, "delta": {"content": "and so on "}}])
        if trouble == "silent":
            time.sleep(3)
            return
        going = list(enumerate(answers))
        half = sum(len(one.coming) for one in answers) // 2
        while going:
            time.sleep(prompt.get("pause", 0))
            choices = []
            for k, one in list(going):
                delta = {}
                if one.coming:
                    kind, word = one.coming[one.sent]
                    begins = one.sent == 0 or one.coming[one.sent - 1][0] != kind
                    delta = {kind: word if begins and not (one.sent == 0 and one.goes_on) else f" {word}"}
                    one.sent += 1
                    one.thought += kind != "content"
                over = one.sent >= len(one.coming)
                if prompt.get("hidden"):
                    delta.pop("reasoning_content", None)
                choice: dict[str, Any] = {"index": k, "delta": delta, "finish_reason": None}
                if over:
                    choice["finish_reason"] = "stop" if one.whole else "length"
                    going.remove((k, one))
                if one.sent == 1 and prompt.get("logprobs"):
                    top = [{"token": t, "logprob": p} for t, p in prompt["logprobs"].items()]
                    choice["logprobs"] = {"content": [{"token": "?", "logprob": -9.0, "top_logprobs": top}]}
                choices.append(choice)
            if trouble == "cut" and sum(one.sent for one in answers) >= half:
                self.connection.close()
                self.close_connection = True
                return
            each = prompt.get("usage") == "each"
            for sent in [[choice] for choice in choices] if each else [choices]:
                self.event(sent, usage_of(tokens, [answers[sent[0]["index"]]]) if each else None)
                if any(choice["finish_reason"] for choice in sent) and going and self.is_left(prompt.get("hold", 0)):
                    return
        if prompt.get("usage") != "never":
            time.sleep(prompt.get("late", 0))
            self.event([], usage_of(tokens, answers))
        if trouble == "never ends":
            time.sleep(4)
        self.data("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def is_left(self, hold_s: float) -> bool:
        """Whether the client goes away, once an answer has ended, within so many seconds."""
        readable = select.select([self.connection], [], [], hold_s)[0]
        self.close_connection = bool(readable)
        return bool(readable)

    def plainly(self, status: int, kind: str, text: str, headers: dict[str, str]) -> None:
        content = text.encode()
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def event(self, choices: list[dict[str, Any]], usage: dict[str, Any] | None = None) -> None:
        whole = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "served"}
        self.data(json.dumps({**whole, "choices": choices, "usage": usage}))

    def data(self, text: str) -> None:
        content = f"data: {text}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))
        self.wfile.flush()


def usage_of(tokens: int, answers: list[Answer]) -> dict[str, Any]:
    made = sum(one.sent for one in answers)
    thought = sum(one.thought for one in answers)
    details = {"completion_tokens_details": {"reasoning_tokens": thought}}
    return {"prompt_tokens": tokens, "completion_tokens": made, "total_tokens": tokens + made, **details}


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


if __name__ == "__main__":
    server = Server(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()
