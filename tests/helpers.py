"""Helpers shared by the tests: reference implementations in plain Python, and model files.

The references are loops over `math`, `fractions` or `mpmath`, written for clarity, not speed.
"""

import cmath
import math
import tempfile
from fractions import Fraction
from functools import cache

import mpmath
import numpy as np
import pytest

# Exceptions


def error_message(error, function, *arguments, **options):
    """Return the message of the exception that the call raises, which must be of exactly this type and a single line."""
    with pytest.raises(error) as caught:
        function(*arguments, **options)
    assert caught.type is error
    assert "\n" not in str(caught.value)
    return str(caught.value)


# The libraries of each extra, as they are imported

EXTRAS = {
    "pretrained": ["gguf", "tokenizers"],
    "sklearn": ["sklearn"],
    "study": ["jinja2", "matplotlib", "scipy", "threadpoolctl", "tqdm"],
    "testing": ["hypothesis", "mpmath"],
}


# Vectors


def squared_distance(x, p):
    return math.fsum((float(a) - float(b)) ** 2 for a, b in zip(x, p, strict=True))


def exact_squared_distance(x, p):
    return sum((Fraction(float(a)) - Fraction(float(b))) ** 2 for a, b in zip(x, p, strict=True))


def product(x, p):
    return math.fsum(float(a) * float(b) for a, b in zip(x, p, strict=True))


def cosine_distance(x, p):
    """1 - cos, computed with fifty digits."""
    with mpmath.workdps(50):
        x, p = ([mpmath.mpf(float(a)) for a in row] for row in (x, p))
        return float(1 - mpmath.fdot(x, p) / mpmath.sqrt(mpmath.fdot(x, x) * mpmath.fdot(p, p)))


def average(weights, values):
    return [
        math.fsum(w * float(value[c]) for w, value in zip(weights, values, strict=True)) for c in range(len(values[0]))
    ]


# Softmax and its relatives


def logsumexp(numbers):
    peak = max(numbers)
    return peak + math.log(math.fsum(math.exp(a - peak) for a in numbers))


def weights(scores):
    total = logsumexp(scores)
    return [math.exp(score - total) for score in scores]


def softmax(scores):
    """Return the softmax of scores of any size; `weights` loses digits if the logarithm of the sum is large."""
    peak = max(scores)
    terms = [math.exp(score - peak) for score in scores]
    total = math.fsum(terms)
    return [term / total for term in terms]


def entmax(scores, alpha):
    """Entmax with forty digits, by bisection for its largest entry."""
    return list(_entmax(tuple(map(float, scores)), alpha))


@cache  # several tests, on both backends, ask for the same
def _entmax(scores, alpha):
    with mpmath.workdps(40):
        scores, power = [mpmath.mpf(s) for s in scores], mpmath.mpf(alpha) - 1
        peak = max(scores)
        if power == 0:
            terms = [mpmath.exp(s - peak) for s in scores]
            return [float(term / mpmath.fsum(terms)) for term in terms]

        def entries(largest):
            roots = [largest**power - power * (peak - s) for s in scores]
            return [r ** (1 / power) if r > 0 else mpmath.mpf(0) for r in roots]

        low, high = mpmath.mpf(0), mpmath.mpf(1)
        for _ in range(130):
            middle = (low + high) / 2
            low, high = (middle, high) if mpmath.fsum(entries(middle)) < 1 else (low, middle)
        return [float(p) for p in entries(high)]


def sparsemax(scores):
    """The projection onto the simplex by sorting, in exact fractions."""
    scores = [Fraction(float(s)) for s in scores]
    ordered = sorted(scores, reverse=True)
    k = max(k for k in range(1, len(ordered) + 1) if 1 + k * ordered[k - 1] > sum(ordered[:k]))
    threshold = (sum(ordered[:k]) - 1) / k
    return [float(max(Fraction(0), s - threshold)) for s in scores]


def tsallis(p, alpha):
    if alpha == 1:
        return -math.fsum(x * math.log(x) for x in p if x > 0)
    return (1 - math.fsum(x**alpha for x in p)) / (alpha * (alpha - 1))


