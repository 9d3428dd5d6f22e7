"""What serves each model: an API by its prices, or GPUs of one's own."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ttc_sim.base.errors import InputError, cut, nearest
from ttc_sim.drafting.timing import Timing
from ttc_sim.scenario import Price
from ttc_sim.scenario.gpu_prices import GPU_PRICES
from ttc_sim.serving import catalogue
from ttc_sim.serving.model_names import ALIASES
from ttc_sim.serving.offers import fewest_gpus
from ttc_sim.serving.prices import listed_as, resolve_price

_WHERE = "scenario init"
_DOLLARS = re.compile(r"\$?(\d+(?:\.\d*)?|\.\d+)/\$?(\d+(?:\.\d*)?|\.\d+)")
_SHOWN = 8


@dataclass(frozen=True)
class Api:
    """An endpoint that is paid by the token.

    Attributes:
        price: as the scenario says it; origin: where it comes from, in words.
        timing: of its answers.
    """

    price: Price
    origin: str
    timing: Timing


@dataclass(frozen=True)
class Pool:
    """GPUs of one's own: the catalogue's model on so many GPUs a replica."""

    model: str
    gpu: str
    tensor_parallel: int
    expert_parallel: bool


def endpoints_of(
    models: Sequence[str],
    prices: Sequence[str],
    gpus: Sequence[str],
    timings: Mapping[str, Timing],
    day: str,
    longest: int,
) -> dict[str, Api | Pool]:
    """What serves each model.

    Args:
        models: by their names in the log.
        prices: ``PROVIDER/MODEL`` for the model of that name, ``MODEL=PROVIDER/MODEL``, or ``MODEL=IN/OUT`` in US dollars per
            million tokens. A model that none is given for is looked up by its name.
        gpus: ``GPU`` for models that the catalogue knows by name and that no price is given for, ``MODEL=GPU``, or
            ``MODEL=GPU/CATALOGUE_MODEL``.
        timings: by model.
        day: whose prices hold, ``YYYY-MM-DD``.
        longest: tokens of the longest request, which a replica must hold.

    Raises:
        InputError: what is no price or GPU, or is one for no model; models that no price is known for.
    """
    given = _by_model(models, prices, "--price", _named_by_price)
    pools = _pools(models, gpus, given, longest)
    found: dict[str, Api | Pool] = {}
    unknown: list[str] = []
    for model in models:
        if model in pools:
            found[model] = pools[model]
            continue
        price = _price(given[model], day) if model in given else _looked_up(model, day)
        if price is None:
            unknown.append(model)
            continue
        origin = resolve_price(price, where=_WHERE, field=f"--price {cut(model, 80)}").origin
        by_name = "" if model in given or price.provider is None else ", by the model's name: --price says otherwise"
        found[model] = Api(price, origin.replace("in the scenario", "by --price") + by_name, timings[model])
    if unknown:
        first = cut(unknown[0], 80)
        expected = f"--price '{first}=PROVIDER/MODEL' of the price table genai-prices, --price '{first}=IN/OUT' in US dollars per "
        expected += f"million tokens, or --gpu '{first}=GPU'; or --models without it"
        shown = [cut(one, 80) for one in unknown[:_SHOWN]] + ["..."] * (len(unknown) > _SHOWN)
        raise InputError(_WHERE, "price", f"none known of {', '.join(shown)}", expected)
    return found


def _by_model(
    models: Sequence[str], given: Sequence[str], option: str, named: object, expected: str = "PROVIDER/MODEL"
) -> dict[str, str]:
    """What an option says of each model; ``named`` finds the models of a value that stands without one."""
    found: dict[str, str] = {}
    for text in given:
        model = max((one for one in models if text.startswith(f"{one}=")), key=len, default=None)
        if model is not None:
            mine, value = [model], text[len(model) + 1 :]
        elif "=" in text:
            name = text.rpartition("=")[0]
            raise InputError(_WHERE, option, text, f"MODEL=..., MODEL being {nearest(name, models)}")
        else:
            mine, value = named(models, text), text  # type: ignore[operator]
            if not mine:
                raise InputError(_WHERE, option, text, f"MODEL={text}, MODEL being {nearest(text, models)}")
        for one in mine:
            if one in found:
                raise InputError(_WHERE, option, text, f"one {option} for {cut(one, 80)}, not {found[one]} too")
            found[one] = value
    return found


def _named_by_price(models: Sequence[str], text: str) -> list[str]:
    if len(models) == 1:
        return list(models)
    if _DOLLARS.fullmatch(text):
        return []
    return [one for one in models if one in (text, text.partition("/")[2])]


def _price(text: str, day: str) -> Price:
    if stated := _DOLLARS.fullmatch(text):
        return Price(input_usd_per_mtok=float(stated[1]), output_usd_per_mtok=float(stated[2]))
    provider, slash, model = text.partition("/")
    if not slash:
        expected = "PROVIDER/MODEL of the price table genai-prices, or IN/OUT in US dollars per million tokens"
        raise InputError(_WHERE, "--price", text, expected)
    return Price(provider=provider, model=model, on=day)


def _looked_up(model: str, day: str) -> Price | None:
    found = listed_as(model)
    return None if found is None else Price(provider=found[0], model=found[1], on=day)


def _pools(models: Sequence[str], gpus: Sequence[str], priced: Mapping[str, str], longest: int) -> dict[str, Pool]:
    if not gpus:
        return {}
    catalogue.need(_WHERE, "--gpu", gpus[0])

    def known(models: Sequence[str], _: str) -> list[str]:
        if len(models) == 1:
            return list(models)
        return [one for one in models if catalogue.base(one) is not None and one not in priced]

    found: dict[str, Pool] = {}
    for model, text in _by_model(models, gpus, "--gpu", known).items():
        if model in priced:
            raise InputError(
                _WHERE, "--gpu", text, f"no --price for {cut(model, 80)} beside it: GPUs are paid by the hour"
            )
        gpu, _, named = text.partition("/")
        if gpu not in catalogue.gpus():
            raise InputError(_WHERE, "--gpu", gpu, nearest(gpu, catalogue.gpus()))
        if gpu not in GPU_PRICES:
            raise InputError(_WHERE, "--gpu", gpu, f"a GPU that a list price is known of: {', '.join(GPU_PRICES)}")
        if not named and catalogue.base(model) is None:
            close = nearest(model, {*catalogue.models(), *ALIASES})
            expected = f"'MODEL={gpu}/NAME', NAME being the catalogue's of {cut(model, 80)}: {close}"
            raise InputError(_WHERE, "--gpu", text, expected)
        served = fewest_gpus(named or model, gpu, longest, where=_WHERE, field="--gpu ")
        found[model] = Pool(named or model, gpu, served.tensor_parallel, served.expert_parallel > 1)
    return found
