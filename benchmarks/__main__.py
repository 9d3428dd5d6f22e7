"""Run every benchmark."""

from benchmarks.engine import main as engine

if __name__ == "__main__":
    engine()
