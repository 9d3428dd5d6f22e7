"""What staying saves: ``python -m benchmarks.staying SHARED/data/agent-sessions/requests.parquet [--json FILE]``.

Recorded sessions of a coding agent, whose turns a router would send to one of two models by what is known of each: those that begin
with a person's text to the dearer, those that begin with a tool's result to the cheaper; or one of four, picked at random, to the
dearer. Compared are: all to one, never to switch, to switch freely, to stay unless a move pays, to escalate. Bills are those of the
sessions at the providers' prices, with what their caches have as documented; turns "as asked" went where the router wanted them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from ttc_sim.base.draws import I64, uniforms
from ttc_sim.files.writing import write_atomically
from ttc_sim.policies import Always, Escalate, Policy, Requests, SessionBudget, Sticky, Threshold, choose_arms
from ttc_sim.policies.costs import ArmCosts, TokenUsd
from ttc_sim.policies.memory import places_of
from ttc_sim.policies.turns import Turns

ARMS = ("opus", "haiku")


def costs_of(arm: str, usd: tuple[float, float, float, float], ttl_s: float = 300.0) -> ArmCosts:
    """Input, cached, written and output, US dollars per million tokens."""
    return ArmCosts(arm, (TokenUsd(0, *(1e-6 * one for one in usd)),), keeps="prompt", min_tokens=1024, ttl_s=ttl_s)


# As genai-prices 0.2.3 has them on 2026-11-26: Claude Opus 4.5 and Haiku 4.5, writes that are kept for five minutes.
COSTS = {"opus": costs_of("opus", (5.0, 0.5, 6.25, 25.0)), "haiku": costs_of("haiku", (1.0, 0.1, 1.25, 5.0))}
ASKED = Threshold(at=0.5, below="haiku", above="opus", score="hard")


@dataclass(frozen=True)
class Fixed(Policy):
    """Arms that are known."""

    arm: tuple[int, ...]

    def choose(self, requests: Requests, arms: Any) -> I64:
        """They."""
        return np.array(self.arm, dtype=np.int64)


def recorded(file: Path, by: str) -> Requests:
    """The recorded requests, turn after turn; ``by``: ``text`` or ``chance``, what the router goes by."""
    table = pl.read_parquet(file).sort("session", "order")
    table = table.with_columns(turn=pl.int_range(pl.len()).over("session", "agent"), at=pl.int_range(pl.len()))
    table = table.with_columns(after=pl.col("at").shift(1).over("session").fill_null(-1))
    column = {
        name: table[name].to_numpy() for name in ("turn", "after", "input_tokens", "output_tokens", "reused_tokens")
    }
    n = len(table)
    hard = table["input_types"].str.contains("tool_result").not_().to_numpy().astype(np.float64)
    if by == "chance":
        hard = (uniforms(0, "hard", n)[:, 0] < 0.25).astype(np.float64)
    turns = Turns(
        session=(table["session"].rank("dense").to_numpy() - 1).astype(np.int64),
        turn=column["turn"].astype(np.int64),
        after=column["after"].astype(np.int64),
        think_s=np.where(column["after"] < 0, 0.0, table["think_s"].fill_null(0.0).to_numpy()),
        reused_tokens=np.minimum(column["reused_tokens"], column["input_tokens"]).astype(np.int64),
        output_tokens=column["output_tokens"].astype(np.int64),
    )
    prompt = column["input_tokens"].astype(np.int64)
    zeros = np.zeros(n, dtype=np.int64)
    return Requests(table["t_s"].to_numpy(), zeros, ("all",), prompt, {"hard": hard}, turns=turns, costs=COSTS)


def figures(policy: Policy, requests: Requests) -> dict[str, float]:
    """What becomes of the sessions under a policy."""
    arm = choose_arms(policy, requests, ARMS)
    assert requests.turns is not None
    places = places_of(requests.turns, requests.prompt_tokens)
    counting = SessionBudget(Fixed(tuple(arm.tolist())), usd=1e12, at_end="stop")
    memory = counting.memory(requests, ARMS, places)
    counting.follow(requests, ARMS, places, memory)
    before = np.full(places.conversations, -1)
    moves = 0
    for conversation, one in zip(places.conversation.tolist(), arm.tolist(), strict=True):
        moves += before[conversation] >= 0 and before[conversation] != one
        before[conversation] = one
    usd = memory.spent[:, 0]
    return {
        "usd_per_session": float(usd.mean()),
        "usd_p95": float(np.quantile(usd, 0.95)),
        "moves_per_session": moves / places.sessions,
        "at_opus": float((arm == 0).mean()),
        "as_asked": float((arm == choose_arms(ASKED, requests, ARMS)).mean()),
        "hard_at_opus": float((arm == 0)[requests.scores["hard"] > 0.5].mean()),
    }


POLICIES: Mapping[str, Policy] = {
    "all to opus": Always("opus"),
    "all to haiku": Always("haiku"),
    "never switch": Sticky(ASKED, moves=0),
    "switch freely": ASKED,
    "stay unless a move saves": Sticky(ASKED),
    "the same over 10 turns": Sticky(ASKED, turns=10),
    "worth $0.05 a turn": Sticky(ASKED, worth_usd=0.05),
    "worth $0.20 a turn": Sticky(ASKED, worth_usd=0.20),
    "worth $0.50 a turn": Sticky(ASKED, worth_usd=0.50),
    "worth $0.05, over 10 turns": Sticky(ASKED, worth_usd=0.05, turns=10),
    "asked three times in a row": Sticky(ASKED, worth_usd=1e3, patience=3),
    "at most 20,000 tokens lost": Sticky(ASKED, lost_tokens=20_000),
    "escalate": Escalate(ASKED),
    "budget of $5, then haiku": SessionBudget(ASKED, usd=5.0, to="haiku"),
    "stay, and a budget of $5": SessionBudget(Sticky(ASKED, worth_usd=0.20), usd=5.0, to="haiku"),
}


def main(words: list[str] | None = None) -> None:
    """Print a table for each router."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(words)
    found: dict[str, dict[str, dict[str, float]]] = {}
    for by in ("text", "chance"):
        requests = recorded(asked.file, by)
        found[by] = {name: figures(policy, requests) for name, policy in POLICIES.items()}
        table = Table(title=f"{len(requests):,} turns, routed by {by}", title_justify="left")
        for name in ("policy", "$ a session", "95%", "moves a session", "at opus", "as asked", "hard at opus"):
            table.add_column(name, justify="left" if name == "policy" else "right")
        for name, one in found[by].items():
            usd, p95, moves, *shares = one.values()
            table.add_row(
                name, f"{usd:.2f}", f"{p95:.2f}", f"{moves:.1f}", *(f"{100 * share:.1f}%" for share in shares)
            )
        Console(width=120).print(table)
    if asked.json is not None:
        write_atomically(asked.json, json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
