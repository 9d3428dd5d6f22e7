"""Prompt caches of endpoints, limits of input and output tokens: by hand, token by token, both engines against each other."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.random_caches import random_tree, with_caches
from tests.random_scenarios import TIMES, Times, differences, failing_scenario, scenario
from ttc_sim.base.draws import F64, I64, uniforms
from ttc_sim.base.errors import InputError
from ttc_sim.base.prefix_tree import PrefixTree
from ttc_sim.engine import compiled, reference
from ttc_sim.engine.prompt_cache import PromptCache
from ttc_sim.engine.work import COMPLETED, REJECTED, TIMED_OUT, EngineResult, Work
from ttc_sim.scenario import Api, ApiCache, scenario_from_dict
from ttc_sim.scenario.api_cache import PROVIDERS, CacheRules
from ttc_sim.simulation.memory import Memory

from .conftest import ROOT

# A system prompt, and two conversations that begin with it.
HEAD = PrefixTree(np.array([-1, 0, 0]), np.array([0, 1500, 1500]))


def api(**keys: Any) -> Api:
    given = {"kind": "api", "price": {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 5.0}}
    return Api.model_validate({**given, "first_token": {"median_s": 1.0}, "per_token": {"median_s": 0.01}, **keys})


def turns(
    at_s: list[float],
    prompt: list[int],
    *,
    node: list[int] | None = None,
    shared: list[int] | None = None,
    tree: PrefixTree | None = None,
    answer: int = 100,
    first_s: float = 1.0,
    **more: Any,
) -> Work:
    """Requests one after another, all of one conversation unless said otherwise: the next turn's prompt has the answer too."""
    n = len(at_s)
    given: dict[str, Any] = {
        "arrival_s": np.array(at_s, dtype=np.float64),
        "stage_start": np.arange(n + 1),
        "deployment": np.zeros(n, dtype=np.int64),
        "prompt_tokens": np.array(prompt),
        "prefix_id": np.array(node or [0] * n),
        "sample_start": np.arange(n + 1),
        "reasoning_tokens": np.zeros(n, dtype=np.int64),
        "visible_tokens": np.full(n, answer),
        "first_token_s": np.full(n, first_s),
        "per_token_s": np.full(n, 0.01),
        "backoff": np.full((n, 5), 0.5),
        "prefix_tokens": np.array(prompt) + answer if shared is None else np.array(shared),
        "prefixes": tree,
    }
    return Work(**{**given, **more})


def both(work: Work, *items: Api, **given: Any) -> EngineResult:
    """What both engines say."""
    names = [str(k) for k in range(len(items))]
    slow, fast = (engine([work], names, list(items), **given) for engine in (reference.run, compiled.run))
    assert differences(slow, fast) == []
    return fast


def found(work: Work, item: Api, **given: Any) -> tuple[list[int], list[int]]:
    """Tokens found, and written, of each request."""
    got = both(work, item, **given)
    return got.cached_tokens[0].tolist(), got.written_tokens[0].tolist()


# ------------------------------------------------------------------------------------------------------- by hand


@pytest.mark.parametrize(
    ("provider", "read", "written"),
    [
        # The turn before is found whole, up to where its prompt was marked; after more than five minutes nothing is.
        ("anthropic", [0, 2000, 3000, 0], [2000, 1000, 1000, 5000]),
        ("anthropic-1h", [0, 2000, 3000, 4000], [2000, 1000, 1000, 1000]),
        # In steps of 128 from 1,024 on: 2000 is 15.6 of them, 3000 is 23.4, 4000 is 31.2, 5000 is 39.06.
        ("openai", [0, 1920, 2944, 0], [1920, 1024, 1024, 4992]),
        ("openai-24h", [0, 1920, 2944, 3968], [1920, 1024, 1024, 1024]),
        ("openai-breakpoints", [0, 2000, 3000, 4000], [2000, 1000, 1000, 1000]),
        # With the answer of 100 tokens, in steps of 64: 2100 is 32.8 of them.
        ("deepseek", [0, 2048, 3072, 4096], [1984, 896, 896, 896]),
    ],
)
def test_turns_of_a_conversation(provider: str, read: list[int], written: list[int]) -> None:
    work = turns([0.0, 10.0, 20.0, 400.0], [2000, 3000, 4000, 5000])
    assert found(work, api(cache={"provider": provider})) == (read, written)


