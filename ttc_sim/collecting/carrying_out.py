"""What was planned, carried out: what it would come to, and what came of it."""

from __future__ import annotations

import importlib.util
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ttc_sim.base.errors import InputError
from ttc_sim.base.progress import Progress, Telling
from ttc_sim.base.showing import shows_progress, telling
from ttc_sim.collecting.answers import count_tokens, is_over, tokens_in
from ttc_sim.collecting.budget import Budget, prompt_bound
from ttc_sim.collecting.endpoints import Endpoint, key_from, over_the_cap
from ttc_sim.collecting.grading import Grade, Grading
from ttc_sim.collecting.journal import Journal, Key, Past, read_journal
from ttc_sim.collecting.tabulating import Collected, notes_on, tabulate
from ttc_sim.collecting.wanted import Attempt, in_order_of_asking
from ttc_sim.files.tables import write_table
from ttc_sim.files.writing import written_together


@dataclass(frozen=True)
class DryRun:
    """What collecting would come to.

    Attributes:
        wanted: attempts; earlier: of them with an answer already; requests: to be sent, if none fails.
        by_cap: requests of each cap.
        worst_usd: that all of them cost if each answer is as long as it may be; infinite where no limit is known; ``None`` without
            a price. One that fails and is sent again may cost its part again.
        held_usd: spent already, or perhaps, by earlier runs.
        without_cap_tokens: how long an answer without a cap can be, as far as that is known.
    """

    wanted: int
    earlier: int
    requests: int
    by_cap: Mapping[str, int]
    worst_usd: float | None
    held_usd: float | None
    budget_usd: float | None
    price: str | None
    url: str
    cap_field: str
    without_cap_tokens: int | None

    def as_json(self) -> dict[str, Any]:
        """All figures, for files."""
        return {**vars(self), "by_cap": dict(self.by_cap)}


