"""One replica of the reference engine: vLLM V1's scheduler, one iteration at a time.

Each iteration first serves the running sequences in the order of their admission: one token for those that decode, the rest of
the prompt, as far as ``max_num_batched_tokens`` allows, for one that is still prefilling; with ``long_prefill_token_threshold`` no
more than so many, so that several may be. When KV blocks run out, the sequence admitted last (with priorities: the least urgent)
is preempted: it goes back to the head of the queue and is computed again. What is left of the token budget then admits waiting
sequences, while ``max_num_seqs`` allows and all that is known of them fits into the free blocks (without ``chunked_prefill``: and
into the iteration), unless the iteration preempted one. Blocks of a prompt that are still in the cache are not computed again. A
sequence of N output tokens takes its prefill, which yields the first token, and N - 1 further iterations; fewer with speculative
decoding, whose draft tokens take their part of the budget (:mod:`ttc_sim.engine.speculation`).

The rules and their order are those of ``vllm/v1/core/sched/scheduler.py`` (vLLM 0.19, Apache-2.0). Two simplifications: the
blocks of a stretch of shared tokens are held together as long as one sequence uses any, and what is generated joins a
conversation's prefix when the sequence ends. See docs/prefix-caches.md.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Set
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import simpy

from ttc_sim.engine.clock import SERVERS_BEGIN, SERVERS_END
from ttc_sim.engine.kv_cache import BLOCK, UNLIMITED, Chain, KvCache, blocks_for, stretches
from ttc_sim.engine.recording import Recorder
from ttc_sim.engine.speculation import PARTS, advance_of, check_table, drafts_of, most_held
from ttc_sim.engine.work import LEVELS, Work
from ttc_sim.scenario import GpuPool
from ttc_sim.serving.step_time import (
    StepTable,
    behind_s,
    decode_line,
    iterations_on_line,
    line_seconds,
    seconds_at,
    stack_tables,
)


class Stage:
    """A stage of a request on its way through a replica."""

    def __init__(self, work: Work, request: int, arm: int, number: int, done: simpy.Event) -> None:
        lo, hi = int(work.sample_start[number]), int(work.sample_start[number + 1])
        self.request, self.arm, self.number, self.done = request, arm, number, done
        self.prompt = int(work.prompt_tokens[number])
        self.prefix_id = int(work.prefix_id[number])
        self.prefixes = work.prefixes
        self.prefix_tokens = self.prompt if work.prefix_tokens is None else int(work.prefix_tokens[number])
        self.priority = 0 if work.priority is None else int(work.priority[request])
        self.needed = hi - lo if work.needed is None else int(work.needed[number])
        self.tokens = (work.reasoning_tokens[lo:hi] + work.visible_tokens[lo:hi]).tolist()
        self.first_sample = lo
        self.ended = 0
        self.behind_s = 0.0  # by which its answer comes later than its last token was made
        self.broken = False  # whether the replica that had it failed
        self.lost, self.had = False, 0  # whether its client has asked again, and prompt tokens that count as lost
        self.sequences: list[_Sequence] = []  # neither ended nor cancelled


class _Sequence:
    """A sample in the queue or the batch.

    ``length`` tokens are known (prompt and generated), ``computed`` of them are in the KV cache, in ``blocks`` blocks, of which
    the first ``shared`` belong to chains that other sequences may use.
    """

    def __init__(self, stage: Stage, number: int, order: int, chains: list[tuple[Chain, int]]) -> None:
        self.stage, self.sample, self.order, self.chains = stage, stage.first_sample + number, order, chains
        self.output = stage.tokens[number]
        self.length = stage.prompt
        self.generated = self.computed = self.blocks = self.shared = self.prefilled = 0
        self.prefilling = True
        self.began_at, self.steps = 0, 0  # its length as it began to decode, and iterations since
        self.began_s, self.began = 0.0, 0  # when that was, and the replica's iterations by then
        self.dropped = False
        self.left: Chain | None = None  # blocks of its own that it left in the cache when it was preempted


@dataclass
class _Line:
    """Decode iterations of the same sequences, one after another: each takes ``more_s`` longer than the one before."""

    sequences: Set[_Sequence]
    begun_s: float
    first_s: float
    more_s: float
    most: int
    iterations: int = 0


class Batch(NamedTuple):
    """What the time of an iteration depends on, see :func:`ttc_sim.serving.step_time.step_seconds`."""

    prefill: int
    pairs: float
    decoding: int
    kv_tokens: float
    sampled: int


class Others(Protocol):
    """The ranks that a replica steps together with, see :class:`ttc_sim.engine.reference_ranks.Ranks`."""

    def begins_at(self, now_s: float) -> float:
        """When one that has had nothing to do begins."""

    def join(self, rank: Replica) -> simpy.Event:
        """Its batch is filled; once all have theirs, the event gives the end of the iteration."""

    def look(self, rank: Replica) -> None:
        """It has its batch, or nothing to do."""


class Replica:
    """One server's loop; ``number`` is its own among all replicas of all pools, ``deployment`` that of its pool; ``ranks``: those
    that it steps together with."""

    def __init__(
        self,
        recorder: Recorder,
        pool: GpuPool,
        table: StepTable,
        number: int,
        deployment: int,
        ranks: Others | None = None,
    ) -> None:
        self.recorder, self.pool, self.number, self.deployment = recorder, pool, number, deployment
        self.ranks = ranks
        self.noted = [0] * len(LEVELS)
        check_table(table, pool)
        self.tables = stack_tables([table])
        self.drafts, self.advance = drafts_of(pool), advance_of(pool)
        self.kv = KvCache(UNLIMITED if pool.kv_cache_tokens is None else pool.kv_cache_tokens // BLOCK)
        self.prefixes: dict[int, Chain] = {}  # by node of the tree of prefixes
        self.running: list[_Sequence] = []  # in order of admission
        self.waiting: list[_Sequence] = []  # next first
        self.batch: dict[_Sequence, int] = {}  # tokens of the iteration in progress, empty between iterations
        self.line: _Line | None = None
        self.submitted = self.iterations = 0
        self.behind = table.frontend_s, table.prompt_token_s, table.pipeline_steps
        self.busy_s = self.woke_s = 0.0
        self.when_idle: Callable[[], None] | None = None
        self.asleep, self.broken = True, False

    @property
    def unfinished(self) -> int:
        """Sequences in the queue and the batch."""
        return len(self.running) + len(self.waiting)

    @property
    def kv_demand(self) -> int:
        """Blocks in use, and those that waiting sequences will need at first."""
        return self.kv.total - self.kv.free + sum(blocks_for(sequence.length) for sequence in self.waiting)

    def note(self) -> None:
        """Write down what is there from now on, if anybody wants to know."""
        levels = self.recorder.levels
        if levels is None:
            return
        now = [
            len(self.running),
            self.unfinished - len(self.running),
            self.kv.total - self.kv.free,
            int(not self.asleep),
        ]
        for level, (count, before) in enumerate(zip(now, self.noted, strict=True)):
            levels.change(self.deployment, level, count - before, float(self.recorder.env.now))
        self.noted = now

    def ever_fits(self, stage: Stage) -> bool:
        """Whether the stage can ever run here."""
        return all(blocks_for(most_held(stage.prompt, tokens, self.drafts)) <= self.kv.total for tokens in stage.tokens)

    def has_room(self, stage: Stage) -> bool:
        """Whether it may wait, or run at once."""
        limit = self.pool.queue_limit
        return limit is None or self.unfinished + len(stage.tokens) <= self.pool.max_num_seqs + limit

    def holds(self, stage: Stage) -> int:
        """Leading tokens of the stage's prompt that its first sequence would find in the cache."""
        if not self.pool.prefix_caching or stage.prefix_id < 0:
            return 0
        hit = 0
        for node, first, end in stretches(
            stage.prefixes, stage.prefix_id, min(stage.prefix_tokens, stage.prompt - 1) // BLOCK
        ):
            if first == hit and node in self.prefixes:
                hit = max(min(self.prefixes[node].end, end), first)
        return hit * BLOCK

    def submit(self, stage: Stage) -> None:
        """Put the stage's samples into the queue."""
        for sequence in self._sequences_of(stage):
            self._enqueue(sequence, first=False)
        self.wake()

    def _sequences_of(self, stage: Stage) -> list[_Sequence]:
        """The stage's samples, new here."""
        chains: list[tuple[Chain, int]] = []
        start = 0
        most = stage.prompt if len(stage.tokens) > 1 else stage.prompt + stage.tokens[0] - 1
        if self.pool.prefix_caching and stage.prefix_id >= 0:
            start = min(stage.prefix_tokens, most) // BLOCK
            for node, first, end in stretches(stage.prefixes, stage.prefix_id, start):
                chains.append((self.prefixes.setdefault(node, Chain(start=first, end=first)), end))
        if len(stage.tokens) > 1 and stage.prompt // BLOCK > start:
            chains.append((Chain(start=start, end=start), stage.prompt // BLOCK))
        for number in range(len(stage.tokens)):
            stage.sequences.append(_Sequence(stage, number, self.submitted, chains))
            self.submitted += 1
        return stage.sequences

    def wake(self) -> None:
        """Go on with iterations, if it does not."""
        if self.asleep:
            self.asleep, self.woke_s = False, float(self.recorder.env.now)
            self.recorder.env.process(self._loop())
        self.note()

    def drop(self, stage: Stage) -> None:
        """The client has given up; what is in an iteration leaves with the end of that."""
        for sequence in list(stage.sequences):
            if sequence not in self.running or not self.batch:
                self._leave(sequence)
            else:
                sequence.dropped = True
        self.note()

    def break_down(self) -> None:
        """Lose all that is here: the iteration in progress, queue, batch and caches. What is not done fails."""
        self.stop_counting()
        held = [*self.running, *self.waiting]
        for sequence in held:
            self.record(sequence)
        self.running, self.waiting, self.batch, self.kv = [], [], {}, KvCache(self.kv.total)
        self.asleep = self.broken = True
        self.note()
        for stage in sorted({sequence.stage for sequence in held}, key=lambda one: one.request):
            stage.sequences, stage.broken = [], True
            stage.done.succeed()

    def record(self, sequence: _Sequence) -> None:
        """Write down the tokens that a sequence has had."""
        stage, recorder = sequence.stage, self.recorder
        if not stage.lost:
            recorder.generated[stage.arm][sequence.sample] = sequence.generated
            had = recorder.prefilled[stage.arm]
            had[stage.number] = max(had[stage.number], sequence.prefilled)
            return
        recorder.lose_output(stage.arm, sequence.sample, sequence.generated)
        more = max(sequence.prefilled - stage.had, 0)
        recorder.lost_attempts[stage.arm][stage.number] += more > 0 and stage.had == 0
        recorder.lost_prefilled[stage.arm][stage.number] += more
        stage.had += more

    def _enqueue(self, sequence: _Sequence, *, first: bool) -> None:
        if self.pool.scheduling == "fcfs":
            self.waiting.insert(0 if first else len(self.waiting), sequence)
            return
        self.waiting.append(sequence)
        self.waiting.sort(key=_urgency)

    def _loop(self) -> Generator[simpy.Event, Any, None]:
        env, ranks = self.recorder.env, self.ranks
        begins_s = float(env.now) if ranks is None else ranks.begins_at(float(env.now))
        yield env.at(begins_s, SERVERS_BEGIN, self.number)
        while self.unfinished:
            preempted = self._plan()
            if not self.batch and preempted:
                continue  # the only one that could run has been preempted, and can now be admitted
            if not self.batch:
                break  # those that are here wait for KV blocks that are on their way elsewhere
            self.note()
            if self.recorder.watch:
                self.recorder.watch(self)
            ends_s = self._ends_at() if ranks is None else (yield ranks.join(self))
            yield env.at(ends_s, SERVERS_END, self.number)
            if self.broken:
                return
            self._finish()
            self.note()
            if self.recorder.watch:
                self.recorder.watch(self)
            yield env.at(env.now, SERVERS_BEGIN, self.number)
        if self.broken:
            return
        self.stop_counting()
        self.asleep = True
        self.note()
        if ranks is not None:
            ranks.look(self)
        if self.when_idle is not None:
            self.when_idle()

    def stop_counting(self) -> None:
        """Of the time that it is busy."""
        if not self.asleep:
            self.busy_s += float(self.recorder.env.now) - self.woke_s

    # ------------------------------------------------------------------------------------------------- scheduling

    def _plan(self) -> bool:
        """Fill the batch of the next iteration; returns whether that took a sequence out of it."""
        self.batch = {}
        budget, index, preempted = self.pool.max_num_batched_tokens, 0, False
        while index < len(self.running) and budget > 0:
            sequence = self.running[index]
            tokens = min(sequence.length - sequence.computed, self.pool.most_of_a_prompt, budget)
            tokens = tokens if sequence.prefilling else self.drafts + 1
            while not self._allocate(sequence, tokens):
                victim = self.running[-1] if self.pool.scheduling == "fcfs" else max(self.running, key=_urgency)
                preempted = True
                self._preempt(victim)
                if victim in self.batch:
                    budget += self.batch.pop(victim)
                    index -= 1
                if victim is sequence:
                    break
            if sequence not in self.running:
                break
            self.batch[sequence] = tokens
            budget -= tokens
            index += 1
        if not preempted:
            budget = self._before_queue(budget)
        while not preempted and self.waiting and budget > 0 and len(self.running) < self.pool.max_num_seqs:
            tokens = self._admit(self.waiting[0], budget)
            if not tokens:
                break
            sequence = self.waiting.pop(0)
            self.running.append(sequence)
            self.batch[sequence] = tokens
            budget -= tokens
        if not preempted and not self.waiting and budget > 0 and len(self.running) < self.pool.max_num_seqs:
            self._after_queue()
        return preempted

    def _before_queue(self, budget: int) -> int:
        """Admit what comes before the queue; returns the tokens that are left. Of a pool whose prefill is apart."""
        return budget

    def _after_queue(self) -> None:
        """What is done when nobody is left in the queue, and more would have found room. Likewise."""

    def _allocate(self, sequence: _Sequence, tokens: int) -> bool:
        """Find room for so many more tokens of a running sequence, and for draft tokens that are written ahead."""
        blocks = blocks_for(sequence.computed + tokens + self.drafts)
        if blocks - sequence.blocks > self.kv.free:
            return False
        self.kv.take(blocks - sequence.blocks)
        sequence.blocks = blocks
        if sequence.prefilling:
            self._share(sequence, sequence.computed + tokens)
        return True

    def _admit(self, sequence: _Sequence, budget: int) -> int:
        """Find room for a waiting sequence; returns the tokens it takes in, 0 if there is no room."""
        tokens = self._find_room(sequence, self.pool.most_of_a_prompt, budget)
        if tokens:
            sequence.prefilled = max(sequence.prefilled, min(sequence.computed, sequence.stage.prompt))
            self._share(sequence, sequence.computed + tokens)
        return tokens

    def _find_room(self, sequence: _Sequence, chunk: int, budget: int) -> int:
        """The blocks of a sequence and as many of its tokens as a chunk, and the budget left, allow; returns the tokens that
        it does not find here, 0 without room."""
        most = (sequence.length - 1) // BLOCK  # the last token must be computed to yield the next
        found: list[int] = []
        hit = claimed = 0
        for chain, limit in sequence.chains:
            end = max(min(chain.end, limit, most), chain.start) if chain.start == hit else chain.start
            found.append(end)
            if chain.users == 0:
                claimed += end - chain.start
            hit = end if chain.start == hit else hit
        shared, left = hit, sequence.left
        if left is not None and left.freed is not None and left.start == hit:
            hit = min(left.end, most)
            claimed += hit - left.start
        tokens = min(sequence.length - hit * BLOCK, chunk)
        if not self.pool.chunked_prefill and tokens > budget:
            return 0
        tokens = min(tokens, budget)
        blocks = blocks_for(hit * BLOCK + tokens)
        if blocks_for(sequence.length) - hit + claimed > self.kv.free:
            return 0
        for (chain, _), end in zip(sequence.chains, found, strict=True):
            if chain.users == 0:
                self.kv.claim(chain, end)
            chain.users += 1
        if hit > shared and left is not None:
            self.kv.claim(left, hit)
        sequence.left = None
        self.kv.take(blocks - hit)
        sequence.blocks, sequence.shared, sequence.computed = blocks, shared, hit * BLOCK
        stage, recorder = sequence.stage, self.recorder
        if np.isnan(recorder.started_s[stage.request]):
            recorder.started_s[stage.request] = recorder.env.now
        # What it finds of its own after it was preempted does not count, as in vLLM.
        if sequence.sample == stage.first_sample and not sequence.prefilled:
            had = recorder.cached[stage.arm]
            had[stage.number] = max(had[stage.number], sequence.shared * BLOCK)
        return tokens

    def _share(self, sequence: _Sequence, tokens: int) -> None:
        """Let others find the full blocks among so many tokens, where the sequence is the one that leads a chain."""
        for chain, limit in sequence.chains:
            if chain.start <= sequence.shared == chain.end < min(tokens // BLOCK, limit):
                chain.end = sequence.shared = min(tokens // BLOCK, limit)

    def _preempt(self, sequence: _Sequence) -> None:
        self.running.remove(sequence)
        full = sequence.computed // BLOCK
        if self.pool.prefix_caching and full > sequence.shared:
            sequence.left = Chain(start=sequence.shared, end=full)
        self._release(sequence)
        sequence.computed = 0
        sequence.prefilling = True
        self.recorder.preemptions[sequence.stage.request] += 1
        self._enqueue(sequence, first=True)

    def _release(self, sequence: _Sequence) -> None:
        """Free a sequence's blocks, the last ones first."""
        own, left = sequence.blocks - sequence.shared, sequence.left
        if left is not None:
            own -= left.end - left.start
        self.kv.give(own)
        if left is not None:
            self.kv.give(left.end - left.start, left)
        for chain, _ in reversed(sequence.chains):
            chain.users -= 1
            if chain.users == 0:
                self.kv.give(chain.end - chain.start, chain)
        sequence.blocks = sequence.shared = 0

    # -------------------------------------------------------------------------------------------------- iteration

    def _ends_at(self) -> float:
        """When the iteration ends that is about to begin.

        A decode iteration of the same sequences as the one before goes on with their line: its end is worked out from where the
        line began, as the compiled engine works it out, and not from the end before, which would be rounded otherwise.
        """
        now_s, line, batch = float(self.recorder.env.now), self.line, self.batch_now()
        if batch.prefill or line is None or line.sequences != self.batch.keys() or line.iterations == line.most:
            seconds = self.seconds_of(batch)
            if batch.prefill:
                self.line = None
                return now_s + seconds
            line = self.line = _Line(self.batch.keys(), now_s, seconds, *self.line_of(batch))
        line.iterations += 1
        return line.begun_s + line_seconds(line.first_s, line.more_s, line.iterations)

    def batch_now(self) -> Batch:
        """What the iteration that is about to begin will compute."""
        prefill = decoding = kv_parts = sampled = 0
        pairs = 0.0
        for sequence, tokens in self.batch.items():
            if sequence.prefilling:
                prefill += tokens
                pairs += tokens * (sequence.computed + 0.5 * tokens)
            else:
                decoding += 1
                kv_parts += sequence.began_at * PARTS + sequence.steps * self.advance
            sampled += not sequence.prefilling or sequence.computed + tokens == sequence.length
        return Batch(prefill, pairs, decoding, kv_parts / PARTS, sampled)

    def seconds_of(self, batch: Batch) -> float:
        """Of an iteration, without what ranks share."""
        return float(seconds_at(self.tables, 0, *batch))

    def line_of(self, batch: Batch) -> tuple[float, int]:
        """The line that decode iterations from this one on lie on: seconds that each takes longer, and how many there are."""
        slope, kv_end = decode_line(self.tables, 0, batch.decoding, batch.kv_tokens)
        more = batch.decoding * self.advance / PARTS
        return float(slope) * more, iterations_on_line(batch.kv_tokens, more, kv_end)

    def _finish(self) -> None:
        """Give every sequence of the batch what it has computed, and let go those that are done."""
        recorder, now_s = self.recorder, float(self.recorder.env.now)
        self.iterations += 1
        for sequence, tokens in self.batch.items():
            if not sequence.prefilling:
                sequence.steps += 1
                sequence.length = sequence.began_at + sequence.steps * self.advance // PARTS
                sequence.computed = sequence.length - 1
                sequence.generated = min(sequence.length - sequence.stage.prompt, sequence.output)
                continue
            sequence.computed += tokens
            sequence.prefilled = max(sequence.prefilled, min(sequence.computed, sequence.stage.prompt))
            if sequence.computed == sequence.length:
                sequence.prefilling = False
                sequence.generated += 1
                sequence.length += 1
                sequence.began_at, sequence.steps = sequence.length, 0
                sequence.began_s, sequence.began = now_s, self.iterations
                request = sequence.stage.request
                if np.isnan(recorder.first_token_s[request]) and not sequence.dropped:
                    recorder.first_token_s[request] = now_s
                    recorder.first_tokens.append((self.deployment, now_s, now_s - float(recorder.arrival_s[request])))
        for sequence in [sequence for sequence in self.running if sequence.dropped]:
            self._leave(sequence)
        ending = [sequence for sequence in self.batch if sequence.generated == sequence.output]
        for sequence in sorted(ending, key=lambda one: one.order):
            stage = sequence.stage
            if sequence not in stage.sequences:
                continue
            self._leave(sequence)
            stage.ended += 1
            if stage.ended == stage.needed:
                for other in list(stage.sequences):
                    self._leave(other)
                frontend_s, prompt_token_s, steps = self.behind
                took = now_s - sequence.began_s, self.iterations - sequence.began
                stage.behind_s = behind_s(frontend_s + prompt_token_s * stage.prompt, steps, *took)
                stage.done.succeed()
        self.batch = {}

    def _leave(self, sequence: _Sequence) -> None:
        self.record(sequence)
        sequence.stage.sequences.remove(sequence)
        if sequence in self.waiting:
            self.waiting.remove(sequence)
            sequence.left = None
            return
        self.running.remove(sequence)
        self._share(sequence, sequence.computed)
        self._release(sequence)


def _urgency(sequence: _Sequence) -> tuple[int, int]:
    return sequence.stage.priority, sequence.order
