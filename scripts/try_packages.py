"""``python scripts/try_packages.py``: build wheel and source distribution, and use them in empty environments."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.11", "3.12", "3.13")
USES = (
    ("--version",),
    ("list", "gateway"),
    ("simulate", "qa-gateway", "--requests", "50", "--replications", "1", "--json", "made.json"),
)


def build(folder: Path) -> tuple[Path, Path]:
    """The wheel and the source distribution, from the files that git would commit."""
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--directory", str(folder)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"hatchling build: {done.stderr}")
    return next(folder.glob("*.whl")), next(folder.glob("*.tar.gz"))


def pythons(wanted: Sequence[str] = PYTHONS) -> Iterator[tuple[str, Path | None]]:
    """By version, an interpreter; ``None`` where there is none."""
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    for version in wanted:
        known = [
            *sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python")),
            shutil.which(f"python{version}"),
        ]
        found = next((Path(one) for one in known if one is not None and _runs(one)), None)
        yield version, Path(sys.executable) if here == version else found


def _runs(python: str | Path) -> bool:
    return subprocess.run([python, "--version"], capture_output=True, check=False).returncode == 0


def use(python: Path, package: Path, folder: Path, extra: Sequence[str] = ()) -> float:
    """Install a package into an empty environment, and use it from an empty folder; seconds that it took.

    Raises:
        SystemExit: a step failed.
    """
    began = time.perf_counter()
    environment = folder / "environment"
    _carry_out([str(python), "-m", "venv", str(environment)], folder)
    inside = environment / "bin"
    options = ["--quiet", "--disable-pip-version-check", "--constraint", str(ROOT / "constraints.txt"), *extra]
    _carry_out([str(inside / "python"), "-m", "pip", "install", *options, str(package)], folder)
    empty = folder / "empty"
    empty.mkdir()
    for words in USES:
        _carry_out([str(inside / "ttc-sim"), *words], empty)
    return time.perf_counter() - began


def _carry_out(words: list[str], folder: Path) -> None:
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}: status {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def main() -> int:
    """Exit status: 0 if every package works on every Python that there is, else 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", nargs="*", default=PYTHONS, help="versions to try")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ttc-sim-packages-") as name:
        packages = build(Path(name) / "dist")
        for version, python in pythons(given.python):
            if python is None:
                print(f"Python {version}: none on this machine")
                continue
            for package in packages:
                with tempfile.TemporaryDirectory(prefix="ttc-sim-package-") as place:
                    took_s = use(python, package, Path(place))
                print(f"Python {version}, {package.name}: installed and used in {took_s:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
