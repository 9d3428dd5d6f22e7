"""Results of OpenAI's simple-evals: ``..._allresults.json``, whose grades stand in its pages of HTML."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ttc_sim.base.errors import InputError
from ttc_sim.measured.importing.call import Call
from ttc_sim.measured.importing.formats.openai_chat import prompt_text
from ttc_sim.measured.importing.importer import Importer
from ttc_sim.measured.importing.opening import UNPACKING, LogFile, open_bytes
from ttc_sim.measured.importing.reading import Left, Read, Sample, read_records
from ttc_sim.measured.importing.values import as_count, given_answer, hash_of

_NAME = re.compile(
    r"(?P<task>[a-z]+(?:_(?:hard|consensus|meta))?)_(?P<model>.+?)(?:_\d{8}_\d{6})?(?:_DEBUG)?_allresults\.json.*",
    re.DOTALL,
)
_SCORE = re.compile(r"<p>Score: ([^<]*)</p>")
_EXTRACTED = re.compile(r"<p>Extracted Answer: ([^<]*)</p>")
_CHOICE = re.compile(r"^[A-Z]\) ")
_ALL = "..._allresults.json of the same run, which has the answers"


class SimpleEvals(Importer):
    """A conversation an attempt; repeats of an example are attempts at the same problem, in whatever order its choices are."""

    title = "simple-evals results"
    origin = "https://github.com/openai/simple-evals (simple_evals.py, common.py: aggregate_results)"
    arrays = ("convos",)
    reasoning = "inside"
    cached = "inside"
    keyed = True

    def recognises(self, sample: Sample) -> int:
        first = sample.first
        if sample.kind == "table":
            if sample.columns and sample.columns[0].lower().startswith(("<!doctype html", "<html")):
                raise InputError(sample.path or sample.name, "file", "a page of HTML", f"a log; of simple-evals {_ALL}")
            return 0
        if isinstance(first, dict) and "score" in first and any(str(name).endswith(":std") for name in first):
            raise InputError(sample.path or sample.name, "file", "averages alone", f"answers; of simple-evals {_ALL}")
        messages = (
            isinstance(first, list)
            and bool(first)
            and isinstance(first[0], dict)
            and {"role", "content"} <= set(first[0])
        )
        return 4 + ("htmls" in sample.head) if messages and "score" in sample.head else 0

    def prepared(self, sample: Sample) -> dict[str, Any]:
        found = _NAME.fullmatch(sample.name)
        return {"task": found["task"] if found else None, "model": found["model"] if found else None}

    def notes(self, sample: Sample) -> list[str]:
        if _NAME.fullmatch(sample.name):
            return []
        return [f"{sample.name}: no name as EVAL_MODEL_..._allresults.json: task and model stay unnamed"]

    def read(self, file: LogFile, at: Callable[[int], None], head: dict[str, Any]) -> Read:
        """Conversations with their grades, which stand in other arrays of the document."""
        try:
            pages = [_grade(page) for page in _items(file, "htmls.item")]
            usage = [_usage(one) for one in _items(file, "metadata.example_level_metadata.item")]
        except UNPACKING:
            pages, usage = [], []
        seen: dict[str, int] = {}
        for number, (row, convo) in enumerate(read_records(file, self.arrays, at, head)):
            if isinstance(convo, Left) or not isinstance(convo, list):
                yield row, convo
                continue
            key = _problem(convo)
            seen[key] = seen.get(key, -1) + 1
            grade, answer = pages[number] if number < len(pages) else (None, None)
            answer = given_answer(_chosen(convo, answer), prompt_text(convo[-1:]))
            made = {"convo": convo, "problem": key, "attempt": seen[key], "grade": grade, "answer": answer}
            yield row, {**made, "usage": usage[number] if number < len(usage) else {}}

    def calls(self, record: Any, head: Mapping[str, Any]) -> Iterable[Call]:
        if not isinstance(record, dict) or not isinstance(record.get("convo"), list):
            yield Call(left_out="no conversation")
            return
        convo, usage = record["convo"], record.get("usage")
        usage = usage if isinstance(usage, dict) else {}
        answers = 0
        for message in reversed(convo):
            if not isinstance(message, dict) or message.get("role") != "assistant":
                break
            answers += 1
        if answers != 1 or record.get("grade") in (None, "None", ""):
            yield Call(left_out="several answers graded together, not one by one" if answers > 1 else "not graded")
            return
        said = convo[-1].get("content")
        yield Call(
            model=head["model"],
            prompt=usage.get("input_tokens"),
            cached=usage.get("input_cached_tokens"),
            output=usage.get("output_tokens"),
            reasoning=usage.get("output_reasoning_tokens"),
            total=usage.get("total_tokens"),
            status="failed" if said == "No response (bad request)." else "ok",
            text=prompt_text(convo[:-1]),
            answer_text=prompt_text([convo[-1]]) or "",
            problem=record.get("problem"),
            subset=head["task"],
            group=head["task"],
            attempt=record.get("attempt"),
            label=record["grade"],
            answer=record.get("answer"),
        )


def _grade(page: Any) -> tuple[str | None, str | None]:
    """Score and extracted answer of a page; what models wrote stands escaped in it."""
    if not isinstance(page, str):
        return None, None
    score, answer = _SCORE.findall(page), _EXTRACTED.findall(page)
    given = html.unescape(answer[-1]) if answer else None
    return (score[-1].strip() if score else None), None if given in ("None", "") else given


def _usage(metadata: Any) -> dict[str, Any]:
    found = metadata.get("usage") if isinstance(metadata, dict) else None
    return {name: as_count(value) for name, value in found.items()} if isinstance(found, dict) else {}


def _problem(convo: list[Any]) -> str:
    """What tells problems apart: the prompt, with its choices in one order, as GPQA's repeats mix them."""
    text = prompt_text(convo[:-1]) or ""
    lines = text.splitlines()
    rest = [line for line in lines if not _CHOICE.match(line)]
    choices = sorted(line[3:] for line in lines if _CHOICE.match(line))
    return f"{hash_of(chr(10).join([*rest, *choices])):016x}"


def _chosen(convo: list[Any], answer: str | None) -> str | None:
    """A choice by its text: its letter says nothing where repeats mix the choices."""
    choices = [line for line in (prompt_text(convo[:-1]) or "").splitlines() if _CHOICE.match(line)]
    return next((line[3:] for line in choices if line[0] == answer), answer)


def _items(file: LogFile, wanted: str) -> Iterator[Any]:
    """Items of an array of the document, one by one."""
    import ijson

    try:
        with open_bytes(file) as (stream, _):
            yield from ijson.items(stream, wanted, use_float=True)
    except ijson.JSONError:  # cut off: what has been read of it counts
        return
