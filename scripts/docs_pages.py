"""Pages of the documentation that are made of the project itself, and links that lead out of its folder."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import typer.main

from ttc_sim.cli import app
from ttc_sim.cli.examples import EXAMPLES

ROOT = Path(__file__).resolve().parents[1]
BESIDE = {
    "README.md": "index.md",
    "CHANGELOG.md": "reference/changelog.md",
    "SECURITY.md": "reference/security.md",
    "CONTRIBUTING.md": "reference/contributing.md",
}
"""Files of the project's root that are pages, and where."""
NOTEBOOKS = tuple(sorted((ROOT / "notebooks").glob("*.ipynb")))
"""Each is a page: what its cells say, and what they put out."""
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def pages() -> dict[str, str]:
    """By file, every page: those of ``docs/``, those made here, and files of the root that are pages."""
    found = {path.name: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))}
    found |= {page: (ROOT / name).read_text(encoding="utf-8") for name, page in BESIDE.items()}
    found |= {f"notebooks/{path.stem}.md": notebook_page(path) for path in NOTEBOOKS}
    made = {"commands": commands_page(), "scenario": scenario_page(), "python": python_page()}
    return {
        **{page: with_links(text, page) for page, text in found.items()},
        **{f"reference/{name}.md": text for name, text in made.items()},
    }


def pictures() -> dict[str, bytes]:
    """By file, every picture that a page shows."""
    docs = ROOT / "docs"
    shown = sorted([*docs.glob("*.png"), *docs.glob("gallery/*.png")])
    found = {path.relative_to(docs).as_posix(): path.read_bytes() for path in shown}
    for path in NOTEBOOKS:
        found |= {f"notebooks/{name}": picture for name, picture in _pictures(path).items()}
    return found


def with_links(text: str, page: str) -> str:
    """The text of a page, whose links to files that are no pages become their names."""
    at_root = page in BESIDE.values()
    folder = "notebooks" if page.startswith("notebooks/") else "docs"
    above = "../" * page.count("/")

    def link(found: re.Match[str]) -> str:
        picture, said, target = found.groups()
        if re.match(r"[a-z]+:|#", target) or (picture and folder == "notebooks"):
            return found[0]
        name, _, anchor = target.partition("#")
        # From where the text stands, to where it is read from.
        inside = name if at_root else name.removeprefix("../") if name.startswith("../") else f"{folder}/{name}"
        if inside in BESIDE:
            goal = BESIDE[inside]
        elif inside.startswith("notebooks/") and inside.endswith(".ipynb"):
            goal = inside.removesuffix(".ipynb") + ".md"
        elif inside.startswith("docs/"):
            goal = inside.removeprefix("docs/")
        else:
            return said if said.strip("`") == inside else f"{said} (`{inside}`)"
        return f"{picture}[{said}]({above}{goal}{'#' + anchor if anchor else ''})"

    parts = re.split(r"(```.*?```)", text, flags=re.DOTALL)
    return "".join(part if part.startswith("```") else _LINK.sub(link, part) for part in parts)


# ----------------------------------------------------------------------------------------------------- notebooks


def notebook_page(path: Path) -> str:
    """A notebook as it is kept: text, code, and below that what it put out."""
    parts = []
    for number, cell in enumerate(_cells(path)):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        shell = re.match(r"%%bash.*\n", source)
        code = source[shell.end() :] if shell else re.sub(r"^%.*\n", "", source)
        parts.append(f"```{'sh' if shell else 'python'}\n{code.rstrip()}\n```")
        parts += [_shown(output, _picture_name(path, number, k)) for k, output in enumerate(cell["outputs"])]
    parts.append(f"---\n\nThis page is `notebooks/{path.name}`, with what its cells put out when it was last run.")
    return "\n\n".join(parts) + "\n"


def _shown(output: Mapping[str, Any], picture: str) -> str:
    """An output as a page has it."""
    data = output.get("data", {})
    if "image/png" in data:
        return f"![What the cell above draws]({picture})"
    if "text/html" in data:
        # With the class that the site's other tables have, without quotes, and in a box that scrolls if it is wider than the page.
        table = re.sub(r"<td>&quot;(.*?)&quot;</td>", r"<td>\1</td>", "".join(data["text/html"]))
        table = table.replace('class="dataframe"', 'class="docutils"').replace('border="1" ', "")
        return f'```{{raw}} html\n<div class="table-wrapper">{table}</div>\n```'
    text = "".join(output["text"] if output["output_type"] == "stream" else data["text/plain"])
    return f"```text\n{text.rstrip()}\n```"


def _pictures(path: Path) -> dict[str, bytes]:
    return {
        _picture_name(path, number, k): base64.b64decode("".join(output["data"]["image/png"]))
        for number, cell in enumerate(_cells(path))
        for k, output in enumerate(cell.get("outputs", ()))
        if "image/png" in output.get("data", {})
    }


def _picture_name(path: Path, cell: int, output: int) -> str:
    return f"{path.stem}-{cell}-{output}.png"


def _cells(path: Path) -> list[dict[str, Any]]:
    return list(json.loads(path.read_text(encoding="utf-8"))["cells"])


# ------------------------------------------------------------------------------------------------------ commands


def commands_page() -> str:
    """Every command with its arguments, options and examples."""
    group = typer.main.get_command(app)
    parts = [
        "# Every command",
        "What `ttc-sim COMMAND --help` says. Exit statuses: [the command line](../command-line.md).",
    ]
    for name, command in _commands(group, "ttc-sim"):
        parts += _command(name, command)
    return "\n\n".join(parts) + "\n"