# Nearest neighbours


def nearest(x, patterns, k):
    """Return (distance, index) of the k nearest, ties to the lowest index."""
    found = [(math.sqrt(squared_distance(x, p)), i) for i, p in enumerate(patterns)]
    return sorted(found)[:k]


def ranked(x, patterns, k, metric="euclidean"):
    """Return distances and indices (m, k) by brute force in float64: differences, squares, summed in order."""
    x, patterns = np.asarray(x, np.float64), np.asarray(patterns, np.float64)
    scores = np.zeros((len(x), len(patterns)))
    with np.errstate(over="ignore"):
        for a, b in zip(x.T, patterns.T, strict=True):
            scores -= np.square(a[:, None] - b) if metric == "euclidean" else -a[:, None] * b
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    best = 0 - np.take_along_axis(scores, order, axis=1)
    return np.sqrt(best) if metric == "euclidean" else best, order


# Energies over R^d; the last two also accept complex states, for `gradient`


def distance_energy(x, patterns, beta):
    return -logsumexp([-beta * squared_distance(x, p) for p in patterns]) / beta


def dot_energy(x, patterns, beta):
    soft = logsumexp([beta * product(x, p) for p in patterns]) / beta
    longest = max(product(p, p) for p in patterns)
    return -soft + product(x, x) / 2 + math.log(len(patterns)) / beta + longest / 2


def sparse_energy(x, patterns, alpha, beta):
    scores = [beta * product(x, p) for p in patterns]
    w = entmax(scores, alpha)
    best = math.fsum([a * s for a, s in zip(w, scores, strict=True)]) + tsallis(w, alpha)
    even = tsallis([1 / len(patterns)] * len(patterns), alpha)
    return (even - best) / beta + product(x, x) / 2 + max(product(p, p) for p in patterns) / 2


def euclidean_energy(x, patterns, beta):
    distances = [cmath.sqrt(sum((a - b) ** 2 for a, b in zip(x, p, strict=True))) for p in patterns]
    least = min(distances, key=lambda r: r.real)
    return least - cmath.log(sum(cmath.exp(-beta * (r - least)) for r in distances)) / beta


def epanechnikov_energy(x, patterns, beta):
    """For complex x nothing is clipped, so all patterns must be within reach."""
    bowls = [1 - beta * sum((a - b) ** 2 for a, b in zip(x, p, strict=True)) / 2 for p in patterns]
    total = sum(b if isinstance(b, complex) else max(0.0, b) for b in bowls)
    return -cmath.log(total) / beta if isinstance(total, complex) else -math.log(total) / beta


def gradient(energy, x, patterns, beta):
    """The gradient by the complex step method, which has no cancellation."""
    x = [complex(float(a)) for a in x]
    steps = [[a + 1e-30j * (i == c) for i, a in enumerate(x)] for c in range(len(x))]
    return [energy(step, patterns, beta).imag / 1e-30 for step in steps]


# Binary energies


def power_of_e(exponent):
    """exp with sixty digits, so that sums of different terms are never equal."""
    with mpmath.workdps(60):
        return mpmath.exp(int(exponent))


def binary_energy(x, patterns, f):
    """-sum_i F(p_i.x) with sixty digits; the overlaps are sorted, so equal sums are added in the same order."""
    overlaps = sorted(sum(int(a) * int(b) for a, b in zip(x, p, strict=True)) for p in patterns)
    with mpmath.workdps(60):
        return -sum(f(o) for o in overlaps)


def binary_update(x, patterns, f, derivative, order, clamp):
    """One sweep, by the tangent rule if a `derivative` is given, otherwise by the difference rule. Ties keep the state."""
    x = [int(a) for a in x]

    def flips(x, k):
        if clamp[k]:
            return False
        if derivative is None:
            return binary_energy([*x[:k], -x[k], *x[k + 1 :]], patterns, f) < binary_energy(x, patterns, f)
        overlaps = [sum(a * int(b) for a, b in zip(x, p, strict=True)) for p in patterns]
        with mpmath.workdps(60):
            up = sum(derivative(o) for o in sorted(o for o, p in zip(overlaps, patterns, strict=True) if p[k] > 0))
            down = sum(derivative(o) for o in sorted(o for o, p in zip(overlaps, patterns, strict=True) if p[k] < 0))
            return x[k] * (up - down) < 0

    return _swept(x, order, flips)


