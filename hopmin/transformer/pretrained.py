"""Models that were trained elsewhere, to be measured (needs the extra `pretrained`: gguf, safetensors, tokenizers).

- GPT-2 from a folder as Hugging Face writes it, as a `GPT` [`load_gpt2`]
- a `Llama` from a GGUF file [`load_llama`]
- text to tokens and back, by byte pairs [`BytePairs`]

Nothing is downloaded. Files are read, never run, and what does not fit is refused with a sentence. Weights become
float32, whatever the file packs them in: 4 bytes a parameter.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hopmin import _check
from hopmin._typing import Array, Name
from hopmin.transformer.llama import Llama, LlamaConfig
from hopmin.transformer.model import GPT, Activation, GPTConfig, Parameters, Shapes, check_shapes

# What files call the parts of a parameter's name, where they have another word for it
GPT2_WORDS = {
    "tokens": "wte.weight", "positions": "wpe.weight", "layers": "h", "norm": "ln_f", "gain": "weight",
    "norm1": "ln_1", "attention": "attn.c_attn", "output": "attn.c_proj",
    "norm2": "ln_2", "expand": "mlp.c_fc", "contract": "mlp.c_proj",
}  # fmt: skip
GGUF_WORDS = {
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
END = "<|endoftext|>"
CONTROL = 3  # the type, in a GGUF file, of a token that stands for no text


# Tokenizer


class BytePairs:
    """Byte pair encoding over bytes (Radford et al. 2019): text to tokens and back, without loss.

    vocabulary : of pieces, each with its number
    merges : pairs of pieces, most urgent first
    special : pieces that are one token wherever they occur in a text, such as <|endoftext|>
    digits : whether each digit is a piece of its own

    Raises ValueError if these do not fit together, ImportError where `tokenizers` is missing.
    """

    def __init__(
        self,
        vocabulary: Mapping[str, int],
        merges: Iterable[Sequence[str]],
        special: Iterable[str] = (),
        *,
        digits: bool = False,
    ) -> None:
        with _installed():
            from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
        try:
            if sorted(vocabulary.values()) != list(range(len(vocabulary))):
                raise ValueError("numbers are not 0 to V - 1")
            self._tokenizer = Tokenizer(models.BPE(dict(vocabulary), [(left, right) for left, right in merges]))
        except Exception as error:  # the library raises just that
            raise ValueError(f"vocabulary and merges must fit together; got {error}") from None
        pieces = pre_tokenizers.ByteLevel(add_prefix_space=False)
        apart = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pieces])
        self._tokenizer.pre_tokenizer = apart if digits else pieces
        self._tokenizer.decoder = decoders.ByteLevel()
        self._tokenizer.add_special_tokens([AddedToken(piece, normalized=False) for piece in special])
        self.size = self._tokenizer.get_vocab_size()

    def encode(self, text: str) -> Array:
        """The tokens of the text, int64; ValueError if one of its bytes has no piece, as rare ones may."""
        numbers = np.array(self._tokenizer.encode(text).ids, np.int64)
        if self.decode(numbers) != text:
            raise ValueError(f"text must be made of bytes that have pieces; got {text!r:.60}")
        return numbers

    def decode(self, numbers: Iterable[int]) -> str:
        """The text of the tokens; what is negative is padding and left out. ValueError if a number has no piece."""
        numbers = [int(i) for i in numbers if i >= 0]
        if numbers and max(numbers) >= self.size:
            raise ValueError(f"numbers must be below {self.size}; got {max(numbers)}")
        return self._tokenizer.decode(numbers, skip_special_tokens=False)


# Files


def load_gpt2(folder: Name) -> tuple[GPT, BytePairs]:
    """GPT-2 and its tokenizer, from a folder as Hugging Face writes it.

    Read are config.json; model.safetensors, or the files that model.safetensors.index.json names; tokenizer.json, or
    vocab.json and merges.txt. Weights may be float64, float32, float16 or bfloat16. Raises ValueError if a file is
    missing or damaged, a tensor is missing, unknown, of another shape or not finite, or it is another kind of model.
    """
    folder = Path(folder)
    options = _json(folder / "config.json")
    for name, known in GPT2_OPTIONS.items():
        if (value := options.get(name, known[0])) not in known:
            wanted = " or ".join(map(repr, known))
            raise ValueError(f"model must be a GPT-2 with {name} {wanted}; {folder} has {value!r}")
    with _refused(folder / "config.json"):
        sizes = {"vocabulary": "vocab_size", "positions": "n_positions", "layers": "n_layer", "heads": "n_head"}
        config = GPTConfig(
            **{ours: options[theirs] for ours, theirs in sizes.items()},
            width=options["n_embd"],
            hidden=options.get("n_inner"),
            activation=GPT2_ACTIVATIONS[options.get("activation_function", "gelu_new")],
        )
    tokenizer = _gpt2_tokenizer(folder)
    if tokenizer.size > config.vocabulary:
        raise ValueError(f"tokenizer must have at most {config.vocabulary} pieces; in {folder} it has {tokenizer.size}")
    found: dict[str, Array] = {}
    for path in _weight_files(folder):
        found |= {name.removeprefix("transformer."): a for name, a in _safetensors(path).items()}
    head = found.pop("lm_head.weight", None)
    shapes = {name: a.shape for name, a in found.items()}
    model = GPT._from_parameters(config, _taken(config, GPT2_WORDS, shapes, folder, found.pop))
    if head is not None and not np.array_equal(head, model.parameters["tokens"]):
        raise ValueError(f"model must have its output weights tied to its embedding; {folder} has others")
    return model, tokenizer


def load_llama(path: Name) -> Llama:
    """A Llama and its tokenizer, from a GGUF file.

    Quantised weights are unpacked, once, to float32. Raises ValueError if the file cannot be read or is damaged, a
    tensor is missing, unknown, of another shape or not finite, or it holds another kind of model: one of another
    architecture, with angles that are scaled, or with a tokenizer other than GPT-2's or SmolLM's.
    """
    with _refused(path):
        reader = _gguf(path)
        header = {name: field.contents() for name, field in reader.fields.items()}
        tensors = {tensor.name: tensor for tensor in reader.tensors}
    for name, options in GGUF_OPTIONS.items():
        if (value := header.get(name)) not in options:
            raise ValueError(f"model must have {name} {options[-1]}; {path} has {value!r:.60}")
    with _refused(path):
        config = _llama_config(header, tied_embeddings=GGUF_WORDS["head"] + ".weight" not in tensors)
        tokenizer = _gguf_tokenizer(header)

    def read(name: str) -> Array:
        a = _unpacked(tensors[name], path)
        return a if name == GGUF_WORDS["tokens"] else a.T  # rows are outputs there, inputs here

    shapes = {name: tuple(map(int, tensor.shape)) for name, tensor in tensors.items()}  # the last axis first
    if (embedding := GGUF_WORDS["tokens"]) in shapes:
        shapes[embedding] = shapes[embedding][::-1]
    return Llama(config, _taken(config, GGUF_WORDS, shapes, path, read), tokenizer)


def _taken(
    config: GPTConfig | LlamaConfig, words: Mapping[str, str], shapes: Shapes, path: Name, read: Callable[[str], Array]
) -> Parameters:
    """The parameters that the configuration names, read once all shapes are seen to be right."""
    if config.layers > len(shapes):  # before as many names are made
        raise ValueError(f"model must have {config.layers} layers; {path} has {len(shapes)} tensors")
    theirs = {name: ".".join(words.get(part, part) for part in name.split(".")) for name in config.shapes}
    check_shapes({theirs[name]: shape for name, shape in config.shapes.items()}, shapes, path)
    parameters = {name: read(theirs[name]) for name in theirs}
    for name, a in parameters.items():
        _check.finite(f"{theirs[name]} in {path}", a)
    return parameters


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


def _gguf_tokenizer(header: dict[str, Any]) -> BytePairs:
    pieces, merges, kinds = (header[f"tokenizer.ggml.{name}"] for name in ("tokens", "merges", "token_type"))
    return BytePairs(
        {piece: i for i, piece in enumerate(pieces)},
        (merge.split(" ") for merge in merges),
        [piece for piece, kind in zip(pieces, kinds, strict=True) if kind == CONTROL],
        digits=header["tokenizer.ggml.pre"] == "smollm",
    )


def _unpacked(tensor: Any, path: Name) -> Array:
    from gguf.quants import dequantize

    try:
        with np.errstate(all="ignore"):  # what is not finite is found later
            return np.array(dequantize(tensor.data, tensor.tensor_type), np.float32)
    except NotImplementedError:
        found = tensor.tensor_type.name
        raise ValueError(f"{tensor.name} must be of a type that gguf unpacks; in {path} it is {found}") from None


def _gguf(path: Name) -> Any:
    """A reader that does not go on past the end of the file, where the library's own would find empty arrays."""
    with _installed():
        from gguf import GGUFReader

    class Reader(GGUFReader):
        data: Any

        def _get(self, offset: int, dtype: Any, count: int = 1, *order: Any, **options: Any) -> Any:
            if offset + np.dtype(dtype).itemsize * int(count) > len(self.data):
                raise ValueError("the file ends before its contents")
            self.data = np.asarray(self.data)  # a memmap takes long to slice
            return super()._get(offset, dtype, count, *order, **options)

    return Reader(path)


