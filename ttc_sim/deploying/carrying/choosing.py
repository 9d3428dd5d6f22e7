"""Which of several answers is final, live: by vote, by a verifier, by a judge after each stage."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ttc_sim.base.errors import shortened
from ttc_sim.collecting.grading import short
from ttc_sim.deploying.carrying.attempts import make_attempts
from ttc_sim.deploying.carrying.live import Live
from ttc_sim.deploying.carrying.manner import Read
from ttc_sim.deploying.carrying.messages import question_in
from ttc_sim.deploying.carrying.records import NoAnswerError, Purpose, Sample
from ttc_sim.scenario import Scenario
from ttc_sim.strategies import BestOfN, BudgetForcing, Cascade, MajorityVote, Single, Strategy
from ttc_sim.strategies.outcomes import enough, vote

_NONE = -1


@dataclass(frozen=True)
class Chosen:
    """An answer: the sample that gave it, all samples, and the share of the votes that it had, where there was a vote."""

    final: Sample
    samples: tuple[Sample, ...]
    share: float | None = None


async def carry_strategy_out(live: Live, scenario: Scenario, strategy: Strategy, deployment: str) -> Chosen:
    """What a strategy makes of a request.

    Raises:
        NoAnswerError: nothing, for good.
    """
    if isinstance(strategy, MajorityVote):
        return await _vote(live, strategy, deployment)
    if isinstance(strategy, BestOfN):
        return await _best(live, strategy, deployment)
    if isinstance(strategy, Cascade):
        return await _stages(live, scenario, strategy, deployment)
    assert isinstance(strategy, (Single, BudgetForcing))
    made = await make_attempts(live, deployment, 1, strategy)
    return Chosen(made[0], tuple(made))


async def _vote(live: Live, strategy: MajorityVote, deployment: str) -> Chosen:
    n, said = strategy.n, list[str | None]()

    async def read(samples: Sequence[Sample]) -> None:
        for sample in samples[len(said) :]:
            said.append(await _extracted(live, sample))

    async def decided(samples: Sequence[Sample]) -> bool:
        await read(samples)
        codes = _codes(said)
        # What is still to come is not looked at before the vote is decided.
        row = np.concatenate([codes, np.full(n - len(codes), _NONE, dtype=np.int64)])[None, :]
        certainty = 1.0 if strategy.stop_early is True else float(strategy.stop_early)
        return int(enough(row, np.arange(n, dtype=np.int64)[None, :], certainty)[0]) <= len(codes) < n

    early = decided if strategy.stop_early is not False and n > 1 else None
    samples = await make_attempts(live, deployment, n, strategy.attempt, early)
    await read(samples)
    samples = [replace(one, answer=given) for one, given in zip(samples, said, strict=True)]
    codes = _codes(said)
    if (codes == _NONE).all():
        live.note("no attempt gave an answer that votes could be counted of")
        return Chosen(_any(samples), tuple(samples), 0.0)
    tie = np.array([live.draw("tie")])
    shortest = np.array([[one.tokens for one in samples]], dtype=np.int64) if strategy.ties == "shortest" else None
    wins = (
        code
        for code in dict.fromkeys(codes.tolist())
        if vote(codes[None, :], (codes == code)[None, :], tie, shortest)[0]
    )
    winner = next(wins)
    final = samples[int(np.argmax(codes == winner))]
    return Chosen(final, tuple(samples), float(np.mean(codes[codes != _NONE] == winner)))


async def _extracted(live: Live, sample: Sample) -> str | None:
    if not sample.answered:
        return None
    found = await live.users("extract", live.manner.extract, sample.text)
    if found is not None and not isinstance(found, str):
        raise NoAnswerError("failed", f"extract returned {shortened(found)}, and not a text or None")
    return None if found is None or not found.strip() else short(found.strip())


def load_votes() -> None:
    """Have what decides votes compiled: the first one would wait for it, and with it every other request of the event loop."""
    codes = np.zeros((1, 2), dtype=np.int64)
    enough(codes, codes, 1.0)
    vote(codes, codes == 0, np.zeros(1))


def _codes(said: Sequence[str | None]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Equal where answers are, -1 where there is none."""
    numbers = {answer: k for k, answer in enumerate(dict.fromkeys(one for one in said if one is not None))}
    return np.array([_NONE if one is None else numbers[one] for one in said], dtype=np.int64)


