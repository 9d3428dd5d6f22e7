"""Logs of Inspect AI, ``.eval`` (a zip file) or ``.json``: a sample and epoch each, graded, with the tokens of its model calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any

from ttc_sim.base.errors import InputError
from ttc_sim.measured.importing.call import Call, find
from ttc_sim.measured.importing.formats.inspect_files import Members, header_of_document
from ttc_sim.measured.importing.formats.openai_chat import prompt_text
from ttc_sim.measured.importing.importer import Importer
from ttc_sim.measured.importing.opening import LogFile
from ttc_sim.measured.importing.reading import SAMPLED, Left, Read, Sample, read_records
from ttc_sim.measured.importing.values import given_answer

_VALUES = {"C": 1, "I": 0, "P": 0.5, "N": 0}
"""Correct, incorrect, partial and no answer, as Inspect's ``value_to_float`` has them."""
_STOPPING = ("token", "time", "working", "message", "turn", "context", "cost")
_BEFORE = ("system", "user")


class Inspect(Importer):
    """A sample of an epoch is an attempt; all calls of the evaluated model that were made in it are summed, as Inspect does."""

    title = "Inspect AI log"
    origin = "https://inspect.aisi.org.uk/eval-logs.html (inspect_ai/log/_log.py, model/_model_output.py: ModelUsage)"
    arrays = ("samples",)
    reasoning = "inside"
    cached = "outside"
    zips = True
    keyed = True

    def sample(self, file: LogFile) -> Sample | None:
        if file.kind != "zip":
            return super().sample(file)
        with Members(file) as members:
            if not members.is_log:
                return None
            found = [one for _, one in islice(members.samples(lambda _: None), SAMPLED) if not isinstance(one, Left)]
            return Sample(file.path.name, "json", tuple(found) or ({},), head=members.header(), path=file.path)

    def read(self, file: LogFile, at: Callable[[int], None], head: dict[str, Any]) -> Read:
        if file.kind != "zip":
            yield from read_records(file, self.arrays, at, head)
            return
        with Members(file) as members:
            yield from members.samples(at)

    def recognises(self, sample: Sample) -> int:
        first = sample.first
        if sample.kind != "json" or not isinstance(first, dict):
            return 0
        if {"status", "eval", "plan"} <= set(first) and isinstance(first["eval"], dict) and "model" in first["eval"]:
            where = sample.path or sample.name
            raise InputError(
                where, "samples", "none", "a log with samples: `inspect eval` without --no-log-samples writes one"
            )
        ends = {"status", "eval"} <= set(sample.head)
        return 4 * ends + 2 * ({"id", "epoch", "target"} <= set(first)) + ("model_usage" in first)

    def prepared(self, sample: Sample) -> dict[str, Any]:
        head = sample.head
        if not isinstance(head.get("eval"), dict) and sample.path is not None:
            head = {**head, **header_of_document(sample.path)}
        spec = head.get("eval")
        spec = spec if isinstance(spec, dict) else {}
        roles = spec.get("model_roles")
        return {
            "model": spec.get("model"),
            "task": spec.get("task"),
            "dataset": find(spec, "dataset", "name"),
            "status": head.get("status"),
            "scorer": next(iter(_scorers(head, sample)), None),
            "roles": roles if isinstance(roles, dict) else {},
        }

    def notes(self, sample: Sample) -> list[str]:
        found = self.prepared(sample)
        where = f"task {found['task']}" if found["task"] else sample.name
        lines = []
        scorers = _scorers(sample.head, sample)
        if len(scorers) > 1:
            lines.append(f"{where}: graded by {scorers[0]}, the first scorer; not by {' or '.join(scorers[1:])}")
        if found["status"] in ("error", "cancelled", "started"):
            how = {"error": "ended with an error", "cancelled": "was cancelled"}.get(found["status"], "did not end")
            lines.append(f"{where}: the evaluation {how}; what is not in the log is missing here too")
        several = sum(_turns(one) > 1 for one in sample.records)
        if several:
            lines.append(
                f"{where}: {several} of the first {len(sample.records)} samples took several calls of the model: "
                "their tokens are summed, an attempt each"
            )
        return lines

    def calls(self, record: Any, head: Mapping[str, Any]) -> Iterable[Call]:
        if not isinstance(record, dict) or not {"id", "epoch"} <= set(record):
            yield Call(left_out="no sample")
            return
        if record.get("invalidation"):
            yield Call(left_out="a sample that was declared invalid")
            return
        error, limit = record.get("error"), find(record, "limit", "type")
        found, label = _score(record, head["scorer"])
        if error is None and label is None:
            yield Call(left_out="not graded: no score that is one value")
            return
        model, usage = _usage(record, head)
        if usage is None and model is None and error is None:
            yield Call(left_out="several models answered, and none of them is the evaluated one")
            return
        usage = usage or {}
        reason = find(_choice(record), "stop_reason")
        thinking, answer = _answer(record)
        counted = bool(usage)
        yield Call(
            key=record.get("uuid"),
            model=model or head["model"],
            prompt=usage.get("input_tokens"),
            cached=usage.get("input_tokens_cache_read"),
            cache_write=usage.get("input_tokens_cache_write"),
            output=usage.get("output_tokens"),
            reasoning=usage.get("reasoning_tokens"),
            total=usage.get("total_tokens") or None,
            status="ok" if error is None else "failed",
            reason=f"{limit}_limit" if isinstance(limit, str) else reason,
            truncated=limit in _STOPPING or (isinstance(reason, str) and reason in ("max_tokens", "model_length")),
            text=_asked(record),
            answer_text=None if counted or _turns(record) > 1 else answer,
            thinking_text=None if counted or _turns(record) > 1 else thinking,
            problem=record["id"],
            subset=head["dataset"] or head["task"],
            group=head["task"],
            attempt=record["epoch"],
            label=label,
            answer=given_answer(find(found, "answer"), answer) if isinstance(found, dict) else None,
        )


