"""The compiled engine: the reference engine's meaning, leaping over decode iterations by closed form."""

from ttc_sim.engine.compiled.run import run, warm_up

__all__ = ["run", "warm_up"]