def _safetensors(path: Path) -> dict[str, Array]:
    """The tensors of a file, but for the causal masks that old ones hold, as float32."""
    with _installed():
        from safetensors import deserialize
    with _refused(path):
        tensors = dict(sorted(deserialize(path.read_bytes())))  # sees that sizes are those of the file
    tensors = {name: tensor for name, tensor in tensors.items() if not name.endswith((".attn.bias", ".masked_bias"))}
    for name, tensor in tensors.items():
        if tensor["dtype"] not in (*FLOATS, "BF16"):
            raise ValueError(f"{name} must be of floats; in {path} it is {tensor['dtype']}")
    return {name: _single(tensor["dtype"], tensor["data"]).reshape(tensor["shape"]) for name, tensor in tensors.items()}


def _single(dtype: str, data: bytearray) -> Array:
    if dtype == "BF16":  # the upper half of a float32
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    with np.errstate(over="ignore"):
        return np.frombuffer(data, FLOATS[dtype]).astype(np.float32, copy=False)


def _weight_files(folder: Path) -> list[Path]:
    """The files that hold the tensors: one, or those of the index, all of them in the folder itself."""
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return [folder / "model.safetensors"]
    with _refused(index):
        names = sorted(set(_json(index)["weight_map"].values()))
        if any(Path(name).name != name for name in names):
            raise ValueError("a file elsewhere")
    return [folder / name for name in names]