@dataclass(frozen=True)
class Collecting:
    """What will be asked, checked; :meth:`run` asks it.

    Attributes:
        attempts: all that are wanted, in the order of the table; out, journal: files.
        past: what earlier runs left.
    """

    attempts: tuple[Attempt, ...]
    endpoint: Endpoint
    grading: Grading
    budget: Budget
    tokenizer: Callable[[str], int] | None
    seed: int | None
    concurrency: int
    retries: int
    keep_answers: bool
    key_env: str | None
    out: Path
    journal: Path
    past: Past
    progress: Telling

    @property
    def settings(self) -> dict[str, Any]:
        """What all requests of a journal have in common."""
        one = self.endpoint
        return {
            "endpoint": one.url,
            "model": one.model,
            "system": one.system,
            "body": dict(one.body),
            "cap_field": one.cap_field,
            "seed": self.seed,
            "starts_thinking": one.starts_thinking,
        }

    def dry_run(self) -> DryRun:
        """What it would come to; asks nothing and writes nothing."""
        budget = replace(self.budget)
        _count_past(budget, self.past)
        todo = [one for one in self.attempts if one.key not in self.past.done]
        priced = budget.prices is not None
        worst = math.fsum(self._worst_usd(one) for one in todo)
        return DryRun(
            wanted=len(self.attempts),
            earlier=len(self.attempts) - len(todo),
            requests=len(todo),
            by_cap=Counter("none" if one.cap is None else str(one.cap) for one in todo),
            worst_usd=worst if priced else None,
            held_usd=budget.held_usd if priced else None,
            budget_usd=budget.limit_usd,
            price=budget.prices.origin if budget.prices is not None else None,
            url=self.endpoint.url,
            cap_field=self.endpoint.cap_field,
            without_cap_tokens=budget.most_output,
        )

    def answers_so_far(self) -> int:
        """How many the journal holds by now."""
        try:
            return len(read_journal(self.journal, self.settings).done)
        except InputError:
            return 0

    def _worst_usd(self, attempt: Attempt) -> float:
        return self.budget.worst_usd(prompt_bound(attempt.prompt.text, self.endpoint.system), attempt.cap)

    @shows_progress()
    def run(self, progress: Telling = None) -> Collected:
        """Ask what has no answer yet, grade, and write the table.

        Args:
            progress: instead of the own one.

        Raises:
            InputError: the endpoint cannot be used or measured, a budget that is too small for a single request, code without
                consent or that fails, or a place that cannot be written to. What was answered is kept in the journal.
        """
        if importlib.util.find_spec("httpx2") is None:
            raise InputError("packages", "httpx2", "not installed", "pip install 'ttc-sim[collect]'")
        self.grading.check()
        budget = replace(self.budget)
        before = {one.key for one in self.attempts} & set(self.past.done)
        _count_past(budget, self.past)
        endpoint = self.endpoint
        if len(before) < len(self.attempts):
            endpoint = replace(endpoint, key=key_from(self.key_env))
            self._check_one_fits(budget)
        with suppress(OSError):  # the journal says why it cannot stand there
            self.out.parent.mkdir(exist_ok=True)
        journal = Journal(self.journal, self.settings)
        say = telling("collect", self.progress if progress is None else progress)
        try:
            return self._run(journal, endpoint, budget, say)
        except KeyboardInterrupt as interrupted:
            answers = self.answers_so_far()
            kept = f"{answers:,} answers are kept" if answers else "no answer has come; what was sent is noted"
            interrupted.add_note(f"{kept} in {self.journal}: the same command goes on from there")
            raise
        finally:
            journal.close()
            self.grading.close()

    def _check_one_fits(self, budget: Budget) -> None:
        first = next(one for one in in_order_of_asking(self.attempts) if one.key not in self.past.done)
        worst = self._worst_usd(first)
        if not budget.fits(worst) and not self.past.done:
            expected = f"at least {budget.held_usd + worst:.6g}: what the first request may cost at the most"
            raise InputError("collect", "--budget-usd", budget.limit_usd, expected)

    def _run(self, journal: Journal, endpoint: Endpoint, budget: Budget, say: Progress) -> Collected:
        # With the journal locked: what it said when this was planned may have grown since.
        past = _counted(journal, self.attempts, self.tokenizer, endpoint)
        budget.spent_usd = budget.maybe_usd = 0.0
        _count_past(budget, past)
        done, grades = dict(past.done), dict[Key, Grade]()
        for attempt in self.attempts:
            if attempt.key in done:
                grades[attempt.key] = self._grade_again(attempt, done[attempt.key])
        earlier = len(grades)
        todo = [one for one in in_order_of_asking(self.attempts) if one.key not in done]

        def take(attempt: Attempt, line: dict[str, Any]) -> None:
            done[attempt.key] = line
            grades[attempt.key] = self.grading.grade(line["text"], attempt.prompt)

        from ttc_sim.collecting.overseeing import oversee
        from ttc_sim.collecting.running import Pace, Run

        pace = Pace(min(self.concurrency, max(len(todo), 1)), self.retries)
        run = Run(todo, endpoint, journal, budget, pace, self.seed, self.tokenizer, self.keep_answers)
        if todo:
            oversee(run, len(self.attempts), earlier, budget, take, say)
        table = tabulate(self.attempts, done, grades, endpoint.model, keep_answers=self.keep_answers)
        settled = {
            one.key: self._settled(one, done[one.key], grades[one.key]) for one in self.attempts if one.key in done
        }
        lost = read_journal(self.journal, self.settings).lost
        with written_together():
            if len(table):
                write_table(table, self.out)
            journal.rewrite({**done, **settled}, lost)
        priced = budget.prices is not None
        notes = list(notes_on(table, endpoint.model))
        if self.keep_answers and table["text"].null_count():
            notes.append(f"texts of {table['text'].null_count():,} answers were not kept when they were collected")
        return Collected(
            table=table,
            wanted=len(self.attempts),
            asked=run.tries,
            earlier=earlier,
            failures=dict(run.failures),
            spent_usd=budget.spent_usd if priced else None,
            maybe_usd=budget.maybe_usd if priced else None,
            budget_usd=budget.limit_usd,
            price=budget.prices.origin if budget.prices is not None else None,
            out=self.out,
            journal=self.journal,
            budget_spent=run.short,
            notes=tuple(notes),
        )

    def _grade_again(self, attempt: Attempt, line: Mapping[str, Any]) -> Grade:
        """Of an answer that was there before: by its text, or as it was graded where that is not kept."""
        if line["prompt"] != attempt.prompt.digest:
            problem, expected = attempt.prompt.problem, "the prompt that it was asked with; another --out begins anew"
            raise InputError(self.journal, f"problem {problem}", attempt.prompt.text, expected)
        graded = line.get("graded")
        if graded is not None and graded["by"] == self.grading.by(attempt.prompt):
            return Grade(graded["correct"], graded["answer"])
        if line.get("text") is None:
            expected = "the way in which its answers were graded, as their text was not kept (--keep-answers)"
            raise InputError(self.journal, "--grade", self.grading.said, expected)
        return self.grading.grade(line["text"], attempt.prompt)

    def _settled(self, attempt: Attempt, line: Mapping[str, Any], grade: Grade) -> Mapping[str, Any]:
        """A line with its grade, and without its text unless that is to be kept."""
        graded = {"by": self.grading.by(attempt.prompt), "correct": grade.correct, "answer": grade.answer}
        kept = {
            name: value for name, value in line.items() if self.keep_answers or name not in ("text", "reasoning_text")
        }
        return {**kept, "graded": graded}


def _count_past(budget: Budget, past: Past) -> None:
    """Dollars of earlier runs, at the prices of today."""
    for line in past.done.values():
        tokens, worst = tokens_in(line), budget.worst_usd(int(line["prompt_bound"]), line["done"][1])
        spent = 0.0 if tokens is None else budget.cost_usd(tokens)
        budget.release(0.0, spent=spent, maybe=0.0 if line["usage"] else max(worst - spent, 0.0))
    for one in past.lost:
        budget.release(0.0, maybe=budget.worst_usd(one.prompt_bound, one.cap))


def _counted(
    journal: Journal, attempts: Sequence[Attempt], tokenizer: Callable[[str], int] | None, endpoint: Endpoint
) -> Past:
    """What the journal holds, with tokens counted now where the endpoint had counted none.

    Raises:
        InputError: there is nothing to count them with, or they are no answers under the cap.
    """
    past = journal.past
    prompts = {one.key: one.prompt.text for one in attempts}
    for key, line in past.done.items():
        found = tokens_in(line)
        if found is not None and is_over(found, key[1]):
            raise over_the_cap(endpoint, found, key[1])
        if found is not None or key not in prompts:
            continue
        if tokenizer is None:
            expected = "--tokenizer TOKENIZER.json, as the endpoint counted no tokens of it"
            raise InputError(journal.path, f"problem {key[0]}", "no tokens", expected)
        prompt = prompts[key] + (endpoint.system or "")
        tokens = count_tokens(None, line["reasoning_text"], line["text"], prompt, tokenizer)
        assert tokens is not None
        counts = {f"{name}_tokens": getattr(tokens, name) for name in ("prompt", "cached", "reasoning", "visible")}
        line.update(counts, counted=tokens.counted)
    return past


__all__ = ["Collecting", "DryRun"]
