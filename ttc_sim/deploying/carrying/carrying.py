"""A decision carried out: its strategy's calls, and where they leave no answer those of its fallbacks."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from ttc_sim.base.errors import InputError, nearest
from ttc_sim.deploying.arms import deployments_of
from ttc_sim.deploying.carrying.checking import arms_asked, check
from ttc_sim.deploying.carrying.choosing import Chosen, carry_strategy_out, load_votes
from ttc_sim.deploying.carrying.live import Live, Place
from ttc_sim.deploying.carrying.manner import Manner
from ttc_sim.deploying.carrying.messages import Messages, checked_messages
from ttc_sim.deploying.carrying.records import NoAnswerError, Reply, Status
from ttc_sim.deploying.carrying.streamed import ESTIMATED
from ttc_sim.deploying.carrying.transports import ByClient, Direct, Send
from ttc_sim.deploying.carrying.waiting import waited
from ttc_sim.deploying.decisions import Outcome
from ttc_sim.deploying.endpoints import Endpoint
from ttc_sim.scenario import Scenario
from ttc_sim.serving.prices import price_of


class DecisionLike(Protocol):
    """What is to be known of a decision, as :class:`ttc_sim.deploying.decisions.Decision` says it."""

    @property
    def request(self) -> str:
        """Its name."""
        ...

    @property
    def arm(self) -> str:
        """That it goes to."""
        ...

    @property
    def fallbacks(self) -> tuple[str, ...]:
        """That it goes to after that."""
        ...

    @property
    def prompt_tokens(self) -> int:
        """As told, or estimated."""
        ...


class Carrying:
    """Carries out what is decided of live requests. Safe under threads, and in event loops.

    Args:
        scenario: of the plan.
        endpoints: where deployments stand, by name.
        manner: how, where the plan says nothing of it.
        arms: that may be chosen; all if left out. Their fallbacks, and what their strategies name, come with them.
        sent, ended: told of a deployment as a call to it (at a pool, each sequence of it) is sent, and as it is over.

    Raises:
        InputError: an arm that cannot be carried out so; what is missing is said.
    """

    def __init__(
        self,
        scenario: Scenario,
        endpoints: Mapping[str, Endpoint],
        manner: Manner | None = None,
        *,
        arms: Iterable[str] | None = None,
        sent: Callable[[str], object] | None = None,
        ended: Callable[[str], object] | None = None,
    ) -> None:
        if manner is not None and not isinstance(manner, Manner):
            raise InputError("run", "manner", manner, "a Manner(...) of ttc_sim.deploying.carrying")
        self._scenario, self._endpoints, self._manner = scenario, dict(endpoints), manner or Manner()
        self._sent, self._ended = sent, ended
        self.arms = arms_asked(scenario, arms)
        check(scenario, self._endpoints, self._manner, self.arms)
        self._needed = list(dict.fromkeys(place for arm in self.arms for place in deployments_of(scenario, arm)))
        self._prices = {name: price_of(scenario, name) for name in self._needed}
        self._direct: dict[str, Direct] = {}
        if any(scenario.parsed_strategy(arm).votes for arm in self.arms):
            load_votes()

    async def carry_out(
        self,
        decision: DecisionLike,
        messages: str | Messages,
        client: Any = None,
        *,
        body: Mapping[str, Any] | None = None,
        limit: int | None = None,
        left: Callable[[Outcome], object] | None = None,
    ) -> tuple[Outcome, Reply]:
        """Carry a decision out, and say what became of it.

        Args:
            decision: of the request.
            messages: of it, as the API takes them; or a single user's text.
            client: of OpenAI's kind, synchronous or not, for all deployments or by the deployment's name; over HTTP from here,
                with keys from the environment, where there is none.
            body: further keys of the calls that attempts are made of, as the caller wants them; those of the endpoint go before.
            limit: most output tokens of one such call, beside the arm's cap.
            left: told what had become of it, where it is cancelled because nobody waits for it any more.

        Raises:
            InputError: no messages, an arm that was not among those, or something else than a client. What goes wrong on the way
                is told by the outcome.
        """
        said, path = checked_messages(messages), (decision.arm, *decision.fallbacks)
        if unknown := [arm for arm in path if arm not in self.arms]:
            raise InputError(self._scenario.path, "arm", unknown[0], nearest(unknown[0], self.arms))
        places = self._places(client)
        live = Live(decision.request, said, decision.prompt_tokens, places, self._manner, self._sent, self._ended)
        live.wanted, live.most = dict(body or {}), limit
        status: Status = "failed"
        chosen: Chosen | None = None
        for arm in path:
            live.begin(arm)
            try:
                strategy, deployment = self._scenario.parsed_strategy(arm), self._scenario.arms[arm].deployment
                chosen, status = await carry_strategy_out(live, self._scenario, strategy, deployment), "answered"
                break
            except NoAnswerError as failed:
                status = failed.status
                live.reached = live.now()
                live.note(f"{arm} did not answer: {failed.reason}")
                if failed.for_good or (live.at is not None and live.now() >= live.deadline(live.at.item)):
                    break
            except asyncio.CancelledError:
                if left is not None:
                    live.reached = live.now()
                    left(_outcome(live, "timed_out"))
                raise
        return _outcome(live, status), _reply(live, chosen)

    def run(
        self,
        decision: DecisionLike,
        messages: str | Messages,
        client: Any = None,
        *,
        left: Callable[[Outcome], object] | None = None,
    ) -> tuple[Outcome, Reply]:
        """The same, for code that waits: from any thread, also one whose event loop is running."""
        return waited(lambda: self.carry_out(decision, messages, client, left=left))

    def close(self) -> None:
        """Close the connections that :meth:`run` has made."""
        waited(self.aclose)

    async def aclose(self) -> None:
        """Close the connections that this event loop has made."""
        for one in self._direct.values():
            await one.aclose()

    def _places(self, client: Any) -> Callable[[str], Place]:
        by_name = client if isinstance(client, Mapping) else dict.fromkeys(self._needed, client)
        if unknown := [name for name in by_name if name not in self._scenario.deployments]:
            raise InputError("run", "client", unknown[0], nearest(str(unknown[0]), self._scenario.deployments))
        one = ByClient(client) if client is not None and by_name is not client else None
        made = {}
        for name in self._needed:
            given = by_name.get(name)
            send: Send = one or (self._directly(name) if given is None else ByClient(given))
            item = self._scenario.deployments[name]
            made[name] = Place(name, item, self._endpoints[name], self._prices[name], send)
        return made.__getitem__

    def _directly(self, name: str) -> Direct:
        if name not in self._direct:
            self._direct[name] = Direct(name, self._endpoints[name])
        return self._direct[name]


def _outcome(live: Live, status: Status) -> Outcome:
    # Of what was answered or else of what was tried last: a stream that broke off and begins anew has not begun.
    asked = [one for one in live.calls if one.arm == live.arm and one.purpose == "attempt"]
    last = [one for one in asked if one.status in ("answered", "stopped")] if status == "answered" else asked[-1:]
    firsts = [one.first_token_s for one in last if one.first_token_s is not None]
    begun = live.arrived if live.first_sent is None else live.first_sent
    before = begun - live.arrived
    return Outcome(
        request=live.request,
        at=datetime.datetime.now(datetime.UTC),
        arm=live.arm,
        status=status,
        latency_s=max(live.reached - begun, 0.0),
        first_token_s=min(firsts) - before if firsts else None,
        calls=len(live.calls),
        prompt_tokens=sum(one.prompt_tokens for one in live.calls),
        cached_tokens=sum(one.cached_tokens for one in live.calls),
        reasoning_tokens=sum(one.reasoning_tokens for one in live.calls),
        visible_tokens=sum(one.visible_tokens for one in live.calls),
        usd=sum(one.usd for one in live.calls),
        estimated=any(one.counted == ESTIMATED for one in live.calls),
    )


def _reply(live: Live, chosen: Chosen | None) -> Reply:
    calls, notes = tuple(live.calls), tuple(live.notes)
    if chosen is None:
        return Reply(None, False, (), None, calls, notes)
    return Reply(chosen.final.text, chosen.final.cut_off, chosen.samples, chosen.share, calls, notes)


__all__ = ["Carrying", "DecisionLike"]