def _any(samples: Sequence[Sample]) -> Sample:
    """The first with an answer or, without one, with any text."""
    return next(
        (one for one in samples if one.answered), next((one for one in samples if one.text is not None), samples[0])
    )


async def _best(live: Live, strategy: BestOfN, deployment: str) -> Chosen:
    samples = await make_attempts(live, deployment, strategy.n, strategy.attempt)
    read = [k for k, one in enumerate(samples) if one.answered]
    scores = await asyncio.gather(
        *(_score(live, samples[k], strategy.verifier, strategy.verifier_tokens, "verifier") for k in read),
        return_exceptions=True,
    )
    failed = [one for one in scores if isinstance(one, BaseException)]
    for error in failed:
        if not isinstance(error, NoAnswerError) or error.status == "timed_out" or len(failed) == len(read):
            raise error
        live.note(f"answers that no verifier has read are chosen last: {error.reason}")
    found = {k: score for k, score in zip(read, scores, strict=True) if isinstance(score, float)}
    samples = [replace(one, score=found.get(k)) for k, one in enumerate(samples)]
    if not found:
        if read:
            live.note("no reply of the verifier could be read: the first answer was taken")
        return Chosen(_any(samples), tuple(samples))
    best = max(found, key=lambda k: (found[k], -k))
    return Chosen(samples[best], tuple(samples))


async def _score(live: Live, sample: Sample, on: str | None, tokens: int, purpose: Purpose) -> float | None:
    """Of an answer, 0 to 1; ``None`` where what the verifier or judge replied cannot be read.

    Raises:
        NoAnswerError: it did not reply.
    """
    manner, question = live.manner, question_in(live.messages)
    if on is None:
        assert manner.judge is not None
        found = await live.users("judge", manner.judge, question, sample.text)
    else:
        prompt = await live.users("verifying", manner.verifying, question, sample.text)
        if not isinstance(prompt, str):
            raise NoAnswerError("failed", f"verifying returned {shortened(prompt)}, and not a text")
        messages = [{"role": "user", "content": prompt}]

        async def once() -> Read:
            streamed, _ = await live.once(on, purpose, messages, limit=tokens)
            piece = streamed.piece(0)
            return Read(piece.visible, piece.first_token)

        reply = await live.tried(on, once)
        found = await live.users("score", manner.score, reply)
        if found is None:
            live.note(f"replies of the {purpose} on {on} could not be read, such as {shortened(reply.text, 60)}")
            return None
    if isinstance(found, bool) or not isinstance(found, (int, float, np.floating)) or math.isnan(found):
        raise NoAnswerError("failed", f"the {purpose} gave the score {shortened(found)}, and not a number")
    return float(found)


async def _stages(live: Live, scenario: Scenario, strategy: Cascade, deployment: str) -> Chosen:
    for number, stage in enumerate(strategy.stages, start=1):
        if isinstance(stage, str):
            named = scenario.parsed_strategy(stage), scenario.arms[stage].deployment
            chosen = await carry_strategy_out(live, scenario, *named)
        else:
            chosen = await carry_strategy_out(live, scenario, stage, deployment)
        if number == len(strategy.stages):
            break
        if not chosen.final.answered:  # there is nothing to judge
            continue
        if strategy.judge is None and live.manner.judge is None:
            score = chosen.share
        else:
            score = await _score(live, chosen.final, strategy.judge, strategy.judge_tokens, "judge")
        if score is not None and score >= live.manner.accept:
            break
    return chosen


__all__ = ["Chosen", "carry_strategy_out", "load_votes"]
