"""What reads one format of logs: the base of all importers, and of those that a user adds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Literal

from ttc_sim.base.plugins import Registry
from ttc_sim.measured.importing.call import Call
from ttc_sim.measured.importing.opening import LogFile
from ttc_sim.measured.importing.reading import Read, Sample, read_records, sample_of

Place = Literal["inside", "outside"]


class Importer:
    """Reads the records of one format. One file of ``importing/formats/`` and one name in :data:`IMPORTERS` each.

    A subclass says in class attributes what the format is known to mean, tells whether a log is one of its own
    (:meth:`recognises`), and
    makes calls of a record (:meth:`calls`). It never guesses: what the log does not say stays ``None``, and what its counts hold
    is decided
    from all rows together.

    Attributes:
        title: of the format, as the audit calls it; origin: where it is documented.
        arrays: keys (of keys, ``a.b``) under which a JSON document that is one object may hold its records, the first found counts;
            without any of them the whole document is one record.
        reasoning: whether the count of the output holds the reasoning (``inside``) or it stands beside it; ``None`` where the
            format leaves it open.
        cached: the same for cached tokens and the prompt.
        time_unit: of numbers in ``at`` (``s``, ``ms``, ``us``, ``ns``); ``None`` where the format leaves it open.
        zips: whether it reads zip files, which it opens by itself (:meth:`sample`, :meth:`read`).
        keyed: whether its keys tell problems apart, whatever their prompts: chat templates and examples differ between models
            and runs.
    """

    title: ClassVar[str]
    origin: ClassVar[str]
    arrays: ClassVar[tuple[str, ...]] = ()
    reasoning: ClassVar[Place | None] = None
    cached: ClassVar[Place | None] = None
    time_unit: ClassVar[str | None] = None
    zips: ClassVar[bool] = False
    keyed: ClassVar[bool] = False

    def sample(self, file: LogFile) -> Sample | None:
        """The beginning of a log, or ``None`` where its container is none of this format's."""
        return None if file.kind == "zip" else sample_of(file, self.arrays)

    def read(self, file: LogFile, at: Callable[[int], None], head: dict[str, Any]) -> Read:
        """Its records; as :func:`~ttc_sim.measured.importing.reading.read_records`."""
        return read_records(file, self.arrays, at, head)

    def recognises(self, sample: Sample) -> int:
        """How many marks of the format the sample bears, 0 where it is another: the one with most is taken."""
        raise NotImplementedError(f"{type(self).__name__} needs a method recognises(sample)")

    def unit(self, sample: Sample) -> str | None:
        """Unit of times that are numbers in this log, where the format or the log says it."""
        del sample
        return self.time_unit

    def prepared(self, sample: Sample) -> dict[str, Any]:
        """What :meth:`calls` needs to know of the log, besides each record: it stands in ``head``."""
        del sample
        return {}

    def notes(self, sample: Sample) -> list[str]:
        """Lines for the audit on how a log of this format was taken, such as which column for what."""
        del sample
        return []

    def calls(self, record: Any, head: Mapping[str, Any]) -> Iterable[Call]:
        """The calls that a record tells of: mostly one, none of what is no call (a header, a span of something else).

        Args:
            record: an object of JSON, or of a table the row by name of the column, numbers of text as they stand.
            head: as in :class:`Sample`.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a method calls(record, head)")


_FORMATS = "ttc_sim.measured.importing.formats"

IMPORTERS = Registry(
    "importers",
    Importer,
    {
        "table": f"{_FORMATS}.table:Table",
        "aiperf": f"{_FORMATS}.aiperf:AIPerf",
        "anthropic": f"{_FORMATS}.anthropic:Anthropic",
        "azure": f"{_FORMATS}.azure:Azure",
        "bailian": f"{_FORMATS}.bailian:Bailian",
        "bedrock": f"{_FORMATS}.bedrock:Bedrock",
        "burstgpt": f"{_FORMATS}.burstgpt:BurstGPT",
        "copilot-agents": f"{_FORMATS}.copilot_agents:CopilotAgents",
        "deepeval": f"{_FORMATS}.deepeval:DeepEval",
        "every-eval-ever": f"{_FORMATS}.every_eval_ever:EveryEvalEver",
        "gemini": f"{_FORMATS}.gemini:Gemini",
        "genai-perf": f"{_FORMATS}.genai_perf:GenAIPerf",
        "guidellm": f"{_FORMATS}.guidellm:GuideLLM",
        "helm": f"{_FORMATS}.helm:HELM",
        "inspect": f"{_FORMATS}.inspect_log:Inspect",
        "langfuse": f"{_FORMATS}.langfuse:Langfuse",
        "litellm": f"{_FORMATS}.litellm:LiteLLM",
        "lm-eval": f"{_FORMATS}.lm_eval:LMEval",
        "mooncake": f"{_FORMATS}.mooncake:Mooncake",
        "openai-chat": f"{_FORMATS}.openai_chat:OpenAIChat",
        "openai-evals": f"{_FORMATS}.openai_evals:OpenAIEvals",
        "openai-responses": f"{_FORMATS}.openai_responses:OpenAIResponses",
        "otel-genai": f"{_FORMATS}.otel_genai:OtelGenAI",
        "promptfoo": f"{_FORMATS}.promptfoo:Promptfoo",
        "servegen": f"{_FORMATS}.servegen:ServeGen",
        "sessions": f"{_FORMATS}.sessions:Sessions",
        "sglang-bench": f"{_FORMATS}.sglang_bench:SGLangBench",
        "simple-evals": f"{_FORMATS}.simple_evals:SimpleEvals",
        "vllm-bench": f"{_FORMATS}.vllm_bench:VLLMBench",
        "vllm-requests": f"{_FORMATS}.vllm_requests:VLLMRequests",
    },
    key="format",
)
"""By the name that ``--format`` takes."""