def coupling(patterns, rule, self_coupling):
    """W in exact fractions: sums of products, or the projection by the Gram-Schmidt process."""
    rows = [[Fraction(int(a)) for a in p] for p in patterns]
    if rule == "pseudo-inverse":
        basis = []
        for row in rows:
            for b in basis:
                c = sum(u * v for u, v in zip(row, b, strict=True)) / sum(v * v for v in b)
                row = [u - c * v for u, v in zip(row, b, strict=True)]
            if any(row):
                basis.append(row)
        scales = [1 / sum(v * v for v in b) for b in basis]
    else:
        basis, scales = rows, [1] * len(rows)
    d = len(rows[0])
    return [
        [sum(s * b[k] * b[c] for s, b in zip(scales, basis, strict=True)) if self_coupling or k != c else 0 for c in range(d)]
        for k in range(d)
    ]


def hopfield_energy(x, matrix, bias):
    pairs = sum(int(a) * int(b) * w for a, row in zip(x, matrix, strict=True) for b, w in zip(x, row, strict=True))
    return -Fraction(pairs) / 2 - sum(int(a) * Fraction(b) for a, b in zip(x, bias, strict=True))


def hopfield_update(x, matrix, bias, order):
    def flips(x, k):
        return x[k] * (sum(w * a for w, a in zip(matrix[k], x, strict=True)) + Fraction(bias[k])) < 0

    return _swept([int(a) for a in x], order, flips)


def _swept(x, order, flips):
    if order == "synchronous":
        return [-a if flips(x, k) else a for k, a in enumerate(x)]
    for k in range(len(x)) if order == "asynchronous" else order:
        if flips(x, k):
            x[k] = -x[k]
    return x


# Llama: logits, parameters and GGUF files


HELLO = ["Ġ", "h", "e", "l", "o", "1", "2"]
MERGES = ["h e", "l l", "he ll", "hell o", "Ġ hello", "1 2"]
LLAMA_SIZES = {"vocabulary": 264, "positions": 16, "layers": 2, "heads": 4, "key_heads": 2, "width": 32, "hidden": 64}


def bpe_pieces():
    """The tokens of a small BPE: the 256 bytes in its alphabet, the merges, and two special tokens."""
    alphabet = pytest.importorskip("tokenizers").pre_tokenizers.ByteLevel.alphabet()
    return [*sorted(alphabet), *(merge.replace(" ", "") for merge in MERGES), "<|endoftext|>", "<|user|>"]


def drawn_parameters(config, seed=0, dtype="float64"):
    """Return random parameters, none of which is 0 or 1."""
    rng = np.random.default_rng(seed)
    return {
        name: (rng.normal(1 if name.endswith("gain") else 0, 0.3, shape)).astype(dtype)
        for name, shape in config.shapes.items()
    }


