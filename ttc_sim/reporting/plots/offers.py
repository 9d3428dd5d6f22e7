"""Which GPUs serve a model how fast, at what price?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ttc_sim.reporting.plots.style import (
    Beside,
    drawn_in,
    figure_of,
    fitted,
    legend_below,
    logarithmic,
    look,
    named,
    tidy,
    titled,
    write_beside,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ttc_sim.serving.offers import Offer


def plot_offers(offers: Sequence[Offer], title: str) -> Figure:
    """Price of a million output tokens at a full batch over the speed of a request alone, a line per GPU."""
    figure, (axes,) = figure_of(1, 9, 5.5)
    by_gpu: dict[str, list[Offer]] = {}
    for one in offers:
        if one.usd_per_million_output_tokens is not None:
            by_gpu.setdefault(one.gpu, []).append(one)
    labels: list[Beside] = []
    for k, (gpu, mine) in enumerate(by_gpu.items()):
        speed = [one.tokens_per_s_alone for one in mine]
        price = [float(one.usd_per_million_output_tokens or 0.0) for one in mine]
        name = f"{gpu} (doubtful)" if mine[0].warning else gpu
        axes.plot(speed, price, **look(k).line, alpha=0.55 if mine[0].warning else 1.0, label=named(name))
        labels += [
            Beside(x, y, str(one.tensor_parallel), look(k).color) for one, x, y in zip(mine, speed, price, strict=True)
        ]
    axes.set(
        xlabel="output tokens per second of a request alone", ylabel="price ($ per million output tokens, full batch)"
    )
    titled(axes, named(title, 160))
    axes.margins(0.07)
    for axis in (axes.xaxis, axes.yaxis):
        logarithmic(axis)
    tidy(axes)
    legend_below(figure, 5)
    fitted(figure)
    # How many GPUs; where many points lie close some are left out.
    write_beside(axes, labels, covers=drawn_in(axes))
    return figure


__all__ = ["plot_offers"]