def test_what_is_used_lives_on_and_the_last_moment_counts() -> None:
    """Ten turns 300 s apart each find the one before; one that comes a millisecond later does not."""
    item = api(cache={"provider": "anthropic"})
    at_s = [300.0 * k for k in range(10)]
    read, _ = found(turns(at_s, [2000 + 10 * k for k in range(10)]), item)
    assert read == [0, *(2000 + 10 * k for k in range(9))]
    read, written = found(turns([0.0, 300.001], [2000, 2000]), item)
    assert (read, written) == ([0, 0], [2000, 2000])


@pytest.mark.parametrize("tokens", [1023, 1024])
@pytest.mark.parametrize("provider", ["anthropic", "openai"])
def test_the_least_length(provider: str, tokens: int) -> None:
    read, written = found(turns([0.0, 10.0], [tokens, tokens]), api(cache={"provider": provider}))
    assert (read, written) == (([0, 1024], [1024, 0]) if tokens == 1024 else ([0, 0], [0, 0]))


def test_a_system_prompt_is_found_by_others_where_its_end_is_marked() -> None:
    """Two conversations begin with the same 1,500 tokens. OpenAI's older cache finds 11 steps of 128 without any mark."""
    work = turns([0.0, 10.0, 20.0], [4000, 5000, 6000], node=[1, 2, 1], tree=HEAD)

    def of(**cache: Any) -> list[int]:
        return found(work, api(cache=cache))[0]

    assert of(provider="anthropic") == [0, 1500, 4000]
    assert of(provider="anthropic", breakpoints=2) == [0, 1500, 4000]
    assert of(provider="anthropic", breakpoints=1) == [0, 0, 4000]  # the end of each prompt alone
    assert of(provider="openai-breakpoints") == [0, 0, 4000]
    assert of(provider="openai") == [0, 1408, 3968]
    assert of(provider="anthropic", min_tokens=2048) == [0, 0, 4000]


def test_questions_about_one_document() -> None:
    """Anthropic's worked example: a book of 188,086 tokens that is marked, and 21 tokens after it: written once, then read.

    Where providers mark the end of the prompt themselves, all is paid to be kept, and nobody finds it again.
    """
    work = turns([0.0, 10.0], [188_107, 188_107], shared=[188_086, 188_086])
    assert found(work, api(cache={"provider": "anthropic"})) == ([0, 188_086], [188_086, 0])
    for cache in ({"provider": "anthropic", "breakpoints": 1}, {"provider": "openai-breakpoints"}):
        assert found(work, api(cache=cache)) == ([0, 0], [188_107, 188_107])


def test_the_same_prompt_again() -> None:
    """OpenAI's worked example: of a prompt of 2,006 tokens 1,920 are found, 15 steps of 128."""
    assert found(turns([0.0, 10.0], [2006, 2006]), api(cache={"provider": "openai"})) == ([0, 1920], [1920, 0])


def test_a_prompt_is_there_once_its_answer_begins() -> None:
    """Sub-agents that are sent at once all pay for it; those after the first token do not. One second to it."""
    work = turns([0.0, 0.0, 0.999, 1.0], [2000] * 4)
    assert found(work, api(cache={"provider": "anthropic"})) == ([0, 0, 0, 2000], [2000, 2000, 2000, 0])


