"""Sessions as kv-cache-tester records them: a JSON file each, with the ids of the blocks that every prompt is made of.

https://github.com/callanjfox/kv-cache-tester, docs/trace_replay_tester.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ttc_sim.base.draws import I64
from ttc_sim.base.errors import InputError
from ttc_sim.base.limits import MOST_AMOUNT, MOST_TOKENS
from ttc_sim.files.documents import read_json

_SUB_AGENT = "subagent"
_DEEPEST = 16  # sub-agents inside one another
_IDS = "a list of block ids, whole numbers or texts"


@dataclass(frozen=True)
class TracedTurn:
    """One request of a trace.

    Attributes:
        session, agent: the file's name without its ending, and the place of the sub-agent in it, such as ``main.0``.
        t_s: from the beginning of its agent; think_s, api_s: NaN where they are not recorded.
        reused_tokens: leading tokens of its prompt that turn ``reuses`` of its session has sent, -1 for none.
        tools, system: tokens at the head of its prompt; ``of_all``: the ids of these, where ids mean the same in all files.
    """

    session: str
    agent: str
    t_s: float
    think_s: float
    api_s: float
    input_tokens: int
    output_tokens: int
    reused_tokens: int
    reuses: int
    tools: int
    system: int
    of_all: tuple[tuple[object, ...], tuple[object, ...]] | None


def files_of_traces(path: Path) -> list[Path]:
    """The files of a folder of traces, or the one file.

    Raises:
        InputError: a folder without any.
    """
    if not path.is_dir():
        return [path]
    found = sorted(path.glob("*.json"))
    if not found:
        raise InputError(path, "file", str(path), "a folder with recorded sessions, NAME.json, in it")
    return found


def traced(path: Path) -> Iterator[TracedTurn]:
    """The requests of one file, sub-agents' where they stand.

    Raises:
        InputError: no trace, or a value in it that cannot be.
    """
    made = read_json(path)
    if not isinstance(made, dict) or not isinstance(made.get("requests"), list):
        shown = ", ".join(list(made)[:8]) if isinstance(made, dict) else type(made).__name__
        raise InputError(path, "requests", shown, "a recorded session: an object with a list of requests")
    block = made.get("block_size", 64)
    if type(block) is not int or not 1 <= block <= MOST_TOKENS:
        raise InputError(path, "block_size", block, "tokens of a block, at least 1")
    scope = made.get("hash_id_scope", "local")
    if scope not in ("local", "global"):
        raise InputError(path, "hash_id_scope", scope, "local or global")
    flat = list(_flat(path, made, "requests", "main", _head(path, made, ""), 0))
    if not flat:
        raise InputError(path, "requests", "none", "at least one request")
    blocks = _numbered([_ids(path, field, one) for field, _, _, one in flat])
    length = [_whole(path, f"{field}.in", one.get("in"), least=0) for field, _, _, one in flat]
    sent: list[I64] = []
    last_of: dict[str, int] = {}
    last_t: dict[str, float] = {}
    for i, (field, agent, (tools, system), one) in enumerate(flat):
        t_s = _seconds(path, f"{field}.t", one.get("t"), needed=True)
        if t_s < last_t.get(agent, 0.0):
            raise InputError(
                path, f"{field}.t", t_s, f"a time that is not before {last_t[agent]:g}, of the request before"
            )
        depth, reuses = _longest(blocks[i], sent, last_of.get(agent, i - 1))
        of_all = None
        if scope == "global":
            ids = list(one.get("hash_ids") or [])
            of_all = tuple(ids[: tools // block]), tuple(ids[: (tools + system) // block])
        yield TracedTurn(
            session=path.stem,
            agent=agent,
            t_s=t_s,
            think_s=_seconds(path, f"{field}.think_time", one.get("think_time")),
            api_s=_seconds(path, f"{field}.api_time", one.get("api_time")),
            input_tokens=length[i],
            output_tokens=_whole(path, f"{field}.out", one.get("out"), least=0),
            reused_tokens=min(depth * block, length[i], length[reuses] if reuses >= 0 else 0),
            reuses=reuses if depth else -1,
            tools=tools if of_all is None else len(of_all[0]) * block,
            system=system if of_all is None else (len(of_all[1]) - len(of_all[0])) * block,
            of_all=of_all,
        )
        sent.append(blocks[i])
        last_of[agent], last_t[agent] = i, t_s


def _flat(
    path: Path, made: dict[str, Any], field: str, agent: str, head: tuple[int, int], levels: int
) -> Iterator[tuple[str, str, tuple[int, int], dict[str, Any]]]:
    """Requests in the order in which they stand, with their agents and heads."""
    children = 0
    for k, one in enumerate(made["requests"]):
        at = f"{field}[{k}]"
        if not isinstance(one, dict):
            raise InputError(path, at, one, "a request: an object with t, in, out and hash_ids")
        if one.get("type") != _SUB_AGENT:
            yield at, agent, head, one
            continue
        if not isinstance(one.get("requests"), list):
            raise InputError(
                path, f"{at}.requests", one.get("requests", "nothing"), "a list of the sub-agent's requests"
            )
        if levels == _DEEPEST:
            raise InputError(path, at, f"sub-agents {levels + 1} levels deep", f"at most {_DEEPEST}")
        yield from _flat(path, one, f"{at}.requests", f"{agent}.{children}", _head(path, one, f"{at}."), levels + 1)
        children += 1


def _head(path: Path, made: dict[str, Any], field: str) -> tuple[int, int]:
    tools, system = (
        0 if made.get(name) is None else _whole(path, field + name, made[name], least=0)
        for name in ("tool_tokens", "system_tokens")
    )
    return tools, system


def _whole(path: Path, field: str, value: object, *, least: int) -> int:
    if type(value) is not int or not least <= value <= MOST_TOKENS:
        raise InputError(path, field, "nothing" if value is None else value, f"a number of tokens, at least {least}")
    return value


def _seconds(path: Path, field: str, value: object, *, needed: bool = False) -> float:
    if value is None and not needed:
        return math.nan
    if type(value) not in (int, float) or not 0 <= float(value) <= MOST_AMOUNT:  # type: ignore[arg-type]
        raise InputError(path, field, "nothing" if value is None else value, "seconds, at least 0")
    return float(value)  # type: ignore[arg-type]


def _ids(path: Path, field: str, one: dict[str, Any]) -> list[object]:
    """The ids of a prompt's blocks."""
    ids = one.get("hash_ids")
    if ids is None:
        return []
    if not isinstance(ids, list):
        raise InputError(path, f"{field}.hash_ids", ids, _IDS)
    kinds = set(map(type, ids))
    if not kinds <= {int, str}:
        k = next(k for k, value in enumerate(ids) if type(value) not in (int, str))
        raise InputError(path, f"{field}.hash_ids[{k}]", ids[k], "an id of a block: a whole number or a text")
    return ids


def _numbered(ids: list[list[object]]) -> list[I64]:
    """Ids as numbers: equal ones of equal ids."""
    if all(set(map(type, one)) <= {int} for one in ids):
        try:
            return [np.array(one, dtype=np.int64) for one in ids]
        except OverflowError:  # longer than 64 bits
            pass
    number: dict[object, int] = {}
    return [np.array([number.setdefault(value, len(number)) for value in one], dtype=np.int64) for one in ids]


def _longest(ids: I64, sent: list[I64], likely: int) -> tuple[int, int]:
    """Of how many blocks the longest beginning is that was sent before, and by which request: the last of those, but for the
    ``likely`` one."""
    best, by = 0, -1
    for k in ([likely] if 0 <= likely < len(sent) else []) + list(range(len(sent) - 1, -1, -1)):
        other = sent[k]
        if best < min(len(other), len(ids)) and other[best] == ids[best]:
            both = min(len(other), len(ids))
            differ = np.flatnonzero(other[:both] != ids[:both])
            same = int(differ[0]) if len(differ) else both
            if same > best:
                best, by = same, k
    return best, by


__all__ = ["TracedTurn", "files_of_traces", "traced"]
