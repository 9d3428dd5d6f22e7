"""What every strategy keeps."""

from __future__ import annotations

import copy
from collections import ChainMap
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any, ClassVar

import numpy as np

from ttc_sim.base import notation, plugins
from ttc_sim.base.draws import F64, I64, columns
from ttc_sim.base.errors import InputError
from ttc_sim.strategies import STRATEGIES, Single, Strategy, UserStrategy, carry_out
from ttc_sim.strategies.checking import checked
from ttc_sim.strategies.outcomes import Attempts, Outcome, Trial
from ttc_sim.strategies.reading import SAID
from ttc_sim.testing.engines import run_both
from ttc_sim.testing.examples import attempts_of, model_of

REQUESTS = 60
UNSOLVED = 0  # the problem that no attempt of any example solves


class StrategyConformance:
    """Tests of :attr:`strategy`, on made-up attempts: many and few of them, with and without recorded answers and thinking.

    >>> from ttc_sim.strategies import MajorityVote
    >>> class TestVote(StrategyConformance):
    ...     strategy = MajorityVote(n=3)
    >>> TestVote().test_requests_do_not_affect_one_another()
    """

    strategy: ClassVar[Strategy]

    def test_outcomes_are_whole(self) -> None:
        """Shapes, whole numbers of tokens, at least one for each sample that runs, and no more samples needed than there are."""
        for trial in self._trials():
            checked(self._carried(trial), trial, repr(self.strategy))

    def test_it_says_what_it_is(self) -> None:
        """Caps, other arms and verifiers are of the kinds that others read, and stages run on no deployment that is not said."""
        plugins.check_said(self.strategy, SAID, where=repr(self.strategy), field="strategy")
        if isinstance(self.strategy, UserStrategy):
            return  # a function cannot say anything of itself
        for trial in self._trials():
            for stage in self._carried(trial).stages:
                assert stage.deployment in (None, *self.strategy.verifiers), f"{stage.deployment} is not in verifiers"
                assert stage.arm in (None, *self.strategy.other_arms), f"{stage.arm} is not in other_arms"

    def test_its_notation_makes_it_again(self) -> None:
        """What ``repr`` prints is what scenarios and plans have: read back, it is the same strategy."""
        if isinstance(self.strategy, UserStrategy):
            return
        assert copy.deepcopy(self.strategy) == self.strategy, "a copy is another strategy: is it a dataclass?"
        known = ChainMap({type(self.strategy).__name__: type(self.strategy)}, STRATEGIES)  # type: ignore[arg-type]
        made = notation.parse(repr(self.strategy), known, where="repr", field="strategy")
        assert made == self.strategy, f"{self.strategy!r} reads back as {made!r}"

    def test_same_draws_same_outcome(self) -> None:
        """Nothing is random but the trial's draws, and nothing is remembered from one trial to the next."""
        for trial in self._trials():
            first = _per_request(self._carried(trial))
            again = _per_request(self._carried(trial))
            self._carried(next(self._trials()))
            later = _per_request(carry_out(copy.deepcopy(self.strategy), trial))
            assert first == again == later, f"on {trial.attempts.name} the same draws gave another outcome"

    def test_requests_do_not_affect_one_another(self) -> None:
        """A request fares alike whichever others are in the trial, in whatever order: arms and policies are compared on that."""
        for example in self._examples():
            whole = _per_request(self._carried(self._trial(example, np.arange(REQUESTS))))
            backwards, some, alone = np.arange(REQUESTS)[::-1], np.arange(3, REQUESTS, 7), np.array([REQUESTS // 2])
            for members in (backwards, some, alone):
                part = _per_request(self._carried(self._trial(example, members)))
                for request, fared in zip(members, part, strict=True):
                    assert fared == whole[request], f"request {request} fares otherwise among {len(members)} requests"

    def test_attempts_are_left_as_they_are(self) -> None:
        """Other strategies are carried out on the same arrays."""
        for trial in self._trials():
            given = {"problem": trial.problem}
            given |= {field.name: getattr(trial.attempts, field.name) for field in fields(trial.attempts)}
            before = copy.deepcopy(given)
            self._carried(trial)
            np.testing.assert_equal(given, before)

    def test_problems_tried_in_vain_stay_unsolved(self) -> None:
        """More compute adds no knowledge: what hundreds of attempts did not solve is not solved by a few more."""
        example = attempts_of("tried often", [300, 300, 300], scored=self.strategy.reads_scores)
        trial = self._trial(example, np.arange(REQUESTS))
        right = self._carried(trial).correct[trial.problem == UNSOLVED]
        assert right.mean() < 0.1, f"{right.mean():.0%} right on a problem that 300 attempts did not solve"

    def test_only_votes_look_at_which_answers_agree(self) -> None:
        """Where answers were not recorded, a note says of what :attr:`votes` that they are modelled."""
        if self.strategy.votes or isinstance(self.strategy, UserStrategy):
            return
        [trial] = [one for one in self._trials() if one.attempts.name == "many"]
        answer = trial.attempts.answer
        assert answer is not None
        apart = replace(trial.attempts, answer=np.where(answer < 0, answer, np.arange(len(answer))))
        one, other = self._carried(trial), self._carried(replace(trial, attempts=apart))
        same = (one.correct == other.correct).all()
        assert same, "what is right depends on which answers are the same, and votes is False"

    def test_a_cap_never_reached_changes_nothing(self) -> None:
        """A cap at or above the longest attempt is none."""
        if not self.strategy.takes_cap:
            return
        free = self.strategy.with_cap(None)
        assert free.attempt_cap is None, f"with_cap(None) has the cap {free.attempt_cap}"
        for trial in self._trials():
            outcome = carry_out(free, trial)
            longest = max(int((one.reasoning_tokens + one.visible_tokens).max()) for one in outcome.stages)
            for cap in (longest, longest + 1_000_000):
                capped = self._capped(cap)
                if capped is None:
                    assert cap == longest, f"with_cap({cap}) is refused"
                    continue
                assert capped.attempt_cap == cap, f"with_cap({cap}) has the cap {capped.attempt_cap}"
                same = _per_request(carry_out(capped, trial)) == _per_request(outcome)
                assert same, f"a cap of {cap} changes what no attempt longer than {longest} makes"

    def test_a_higher_cap_never_uses_fewer_tokens(self) -> None:
        """Of the attempts themselves; what comes after them may be spared by a better answer."""
        if not self.strategy.takes_cap:
            return
        for trial in self._trials():
            used, before = None, 0
            for cap in (1, 10, 60, 200, 500, 1200, 5000, None):
                capped = self._capped(cap)
                if capped is None:
                    continue
                # Which of them are cancelled in the end is another matter.
                first = carry_out(capped, trial).stages[0]
                tokens = (first.reasoning_tokens + first.visible_tokens).sum(axis=1)
                if used is not None:
                    assert (tokens >= used).all(), f"a cap of {cap} uses fewer tokens than one of {before}"
                used, before = tokens, cap or 0

    def test_without_caps_none_can_be_set(self) -> None:
        """The optimizer must not believe that it capped what it did not."""
        if self.strategy.takes_cap:
            return
        assert self._capped(100) is None, "takes_cap is False, but with_cap takes one"

    def test_both_engines_agree(self) -> None:
        """Carried out, with a queue: equal times, every request answered, and the tokens generated that were said."""
        for example in self._examples():
            model, draws, work = model_of(self.strategy, example, self._others(example))
            result = run_both([work], model.deployment_names, model.deployments, tables=model.step_tables)
            assert (result.status == 0).all(), "a request was not answered"
            said = work.reasoning_tokens + work.visible_tokens
            assert (result.generated_tokens[0] <= said).all(), "more tokens were generated than the attempts have"
            if work.needed is None:
                assert (result.generated_tokens[0] == said).all(), "fewer tokens were generated than the attempts have"
            assert len(draws) == len(result.finished_s)

    # -------------------------------------------------------------------------------------------------- what they use

    def _carried(self, trial: Trial) -> Outcome:
        return carry_out(self.strategy, trial)

    def _capped(self, cap: int | None) -> Strategy | None:
        """Under this cap; ``None`` where it is refused, such as below a least length."""
        try:
            return self.strategy.with_cap(cap)
        except InputError:
            return None

    def _examples(self) -> Iterator[Attempts]:
        """Made-up attempts; problem ``UNSOLVED`` is never solved, the next one always is, where there are so many."""
        scored = self.strategy.reads_scores
        yield attempts_of("many", [4, 5, 1, 6, 2, 3, 8, 1, 4, 2, 3, 5], scored=scored)
        yield attempts_of("answers and thinking not recorded", [1, 2, 4, 3], recorded=False, scored=scored)
        yield attempts_of("one attempt each", [1] * 6, scored=scored)
        yield attempts_of("one problem, one attempt", [1], scored=scored)

    def _others(self, example: Attempts) -> dict[str, Attempts]:
        counts = [1 + k % 3 for k in range(len(example.count))]
        return {name: attempts_of(f"others: {name}", counts) for name in self.strategy.other_arms}

    def _trials(self) -> Iterator[Trial]:
        for example in self._examples():
            yield self._trial(example, np.arange(REQUESTS))

    def _trial(self, example: Attempts, members: I64) -> Trial:
        problem = (columns(0, "problem", REQUESTS, 1)[:, 0] * len(example.count)).astype(np.int64)

        def trial(attempts: Attempts, others: dict[str, Any]) -> Trial:
            def draw(stream: str, count: int) -> F64:
                return columns(0, f"{attempts.name}/{stream}", REQUESTS, count)[members]

            return Trial(attempts, problem[members], draw, others)

        others = {name: (Single(), trial(made, {})) for name, made in self._others(example).items()}
        return trial(example, others)


def _per_request(outcome: Outcome) -> list[tuple[object, ...]]:
    """What each request went through and came to."""
    through: list[list[object]] = [[] for _ in outcome.correct]
    for stage in outcome.stages:
        tokens = zip(stage.reasoning_tokens.tolist(), stage.visible_tokens.tolist(), strict=True)
        for request, samples in enumerate(tokens):
            if stage.runs[request]:
                prompt, needed = int(stage.prompt_tokens[request]), int(stage.needed[request])
                through[request].append((stage.deployment, stage.arm, prompt, needed, samples))
    return [(*stages, bool(right)) for stages, right in zip(through, outcome.correct, strict=True)]


__all__ = ["StrategyConformance"]