def test_calls_that_get_no_answer_keep_nothing() -> None:
    """Given up before the first token, broken at once, broken at the first token: the last has been kept."""
    item = api(cache={"provider": "anthropic"}, timeout_s=0.9)
    work = turns([0.0, 10.0], [2000, 2000])
    got = both(work, item)
    assert (got.status == TIMED_OUT).all()
    assert got.cached_tokens[0].tolist() == got.written_tokens[0].tolist() == [0, 0]
    assert found(work, api(cache={"provider": "anthropic"}, timeout_s=1.0)) == ([0, 2000], [2000, 0])
    assert found(work, api(cache={"provider": "anthropic"}, timeout_s=0.9, on_timeout="finish"))[0] == [0, 2000]
    for after, kept in (("at_once", 0), ("first_token", 2000)):
        errors = {"rate": 0.5, "after": after}
        broken = turns([0.0, 10.0], [2000, 2000], breaks=np.array([[1], [0]], dtype=np.int8))
        read, written = found(broken, api(cache={"provider": "anthropic"}, errors=errors, retry={"retries": 0}))
        assert (read, written) == ([0, kept], [kept, 2000 - kept])


def test_what_a_lost_attempt_read_and_wrote_is_counted_as_lost() -> None:
    """The second turn breaks after its first token and is made again: it wrote 1,000 tokens, which are then read."""
    breaks = np.array([[0, 0], [1, 0]], dtype=np.int8)
    errors, retry = {"rate": 0.5, "after": "first_token"}, {"retries": 1, "on": ["error"]}
    work = turns([0.0, 10.0], [2000, 3000], breaks=breaks)
    got = both(work, api(cache={"provider": "anthropic"}, errors=errors, retry=retry))
    assert got.attempts is not None
    assert (got.cached_tokens[0].tolist(), got.written_tokens[0].tolist()) == ([0, 3000], [2000, 0])
    assert (got.attempts.lost_cached[0].tolist(), got.attempts.lost_written[0].tolist()) == ([0, 2000], [0, 1000])


def test_each_endpoint_has_its_own() -> None:
    """A conversation that changes its model finds nothing there, and what it left when it returns."""
    work = turns([0.0, 10.0, 20.0, 30.0], [2000, 3000, 4000, 5000], deployment=np.array([0, 1, 1, 0]))
    cached = api(cache={"provider": "anthropic"})
    got = both(work, cached, cached)
    assert got.cached_tokens[0].tolist() == [0, 0, 3000, 2000]
    got = both(work, cached, api())
    assert got.cached_tokens[0].tolist() == [0, 0, 0, 2000]
    assert got.written_tokens[0].tolist() == [2000, 0, 0, 3000]


def test_without_a_cache_or_anything_in_common_nothing_changes() -> None:
    """Relation 11: of times and tokens nothing at all, but that prompts are paid to be kept where they have a conversation."""
    work = turns([0.0, 10.0], [2000, 2000])
    plain, cached = api(requests_per_minute=60), api(requests_per_minute=60, cache={"provider": "anthropic"})
    for alone in (turns([0.0, 10.0], [2000, 2000], node=[-1, -1]), turns([0.0, 10.0], [2000, 2000], shared=[0, 0])):
        got = both(alone, cached)
        assert not got.cached_tokens[0].any()
        assert not got.written_tokens[0].any()
    without, got = both(work, plain), both(work, cached)
    assert without.written_tokens == ()
    for name in ("started_s", "first_token_s", "finished_s"):
        assert getattr(got, name).tobytes() == getattr(without, name).tobytes()


# -------------------------------------------------------------------------------------------------------- limits


def test_what_is_found_counts_against_limits_as_the_provider_has_it() -> None:
    """6,000 input tokens a minute, 4,000 taken at 0 s, 1,000 more come back by 10 s: 3,000 are left, of 5,000 asked for."""
    work = turns([0.0, 10.0], [4000, 5000])
    once = {"input_tokens_per_minute": 6000, "retry": {"retries": 0}}
    for provider, status in (("anthropic", COMPLETED), ("openai", REJECTED)):
        got = both(work, api(cache={"provider": provider}, **once))
        assert got.status.tolist() == [COMPLETED, status]
    got = both(work, api(cache={"provider": "openai", "reads_count": False}, **once))
    assert got.cached_tokens[0].tolist() == [0, 3968]
    # A call that is refused uses nothing, and keeps nothing.
    late = turns([0.0, 250.0, 340.0], [4000, 7000, 4000])
    got = both(late, api(cache={"provider": "anthropic"}, input_tokens_per_minute=4500, retry={"retries": 0}))
    assert got.status.tolist() == [COMPLETED, COMPLETED, COMPLETED]  # 3,000 of 7,000 are counted
    got = both(late, api(cache={"provider": "anthropic"}, output_tokens_per_minute=99, retry={"retries": 0}))
    assert (got.status == REJECTED).all()


