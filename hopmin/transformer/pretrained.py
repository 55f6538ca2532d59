"""Pretrained models, read from files (needs the extra `pretrained`: gguf, tokenizers).

- GPT-2 from a Hugging Face folder, as a `GPT` [`load_gpt2`]
- a `Llama` from a GGUF file [`load_llama`]

Nothing is downloaded, and no code in a file is executed. Weights of any format become float32, 4 bytes a parameter.
Damaged files, unknown tensors and other architectures raise ValueError. Sizes in a header are compared with the size of
the file before memory is taken.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hopmin import _check
from hopmin._extras import needed_by
from hopmin._files import file_errors, memory_errors
from hopmin._typing import Array, Floats, Name
from hopmin.data.tokenizers import BPETokenizer
from hopmin.transformer.llama import Llama, LlamaConfig
from hopmin.transformer.model import GPT, Activation, GPTConfig, Parameters, Shapes, check_shapes

# The parts of a parameter's name in files, where they differ from hopmin's: see `tensor_name`
GPT2_NAMES = {
    "tokens": "wte.weight", "positions": "wpe.weight", "layers": "h", "norm": "ln_f", "gain": "weight",
    "norm1": "ln_1", "attention": "attn.c_attn", "output": "attn.c_proj",
    "norm2": "ln_2", "expand": "mlp.c_fc", "contract": "mlp.c_proj",
}  # fmt: skip
GGUF_NAMES = {
    "tokens": "token_embd.weight", "layers": "blk", "norm": "output_norm", "head": "output", "gain": "weight",
    "norm1": "attn_norm", "queries": "attn_q", "keys": "attn_k", "values": "attn_v", "output": "attn_output",
    "norm2": "ffn_norm", "gate": "ffn_gate", "expand": "ffn_up", "contract": "ffn_down",
}  # fmt: skip
GPT2_ACTIVATIONS: dict[str, Activation] = {"gelu_new": "gelu", "relu": "relu"}  # "gelu" is the exact x Phi(x)
# The values of config.json that `GPT` supports; the first is the default
GPT2_OPTIONS = {
    "model_type": ("gpt2",), "activation_function": tuple(GPT2_ACTIVATIONS), "layer_norm_epsilon": (1e-5,),
    "scale_attn_weights": (True,), "scale_attn_by_inverse_layer_idx": (False,), "add_cross_attention": (False,),
    "tie_word_embeddings": (True,),
}  # fmt: skip
# The values of a GGUF header that `Llama` and `BPETokenizer` support
GGUF_OPTIONS = {
    "general.architecture": ("llama",), "llama.rope.scaling.type": (None, "none"),
    "tokenizer.ggml.model": ("gpt2",), "tokenizer.ggml.pre": ("gpt-2", "smollm"),
}  # fmt: skip
FLOAT_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}  # of safetensors; `_to_float32`
# The types of values in a GGUF header, as `struct` names them; two types are not of a number
GGUF_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
GGUF_STRING, GGUF_LIST = 8, 9
GGUF_VERSIONS = (2, 3)
GGUF_AXES = 4  # at most
END_OF_TEXT = "<|endoftext|>"
CONTROL = 3  # the GGUF type of special tokens


def load_gpt2(folder: Name) -> tuple[GPT, BPETokenizer]:
    """Return a GPT-2 and its tokenizer from a Hugging Face folder.

    Parameters
    ----------
    folder : str or path
        With config.json; model.safetensors, or the files that model.safetensors.index.json names; and tokenizer.json,
        or vocab.json and merges.txt. Weights may be float64, float32, float16 or bfloat16.

    Returns
    -------
    model : GPT
        In float32; it can be trained further.
    tokenizer : BPETokenizer

    Raises
    ------
    ImportError
        If tokenizers is not installed.
    MemoryError
        If there is not enough memory.
    ValueError
        If a file is missing or damaged; a tensor is missing, unknown, of another shape or not finite; or it is another
        kind of model.
    """
    folder = Path(_check.path("folder", folder))
    options = _read_json(folder / "config.json")
    for name, known in GPT2_OPTIONS.items():
        if (value := options.get(name, known[0])) not in known:
            wanted = " or ".join(map(repr, known))
            raise ValueError(f"model must be a GPT-2 with {name} {wanted}; {folder} has {value!r:.60}")
    with _file_errors(folder / "config.json"):
        config = GPTConfig(
            vocabulary=options["vocab_size"],
            positions=options["n_positions"],
            layers=options["n_layer"],
            heads=options["n_head"],
            width=options["n_embd"],
            hidden=options.get("n_inner"),
            activation=GPT2_ACTIVATIONS[options.get("activation_function", "gelu_new")],
        )
    tokenizer = _gpt2_tokenizer(folder)
    if len(tokenizer.symbols) > config.vocabulary:
        found = len(tokenizer.symbols)
        raise ValueError(f"tokenizer must have at most {config.vocabulary} pieces; in {folder} it has {found}")
    tensors: dict[str, Floats] = {}
    for path in _weight_files(folder):
        tensors |= {name.removeprefix("transformer."): a for name, a in _read_safetensors(path).items()}
    head = tensors.pop("lm_head.weight", None)
    shapes = {name: a.shape for name, a in tensors.items()}
    model = GPT._from_parameters(config, _read_parameters(config, GPT2_NAMES, shapes, folder, tensors.pop))
    if head is not None and not np.array_equal(head, model.parameters["tokens"]):
        raise ValueError(f"model must have its output weights tied to its embedding; {folder} has other weights")
    return model, tokenizer


def load_llama(path: Name) -> Llama:
    """Return a Llama, with its tokenizer, from a GGUF file.

    Parameters
    ----------
    path : str or path
        Quantised weights are dequantised to float32.

    Returns
    -------
    model : Llama
        Its tokenizer is `model.tokenizer`.

    Raises
    ------
    ImportError
        If gguf or tokenizers is not installed.
    MemoryError
        If there is not enough memory.
    ValueError
        If the file cannot be read or is damaged; a tensor is missing, unknown, of another shape or not finite; or it is
        another kind of model: another architecture, scaled rotary positions, or a tokenizer other than GPT-2's or
        SmolLM's.
    """
    path = _check.path("path", path)
    with _file_errors(path):
        header, tensors = _read_gguf(path)
    for name, options in GGUF_OPTIONS.items():
        if (value := header.get(name)) not in options:
            raise ValueError(f"model must have {name} {options[-1]}; {path} has {value!r:.60}")
    with _file_errors(path):
        config = _llama_config(header, tied_embeddings=GGUF_NAMES["head"] + ".weight" not in tensors)
        tokenizer = _gguf_tokenizer(header)

    def read(name: str) -> Floats:
        a = _dequantized(name, tensors[name], path)
        return a if name == GGUF_NAMES["tokens"] else a.T  # (outputs, inputs) in GGUF, (inputs, outputs) in hopmin

    shapes = {name: tensor.shape for name, tensor in tensors.items()}  # GGUF lists the last axis first
    if (embedding := GGUF_NAMES["tokens"]) in shapes:
        shapes[embedding] = shapes[embedding][::-1]
    return Llama(config, _read_parameters(config, GGUF_NAMES, shapes, path, read), tokenizer)


def _read_parameters(
    config: GPTConfig | LlamaConfig, names: Mapping[str, str], shapes: Shapes, path: Name, read: Callable[[str], Floats]
) -> Parameters:
    """Return the parameters that the configuration names; they are read after all shapes have been checked."""
    if config.layers > len(shapes):  # before their names take memory
        raise ValueError(f"model must have {config.layers} layers; {path} has {len(shapes)} tensors")
    in_file = {name: tensor_name(name, names) for name in config.shapes}
    check_shapes({in_file[name]: shape for name, shape in config.shapes.items()}, shapes, path)
    with memory_errors(path):
        parameters = {name: read(in_file[name]) for name in in_file}
    for name, a in parameters.items():
        _check.finite(f"{in_file[name]} in {path}", a)
    return parameters


def tensor_name(name: str, names: Mapping[str, str]) -> str:
    """Return the name of a parameter in a file, given [`GPT2_NAMES`] or [`GGUF_NAMES`].

    >>> tensor_name("layers.0.expand.bias", GPT2_NAMES), tensor_name("layers.0.norm1.gain", GGUF_NAMES)
    ('h.0.mlp.c_fc.bias', 'blk.0.attn_norm.weight')
    """
    return ".".join(names.get(part, part) for part in name.split("."))


def _llama_config(header: dict[str, Any], tied_embeddings: bool) -> LlamaConfig:
    llama = {name.removeprefix("llama."): value for name, value in header.items() if name.startswith("llama.")}
    config = LlamaConfig(
        vocabulary=len(header["tokenizer.ggml.tokens"]),
        positions=llama["context_length"],
        layers=llama["block_count"],
        heads=llama["attention.head_count"],
        key_heads=llama.get("attention.head_count_kv", llama["attention.head_count"]),
        width=llama["embedding_length"],
        hidden=llama["feed_forward_length"],
        base=llama.get("rope.freq_base", 10000.0),
        epsilon=llama["attention.layer_norm_rms_epsilon"],
        tied_embeddings=tied_embeddings,
    )
    E = config.width // config.heads
    if any(llama.get(name, E) != E for name in ("rope.dimension_count", "attention.key_length")):
        raise ValueError("heads of another width, or rotated in part")
    return config


def _gguf_tokenizer(header: dict[str, Any]) -> BPETokenizer:
    pieces, merges, types = (header[f"tokenizer.ggml.{name}"] for name in ("tokens", "merges", "token_type"))
    return BPETokenizer.from_merges(
        {piece: i for i, piece in enumerate(pieces)},
        (merge.split(" ") for merge in merges),
        [piece for piece, type in zip(pieces, types, strict=True) if type == CONTROL],
        digits=header["tokenizer.ggml.pre"] == "smollm",
    )


class _Tensor(NamedTuple):
    """A tensor in a GGUF file: its type, its shape with the last axis first, and its bytes."""

    type: Any
    shape: tuple[int, ...]
    data: Any


class _GGUFHeader:
    """The header of a GGUF file, read from front to back; ValueError at the end of the file.

    The reader of the library gguf is not used: it makes an array of every number in a list, hundreds of bytes for each.
    """

    def __init__(self, data: Any) -> None:
        self.data, self.place = memoryview(data), 0

    def bytes(self, size: int) -> Any:
        if size > len(self.data) - self.place:
            raise ValueError("the file ends before its contents")
        self.place += size
        return self.data[self.place - size : self.place]

    def number(self, kind: str) -> Any:
        return struct.unpack(f"<{kind}", self.bytes(struct.calcsize(f"<{kind}")))[0]

    def string(self) -> str:
        return str(self.bytes(self.number("Q")), "utf-8")

    def value(self, kind: int) -> Any:
        """Return a number, a string, or a list of either; lists of lists are refused."""
        if kind == GGUF_STRING:
            return self.string()
        if kind != GGUF_LIST:
            return self.number(GGUF_NUMBERS[kind])
        kind, count = self.number("I"), self.number("Q")
        if kind == GGUF_STRING:
            return [self.string() for _ in range(count)]  # a string takes 8 bytes or more, so the file limits them
        return self.bytes(count * struct.calcsize(f"<{GGUF_NUMBERS[kind]}")).cast(GGUF_NUMBERS[kind])


def _read_gguf(path: str) -> tuple[dict[str, Any], dict[str, _Tensor]]:
    """Return the fields and the tensors of a GGUF file, which is mapped; raise any exception if it is damaged."""
    with needed_by("a GGUF file", "pretrained"):
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    data = np.memmap(path, np.uint8, "r")
    header = _GGUFHeader(data)
    if header.bytes(4) != b"GGUF" or header.number("I") not in GGUF_VERSIONS:
        raise ValueError("not a GGUF file of a known version")
    tensor_count, field_count = header.number("Q"), header.number("Q")
    fields = _unique((header.string(), header.value(header.number("I"))) for _ in range(field_count))
    infos = _unique(
        (header.string(), (_gguf_shape(header), header.number("I"), header.number("Q"))) for _ in range(tensor_count)
    )
    start = header.place + -header.place % fields.get("general.alignment", 32)
    tensors, total = {}, start
    for name, (shape, number, offset) in infos.items():
        kind = GGMLQuantizationType(number)
        block, size = GGML_QUANT_SIZES[kind]
        if shape[0] % block:
            raise ValueError("part of a block")
        size *= math.prod(shape) // block
        total += size
        if total > len(data) or start + offset + size > len(data):
            raise ValueError("tensors that overlap or end after the file")
        tensors[name] = _Tensor(kind, shape, data[start + offset : start + offset + size])
    return fields, tensors


def _gguf_shape(header: _GGUFHeader) -> tuple[int, ...]:
    if (axes := header.number("I")) not in range(1, GGUF_AXES + 1):
        raise ValueError("too many axes")
    return tuple(header.number("Q") for _ in range(axes))


def _unique(items: Iterator[tuple[str, Any]]) -> dict[str, Any]:
    """Return a dictionary of items; ValueError if a name occurs twice."""
    found: dict[str, Any] = {}
    for name, item in items:
        if name in found:
            raise ValueError("a name occurs twice")
        found[name] = item
    return found


def _dequantized(name: str, tensor: _Tensor, path: Name) -> Floats:
    with needed_by("a GGUF file", "pretrained"):
        from gguf.quants import dequantize

    try:
        with np.errstate(all="ignore"):  # `_read_parameters` checks that they are finite
            rows = tensor.data.reshape(*tensor.shape[:0:-1], -1)
            return np.array(dequantize(rows, tensor.type), np.float32)
    except NotImplementedError:
        raise ValueError(
            f"{_check.printable(name):.60} must be of a type that gguf unpacks; in {path} it is {tensor.type.name}"
        ) from None


def _read_safetensors(path: Path) -> dict[str, Floats]:
    """Return the tensors of a file as float32, without the causal masks in old files.

    The library safetensors is not used: it holds the file in memory twice, and panics where there is no memory.
    """
    with _file_errors(path):
        data = np.memmap(path, np.uint8, "r")
        start = 8 + int.from_bytes(data[:8].tobytes(), "little")
        if start > len(data):
            raise ValueError("the file ends before its contents")
        header = dict(sorted(json.loads(data[8:start].tobytes()).items()))
        header.pop("__metadata__", None)
        places = sorted((start + first, start + end) for first, end in (of["data_offsets"] for of in header.values()))
        if [start, *(end for _, end in places)] != [*(first for first, _ in places), len(data)]:
            raise ValueError("tensors that overlap, leave gaps or end after the file")
    tensors: dict[str, Floats] = {}
    for name, of in header.items():
        if name.endswith((".attn.bias", ".masked_bias")):
            continue
        if (dtype := _check.printable(of.get("dtype"))) not in FLOAT_TYPES:
            raise ValueError(f"{_check.printable(name):.60} must be of floats; in {path} it is {dtype:.60}")
        with _file_errors(path):
            first, end = of["data_offsets"]
            tensors[name] = _to_float32(data[start + first : start + end], dtype).reshape(_natural(of["shape"]))
    return tensors


def _natural(shape: list[int]) -> list[int]:
    if any(size < 0 for size in shape):
        raise ValueError("a negative size")
    return shape


def _to_float32(data: Array, dtype: str) -> Floats:
    a = data.view(FLOAT_TYPES[dtype])
    if dtype == "BF16":  # the upper half of a float32
        return (a.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(over="ignore"):  # `_read_parameters` checks that they are finite
        return a.astype(np.float32)


def _weight_files(folder: Path) -> list[Path]:
    """Return the files that hold the tensors: one, or those that the index names, all in the folder itself."""
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return [folder / "model.safetensors"]
    with _file_errors(index):
        names = sorted(set(_read_json(index)["weight_map"].values()))
        if any(Path(name).name != name for name in names):
            raise ValueError("a file outside the folder")
    return [folder / name for name in names]


def _gpt2_tokenizer(folder: Path) -> BPETokenizer:
    path = folder / "tokenizer.json"
    if path.exists():
        with _file_errors(path):
            model = _read_json(path)["model"]
            pieces = model["vocab"]
            merges = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
    else:
        pieces, path = _read_json(folder / "vocab.json"), folder / "merges.txt"
        with _file_errors(path):
            lines = path.read_text(encoding="utf-8").splitlines()
        merges = [line.split(" ") for line in lines if line and not line.startswith("#version")]
    with _file_errors(path):
        return BPETokenizer.from_merges(pieces, merges, [END_OF_TEXT] if END_OF_TEXT in pieces else [])


def _read_json(path: Path) -> dict[str, Any]:
    with _file_errors(path):
        return dict(json.loads(path.read_text(encoding="utf-8")))


def _file_errors(path: Name) -> AbstractContextManager[None]:
    return file_errors("model", "an intact file", path)
