"""Write the operator times of the shipped scenarios' GPU pools to ``operators/``; needs ``pip install 'ttc-sim[gpus]'``.

With them the scenarios run without the catalogue. The numbers are its own (Apache-2.0, NVIDIA), as each file says.
"""

from __future__ import annotations

from pathlib import Path

from ttc_sim.files.writing import write_atomically
from ttc_sim.scenario import GpuPool, load_scenario
from ttc_sim.serving.catalogue import checked
from ttc_sim.serving.operator_lookup import measure
from ttc_sim.serving.operator_store import shipped_name
from ttc_sim.serving.operators import as_json
from ttc_sim.serving.pools import served_by

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    folder = ROOT / "operators"
    folder.mkdir(exist_ok=True)
    for file in sorted((ROOT / "scenarios").glob("*.yaml")):
        scenario = load_scenario(file)
        for name, pool in scenario.deployments.items():
            if not isinstance(pool, GpuPool) or pool.step_time is not None:
                continue
            served = served_by(pool, scenario.folder)
            times = measure(checked(served, file, f"deployments.{name}."), file, f"deployments.{name}.")
            path = folder / shipped_name(served)
            write_atomically(path, as_json(times) + "\n")
            print(f"{path.name}: {times.kv_tokens} KV tokens, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