def test_a_call_that_could_fit_once_it_is_kept_is_asked_for_again() -> None:
    """8,000 of 6,000 a minute: never, unless 4,000 of them are in the cache, which do not count."""
    work = turns([0.0, 0.0], [8000, 8000], node=[-1, 0])
    got = both(work, api(cache={"provider": "anthropic"}, input_tokens_per_minute=6000, retry={"retries": 3}))
    assert (got.status == REJECTED).all()
    assert got.retries.tolist() == [0, 3]
    got = both(turns([0.0, 60.0], [4000, 8000]), api(cache={"provider": "anthropic"}, input_tokens_per_minute=6000))
    assert (got.status == COMPLETED).all()


@pytest.mark.parametrize(
    ("limit", "accepted"),
    [
        ({"requests_per_minute": 60}, 20),
        ({"requests_per_minute": 60, "limit_window_s": 10}, 10),  # 60 * 10 / 60
        ({"tokens_per_minute": 6600}, 6),  # of 1,100 each
        ({"tokens_per_minute": 6600, "limit_window_s": 10}, 1),
        ({"input_tokens_per_minute": 12_000}, 12),
        ({"output_tokens_per_minute": 1200}, 12),
        ({"output_tokens_per_minute": 1200, "limit_window_s": 10}, 2),
        ({"input_tokens_per_minute": 9000, "output_tokens_per_minute": 700, "requests_per_minute": 8}, 7),
    ],
)
def test_as_many_at_once_as_a_window_allows(limit: dict[str, float], accepted: int) -> None:
    """Twenty calls of 1,000 and 100 tokens at one instant."""
    work = turns([0.0] * 20, [1000] * 20, node=[-1] * 20)
    got = both(work, api(**limit, retry={"retries": 0}))
    assert int((got.status == COMPLETED).sum()) == accepted


def test_a_shorter_window_allows_as_much_over_a_minute() -> None:
    """One call a second is what 60 a minute allow, in any window; two a second are refused half of the time in the long run."""
    for window in (10, 60):
        steady = turns([float(k) for k in range(600)], [10] * 600)
        item = api(requests_per_minute=60, limit_window_s=window, retry={"retries": 0})
        assert (both(steady, item).status == COMPLETED).all()
        double = turns([0.5 * k for k in range(1200)], [10] * 1200)
        assert int((both(double, item).status == COMPLETED).sum()) == pytest.approx(600 + window, abs=1)


# ---------------------------------------------------------------------------------------------- token by token


def by_tokens(rules: CacheRules, work: Work, tree: PrefixTree, timeout_s: float) -> list[int]:
    """What an automatic cache finds, each token looked at by itself; calls in the order of their numbers."""
    kept: dict[tuple[int, int], tuple[float, float]] = {}  # since when, and last used
    read = []
    for k in range(work.requests):
        now_s, first_s = float(work.arrival_s[k]), float(work.first_token_s[k])
        assert work.prefix_tokens is not None
        most = min(int(work.prompt_tokens[k]), int(work.prefix_tokens[k]))
        most -= most % rules.step_tokens
        path = tree.path(int(work.prefix_id[k]))
        ends = [*(int(tree.start[node]) for node in path[1:]), most]
        tokens = [
            (node, i) for node, end in zip(path, ends, strict=True) for i in range(tree.start[node], min(end, most))
        ]
        hit = 0
        for token in tokens if most >= rules.min_tokens else []:
            from_s, used_s = kept.get(token, (math.inf, 0.0))
            if from_s > now_s or now_s > used_s + rules.ttl_s:
                break
            hit += 1
        hit -= hit % rules.step_tokens
        hit = 0 if hit < rules.min_tokens else hit
        read.append(hit)
        begins = first_s <= timeout_s
        for place, token in enumerate(tokens if begins and most >= rules.min_tokens else tokens[:hit]):
            from_s, used_s = kept.get(token, (math.inf, -math.inf))
            if now_s > used_s + rules.ttl_s:
                from_s = math.inf
            kept[token] = (from_s if place < hit else min(from_s, now_s + first_s), now_s)
    return read


