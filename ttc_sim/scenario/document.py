"""The scenario as a whole: arms, search space, targets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PrivateAttr, field_validator

from ttc_sim.base.consent import Code, FileFunction, names_function
from ttc_sim.base.shipped import PREDICTORS
from ttc_sim.measured.provenance import is_predictor
from ttc_sim.policies import Policy, parse_policy
from ttc_sim.policies.responses import Response
from ttc_sim.scenario.base import Model
from ttc_sim.scenario.budget import SpendingBudget
from ttc_sim.scenario.deployments import Deployment
from ttc_sim.scenario.search import Search
from ttc_sim.scenario.targets import Targets
from ttc_sim.scenario.traffic import Workload
from ttc_sim.strategies import Strategy, parse_strategy

MOST_REPLICATIONS = 1000
_MOST_TIMES = 100.0  # as many tokens as were recorded


class Arm(Model):
    """A strategy on a deployment: one thing a request can be sent to.

    Args:
        deployment: that serves it, one of ``deployments``.
        profile: measured behaviour of the model that the deployment serves; may be left out when the workload's
            trace carries the lengths. Of sessions an agent profile: how its runs at whole tasks ended.
        strategy: such as ``Single(cap=4096)`` or ``MajorityVote(n=3)``, see :mod:`ttc_sim.strategies`; a user's own is
            ``file.py:function``, which runs once it is carried out, and only with consent: :mod:`ttc_sim.base.consent`.
        turn_tokens: how many times as many output tokens it writes in a turn of a session as were recorded; or the agent profile of
            the model that they were recorded with, beside which the arm's own profile says it. What it adds, or leaves out, stays
            so in the later prompts of the session.
        sources: offer the arm only to these sources; by default to every source whose problems its profile covers, and those of
            the arms that its strategy names. ``[]``: to none, it is there for the strategies of other arms that name it.
        fallback: arm, or arms one after another, that a request goes to from the beginning when this one does not answer it: it
            broke, was rejected or timed out, after its retries. The last one's own fallback, if it has one, comes after them.
    """

    profile: str | None = None
    deployment: str
    strategy: str = "Single()"
    turn_tokens: float | str = 1.0
    sources: list[str] | None = None
    fallback: str | Annotated[list[str], Field(min_length=1)] | None = None

    @field_validator("turn_tokens", mode="before")
    @classmethod
    def _times(cls, given: object) -> object:
        number = isinstance(given, (int, float)) and not isinstance(given, bool)
        if not (isinstance(given, str) and given) and not (number and 0 < float(given) <= _MOST_TIMES):  # type: ignore[arg-type]
            by_name = "or the agent profile of the model that sessions were recorded with"
            raise ValueError(f"a number above 0, at most {_MOST_TIMES:g}, {by_name}")
        return float(given) if number else given  # type: ignore[arg-type]

    @property
    def fallbacks(self) -> list[str]:
        """Its own, in order."""
        return [self.fallback] if isinstance(self.fallback, str) else list(self.fallback or ())


Tier = Literal["fast", "encoder"]
"""The shipped predictors."""
_SHA256_DIGITS = 64


class Scenario(Model):
    """Workload, deployments, arms, policy or search space, and targets.

    Args:
        name: that results and plans have; description: in a sentence, for people.
        workload: what arrives; deployments: by name, where requests are served; arms: by name, what a request can be sent to.
        search: what the optimizer may choose from; targets: what must hold, and what to make best of.
        seed: of every draw; the same seed gives the same bytes.
        replications: independent runs behind each interval; of a single one, 20 batches of its requests.
        policy: one policy for all sources, or one per source; see :mod:`ttc_sim.policies`. A user's own function is
            ``file.py:function``, which runs once it is used, and only with consent.
        predictor: whose scores requests are routed by. Of the shipped ones, ``fast``, or ``encoder``, which knows a little
            more and takes a GPU, or tens of milliseconds a prompt; or the ONNX file of one's own, whose scores stand in the problem
            set's folder as ``scores-NAME.parquet``.
        predictor_sha256: content of the predictor's file; another one is refused. A plan writes down that of the predictor that it
            was made with.
        responses: by arm, what it is expected to make of a request, for the policy ``Utility``; fitted on the workload's own
            problems if left out. A plan writes down those that it was made with.
        budget: US dollars that API calls may cost a day, and what becomes of requests then; without limit if left out.
    """

    name: str
    description: str = ""
    seed: Annotated[int, Field(ge=0)] = 1
    replications: Annotated[int, Field(ge=1, le=MOST_REPLICATIONS)] = 5
    workload: Workload
    deployments: Annotated[dict[str, Deployment], Field(min_length=1)]
    arms: Annotated[dict[str, Arm], Field(min_length=1)]
    policy: str | dict[str, str] | None = None
    predictor: str = "fast"
    predictor_sha256: str | None = None
    responses: dict[str, Response] | None = None
    search: Search = Search()
    targets: Targets | None = None
    budget: SpendingBudget | None = None
    # Where the file stands; relative paths in it start there.
    path: Annotated[str, Field(exclude=True)] = "scenario"
    # No field: no file can consent for its reader.
    _code: Code = PrivateAttr(default_factory=Code)

    @field_validator("predictor")
    @classmethod
    def _a_predictor(cls, name: str) -> str:
        if not is_predictor(name):
            raise ValueError("'fast', 'encoder', or the path of an ONNX file")
        return name

    @field_validator("predictor_sha256")
    @classmethod
    def _a_digest(cls, digest: str | None) -> str | None:
        if digest is not None and (len(digest) != _SHA256_DIGITS or set(digest) - set("0123456789abcdef")):
            raise ValueError("64 hexadecimal digits, as `sha256sum` prints them of the predictor's file")
        return digest

    @property
    def predictor_at(self) -> str | Path:
        """Name of the shipped predictor, or where the ONNX file stands."""
        return self.predictor if self.predictor in PREDICTORS else self.folder / self.predictor

    @property
    def folder(self) -> Path:
        """Folder that relative paths in the scenario start from."""
        return Path(self.path).resolve().parent

    def parsed_policy(self) -> Policy | None:
        """The policy as an object; ``None`` if the scenario names none."""
        if self.policy is None:
            return None
        return parse_policy(self.policy, where=self.path, field="policy", folder=self.folder, allow_code=self._code)

    def parsed_strategy(self, arm: str) -> Strategy:
        """An arm's strategy as an object."""
        field = f"arms.{arm}.strategy"
        return parse_strategy(
            self.arms[arm].strategy, where=self.path, field=field, folder=self.folder, allow_code=self._code
        )

    def path_of(self, arm: str) -> list[str]:
        """The arm, and those that a request goes to one after another where the one before does not answer it."""
        path = [arm]
        while len(set(path)) == len(path) and (after := self.arms[path[-1]].fallbacks):
            path += after
        return path

    def check_consent(self) -> None:
        """See, before long work is begun, that every arm may be carried out.

        Raises:
            InputError: a function in a file that nobody has consented to.
        """
        for arm in self.arms:
            self.parsed_strategy(arm).check_consent()

    @property
    def code(self) -> Code:
        """Whether functions in files that it names may run, and what those files held when it was read."""
        return self._code

    def with_code(self, code: Code) -> Scenario:
        """The same scenario with another consent."""
        other = self.model_copy()
        other._code = code
        return other

    def functions_in_files(self) -> tuple[FileFunction, ...]:
        """What policies and arms name by file."""
        policies = self.policy if isinstance(self.policy, dict) else {"": self.policy or ""}
        said = {f"policy.{source}".rstrip("."): text for source, text in policies.items()}
        said |= {f"arms.{name}.strategy": arm.strategy for name, arm in self.arms.items()}
        return tuple(
            self._code.function(text, self.folder, where=self.path, field=field, use="be run")
            for field, text in said.items()
            if names_function(text)
        )
