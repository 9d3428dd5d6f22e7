"""An endpoint of OpenAI's kind: its address, its key, and the body of a request to it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from ttc_sim.base.errors import InputError, cut
from ttc_sim.base.plain import plain
from ttc_sim.collecting.answers import Tokens

_PATH = "/chat/completions"
_OWN = ("model", "messages", "stream", "stream_options", "n", "max_tokens", "max_completion_tokens", "seed")
"""Keys of a request that are not the user's to set, or have options of their own."""
CAP_FIELDS = ("max_tokens", "max_completion_tokens")
_QUERY = ("api-version",)


@dataclass(frozen=True)
class Endpoint:
    """Where chat completions are asked for, and what all requests have in common.

    Attributes:
        url: of chat completions themselves.
        cap_field: what a limit of output tokens is called there.
        body: further keys of each request.
        starts_thinking: whether answers begin inside of thinking, which no tag opens.
        key: sent as a bearer token, and never shown.
        env_proxy: whether proxies of the environment are used.
    """

    url: str
    model: str
    cap_field: str
    system: str | None
    body: Mapping[str, Any]
    timeout_s: float
    starts_thinking: bool = False
    env_proxy: bool = False
    key: str | None = field(default=None, repr=False)

    def request(self, prompt: str, cap: int | None, seed: int | None) -> dict[str, Any]:
        """The body of one request."""
        messages = [{"role": "system", "content": self.system}] if self.system else []
        asked: dict[str, Any] = {
            **self.body,
            "model": self.model,
            "messages": [*messages, {"role": "user", "content": prompt}],
            "stream": True,
            **({} if "stream_options" in self.body else {"stream_options": {"include_usage": True}}),
        }
        asked = {name: value for name, value in asked.items() if name != "stream_options" or value is not None}
        if cap is not None:
            asked[self.cap_field] = cap
        if seed is not None:
            asked["seed"] = seed
        return asked

    def shown(self, text: str) -> str:
        """A text of the endpoint's in one short line without the key, should it repeat that."""
        text = text.replace(self.key, "[key]") if self.key else text
        return plain(cut(" ".join(text.split()), 240))


def address(endpoint: str) -> str:
    """Where chat completions are asked for: the endpoint's base, such as ``https://api.openai.com/v1``, or that itself.

    Raises:
        InputError: no address of HTTP, or one with a key in it.

    >>> address("http://127.0.0.1:8000/v1/")
    'http://127.0.0.1:8000/v1/chat/completions'
    """
    try:
        parts = urlsplit(endpoint)
        port, host = parts.port, parts.hostname
    except ValueError:
        port, host, parts = None, None, urlsplit("")
    if (
        parts.scheme not in ("http", "https")
        or not host
        or port == 0
        or not plain(endpoint) == endpoint
        or " " in endpoint
    ):
        raise InputError("collect", "--endpoint", endpoint, "an address as http://HOST:PORT/v1 or https://HOST/v1")
    # What could be a key is not repeated.
    if "@" in parts.netloc:
        raise InputError(
            "collect", "--endpoint", f"...@{host}", "an address without a key in it: --key-env names its variable"
        )
    asked = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
    if any(name not in _QUERY for name in asked) or (parts.query and not asked) or parts.fragment:
        expected = "an address without a query, but for api-version: --key-env names the variable with the key"
        raise InputError("collect", "--endpoint", f"{parts.scheme}://{host}...?...", expected)
    path = parts.path.rstrip("/")
    path = path if path.endswith(_PATH) else path + _PATH
    return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


def field_for_caps(given: str | None, url: str) -> str:
    """What a limit of output tokens is called: as given, else by whose address it is.

    Raises:
        InputError: another name.

    >>> field_for_caps(None, "https://api.openai.com/v1/chat/completions")
    'max_completion_tokens'
    """
    if given is not None and given not in CAP_FIELDS:
        raise InputError("collect", "--cap-field", given, " or ".join(CAP_FIELDS))
    host = urlsplit(url).hostname or ""
    openai = host == "api.openai.com" or host.endswith((".openai.azure.com", ".api.openai.com"))
    return given or ("max_completion_tokens" if openai else "max_tokens")


def key_from(variable: str | None) -> str | None:
    """The key that an environment variable holds; ``None`` where none is asked for.

    Raises:
        InputError: the variable is not set or holds no key; what it holds is not repeated.
    """
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise InputError("environment", variable, "nothing", "the endpoint's key, as --key-env says")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise InputError("environment", variable, "something else", "a key: letters, digits and marks, without spaces")
    return key


def checked_body(body: object) -> dict[str, Any]:
    """Further keys of each request.

    Raises:
        InputError: no mapping, or keys that have options of their own.
    """
    if not isinstance(body, dict):
        raise InputError("collect", "--body", body, 'a JSON object, such as {"reasoning_effort": "high"}')
    for name in body:
        # Without it some send usage all the same, and some know nothing of it.
        if (name in _OWN and not (name == "stream_options" and body[name] is None)) or not isinstance(name, str):
            raise InputError("collect", "--body", name, "keys that are not set by the command itself or its options")
    try:
        made: dict[str, Any] = json.loads(json.dumps(body, allow_nan=False))  # as the journal will say it
    except (TypeError, ValueError, RecursionError):
        raise InputError("collect", "--body", body, "what JSON can say") from None
    return made


def over_the_cap(endpoint: Endpoint, tokens: Tokens, cap: int | None) -> InputError:
    """What to say of an endpoint that does not know what a cap is."""
    got = f"{tokens.reasoning + tokens.visible:,} tokens for a cap of {cap:,}"
    other = "max_tokens" if endpoint.cap_field != "max_tokens" else "max_completion_tokens"
    expected = f"no more than the cap, which went as {endpoint.cap_field}: --cap-field {other}, and another --out"
    return InputError(endpoint.url, "endpoint", got, expected)


def unencrypted(url: str) -> str | None:
    """The host that a key would reach over a network without encryption; ``None`` where it would not.

    >>> unencrypted("http://10.0.0.7:8000/v1/chat/completions")
    '10.0.0.7'
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    local = host == "localhost" or host == "::1" or host.startswith("127.")
    return host if parts.scheme == "http" and not local else None


__all__ = [
    "CAP_FIELDS",
    "Endpoint",
    "address",
    "checked_body",
    "field_for_caps",
    "key_from",
    "over_the_cap",
    "unencrypted",
]