def test_what_is_found_is_what_each_token_says() -> None:
    """Random conversations and trees, calls that are given up, lives shorter than pauses: compared for both engines."""
    total = 0
    for seed in range(150):
        u = uniforms(seed, "settings", 1, 8)[0]
        tree, ends = random_tree(seed, 1 + int(u[0] * 8), 40)
        rules = {
            "kind": "automatic",
            "min_tokens": int(u[1] * 12),
            "step_tokens": (1, 1, 4)[int(u[2] * 3)],
            "ttl_s": (0.5, 3.0, 1e9)[int(u[3] * 3)],
        }
        n, v = 40, uniforms(seed, "calls", 40, 5)
        node = (v[:, 0] * len(tree)).astype(np.int64)
        shared = tree.start[node] + (v[:, 1] * (np.maximum(ends - tree.start, 0)[node] + 1)).astype(np.int64)
        arrival_s: F64 = np.round(np.cumsum(v[:, 2]) * 8) / 8
        prompt: I64 = np.maximum(shared + (v[:, 3] * 20 - 10).astype(np.int64), 1)
        work = turns(
            arrival_s.tolist(),
            prompt.tolist(),
            node=node.tolist(),
            shared=shared.tolist(),
            tree=tree,
            first_token_s=np.round(v[:, 4] * 16) / 8,
        )
        timeout_s = 1.75 if u[4] < 0.5 else 1e6
        item = api(cache=rules, timeout_s=timeout_s)
        assert item.cache is not None
        got = found(work, item)[0]
        assert got == by_tokens(item.cache.rules, work, tree, timeout_s), seed
        total += sum(got)
        assert len(got) == n
    assert total > 10_000


@pytest.mark.parametrize("times", TIMES)
def test_engines_agree_on_caches_and_limits(times: Times) -> None:
    """Errors, retries, fallbacks, live load, clocks that stop: to the last digit. What is found and written was sent."""
    read = written = 0
    for seed in range(50):
        for make in (scenario, failing_scenario):
            case = with_caches(make(seed, times), seed, times)
            given = case.works, case.names, case.deployments, case.rule, case.until_s
            slow = reference.run(*given, following=case.following, outages=case.outages)
            fast = compiled.run(*given, following=case.following, outages=case.outages)
            assert differences(slow, fast) == [], f"with_caches({make.__name__}({seed}, {times!r}), {seed}, {times!r})"
            for k, more in enumerate(fast.written_tokens):
                assert (fast.cached_tokens[k] + more <= fast.prefilled_tokens[k]).all()
                read, written = read + int(fast.cached_tokens[k].sum()), written + int(more.sum())
    assert min(read, written) > 1000


def test_lists_of_what_is_kept_stay_short() -> None:
    """A conversation of 20,000 turns takes no longer than many short ones: what it kept before is not looked at again."""
    n = 20_000
    work = turns([2.0 * k for k in range(n)], [2000 + 100 * k for k in range(n)])
    for provider in ("anthropic", "openai", "deepseek"):
        got = compiled.run([work], ["a"], [api(cache={"provider": provider})])
        share = got.cached_tokens[0][1:] / work.prompt_tokens[1:]
        assert share.min() > 0.9


# ------------------------------------------------------------------------------------------------------ scenarios