def _commands(group: Any, above: str) -> Iterator[tuple[str, Any]]:
    for name, command in sorted(group.commands.items()):
        if getattr(command, "hidden", False):
            continue
        if hasattr(command, "commands"):
            yield from _commands(command, f"{above} {name}")
        else:
            yield f"{above} {name}", command


def _command(name: str, command: Any) -> list[str]:
    parts = [f"## {name}", _as_text((command.help or "").partition("Examples:")[0])]
    rows = [row for parameter in command.params if (row := _parameter(parameter)) is not None]
    if rows:
        parts.append("\n".join(["| argument or option | what it says |", "|---|---|", *rows]))
    examples = EXAMPLES.get(name.partition(" ")[2], ())
    if examples:
        parts.append("```sh\n" + "\n".join(examples) + "\n```")
    return parts


def _parameter(parameter: click.Parameter) -> str | None:
    if parameter.name == "help":
        return None
    names = ", ".join([*parameter.opts, *parameter.secondary_opts])
    if parameter.param_type_name == "argument":
        names = str(parameter.name).upper()
    said = " ".join(str(getattr(parameter, "help", None) or "").split())
    return f"| `{names}` | {_in_cell(said)} |"


def _as_text(said: str) -> str:
    paragraphs = [" ".join(part.split()) for part in re.split(r"\n\s*\n", said)]
    return "\n\n".join(_outside_code(part, _plain) for part in paragraphs if part)


def _in_cell(said: str) -> str:
    return _outside_code(said, _plain).replace("|", "\\|")


def _plain(text: str) -> str:
    """No markup in words that are none."""
    return re.sub(r"([\[\]*_<>])", r"\\\1", text)


def _outside_code(text: str, change: Any) -> str:
    return "".join(part if part.startswith("`") else change(part) for part in re.split(r"(`[^`]*`)", text))


# ------------------------------------------------------------------------------------------------- the scenario


def scenario_page() -> str:
    """Every key that a scenario may have, from its schema."""
    schema = json.loads((ROOT / "scenarios" / "scenario.schema.json").read_text(encoding="utf-8"))
    parts = [
        "# Every key of a scenario",
        "By the JSON schema that `ttc-sim schema` writes, with which editors complete and check scenario files.",
        *_keys("scenario", schema, level=2),
    ]
    for name, one in sorted(schema.get("$defs", {}).items()):
        if one.get("properties"):
            parts += _keys(name, one, level=2)
    return "\n\n".join(parts) + "\n"


def _keys(name: str, one: Mapping[str, Any], level: int) -> list[str]:
    needed = set(one.get("required", ()))
    rows = ["| key | value | what it is |", "|---|---|---|"]
    for key, value in one.get("properties", {}).items():
        said = " ".join(str(value.get("description", "")).split())
        must = " (required)" if key in needed else ""
        rows.append(f"| `{key}`{must} | {_in_cell(_kind(value))} | {_in_cell(said)} |")
    described = " ".join(str(one.get("description", "")).split())
    return [f"{'#' * level} {name}", *([_outside_code(described, _plain)] if described else []), "\n".join(rows)]


def _kind(value: Mapping[str, Any]) -> str:
    """What a value may be, in words."""
    if "const" in value:
        return f"`{value['const']}`"
    if "enum" in value:
        return ", ".join(f"`{one}`" for one in value["enum"])
    if "$ref" in value:
        return str(value["$ref"]).rsplit("/", 1)[-1]
    for several in ("anyOf", "oneOf"):
        if several in value:
            kinds = dict.fromkeys(
                _kind(one) for one in value[several] if isinstance(one, dict) and one.get("type") != "null"
            )
            return " or ".join(kind for kind in kinds if kind)
    kind = value.get("type", "")
    if kind == "array" and isinstance(value.get("items"), dict):
        return f"list of {_kind(value['items'])}"
    if kind == "object" and isinstance(value.get("additionalProperties"), dict):
        return f"by name: {_kind(value['additionalProperties'])}"
    limits = [f"{word} {value[key]:g}" for key, word in _LIMITS.items() if isinstance(value.get(key), int | float)]
    return " ".join([" or ".join(kind) if isinstance(kind, list) else str(kind), *limits]).strip()


_LIMITS = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}


# ------------------------------------------------------------------------------------------------------- Python


_GROUPS = {
    "What one asks": (
        *(
            "simulate",
            "optimize",
            "capacity",
            "evaluate",
            "validate",
            "cross_validate",
            "what_if",
            "sensitivity",
            "sweep",
        ),
        *("report", "explore", "monitor", "off_policy", "collect"),
    ),
    "What one says": (
        *("load_scenario", "scenario_from_dict", "with_changes", "parse_policy", "parse_strategy", "register"),
        *("load_plan", "load_profile", "load_problem_set", "list_profiles"),
    ),
}


def python_page() -> str:
    """Every public name, in groups; the rest by the alphabet."""
    import ttc_sim

    named = {name for group in _GROUPS.values() for name in group}
    rest = [name for name in ttc_sim.__all__ if name not in named and not name.startswith("__")]
    parts = ["# Python", "All that `import ttc_sim as ttc` offers."]
    for title, names in {**_GROUPS, "What one gets": rest}.items():
        parts.append(f"## {title}")
        for name in names:
            one = getattr(ttc_sim, name)
            kind = "autoclass" if isinstance(one, type) else "autofunction"
            # Under the name that people import, wherever it lives.
            members = "\n:members:" if kind == "autoclass" else ""
            parts.append(f"```{{eval-rst}}\n.. {kind}:: ttc_sim.{name}{members.replace(chr(10), chr(10) + '   ')}\n```")
    return "\n\n".join(parts) + "\n"
