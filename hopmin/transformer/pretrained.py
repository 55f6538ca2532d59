"""Pretrained models, read from files (needs the extra `pretrained`: gguf, safetensors, tokenizers).

- GPT-2 from a Hugging Face folder, as a `GPT` [`load_gpt2`]
- a `Llama` from a GGUF file [`load_llama`]

Nothing is downloaded, and no code in a file is executed. Weights of any format become float32, 4 bytes a parameter.
Damaged files, unknown tensors and other architectures raise ValueError.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hopmin import _check
from hopmin._extras import needed_by
from hopmin._typing import Floats, Name
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
FLOAT_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
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
        If safetensors or tokenizers is not installed.
    ValueError
        If a file is missing or damaged; a tensor is missing, unknown, of another shape or not finite; or it is another
        kind of model.
    """
    folder = Path(folder)
    options = _read_json(folder / "config.json")
    for name, known in GPT2_OPTIONS.items():
        if (value := options.get(name, known[0])) not in known:
            wanted = " or ".join(map(repr, known))
            raise ValueError(f"model must be a GPT-2 with {name} {wanted}; {folder} has {value!r}")
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
    ValueError
        If the file cannot be read or is damaged; a tensor is missing, unknown, of another shape or not finite; or it is
        another kind of model: another architecture, scaled rotary positions, or a tokenizer other than GPT-2's or
        SmolLM's.
    """
    with _file_errors(path):
        reader = _gguf_reader(path)
        header = {name: field.contents() for name, field in reader.fields.items()}
        tensors = {tensor.name: tensor for tensor in reader.tensors}
    for name, options in GGUF_OPTIONS.items():
        if (value := header.get(name)) not in options:
            raise ValueError(f"model must have {name} {options[-1]}; {path} has {value!r:.60}")
    with _file_errors(path):
        config = _llama_config(header, tied_embeddings=GGUF_NAMES["head"] + ".weight" not in tensors)
        tokenizer = _gguf_tokenizer(header)

    def read(name: str) -> Floats:
        a = _dequantized(tensors[name], path)
        return a if name == GGUF_NAMES["tokens"] else a.T  # (outputs, inputs) in GGUF, (inputs, outputs) in hopmin

    shapes = {name: tuple(map(int, tensor.shape)) for name, tensor in tensors.items()}  # GGUF lists the last axis first
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


def _dequantized(tensor: Any, path: Name) -> Floats:
    with needed_by("a GGUF file", "pretrained"):
        from gguf.quants import dequantize

    try:
        with np.errstate(all="ignore"):  # `_read_parameters` checks that they are finite
            return np.array(dequantize(tensor.data, tensor.tensor_type), np.float32)
    except NotImplementedError:
        found = tensor.tensor_type.name
        raise ValueError(f"{tensor.name} must be of a type that gguf unpacks; in {path} it is {found}") from None


def _gguf_reader(path: Name) -> Any:
    """Return a reader that raises at the end of the file, where the library's reader returns empty arrays."""
    with needed_by("a GGUF file", "pretrained"):
        from gguf import GGUFReader

    class Reader(GGUFReader):
        data: Any

        def _get(self, offset: int, dtype: Any, count: int = 1, *order: Any, **options: Any) -> Any:
            if offset + np.dtype(dtype).itemsize * int(count) > len(self.data):
                raise ValueError("the file ends before its contents")
            self.data = np.asarray(self.data)  # slicing a memmap is slow
            return super()._get(offset, dtype, count, *order, **options)

    return Reader(path)


def _read_safetensors(path: Path) -> dict[str, Floats]:
    """Return the tensors of a file as float32, without the causal masks in old files."""
    with needed_by("a safetensors file", "pretrained"):
        from safetensors import deserialize
    parse: Callable[[bytes], Any] = deserialize
    with _file_errors(path):
        tensors = dict(sorted(parse(path.read_bytes())))  # checks sizes against the size of the file
    tensors = {name: tensor for name, tensor in tensors.items() if not name.endswith((".attn.bias", ".masked_bias"))}
    for name, tensor in tensors.items():
        if tensor["dtype"] not in (*FLOAT_TYPES, "BF16"):
            raise ValueError(f"{name} must be of floats; in {path} it is {tensor['dtype']}")
    return {name: _to_float32(tensor).reshape(tensor["shape"]) for name, tensor in tensors.items()}


def _to_float32(tensor: dict[str, Any]) -> Floats:
    if tensor["dtype"] == "BF16":  # the upper half of a float32
        return (np.frombuffer(tensor["data"], "<u2").astype(np.uint32) << 16).view(np.float32)
    with np.errstate(over="ignore"):  # `_read_parameters` checks that they are finite
        return np.frombuffer(tensor["data"], FLOAT_TYPES[tensor["dtype"]]).astype(np.float32, copy=False)


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


@contextlib.contextmanager
def _file_errors(path: Name) -> Iterator[None]:
    """Turn any exception that reading a file raises into a ValueError that names the file."""
    try:
        yield
    except ImportError:
        raise
    except OSError as error:
        raise ValueError(f"model must consist of readable files; {path}: {error.strerror}") from None
    except Exception:  # the libraries raise many types for damaged files
        raise ValueError(f"model must consist of intact files; {path} is damaged or has another format") from None