def test_every_provider_has_its_documented_rules_and_keys_win() -> None:
    for name, rules in PROVIDERS.items():
        given = {"provider": name, **({"ttl_s": 300.0} if name == "gemini" else {})}
        resolved = ApiCache.model_validate(given).rules
        assert resolved == (rules if name != "gemini" else CacheRules(0, 4096, 1, 300.0))
    own = ApiCache.model_validate({"provider": "anthropic", "min_tokens": 4096, "ttl_s": 60.0, "breakpoints": 2})
    assert own.rules == CacheRules(2, 4096, 1, 60.0, reads_count=False)
    marked = ApiCache.model_validate({"provider": "openai", "kind": "breakpoints"})
    assert marked.rules == CacheRules(4, 1024, 1, 300.0)
    whole = ApiCache.model_validate({"provider": "anthropic", "kind": "automatic"})
    assert whole.rules == CacheRules(0, 1024, 1, 300.0, reads_count=False)


def test_shortest_prompts_by_model() -> None:
    """Documented by model: the price says which it is, ``min_tokens`` wins."""

    def least(model: str, provider: str = "anthropic", **cache: Any) -> int:
        price = {"provider": provider.split("-")[0], "model": model, "on": "2026-11-01"}
        rules = api(price=price, cache={"provider": provider, **cache}).cache_rules
        assert rules is not None
        return rules.min_tokens

    assert least("claude-haiku-4-5-20251001") == 4096
    assert least("claude-opus-5", "anthropic-1h") == 512
    assert least("claude-opus-5-5") == least("claude-sonnet-4-5") == 1024
    assert least("claude-opus-5", min_tokens=700) == 700
    work = turns([0.0, 10.0], [2000, 3000])
    price = {"provider": "anthropic", "model": "claude-haiku-4-5", "on": "2026-11-01"}
    assert found(work, api(price=price, cache={"provider": "anthropic"})) == ([0, 0], [0, 0])


def test_a_run_is_not_taken_for_that_of_another_model() -> None:
    """What is paid changes nothing that is done, but for the model whose price it is: it says how long a prompt must be."""
    models = ("claude-haiku-4-5", "claude-sonnet-4-5", "claude-sonnet-4-6")
    ran, memory, work = [], Memory(), turns([0.0], [10])
    for name in models:
        price = {"provider": "anthropic", "model": name, "on": "2026-11-01"}
        served = api(price=price, cache={"provider": "anthropic"})
        looked_up: Any = SimpleNamespace(deployment_names=("a",), deployments=(served,))
        memory.ran(looked_up, [work], None, lambda name=name: ran.append(name))  # type: ignore[misc]
    assert ran == ["claude-haiku-4-5", "claude-sonnet-4-5"]


