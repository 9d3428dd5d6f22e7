"""Contexts made shorter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ttc_sim.base.draws import F64, I64
from ttc_sim.base.errors import InputError
from ttc_sim.measured.session_turns import SessionTurns
from ttc_sim.measured.sessions import load_sessions
from ttc_sim.scenario import Compact, Even, Sessions
from ttc_sim.workload import generate
from ttc_sim.workload.compacting import compacted
from ttc_sim.workload.session_trees import tree_of

HEAD = 200


def session(prompt: list[int], reused: list[int], reuses: list[int], head: int = HEAD) -> SessionTurns:
    """One session of turns with that many tokens, answered with 10 each, all of which think for as many seconds as they stand."""
    n = len(prompt)
    zero: I64 = np.zeros(n, dtype=np.int64)
    think_s: F64 = np.arange(n, dtype=np.float64)
    first = np.where(np.arange(n) == 0, 0, 0)
    heads = np.array([[0, head // 2, head]], dtype=np.int64)
    return SessionTurns(
        np.array([0, n]),
        zero,
        think_s,
        np.array(prompt),
        zero,
        zero + 10,
        np.array(reused),
        np.array(reuses),
        first,
        heads,
    )


def chain(prompt: list[int]) -> SessionTurns:
    """Turns that each go on from the one before."""
    return session(prompt, [0, *prompt[:-1]], [-1, *range(len(prompt) - 1)])


def rows(turns: SessionTurns) -> list[tuple[int, int, int, int]]:
    """Prompt, answer, what is reused and of which."""
    columns = turns.prompt_tokens, turns.output_tokens, turns.reused_tokens, turns.reuses
    return list(zip(*(one.tolist() for one in columns), strict=True))


def test_a_context_that_is_never_too_long_stays_as_it_is() -> None:
    turns = chain([500, 900, 1000])
    assert rows(compacted(turns, Compact(above_tokens=1000, to_tokens=400))) == rows(turns)


def test_a_summary_is_written_and_takes_the_place_of_what_was_there() -> None:
    made = compacted(chain([500, 900, 1100, 1300, 1750, 1800]), Compact(above_tokens=1000, to_tokens=400))
    assert rows(made) == [
        (500, 10, 0, -1),
        (900, 10, 500, 0),
        (1100, 200, 900, 1),  # the summary: it reads what is too long, and writes what is left but for the head
        (400, 10, HEAD, 2),
        (600, 10, 400, 3),  # grows by 200, as it did
        (1050, 200, 600, 4),  # and is too long again
        (400, 10, HEAD, 5),
        (450, 10, 400, 6),
    ]
    assert made.think_s.tolist() == [0, 1, 2, 0, 3, 4, 0, 5], (
        "the summary is written when the turn would have been sent"
    )
    assert made.start.tolist() == [0, 8]


def test_a_first_prompt_may_be_too_long() -> None:
    made = compacted(chain([2000, 2100]), Compact(above_tokens=1000, to_tokens=400))
    assert rows(made) == [(2000, 200, 0, -1), (400, 10, HEAD, 0), (500, 10, 400, 1)]
    assert made.start.tolist() == [0, 3]


def test_who_goes_back_behind_the_summary_has_its_prompt_as_it_was() -> None:
    turns = session([500, 1100, 900, 950], [0, 500, 700, 900], [-1, 0, 1, 2])
    made = compacted(turns, Compact(above_tokens=1000, to_tokens=400))
    assert rows(made)[3:] == [(900, 10, HEAD, 2), (950, 10, 900, 3)]


def test_blocks_that_are_said_to_be_lacking_are_of_the_last_prompt() -> None:
    """Of 1,100 tokens 17 blocks of 64 were sent before, 1,088: the turn goes on all the same."""
    made = compacted(session([500, 1100, 1200], [0, 448, 1088], [-1, 0, 1]), Compact(above_tokens=1000, to_tokens=400))
    assert rows(made)[2:] == [(400, 10, HEAD, 1), (500, 10, 388, 2)]


def test_a_head_as_long_as_what_should_be_left_is_said() -> None:
    turns = chain([500, 1100])
    made = compacted(turns, Compact(above_tokens=1000, to_tokens=HEAD))
    assert rows(made) == rows(turns)
    assert "1 of 1 sessions have tools and system prompts as long as compact.to_tokens, 200" in made.notes[0]


@pytest.mark.parametrize("above", [40_000, 100_000, 300_000])
def test_no_turn_of_recorded_sessions_is_longer_than_was_asked_for(above: int) -> None:
    turns = load_sessions("coding-agent").turns
    made = compacted(turns, Compact(above_tokens=above, to_tokens=30_000))
    assert made.sessions == turns.sessions
    summary = np.concatenate([made.prompt_tokens[1:] < made.prompt_tokens[:-1], [False]]) & (made.prompt_tokens > above)
    assert (made.prompt_tokens[~summary] <= above).all()
    assert len(made) == len(turns) + summary.sum()
    assert (made.reused_tokens <= made.prompt_tokens).all()
    by = made.reuses >= 0
    assert (made.reused_tokens[by] <= made.prompt_tokens[made.reuses[by]]).all()
    assert (made.reuses[by] < np.flatnonzero(by)).all()
    assert (made.session[made.reuses[by]] == made.session[by]).all()
    # The agents take as long: nothing but summaries was added.
    assert made.think_s.sum() == pytest.approx(turns.think_s.sum())
    tree_of(made)


def test_a_scenario_compacts() -> None:
    def traffic(compact: Compact | None) -> tuple[int, int]:
        starts = Even(process="even", rate_per_s=1.0)
        arrivals = Sessions(process="sessions", sessions="coding-agent", starts=starts, compact=compact)
        made = generate(arrivals, 20_000, 1, folder=Path(), where="here")
        assert made.prompt_tokens is not None
        return int(made.prompt_tokens.sum()), int(made.prompt_tokens.max())

    whole, most = traffic(None)
    less, longest = traffic(Compact(above_tokens=100_000, to_tokens=30_000))
    assert less < 0.6 * whole
    assert longest <= most


def test_what_is_left_is_less() -> None:
    with pytest.raises(ValueError, match="less than above_tokens 100"):
        Compact(above_tokens=100, to_tokens=100)
    with pytest.raises((ValueError, InputError)):
        Compact(above_tokens=0, to_tokens=1)
