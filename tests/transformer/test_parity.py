"""hopmin's transformers, compared with PyTorch and Hugging Face transformers if they are installed."""

import math
from dataclasses import replace

import numpy as np
import pytest
from helpers import LLAMA_SIZES, drawn_parameters, gguf_header, gguf_tensors, write_gguf
from hypothesis import given, settings
from hypothesis import strategies as st

from hopmin.transformer.llama import LlamaConfig
from hopmin.transformer.model import GPT, GPTConfig
from hopmin.transformer.pretrained import GPT2_NAMES, load_gpt2, load_llama, tensor_name
from hopmin.transformer.training import AdamW, clip_gradients, cosine_schedule

torch = pytest.importorskip("torch")
F = torch.nn.functional
torch.set_num_threads(1)  # threads do not help with tensors this small

V, T = 11, 6
SLACK = {
    "float64": 1e-12,
    "float32": 1e-4,
}  # relative to the largest number; observed rounding errors are 1e-14 and 5e-6


def close(actual, expected, slack):
    """Compare arrays by name, relative to the largest number in any of them."""
    assert actual.keys() == expected.keys()
    scale = max(np.abs(a).max() for a in expected.values())
    for name, a in expected.items():
        np.testing.assert_allclose(actual[name], a, rtol=0, atol=slack * scale, err_msg=name)


def made(seed, **options):
    """A model none of whose parameters has a special value such as 0 or 1."""
    model = GPT(
        GPTConfig(**{"vocabulary": V, "positions": T, "layers": 2, "heads": 2, "width": 8, "init_std": 0.3, **options}),
        seed,
    )
    rng = np.random.default_rng(seed)
    for a in model.parameters.values():
        a += rng.normal(0, 0.2, a.shape).astype(a.dtype)
    return model


def examples(rng):
    """Tokens and targets, some of which are not counted."""
    tokens, targets = rng.integers(0, V, (2, 3, rng.integers(1, T + 1)))
    targets[rng.random(targets.shape) < 0.3] = -1
    targets[0, 0] = tokens[0, 0]
    return tokens, targets


# PyTorch


def gpt_logits(p, c, tokens, rng=None):
    """Logits of a GPT in PyTorch, from parameters p with hopmin's names."""

    def norm(x, name):
        return F.layer_norm(x, x.shape[-1:], p[f"{name}.gain"], p.get(f"{name}.bias"))

    def linear(x, name):
        return F.linear(x, p[f"{name}.weight"].T, p.get(f"{name}.bias"))

    def drop(x):
        """Masks are drawn as hopmin draws them, in the order of the forward pass."""
        if rng is None or not c.dropout:
            return x
        return x * torch.tensor(rng.random(x.shape, dtype=np.float32) >= c.dropout) / (1 - c.dropout)

    def heads(x):
        return x.unflatten(-1, (c.heads, -1)).transpose(1, 2)

    def mixed(scores, v):
        ahead = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        weights = F.softmax((scores / math.sqrt(v.shape[-1])).masked_fill(ahead, -math.inf), dim=-1)
        return (drop(weights) @ v).transpose(1, 2).flatten(2)

    def attend(x, layer):
        q, k, v = map(heads, linear(x, f"{layer}.attention").chunk(3, dim=-1))
        return drop(linear(mixed(q @ k.mT, v), f"{layer}.output"))

    def energy_step(x, layer):
        q, k = heads(x), heads(linear(first, f"{layer}.patterns"))
        squares = (q[..., None, :] - k[..., None, :, :]).square().sum(-1)
        return x + c.eta * (mixed(-squares / 2, k) - x)

    def feed_forward(x, layer):
        wide = linear(x, f"{layer}.expand")
        active = F.relu(wide) if c.activation == "relu" else F.gelu(wide, approximate="tanh")
        return drop(linear(active, f"{layer}.contract"))

    def residual(x, f, layer, name):
        name = f"{layer}.{name}"
        return x + f(norm(x, name), layer) if c.norm == "pre" else norm(x + f(x, layer), name)

    x = F.embedding(tokens, p["tokens"])
    if c.position_encoding == "learned":
        x = x + p["positions"][: tokens.shape[1]]
    else:
        frequencies = 10000.0 ** -(torch.arange(0, c.width, 2, dtype=torch.float64) / c.width)
        turns = torch.polar(torch.ones(()).double(), torch.outer(torch.arange(tokens.shape[1]).double(), frequencies))
        x = math.sqrt(c.width) * x + torch.view_as_real(turns).flip(-1).flatten(1)[:, : c.width].to(x.dtype)
    x = first = drop(x)
    for i in range(c.layers):
        layer = f"layers.{0 if c.shared_layers else i}"
        x = energy_step(x, layer) if c.attention == "energy" else residual(x, attend, layer, "norm1")
        x = residual(x, feed_forward, layer, "norm2") if c.hidden else x
    x = norm(x, "norm") if c.norm == "pre" else x
    return F.linear(x, p["tokens"]) if c.tied_embeddings else linear(x, "head")