def raw(**keys: Any) -> dict[str, Any]:
    arrivals = {"process": "even", "rate_per_s": 1.0}
    lengths = {"prompt_tokens": {"median": 10, "p95": 20}, "output_tokens": {"median": 10, "p95": 20}}
    given = {"kind": "api", "price": {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 5.0}}
    given |= {"first_token": {"median_s": 1.0}, "per_token": {"median_s": 0.01}}
    return {
        "name": "cached",
        "workload": {"arrivals": arrivals, "requests": 5, "lengths": lengths},
        "deployments": {"a": {**given, **keys}},
        "arms": {"a": {"deployment": "a"}},
        "policy": "Always('a')",
    }


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"cache": {}}, ["cache.kind", "provider"]),
        ({"cache": {"kind": "automatic"}}, ["cache.min_tokens", "provider"]),
        ({"cache": {"provider": "antropic"}}, ["cache.provider", "anthropic"]),
        ({"cache": {"provider": "gemini"}}, ["cache.ttl_s", "Google documents no time to live"]),
        ({"cache": {"provider": "openai", "breakpoints": 2}}, ["cache.breakpoints", "openai keeps all of a prompt"]),
        ({"cache": {"provider": "anthropic", "step_tokens": 2}}, ["cache.step_tokens", "none beside breakpoints"]),
        ({"cache": {"provider": "anthropic", "breakpoints": 5}}, ["cache.breakpoints", "4"]),
        ({"cache": {"provider": "openai", "kind": "automatic", "breakpoints": 1}}, ["cache.breakpoints", "automatic"]),
        ({"cache": {"provider": "anthropic", "ttl_s": 0}}, ["cache.ttl_s", "greater than 0"]),
        ({"cache": {"provider": "anthropic", "min_tokens": -1}}, ["cache.min_tokens"]),
        ({"cache": {"provider": "anthropic", "ttl": 300}}, ["cache", "'ttl_s'"]),
        ({"cache": "anthropic"}, ["cache"]),
        ({"cache": {"provider": "anthropic", "reads_count": True}}, ["cache.reads_count", "tokens_per_minute"]),
        (
            {
                "cache": {"provider": "openai"},
                "price": {"provider": "openai", "model": "gpt-6-sol", "on": "2026-11-01"},
            },
            ["cache.provider", "openai-breakpoints", "gpt-6-sol"],
        ),
        ({"limit_window_s": 10}, ["limit_window_s", "none without a limit"]),
        ({"limit_window_s": 30, "requests_per_minute": 60}, ["limit_window_s", "10", "60"]),
        ({"limit_window_s": 10, "requests_per_minute": 5}, ["requests_per_minute", "at least 6"]),
        ({"input_tokens_per_minute": 0}, ["input_tokens_per_minute", "greater than 0"]),
        ({"output_tokens_per_minute": "many"}, ["output_tokens_per_minute"]),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(keys: dict[str, Any], said: list[str]) -> None:
    scenario_from_dict(raw())
    with pytest.raises(InputError) as error:
        scenario_from_dict(raw(**keys))
    assert all(part in str(error.value) for part in said), str(error.value)


# ------------------------------------------------------------------------------------------------------- the page


def test_the_page_says_what_is_done() -> None:
    """Keys, providers with their rules, and the conversation by hand: docs/api-caches.md."""
    text = (ROOT / "docs" / "api-caches.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| `")
    ]
    keys = {row[0].strip("`") for row in rows if len(row) == 2}
    assert keys == set(ApiCache.model_fields)
    lives = {
        "5 min": 300.0,
        "1 h": 3600.0,
        "24 h": 86400.0,
        "30 min": 1800.0,
        "2 h": 7200.0,
        "`ttl_s` must be given": math.inf,
    }
    said = {}
    for name, kind, least, steps, life, reads in (row for row in rows if len(row) == 6 and row[1] != "kind"):
        marks = int(kind.split(", ")[1]) if kind.startswith("breakpoints") else 0
        rules = (marks, int(least.replace(",", "")), int(steps), lives[life], "answers" in kind, reads == "yes")
        said[name.split("`")[1]] = CacheRules(*rules)
    assert said == PROVIDERS
    work = turns([0.0, 10.0, 20.0, 380.0], [2000, 3000, 4000, 5000])
    for name, *cells in (row for row in rows if len(row) == 5):
        provider = name.split("`")[1]
        pairs = [tuple(int(part.replace(",", "")) for part in cell.split(", ")) for cell in cells]
        assert list(zip(*found(work, api(cache={"provider": provider})), strict=True)) == pairs, provider


@pytest.mark.parametrize(("marks", "found"), [(4, 2000), (3, 2000), (2, 1100)])
def test_a_turn_whose_last_message_is_taken_back_finds_the_rest(marks: int, found: int) -> None:
    """The second prompt leaves the first before its end: there is a mark where it does, unless there are but two."""
    tree = PrefixTree(np.array([-1, 0, 1, 1]), np.array([0, 1100, 2000, 2000]))
    cache = PromptCache(replace(PROVIDERS["anthropic"], breakpoints=marks), tree)
    cache.use(2, 2500, 2500, 0, 0.0, 1.0, (0, 0.0))
    assert cache.find(3, 2600, 10.0) == found