def _gpt2_tokenizer(folder: Path) -> BytePairs:
    path = folder / "tokenizer.json"
    if path.exists():
        with _refused(path):
            model = _json(path)["model"]
            vocabulary = model["vocab"]
            merges = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
    else:
        vocabulary, path = _json(folder / "vocab.json"), folder / "merges.txt"
        with _refused(path):
            lines = path.read_text(encoding="utf-8").splitlines()
        merges = [line.split(" ") for line in lines if line and not line.startswith("#version")]
    with _refused(path):
        return BytePairs(vocabulary, merges, [END] if END in vocabulary else [])


def _json(path: Path) -> dict[str, Any]:
    with _refused(path):
        return dict(json.loads(path.read_text(encoding="utf-8")))


@contextlib.contextmanager
def _refused(path: Name) -> Iterator[None]:
    """Whatever goes wrong with a file, in a sentence; damage can look like anything."""
    try:
        yield
    except ImportError:
        raise
    except OSError as error:
        raise ValueError(f"model must be made of readable files; {path}: {error.strerror}") from None
    except Exception:
        raise ValueError(f"model must be made of whole files; {path} is damaged or something else") from None


@contextlib.contextmanager
def _installed() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise ImportError(
            f"{error.name} must be installed to read pretrained models: python -m pip install 'hopmin[pretrained]'",
            name=error.name,
        ) from None
