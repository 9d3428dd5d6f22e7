"""Write ``ttc_sim/serving/measured_stages.json`` and say what the physics model's coefficients are when fitted to it.

    python scripts/fit_physics.py .../vllm-experiments/experiments.json

The numbers printed are the defaults of ``physics.Coefficients``, ``FRONTEND_S`` and ``PIPELINE_STEPS``. Takes a second.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ttc_sim.fidelity.experiments import load_experiments, stages_of
from ttc_sim.files.writing import write_atomically
from ttc_sim.serving.measured_stages import FILE, shipped_stages
from ttc_sim.serving.physics import fit, fit_first_token

ORIGIN = (
    "Means of load stages measured on vLLM servers with H100s, published with BLIS (inference-sim, Apache-2.0): sequences "
    "decoding and the tokens that they attend to follow from the arrival rate and the measured times (Little's law), seconds "
    "are of an iteration"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="experiments.json")
    file = parser.parse_args().file
    rows = [
        {
            "model": one.model,
            "gpu": one.gpu,
            "tensor_parallel": one.tensor_parallel,
            "precision": stage.step.precision,
            **{name: float(f"{getattr(stage.step, name):.6g}") for name in ("sequences", "kv_tokens", "seconds")},
            "first_token_s": stage.first_token_s,
        }
        for one in load_experiments(file)
        for stage in stages_of(one, file)
    ]
    write_atomically(FILE, json.dumps({"origin": ORIGIN, "stages": rows}, indent=1) + "\n")
    stages = shipped_stages()
    print(fit([stage.step for stage in stages]))
    frontend_s, pipeline_steps = fit_first_token([(stage.step.seconds, stage.first_token_s) for stage in stages])
    print(f"FRONTEND_S = {frontend_s:.2g}, PIPELINE_STEPS = {pipeline_steps:.2g}")


if __name__ == "__main__":
    main()
