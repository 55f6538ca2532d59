"""Models that were trained elsewhere, to be measured (needs the extra `pretrained`: gguf, safetensors, tokenizers).

- GPT-2 from a folder as Hugging Face writes it, as a `GPT` [`load_gpt2`]
- a `Llama` from a GGUF file [`load_llama`]

Nothing is downloaded. Files are read, never run, and what does not fit is refused with a sentence. Weights become
float32, whatever the file packs them in: 4 bytes a parameter.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hopmin import _check
from hopmin._typing import Floats, Name
from hopmin.data.tokenizers import BPETokenizer, import_from_extra
from hopmin.transformer.llama import Llama, LlamaConfig
from hopmin.transformer.model import GPT, Activation, GPTConfig, Parameters, Shapes, check_shapes

# What files call the parts of a parameter's name, where they have another word for it
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
GPT2_ACTIVATIONS: dict[str, Activation] = {"gelu_new": "gelu", "relu": "relu"}  # there, "gelu" is x Phi(x) itself
# What a configuration must say, one of these, if it says anything, for the model to be hopmin's GPT
GPT2_OPTIONS = {
    "model_type": ("gpt2",), "activation_function": tuple(GPT2_ACTIVATIONS), "layer_norm_epsilon": (1e-5,),
    "scale_attn_weights": (True,), "scale_attn_by_inverse_layer_idx": (False,), "add_cross_attention": (False,),
    "tie_word_embeddings": (True,),
}  # fmt: skip
# What a GGUF file must say for it to be a Llama, and its tokenizer one of these
GGUF_OPTIONS = {
    "general.architecture": ("llama",), "llama.rope.scaling.type": (None, "none"),
    "tokenizer.ggml.model": ("gpt2",), "tokenizer.ggml.pre": ("gpt-2", "smollm"),
}  # fmt: skip
FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
END_OF_TEXT = "<|endoftext|>"
CONTROL = 3  # the type, in a GGUF file, of a token that stands for no text


def load_gpt2(folder: Name) -> tuple[GPT, BPETokenizer]:
    """GPT-2 and its tokenizer, from a folder as Hugging Face writes it.

    Read are config.json; model.safetensors, or the files that model.safetensors.index.json names; tokenizer.json, or
    vocab.json and merges.txt. Weights may be float64, float32, float16 or bfloat16. Raises ValueError if a file is
    missing or damaged, a tensor is missing, unknown, of another shape or not finite, or it is another kind of model.
    """
    folder = Path(folder)
    options = _read_json(folder / "config.json")
    for name, known in GPT2_OPTIONS.items():
        if (value := options.get(name, known[0])) not in known:
            wanted = " or ".join(map(repr, known))
            raise ValueError(f"model must be a GPT-2 with {name} {wanted}; {folder} has {value!r}")
    with _file_errors(folder / "config.json"):
        sizes = {"vocabulary": "vocab_size", "positions": "n_positions", "layers": "n_layer", "heads": "n_head"}
        config = GPTConfig(
            **{ours: options[theirs] for ours, theirs in sizes.items()},
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
        raise ValueError(f"model must have its output weights tied to its embedding; {folder} has others")
    return model, tokenizer


def load_llama(path: Name) -> Llama:
    """A Llama and its tokenizer, from a GGUF file.

    Quantised weights are unpacked, once, to float32. Raises ValueError if the file cannot be read or is damaged, a
    tensor is missing, unknown, of another shape or not finite, or it holds another kind of model: one of another
    architecture, with angles that are scaled, or with a tokenizer other than GPT-2's or SmolLM's.
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
        return a if name == GGUF_NAMES["tokens"] else a.T  # rows are outputs there, inputs here

    shapes = {name: tuple(map(int, tensor.shape)) for name, tensor in tensors.items()}  # the last axis first
    if (embedding := GGUF_NAMES["tokens"]) in shapes:
        shapes[embedding] = shapes[embedding][::-1]
    return Llama(config, _read_parameters(config, GGUF_NAMES, shapes, path, read), tokenizer)


def _read_parameters(
    config: GPTConfig | LlamaConfig, names: Mapping[str, str], shapes: Shapes, path: Name, read: Callable[[str], Floats]
) -> Parameters:
    """The parameters that the configuration names, read once all shapes are seen to be right."""
    if config.layers > len(shapes):  # before as many names are made
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
        raise ValueError("heads of another width, or turned in part")
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
    from gguf.quants import dequantize

    try:
        with np.errstate(all="ignore"):  # what is not finite is found later
            return np.array(dequantize(tensor.data, tensor.tensor_type), np.float32)
    except NotImplementedError:
        found = tensor.tensor_type.name
        raise ValueError(f"{tensor.name} must be of a type that gguf unpacks; in {path} it is {found}") from None


def _gguf_reader(path: Name) -> Any:
    """A reader that does not go on past the end of the file, where the library's own would find empty arrays."""
    with import_from_extra("pretrained"):
        from gguf import GGUFReader

    class Reader(GGUFReader):
        data: Any

        def _get(self, offset: int, dtype: Any, count: int = 1, *order: Any, **options: Any) -> Any:
            if offset + np.dtype(dtype).itemsize * int(count) > len(self.data):
                raise ValueError("the file ends before its contents")
            self.data = np.asarray(self.data)  # a memmap takes long to slice
            return super()._get(offset, dtype, count, *order, **options)

    return Reader(path)


def _read_safetensors(path: Path) -> dict[str, Floats]:
    """The tensors of a file, but for the causal masks that old ones hold, as float32."""
    with import_from_extra("pretrained"):
        from safetensors import deserialize
    parse: Callable[[bytes], Any] = deserialize
    with _file_errors(path):
        tensors = dict(sorted(parse(path.read_bytes())))  # sees that sizes are those of the file
    tensors = {name: tensor for name, tensor in tensors.items() if not name.endswith((".attn.bias", ".masked_bias"))}
    for name, tensor in tensors.items():
        if tensor["dtype"] not in (*FLOATS, "BF16"):
            raise ValueError(f"{name} must be of floats; in {path} it is {tensor['dtype']}")
    return {
        name: _to_float32(tensor["dtype"], tensor["data"]).reshape(tensor["shape"]) for name, tensor in tensors.items()
    }


def _to_float32(dtype: str, data: bytearray) -> Floats:
    if dtype == "BF16":  # the upper half of a float32
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    with np.errstate(over="ignore"):
        return np.frombuffer(data, FLOATS[dtype]).astype(np.float32, copy=False)


def _weight_files(folder: Path) -> list[Path]:
    """The files that hold the tensors: one, or those of the index, all of them in the folder itself."""
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return [folder / "model.safetensors"]
    with _file_errors(index):
        names = sorted(set(_read_json(index)["weight_map"].values()))
        if any(Path(name).name != name for name in names):
            raise ValueError("a file elsewhere")
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
    """Whatever goes wrong with a file, in a sentence; damage can look like anything."""
    try:
        yield
    except ImportError:
        raise
    except OSError as error:
        raise ValueError(f"model must be made of readable files; {path}: {error.strerror}") from None
    except Exception:
        raise ValueError(f"model must be made of whole files; {path} is damaged or something else") from None
