"""Run every benchmark."""

from benchmarks.engine import main as engine
from benchmarks.predictor import main as predictor
from benchmarks.runtime import main as runtime

if __name__ == "__main__":
    engine()
    predictor([])
    predictor(["--model", "encoder", "--prompts", "512"])
    runtime([])