def llama_logits(p, tokens, heads, key_heads, base, epsilon):
    """The logits of one row of tokens: RMS norms, rotary embeddings, shared keys and the gated feed-forward layer."""

    def times(x, weight):
        return [product(x, column) for column in zip(*p[weight].tolist(), strict=True)]

    def norm(x, gain):
        root = math.sqrt(product(x, x) / len(x) + epsilon)
        return [g * a / root for g, a in zip(p[gain].tolist(), x, strict=True)]

    def turned(x, t):
        y = []
        for j in range(0, len(x), 2):
            angle = t / base ** (j / len(x))
            c, s = math.cos(angle), math.sin(angle)
            y += [c * x[j] - s * x[j + 1], s * x[j] + c * x[j + 1]]
        return y

    def heads_of(x, count):
        size = len(x) // count
        return [x[i : i + size] for i in range(0, len(x), size)]

    xs = [p["tokens"][token].tolist() for token in tokens]
    layers = len({name.split(".")[1] for name in p if name.startswith("layers.")})
    for layer in (f"layers.{i}" for i in range(layers)):
        queries, keys, values = [], [], []
        for t, x in enumerate(xs):
            z = norm(x, f"{layer}.norm1.gain")
            queries.append([turned(q, t) for q in heads_of(times(z, f"{layer}.queries.weight"), heads)])
            keys.append([turned(k, t) for k in heads_of(times(z, f"{layer}.keys.weight"), key_heads)])
            values.append(heads_of(times(z, f"{layer}.values.weight"), key_heads))
        for t, x in enumerate(xs):
            joined = []
            for h in range(heads):
                g = h * key_heads // heads
                q = queries[t][h]
                w = weights([product(q, keys[s][g]) / math.sqrt(len(q)) for s in range(t + 1)])
                joined += average(w, [values[s][g] for s in range(t + 1)])
            x = [a + b for a, b in zip(x, times(joined, f"{layer}.output.weight"), strict=True)]
            z = norm(x, f"{layer}.norm2.gain")
            gate, wide = times(z, f"{layer}.gate.weight"), times(z, f"{layer}.expand.weight")
            gated = [a / (1 + math.exp(-a)) * b for a, b in zip(gate, wide, strict=True)]
            xs[t] = [a + b for a, b in zip(x, times(gated, f"{layer}.contract.weight"), strict=True)]
    outputs = [norm(x, "norm.gain") for x in xs]
    if "head.weight" in p:
        return [times(y, "head.weight") for y in outputs]
    return [[product(y, token) for token in p["tokens"].tolist()] for y in outputs]


def gguf_header(config):
    return {
        "context_length": config.positions,
        "block_count": config.layers,
        "embedding_length": config.width,
        "feed_forward_length": config.hidden,
        "head_count": config.heads,
        "head_count_kv": config.key_heads,
        "rope_freq_base": config.base,
        "layer_norm_rms_eps": config.epsilon,
        "rope_dimension_count": config.width // config.heads,
        "tokenizer_model": "gpt2",
        "tokenizer_pre": "smollm",
        "token_list": bpe_pieces(),
        "token_merges": MERGES,
        "token_types": [1] * (config.vocabulary - 2) + [3, 3],
    }


def gguf_tensors(parameters):
    """Rename and transpose parameters as GGUF files store them: rows are outputs."""
    words = {
        "queries.weight": "attn_q.weight", "keys.weight": "attn_k.weight", "values.weight": "attn_v.weight",
        "output.weight": "attn_output.weight", "norm1.gain": "attn_norm.weight", "norm2.gain": "ffn_norm.weight",
        "gate.weight": "ffn_gate.weight", "expand.weight": "ffn_up.weight", "contract.weight": "ffn_down.weight",
    }  # fmt: skip
    top = {"tokens": "token_embd.weight", "norm.gain": "output_norm.weight", "head.weight": "output.weight"}
    named = {}
    for name, a in parameters.items():
        if name.startswith("layers."):
            _, layer, part = name.split(".", 2)
            named[f"blk.{layer}.{words[part]}"] = np.ascontiguousarray(a.T)
        else:
            named[top[name]] = a if name == "tokens" else np.ascontiguousarray(a.T)
    return named


def write_gguf(path, fields, tensors, architecture="llama", raw=None, extra=()):
    """Write a GGUF file; `raw` holds quantized tensors as (bytes, type)."""
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(path, architecture)
    for name, value in fields.items():
        getattr(writer, f"add_{name}")(value)
    for name, value in extra:
        writer.add_string(name, value)
    for name, a in {**tensors, **(raw or {})}.items():
        if isinstance(a, tuple):
            writer.add_tensor(name, a[0], raw_dtype=getattr(gguf.GGMLQuantizationType, a[1]))
        else:
            writer.add_tensor(name, a)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def temporary_folder():
    return tempfile.TemporaryDirectory(prefix="hopmin-")