def leaves(model):
    return {name: torch.tensor(a, requires_grad=True) for name, a in model.parameters.items()}


def cross_entropy(logits, targets):
    return F.cross_entropy(logits.flatten(0, 1), torch.tensor(targets).flatten(), ignore_index=-1)


OPTIONS = st.fixed_dictionaries({
    "layers": st.integers(1, 3),
    "heads": st.sampled_from([1, 2, 3]),
    "width": st.sampled_from([6, 12]),
    "hidden": st.none() | st.integers(0, 9),
    "norm": st.sampled_from(["pre", "post"]),
    "activation": st.sampled_from(["gelu", "relu"]),
    "position_encoding": st.sampled_from(["learned", "sinusoidal"]),
    "tied_embeddings": st.booleans(),
    "bias": st.booleans(),
    "attention": st.sampled_from(["dot", "energy"]),
    "eta": st.floats(0.1, 1.9),
    "shared_layers": st.booleans(),
    "dropout": st.sampled_from([0.0, 0.4]),
})  # fmt: skip


@pytest.mark.parametrize("dtype", SLACK)
@settings(max_examples=40)
@given(options=OPTIONS, seed=st.integers(0, 2**32))
def test_logits_loss_and_gradients_match_pytorch(dtype, options, seed):
    model = made(seed, dtype=dtype, **options)
    tokens, targets = examples(np.random.default_rng(seed))
    p, c = leaves(model), model.config
    if c.dropout:
        targets[:, -1] = tokens[:, -1]  # rows of one length are not reordered, and their masks are drawn as below
    slack = SLACK[dtype] * (100 if c.attention == "energy" else 1)  # some cases are ill-conditioned in both libraries
    logits = gpt_logits(p, c, torch.tensor(tokens)).detach()
    close({"logits": model.logits(tokens)}, {"logits": logits.numpy()}, slack)
    assert model.cross_entropy(tokens, targets) == pytest.approx(cross_entropy(logits, targets).item(), rel=slack)

    loss = cross_entropy(gpt_logits(p, c, torch.tensor(tokens), np.random.default_rng(seed)), targets)
    loss.backward()
    found, gradients = model.loss_and_gradients(tokens, targets, seed)
    assert found == pytest.approx(loss.item(), rel=slack)
    close(gradients, {name: a.grad.numpy() for name, a in p.items()}, slack)


@pytest.mark.parametrize("dtype", SLACK)
@pytest.mark.parametrize("grad_clip", [0.5, 100.0])  # every gradient is clipped, or none
@pytest.mark.parametrize(
    "options", [{}, {"norm": "post", "tied_embeddings": False, "position_encoding": "sinusoidal"}], ids=str
)
def test_ten_training_steps_match_pytorch(dtype, grad_clip, options):
    """AdamW with decay of matrices only, clipping by the joint norm, a linear rise and a cosine down.

    Epsilon exceeds the rounding errors of gradients that are exactly 0, such as those of the biases of keys.
    """
    model, peak, steps, warmup_steps = made(0, dtype=dtype, **options), 0.01, 10, 3
    optimizer = AdamW(model.parameters, betas=(0.8, 0.9), epsilon=1e-4, weight_decay=0.5)
    p, c, slack = leaves(model), model.config, SLACK[dtype]
    matrices, vectors = ([a for a in p.values() if (a.ndim > 1) == many] for many in (True, False))
    theirs = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.5}, {"params": vectors, "weight_decay": 0.0}],
        lr=peak, betas=(0.8, 0.9), eps=1e-4,
    )  # fmt: skip
    rise = torch.optim.lr_scheduler.LinearLR(theirs, 1 / warmup_steps, total_iters=warmup_steps - 1)
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(theirs, steps - warmup_steps, eta_min=peak / 10)
    rates = torch.optim.lr_scheduler.SequentialLR(theirs, [rise, fall], [warmup_steps - 1])
    for step in range(steps):
        tokens, targets = examples(np.random.default_rng(step))
        theirs.zero_grad()
        loss = cross_entropy(gpt_logits(p, c, torch.tensor(tokens)), targets)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(
            p.values(), math.inf
        ).item()  # a finite maximum would add 1e-6 to the norm
        for a in p.values():
            a.grad *= min(1.0, grad_clip / norm)
        theirs.step()

        found, gradients = model.loss_and_gradients(tokens, targets)
        assert found == pytest.approx(loss.item(), rel=slack)
        assert clip_gradients(gradients, grad_clip) == pytest.approx(norm, rel=slack)
        assert (norm > grad_clip) == (grad_clip < 1)
        rate = cosine_schedule(step, peak=peak, steps=steps, warmup_steps=warmup_steps)
        assert rate == pytest.approx(rates.get_last_lr()[0], rel=1e-12)
        optimizer.step(gradients, rate)
        rates.step()
        close(model.parameters, {name: a.detach().numpy() for name, a in p.items()}, slack)


