"""Derive the shipped profiles from the measured data beside the checkout: numbers only, no prompt text.

Run ``python scripts/build_profiles.py``; the same data gives the same bytes.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import polars as pl

from ttc_sim.base.draws import uniforms
from ttc_sim.measured.cards import ProblemSetCard, ProfileCard, SessionsCard, TrafficCard
from ttc_sim.measured.filling import fill_reasoning
from ttc_sim.measured.folders import save_folder
from ttc_sim.measured.profiles import ATTEMPT_COLUMNS, Profile, check_profile, save_profile
from ttc_sim.measured.session_tables import read_sessions
from ttc_sim.measured.sessions import save_sessions

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
OUT = ROOT / "profiles"
DATE = "2026-11-24"
CL100K = "cl100k_base, from the recorded text"
LIMIT = 32_768  # longest output in the DeepSeek-R1 traffic; attempts with an empty answer are taken to have reached it

GYM = {
    "mistral-small-3.1-24b-instruct": None,
    "gemma-3-27b-it": None,
    "llama-3.3-70b-instruct": None,
    "llama-4-scout": None,
    "llama-4-maverick": None,
    "claude-3.5-sonnet": None,
    "claude-sonnet-4": None,
    "qwq-32b": "filled",
    "deepseek-r1": "filled",
    "o3-mini": "filled",
    "grok-3-mini-beta": "filled",
}
LONG_SKY = [
    "sky-t1-math-correct-5k-32b-ckpts",
    "sky-t1-math-corrupt-0.2-32b",
    "sky-t1-math-corrupt-0.5-32b",
    "sky-t1-math-corrupt-0.7-32b",
    "sky-t1-math-reflection-0.2-32b",
    "sky-t1-math-reflection-0.5-32b",
    "sky-t1-math-reflection-1.0-32b",
]
MATHS = {
    "sky-t1-32b": LONG_SKY,
    "sky-t1-32b-short": ["sky-t1-math-correct-5k-32b-short-ckpts"],
    "qwen2.5-14b-instruct": ["qwen2.5-14b-instruct"],
    "qwen2.5-math-7b": ["qwen2.5-math-7b"],
    "gemma-2-27b-it": ["gemma-2-27b-it"],
    "maj-example": ["maj-example"],
}


def main() -> None:
    if not DATA.is_dir():
        raise SystemExit(f"{DATA} is not there: the profiles can only be rebuilt beside the measured data")
    maths = build_maths()
    build_traffic()
    build_sessions()
    build_gym(maths)
    build_mmlu()
    size = sum(file.stat().st_size for file in OUT.rglob("*") if file.is_file())
    print(f"all together {size / 1e6:.2f} MB")


def attempts_of(table: pl.DataFrame) -> pl.DataFrame:
    return table.select(pl.col(name).cast(kind) for name, kind in ATTEMPT_COLUMNS.items()).sort("problem", "attempt")


def ship(name: str, card: ProfileCard, table: pl.DataFrame) -> Profile:
    profile = Profile(name, card, attempts_of(table))
    check_profile(profile, name)
    save_profile(profile, OUT / name, replace=True)
    accuracy = profile.attempts["correct"].to_numpy().mean()
    print(
        f"{name}: {profile.attempts['problem'].n_unique()} problems, {len(profile.attempts)} attempts, {accuracy:.3f}"
    )
    return profile


def ship_problems(name: str, card: ProblemSetCard, table: pl.DataFrame) -> None:
    problems = table.select("problem", "subset", "group", pl.col("prompt_tokens").cast(pl.Int32)).sort("problem")
    folder = OUT / name
    folder.mkdir(parents=True, exist_ok=True)
    # The scores beside the problems come from scripts/train_predictor.py, the profiles below them from here.
    beside = OUT / f".{name}.new"
    save_folder(beside, "problem_set.yaml", card, {"problems": problems}, replace=True)
    for file in beside.iterdir():
        file.replace(folder / file.name)
    beside.rmdir()


def prompt_tokens(attempts: pl.DataFrame) -> pl.DataFrame:
    return attempts.group_by("problem").agg(pl.col("prompt_tokens").median().cast(pl.Int32))


def build_maths() -> Profile:
    """Competition maths; returns the long-thinking profile, whose lengths by outcome others borrow."""
    keyed = pl.format("{}/{}", "dataset", "problem_id").alias("problem")
    attempts = pl.read_parquet(DATA / "math-attempts/attempts.parquet").with_columns(keyed)
    problems = pl.read_parquet(DATA / "math-attempts/problems.parquet").with_columns(keyed)
    group = (
        pl.when(pl.col("subject") != "")
        .then(pl.col("subject"))
        .otherwise(pl.col("dataset"))
        .fill_null(pl.col("dataset"))
    )
    card = ProblemSetCard(
        origin="SkyThought: MATH-500, AIME 2024, AMC 2023, OlympiadBench, Minerva Math",
        licence="Apache-2.0",
        date=DATE,
        tokenizer=CL100K,
        limits="A part of every set is withheld at random by problem; 26 AIME and 31 AMC problems remain.",
        cluster="problem",
    )
    table = problems.select("problem", subset="dataset", group=group).join(prompt_tokens(attempts), on="problem")
    ship_problems("math", card, table)
    built = {}
    for name, sources in MATHS.items():
        mine = attempts.filter(pl.col("model").is_in(sources) & ~pl.col("dataset").is_in(["aime22-24"]))
        if name == "sky-t1-32b":
            mine = mine.filter(pl.col("dataset").is_in(["aime24", "amc23"]))
        mine = mine.sort("problem", "model", "checkpoint", "attempt")
        mine = mine.with_columns(attempt=pl.int_range(pl.len()).over("problem"))
        if name == "sky-t1-32b":
            limits = (
                "Repeated attempts come from several checkpoints and training variants of one 32B model, so they differ a "
                "little more than samples of one checkpoint would. AIME and AMC only. 41% of the AIME attempts were stopped "
                "near 32k tokens without an answer. Thinking and answer were not told apart: all output counts as thinking."
            )
        else:
            limits = "One attempt a problem (eight in maj-example): no spread between attempts of one problem is known."
        with_answers = mine["answer"].null_count() == 0
        answer = (
            pl.Series([_hashed(a) for a in mine["answer"]], dtype=pl.String)
            if with_answers
            else pl.lit(None, pl.String)
        )
        long_thinking = name == "sky-t1-32b"
        zero = pl.lit(0)
        total = pl.col("output_tokens").clip(1)
        mine = mine.with_columns(
            reasoning_tokens=(total - 1) if long_thinking else zero,
            visible_tokens=pl.lit(1) if long_thinking else total,
            truncated=pl.col("truncated").fill_null(False),
            answer=answer,
        )
        card_ = ProfileCard(
            model=name,
            source_models=sources,
            problem_set="math",
            origin="SkyThought evaluation logs (" + ", ".join(sources) + ")",
            licence="Apache-2.0",
            date=DATE,
            tokenizer=CL100K,
            output_limit_tokens=int(mine["output_tokens"].max()),  # type: ignore[arg-type]
            reasoning="recorded" if long_thinking else "none",
            limits=limits,
        )
        built[name] = ship(f"math/{name}", card_, mine)
    return built["sky-t1-32b"]


def _hashed(answer: str) -> str:
    return hashlib.blake2b(answer.strip().encode(), digest_size=4).hexdigest() if answer.strip() else ""


def build_traffic() -> None:
    arrivals = pl.read_parquet(DATA / "servegen-r1/arrivals.parquet")
    lengths = pl.read_parquet(DATA / "servegen-r1/lengths.parquet")
    arrivals = arrivals.with_columns(pl.col("client").cast(pl.Int16), pl.col("t_start_s").cast(pl.Int32))
    lengths = lengths.with_columns(pl.col("window_start_s").cast(pl.Int32), pl.col("field").cast(pl.String))
    card = TrafficCard(
        origin="ServeGen: DeepSeek-R1 production traffic, 73 clients over one day",
        licence="Apache-2.0",
        date=DATE,
        tokenizer="the serving system's own",
        limits="Rates and burstiness per ten minutes, lengths per six hours; prompts' content is unknown, so is correctness.",
    )
    save_folder(OUT / "servegen-r1", "traffic.yaml", card, {"arrivals": arrivals, "lengths": lengths}, replace=True)


def build_sessions() -> None:
    turns = read_sessions(DATA / "agent-sessions/requests.parquet")
    card = SessionsCard(
        origin="486 recorded sessions of a coding agent, with sub-agents: callanjfox/kv-cache-tester, traces/",
        licence="Apache-2.0",
        date="2026-11-26",
        tokenizer="the API's own",
        limits="Prompts' content is unknown, and so is whether tools and system prompts of equal lengths are the same. What was "
        "sent before is known in blocks of 64 tokens. Thinking stands in the output, its part is unknown. 59 of 35,108 think "
        "times are the time since the turn before was sent, less the answer's where that is known; 19 turns that failed have the "
        "output of the turn before them.",
    )
    save_sessions(OUT / "coding-agent", card, turns, replace=True)


def r1_reasoning_lengths(count: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Equally likely reasoning lengths of DeepSeek-R1 in production, weighted by the clients' request rates.

    Output length and reasoning share are recorded apart and taken as independent within a client and window.
    """
    arrivals = pl.read_parquet(DATA / "servegen-r1/arrivals.parquet")
    lengths = pl.read_parquet(DATA / "servegen-r1/lengths.parquet").with_columns(pl.col("field").cast(pl.String))
    window = (pl.col("t_start_s") // 21_600) * 21_600
    rates = (
        arrivals.group_by("client", window.alias("window_start_s"))
        .agg(pl.col("rate_per_s").sum())
        .sort("client", "window_start_s")
    )
    u = uniforms(0, "r1 lengths", count, 3)
    parts, weights = [], []
    tables = lengths.partition_by("client", "window_start_s", as_dict=True)
    for client, start, rate in rates.iter_rows():
        part = tables.get((client, start))
        if part is None or rate <= 0:
            continue
        output = part.filter(pl.col("field") == "output_tokens").sort("value")
        share = part.filter(pl.col("field") == "reason_ratio").sort("value")
        if output.is_empty() or share.is_empty():
            continue
        parts.append((output, share))
        weights.append(rate)
    cumulative = np.cumsum(weights) / np.sum(weights)
    chosen = np.searchsorted(cumulative, u[:, 0])
    result = np.zeros(count)
    for k, (output, share) in enumerate(parts):
        mine = np.flatnonzero(chosen == k)
        result[mine] = _inverse(output, u[mine, 1]) * _inverse(share, u[mine, 2])
    return np.sort(np.maximum(np.round(result), 1)).astype(np.int64)


def _inverse(
    table: pl.DataFrame, u: np.ndarray[tuple[int], np.dtype[np.float64]]
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    upto = np.cumsum(table["probability"].to_numpy().astype(np.float64))
    at = np.searchsorted(upto / upto[-1], u)
    return table["value"].to_numpy().astype(np.float64)[np.minimum(at, len(table) - 1)]


def outcome_ranks(
    sky: Profile,
) -> tuple[np.ndarray[tuple[int], np.dtype[np.float64]], np.ndarray[tuple[int], np.dtype[np.float64]], float]:
    """How the ranks of lengths depend on the outcome, and how alike they are within a problem."""
    table = sky.attempts.filter(~pl.col("truncated"))
    length = table["reasoning_tokens"].to_numpy().astype(np.float64)
    rank = (np.argsort(np.argsort(length)) + 0.5) / len(length)
    right = table["correct"].to_numpy()
    # Intraclass correlation of log lengths: one-way analysis of variance over problems.
    logs = np.log(length + 1)
    group = np.unique(table["problem"].to_numpy(), return_inverse=True)[1]
    count = np.bincount(group)
    mean = np.bincount(group, weights=logs) / count
    within = ((logs - mean[group]) ** 2).sum() / (len(logs) - len(count))
    between = (count * (mean - logs.mean()) ** 2).sum() / (len(count) - 1)
    typical = (len(logs) - (count**2).sum() / len(logs)) / (len(count) - 1)
    spread = max((between - within) / typical, 0.0)
    return np.sort(rank[right]), np.sort(rank[~right]), float(spread / (spread + within))


def build_gym(sky: Profile) -> None:
    keyed = pl.format("{}/{}", "dataset", "problem_id").alias("problem")
    attempts = pl.read_parquet(DATA / "reasoning-gym/attempts.parquet").with_columns(keyed)
    problems = pl.read_parquet(DATA / "reasoning-gym/problems.parquet").with_columns(keyed)
    card = ProblemSetCard(
        origin="reasoning-gym-eval: generated problems of 80 task types at two levels of difficulty",
        licence="Apache-2.0",
        date=DATE,
        tokenizer=CL100K,
        limits="Whole task types are withheld, and a part of the problems of the others. Subsets: reasoning-gym-easy and -hard.",
        cluster="group",
    )
    table = problems.select("problem", subset="dataset", group="task").join(prompt_tokens(attempts), on="problem")
    ship_problems("reasoning-gym", card, table)
    right, wrong, correlation = outcome_ranks(sky)
    lengths = r1_reasoning_lengths(200_000)
    print(
        f"borrowed lengths: p50 {np.median(lengths):.0f}, p95 {np.quantile(lengths, 0.95):.0f}; "
        f"median rank right {np.median(right):.2f}, wrong {np.median(wrong):.2f}, correlation {correlation:.2f}"
    )
    for model, how in GYM.items():
        mine = attempts.filter(pl.col("model") == model).sort("problem", "attempt")
        filled = how == "filled"
        reasoning = np.zeros(len(mine), dtype=np.int64)
        stopped = (mine["output_tokens"] == 0).to_numpy() & filled
        if filled:
            index = np.unique(mine["problem"].to_numpy().astype(str), return_inverse=True)[1].astype(np.int64)
            finished = ~stopped
            reasoning[finished] = fill_reasoning(
                mine["correct"].to_numpy()[finished], index[finished], lengths, right, wrong, correlation, seed=1
            )
            reasoning[stopped] = LIMIT
        visible = np.where(
            (reasoning == 0) & (mine["output_tokens"].to_numpy() == 0), 1, mine["output_tokens"].to_numpy()
        )
        mine = mine.with_columns(
            reasoning_tokens=pl.Series(reasoning), visible_tokens=pl.Series(visible), truncated=pl.Series(stopped)
        )
        limits = "Accuracy is a full score (at least 0.99). Easy problems: up to three attempts; hard ones: one."
        source = None
        if filled:
            limits += " How long the model thought was not recorded: see reasoning_source."
            source = (
                "reasoning lengths of DeepSeek-R1 in production (ServeGen, Apache-2.0; output length times reasoning share, "
                "weighted by request rate), handed out so that wrong attempts and repeated attempts at one problem are as much "
                "longer and as much alike as those of Sky-T1 32B on AIME and AMC; an attempt with an empty answer is taken to "
                f"have been stopped after {LIMIT:,} tokens of thinking"
            )
        ship(
            f"reasoning-gym/{model}",
            ProfileCard(
                model=model,
                problem_set="reasoning-gym",
                origin="reasoning-gym-eval",
                licence="Apache-2.0",
                date=DATE,
                tokenizer=CL100K,
                output_limit_tokens=LIMIT if filled else int(mine["output_tokens"].max()),  # type: ignore[arg-type]
                reasoning="filled" if filled else "none",
                reasoning_source=source,
                limits=limits,
            ),
            mine,
        )


def build_mmlu() -> None:
    keyed = pl.col("problem_id").cast(pl.String).alias("problem")
    attempts = pl.read_parquet(DATA / "mmlu-pro/attempts.parquet").with_columns(keyed)
    problems = pl.read_parquet(DATA / "mmlu-pro/problems.parquet").with_columns(keyed)
    card = ProblemSetCard(
        origin="MMLU-Pro",
        licence="Apache-2.0",
        date=DATE,
        tokenizer=CL100K,
        limits="Multiple choice with up to ten options; a part is withheld at random by problem.",
        cluster="problem",
    )
    table = problems.select("problem", subset=pl.lit("mmlu-pro"), group="category").join(
        prompt_tokens(attempts), on="problem"
    )
    ship_problems("mmlu-pro", card, table)
    for (model,), part in sorted(attempts.partition_by("model", as_dict=True).items(), key=lambda item: str(item[0])):
        mine = part.with_columns(
            attempt=pl.lit(0),
            reasoning_tokens=pl.lit(0),
            visible_tokens=pl.col("output_tokens").clip(1),
            truncated=pl.col("output_tokens") >= 2000,
            answer=pl.lit(None, pl.String),
        )
        ship(
            f"mmlu-pro/{model}",
            ProfileCard(
                model=str(model),
                problem_set="mmlu-pro",
                origin="MMLU-Pro evaluation logs",
                licence="Apache-2.0",
                date=DATE,
                tokenizer=CL100K,
                output_limit_tokens=int(part["output_tokens"].max()),  # type: ignore[arg-type]
                reasoning="none",
                limits="One attempt a problem; answers were not recorded, so votes cannot be counted. Outputs of 2,000 tokens and "
                "more are runaway generations stopped at about 2,048.",
            ),
            mine,
        )


if __name__ == "__main__":
    main()