def _scorers(head: Mapping[str, Any], sample: Sample) -> list[str]:
    """Names of the scorers, in the order in which the log has them."""
    there = [name for one in sample.records if isinstance(scores := find(one, "scores"), dict) for name in scores]
    listed = [find(one, "name") for one in _list(find(head, "results", "scores"))]
    listed += [find(one, "name") for one in _list(find(head, "eval", "scorers"))]
    return list(dict.fromkeys([name for name in listed if name in there] + there))


def _score(record: Mapping[str, Any], scorer: str | None) -> tuple[Any, Any]:
    """The score that counts, and its value; of logs before scorers had names, the only one."""
    scores = record.get("scores")
    found = scores.get(scorer) if isinstance(scores, dict) and scorer is not None else record.get("score")
    value = find(found, "value") if isinstance(found, dict) else None
    if isinstance(value, (dict, list)) or value is None or value != value:
        return found, None
    return found, _VALUES.get(value, value) if isinstance(value, str) else value


def _usage(record: Mapping[str, Any], head: Mapping[str, Any]) -> tuple[Any, Mapping[str, Any] | None]:
    """The model that answered, and its tokens, without those of graders, also where they are the same model.

    ``model_usage`` sums all calls of a model in a sample, also those that graded it; events tell which those were.
    """
    by_model = record.get("model_usage")
    by_model = (
        {str(one): use for one, use in by_model.items() if isinstance(use, dict)} if isinstance(by_model, dict) else {}
    )
    asked = head["model"] if isinstance(head["model"], str) else None
    name = asked if asked in by_model else next(iter(by_model)) if len(by_model) == 1 else None
    own = find(record, "output", "usage")
    own = own if _turns(record) <= 1 and isinstance(own, dict) else None
    if name is None:
        # Nothing counted: the answer came from Inspect's cache, and tells the tokens it took when it was made.
        return (None, None) if by_model else (asked or find(record, "output", "model"), own)
    events = [one for one in _list(record.get("events")) if isinstance(one, dict)]
    if events:
        return name, _without(by_model[name], _of_graders(events, name))
    if own is not None:
        return name, own
    by_role = record.get("role_usage")
    roles = by_role.items() if isinstance(by_role, dict) else ()
    return name, _without(by_model[name], [use for role, use in roles if find(head["roles"], role, "model") == name])


def _of_graders(events: list[dict[str, Any]], name: str) -> list[Any]:
    """Tokens of each call of a model that was made in scoring."""
    scoring: set[Any] = set()
    found = []
    for event in events:
        kind = event.get("event")
        if kind == "span_begin" and event.get("type") == "scorer":
            scoring.add(str(event.get("id")))
        elif kind == "span_end":
            scoring.discard(str(event.get("id")))
        elif kind == "step" and event.get("type") == "scorer":  # before version 0.3.91
            (scoring.add if event.get("action") == "begin" else scoring.discard)("step")
        elif kind == "model" and scoring and event.get("model") == name and event.get("cache") != "read":
            found.append(find(event, "output", "usage"))
    return found


def _without(usage: Mapping[str, Any], others: list[Any]) -> dict[str, Any]:
    """Counts less those of other calls that they hold."""
    made = dict(usage)
    for use in others:
        for count, value in use.items() if isinstance(use, dict) else ():
            whole = made.get(count)
            if _is_count(value) and _is_count(whole) and whole >= value:
                made[count] = whole - value
    return made


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _turns(record: Any) -> int:
    """Answers of models in a sample."""
    messages = _list(find(record, "messages")) if isinstance(record, dict) else []
    counted = find(record, "turn_count") if isinstance(record, dict) else None
    found: int = sum(find(one, "role") == "assistant" for one in messages if isinstance(one, dict))
    return max(found, counted) if isinstance(counted, int) else found


def _choice(record: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = _list(find(record, "output", "choices"))
    return choices[0] if choices and isinstance(choices[0], dict) else {}


def _answer(record: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """What was thought and answered, as text."""
    content = find(_choice(record), "message", "content")
    if isinstance(content, str):
        return None, content
    parts = [part for part in _list(content) if isinstance(part, dict)]
    thought = [part["reasoning"] for part in parts if isinstance(part.get("reasoning"), str)]
    said = [part["text"] for part in parts if isinstance(part.get("text"), str)]
    return ("\n".join(thought) if thought else None), ("\n".join(said) if parts else None)


def _asked(record: Mapping[str, Any]) -> str | None:
    """The prompt: what stands before the first answer, as solvers made it, else the sample's input."""
    before: list[Any] = []
    for message in _list(record.get("messages")):
        if not isinstance(message, dict) or message.get("role") not in _BEFORE:
            break
        before.append(message)
    return prompt_text(before) or prompt_text(record.get("input"))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