# Hugging Face


@pytest.fixture(scope="module")
def transformers():
    return pytest.importorskip("transformers")


def same_tokens(ours, theirs, count):
    """Assert that both models continue a prompt with the same tokens at temperature 0."""
    prompt = np.random.default_rng(1).integers(0, 264, 4)
    found = theirs.generate(torch.tensor(prompt[None]), max_new_tokens=count, do_sample=False)
    assert ours.generate(prompt, count).tolist() == found[0].tolist()


@pytest.mark.parametrize("options", [{}, {"n_inner": 20}, {"activation_function": "relu", "n_inner": 70}], ids=str)
def test_gpt2_matches_transformers(tmp_path, transformers, options):
    """With random weights that transformers has saved."""
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=264, n_positions=12, n_embd=16, n_layer=2, n_head=2, initializer_range=0.3,
        attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0, bos_token_id=None, eos_token_id=None, **options,
    )  # fmt: skip
    theirs = transformers.GPT2LMHeadModel(config).eval()
    for a in theirs.parameters():  # biases too
        torch.nn.init.normal_(a, std=0.3)
    theirs.save_pretrained(tmp_path)
    (tmp_path / "vocab.json").write_text("{}")
    (tmp_path / "merges.txt").write_text("")
    ours, _ = load_gpt2(tmp_path)
    rows = np.random.default_rng(0).integers(0, 264, (3, 12))
    with torch.no_grad():
        close({"logits": ours.logits(rows)}, {"logits": theirs(torch.tensor(rows)).logits.numpy()}, 1e-5)
    same_tokens(ours, theirs, 8)

    theirs.double()
    ours.config = replace(ours.config, dtype="float64")
    ours.parameters = {name: a.astype(np.float64) for name, a in ours.parameters.items()}
    targets = np.hstack([rows[:, 1:], np.full((3, 1), -1)])
    logits = theirs(torch.tensor(rows)).logits
    loss = cross_entropy(logits, targets)  # transformers computes its own loss in float32
    loss.backward()
    close({"logits": ours.logits(rows)}, {"logits": logits.detach().numpy()}, SLACK["float64"])
    found, gradients = ours.loss_and_gradients(rows, targets)
    assert found == pytest.approx(loss.item(), rel=SLACK["float64"])
    named = {name.removeprefix("transformer."): a.grad.numpy() for name, a in theirs.named_parameters()}
    close({tensor_name(name, GPT2_NAMES): a for name, a in gradients.items()}, named, SLACK["float64"])


@pytest.mark.parametrize(
    "options", [{}, {"tied_embeddings": False, "base": 50.0}, {"key_heads": 4, "epsilon": 0.25}], ids=str
)
def test_a_llama_matches_transformers(tmp_path, transformers, options):
    """Both read one GGUF file."""
    pytest.importorskip("accelerate")
    config = LlamaConfig(**{**LLAMA_SIZES, **options})
    ours = load_llama(
        write_gguf(tmp_path / "m.gguf", gguf_header(config), gguf_tensors(drawn_parameters(config, dtype="float32")))
    )
    theirs = transformers.LlamaForCausalLM.from_pretrained(tmp_path, gguf_file="m.gguf").eval()
    theirs.generation_config.eos_token_id = None
    rows = np.random.default_rng(0).integers(0, config.vocabulary, (3, config.positions))
    with torch.no_grad():
        close({"logits": ours.logits(rows)}, {"logits": theirs(torch.tensor(rows)).logits.numpy()}, 1e-5)
    same_tokens(ours, theirs, 12)
