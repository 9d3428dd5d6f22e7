"""Session profiles: recorded sessions, numbers only, with a card that says where they come from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from ttc_sim.files.tables import read_table
from ttc_sim.measured.cards import SessionsCard, read_card
from ttc_sim.measured.folders import find_folder, save_folder
from ttc_sim.measured.session_tables import turns_of_table
from ttc_sim.measured.session_turns import SessionTurns

CARD = "sessions.yaml"


@dataclass(frozen=True)
class SessionProfile:
    """Recorded sessions and their card."""

    name: str
    card: SessionsCard
    turns: SessionTurns


def load_sessions(name: str | Path, folder: Path | None = None) -> SessionProfile:
    """Load a session profile by its name or folder.

    Raises:
        InputError: there is none, its card is not one, or its turns cannot be.

    >>> load_sessions("coding-agent").turns.sessions
    486
    """
    place = place_of_sessions(name, folder)
    path = place / "turns.parquet"
    turns = turns_of_table(read_table(path), path, after_any=True)
    return SessionProfile(str(name), read_card(place / CARD, SessionsCard), turns)


def place_of_sessions(name: str | Path, folder: Path | None = None) -> Path:
    """The folder of a session profile.

    Raises:
        InputError: there is none; names the nearest.
    """
    return find_folder(name, CARD, folder)


def save_sessions(folder: str | Path, card: SessionsCard, turns: SessionTurns, *, replace: bool = False) -> None:
    """Write a session profile, so that :func:`load_sessions` reads the same turns.

    Raises:
        InputError: the folder cannot be written, or holds something else.
    """
    save_folder(folder, CARD, card, {"turns": as_table(turns)}, replace=replace)


def as_table(turns: SessionTurns) -> pl.DataFrame:
    """A row a turn; ``think_s`` is from the answer to the turn before, of whichever agent, on."""
    with_head = turns.head >= 0
    tools, whole = np.zeros_like(turns.head), np.zeros_like(turns.head)
    tools[with_head], whole[with_head] = turns.heads[turns.head[with_head], 1], turns.heads[turns.head[with_head], 2]
    whole_numbers = {
        "session": turns.session,
        "agent": turns.agent,
        "input_tokens": turns.prompt_tokens,
        "output_tokens": turns.output_tokens,
        "reused_tokens": turns.reused_tokens,
        "tool_tokens": tools,
        "system_tokens": whole - tools,
    }
    if turns.reasoning_tokens.any():
        whole_numbers["reasoning_tokens"] = turns.reasoning_tokens
    table = pl.DataFrame({name: values.astype(np.int32) for name, values in whole_numbers.items()})
    return table.insert_column(2, pl.Series("think_s", turns.think_s))


__all__ = ["CARD", "SessionProfile", "as_table", "load_sessions", "place_of_sessions", "save_sessions"]
