"""Collecting, from what a user says: checked before anything is asked or paid for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

from ttc_sim.base.arguments import count, finite
from ttc_sim.base.consent import AllowCode
from ttc_sim.base.errors import InputError
from ttc_sim.base.limits import MOST_AMOUNT, MOST_SEED
from ttc_sim.base.progress import Telling
from ttc_sim.collecting.budget import Budget, checked_limit, most_output_of, prices_for
from ttc_sim.collecting.carrying_out import Collecting
from ttc_sim.collecting.endpoints import Endpoint, address, checked_body, field_for_caps
from ttc_sim.collecting.grading import Grading
from ttc_sim.collecting.journal import Past, read_journal
from ttc_sim.collecting.prompts import read_prompts
from ttc_sim.collecting.tabulating import Collected
from ttc_sim.collecting.tokenizing import tokens_by
from ttc_sim.collecting.wanted import checked_caps, wanted_attempts
from ttc_sim.files.opening import is_folder
from ttc_sim.files.writing import check_outputs, checked

MOST_SAMPLES = 32_768
MOST_CONCURRENCY = 1024
_TABLE, _JOURNAL = "attempts.parquet", ".journal"


def plan_collecting(
    prompts: str | Path,
    *,
    endpoint: str,
    model: str,
    out: str | Path,
    samples: int = 1,
    caps: Sequence[int | None] = (None,),
    budget_usd: float | None = None,
    no_budget: bool = False,
    price: str | None = None,
    input_usd_per_mtok: float | None = None,
    output_usd_per_mtok: float | None = None,
    endpoint_limit_tokens: int | None = None,
    cap_field: str | None = None,
    key_env: str | None = None,
    system: str | None = None,
    body: Mapping[str, Any] | None = None,
    seed: int | None = None,
    concurrency: int = 8,
    timeout_s: float = 600.0,
    retries: int = 4,
    grade: str = "none",
    problem_column: str | None = None,
    prompt_column: str | None = None,
    target_column: str | None = None,
    tokenizer: str | Path | None = None,
    starts_thinking: bool = False,
    keep_answers: bool = False,
    env_proxy: bool = False,
    allow_code: AllowCode = False,
    progress: Telling = None,
    dry: bool = False,
) -> Collecting:
    """Check what is to be collected, as :func:`collect` has it; nothing is asked, written or run.

    Args:
        prompts: table of a key and a text a row (Parquet, CSV or JSONL).
        endpoint: address of an OpenAI-compatible API, as ``http://127.0.0.1:8000/v1``; model: the model's name there.
        out: table to write (``.parquet``, ``.csv``, ``.jsonl``), or a folder for ``attempts.parquet``.
        samples: attempts at each prompt and cap; caps: limits of output tokens, reasoning included, ``None`` for none.
        budget_usd: US dollars that are never exceeded, or ``no_budget``. It needs a price.
        price: ``provider/model`` of genai-prices; or input_usd_per_mtok, output_usd_per_mtok: US dollars per million tokens.
        endpoint_limit_tokens: most output tokens without a cap; the model's context in genai-prices if left out.
        cap_field: ``max_tokens`` or ``max_completion_tokens``; the latter at OpenAI's if left out.
        key_env: environment variable with the key; none is sent if left out.
        system: system prompt; body: further keys of each request; seed: of one seed for each attempt, which is sent along.
        concurrency: requests at once; timeout_s: seconds of each; retries: further tries of one that fails.
        grade: ``exact``, ``regex:PATTERN``, ``FILE.py:NAME`` or ``none``.
        problem_column, prompt_column, target_column: columns without one of the usual names.
        tokenizer: ``tokenizer.json``, to count what the endpoint does not.
        starts_thinking: whether answers are thinking up to ``</think>``, or altogether, though no ``<think>`` begins them.
        keep_answers: whether the table, and the journal, keep texts; env_proxy: whether proxies of the environment are used.
        allow_code: whether the function of ``grade`` may run.
        progress: ``True`` shows how far it is and the time left, a function is told by lines, ``False`` is silent; left out, it is
            shown in an open notebook (:func:`ttc_sim.base.showing.telling`).
        dry: a budget need not be given.

    Raises:
        InputError: the first thing wrong.
    """
    out = Path(out)
    as_folder = is_folder(out) or not out.suffix
    out = out / _TABLE if as_folder else out
    where = "collect"
    for name, text in (("--model", model), ("--endpoint", endpoint)):
        if not isinstance(text, str) or not text.strip():
            raise InputError(where, name, text, "text that is not empty")
    samples = count(where, "--samples", samples, 1, MOST_SAMPLES, "attempts at each prompt")
    concurrency = count(where, "--concurrency", concurrency, 1, MOST_CONCURRENCY, "requests at once")
    retries = count(where, "--retries", retries, 0, 100, "further tries")
    if seed is not None:
        seed = count(where, "--seed", seed, 0, MOST_SEED)
    if not finite(timeout_s) or not 0 < timeout_s <= MOST_AMOUNT:
        raise InputError(where, "--timeout-s", timeout_s, "seconds above 0")
    caps = checked_caps(caps)
    url = address(endpoint)
    prices, context = prices_for(price, input_usd_per_mtok, output_usd_per_mtok)
    limit = None if dry and budget_usd is None else checked_limit(budget_usd, no_budget, priced=prices is not None)
    budget = Budget(limit, prices, most_output_of(endpoint_limit_tokens, context))
    if limit is not None and None in caps and budget.most_output is None:
        expected = "--endpoint-limit-tokens beside it, the most that the endpoint generates: a budget needs to know"
        raise InputError(where, "--caps", "none", expected)
    grading = Grading(grade, allow_code)
    asked = read_prompts(
        prompts,
        problem=problem_column,
        prompt=prompt_column,
        target=target_column,
        needs_target=grading.needs_target,
    )
    if out.parent.is_dir():
        check_outputs(prompts, table=out)
    else:
        checked(out.parent if as_folder else out)
    journal = out.with_name(out.name + _JOURNAL)
    if out.exists() and out.is_file() and not journal.exists():
        expected = f"a file that is not there, or one that this command wrote ({journal.name} stands beside those)"
        raise InputError(out, "--out", str(out), expected)
    planned = Collecting(
        attempts=tuple(wanted_attempts(asked, caps, samples)),
        endpoint=Endpoint(
            url=url,
            model=model.strip(),
            cap_field=field_for_caps(cap_field, url),
            system=system or None,
            body=checked_body({} if body is None else body),
            timeout_s=float(timeout_s),
            starts_thinking=starts_thinking,
            env_proxy=env_proxy,
        ),
        grading=grading,
        budget=budget,
        tokenizer=None if tokenizer is None else tokens_by(tokenizer),
        seed=seed,
        concurrency=concurrency,
        retries=retries,
        keep_answers=keep_answers,
        key_env=key_env,
        out=out,
        journal=journal,
        past=Past(),
        progress=progress,
    )
    past = read_journal(journal, planned.settings)
    unknown = [one.cap for one in past.lost] + [key[1] for key, line in past.done.items() if not line["usage"]]
    if limit is not None and budget.most_output is None and None in unknown:
        expected = "it, as earlier requests without a cap failed or were not counted: how much they may have cost"
        raise InputError(where, "--endpoint-limit-tokens", None, expected)
    return replace(planned, past=past)


_Given = ParamSpec("_Given")


def _carried_out(plan: Callable[_Given, Collecting]) -> Callable[_Given, Collected]:
    @wraps(plan)
    def collect(*given: _Given.args, **options: _Given.kwargs) -> Collected:
        return plan(*given, **options).run()

    collect.__name__ = collect.__qualname__ = "collect"
    arguments = (plan.__doc__ or "").partition("    Args:")[2].partition("    Raises:")[0]
    collect.__doc__ = f"""Measure a live endpoint: ask it prompts, and write a table of attempts for ``ttc-sim profile build``.

    What was answered is kept beside the table, in a journal: the same call goes on from there and asks nothing twice.

    Args:{arguments}    Raises:
        InputError: the first thing wrong; what was answered by then is kept.
    """
    return collect


collect = _carried_out(plan_collecting)
