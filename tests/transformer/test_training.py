"""Schedule, clipping and AdamW, compared with plain loops; the trainer learns, evaluates, diverges and resumes."""

import contextlib
import copy
import functools
import math
import operator
import pickle

import numpy as np
import pytest
from helpers import error_message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hopmin._files import load_arrays, save_arrays
from hopmin.data.tokenizers import SymbolTokenizer
from hopmin.transformer import training
from hopmin.transformer.model import GPT, GPTConfig, load_model
from hopmin.transformer.training import AdamW, Trainer, clip_gradients, cosine_schedule, cross_entropy

ROWS = np.random.default_rng(0).integers(0, 8, (6, 9))
ROWS[:, 0] = range(6)  # so that the first token identifies the row


def made(**options):
    return GPT(GPTConfig(**{"vocabulary": 8, "positions": 8, "layers": 1, "heads": 2, "width": 16, **options}), 0)


def bits(arrays):
    return {name: a.tobytes() for name, a in arrays.items()}


# Schedule


@given(st.integers(1, 200), st.integers(0, 250), st.floats(1e-6, 1e3), st.floats(0, 1), st.integers(0, 300))
def test_schedule_rises_linearly_then_falls_to_its_final_rate(steps, warmup_steps, peak, final, step):
    def rate(step):
        return cosine_schedule(step, peak=peak, steps=steps, warmup_steps=warmup_steps, final=final)

    slack = 1e-12 * peak  # a few roundings
    assert 0 <= rate(step) <= peak + slack
    if step < warmup_steps:
        assert rate(step) == pytest.approx(peak * (step + 1) / warmup_steps, rel=1e-14)
    elif step >= steps - 1:
        assert rate(step) == pytest.approx(final * peak, rel=1e-12, abs=slack)
    else:
        assert rate(step) >= rate(step + 1) - slack
        assert rate(step) >= final * peak - slack


def test_schedule_peaks_after_warmup_and_is_halfway_midway():
    rates = [cosine_schedule(step, peak=2.0, steps=14, warmup_steps=4) for step in range(14)]
    assert rates[:4] == [0.5, 1.0, 1.5, 2.0]
    assert rates[8] == pytest.approx(2.0 * (0.1 + 1) / 2, rel=1e-14)
    assert rates[13] == pytest.approx(0.2, rel=1e-14)


# Clipping


def test_long_gradients_are_scaled_together():
    gradients = {"a": np.array([[3.0, 0.0], [0.0, 4.0]]), "b": np.array([12.0])}
    assert clip_gradients(gradients, 6.5) == 13
    np.testing.assert_array_equal(gradients["a"], [[1.5, 0], [0, 2]])
    np.testing.assert_array_equal(gradients["b"], [6])


def test_short_gradients_are_unchanged():
    gradients = {"a": np.array([3.0], np.float32), "b": np.array([4.0], np.float32)}
    before = bits(gradients)
    assert clip_gradients(gradients, 6.0) == 5
    assert bits(gradients) == before


# AdamW


def loop_adamw(p, gradients, rates, b1, b2, epsilon, decay):
    """Update one parameter with plain floats."""
    m = v = 0.0
    for t, (g, rate) in enumerate(zip(gradients, rates, strict=True), start=1):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g * g
        p = p - rate * decay * p - rate * (m / (1 - b1**t)) / (math.sqrt(v / (1 - b2**t)) + epsilon)
    return p


@pytest.mark.parametrize(
    "options", [{}, {"betas": (0.5, 0.8), "epsilon": 0.1, "weight_decay": 0.3}, {"weight_decay": 0.0}]
)
def test_adamw_equals_a_loop_and_only_matrices_decay(options):
    rng, rates = np.random.default_rng(0), [0.1, 0.3, 0.2, 0.05, 0.4, 0.1]
    shapes = {"matrix": (3, 2), "vector": (4,)}
    parameters = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    gradients = [{name: rng.normal(size=shape) for name, shape in shapes.items()} for _ in rates]
    start = {name: p.copy() for name, p in parameters.items()}
    optimizer = AdamW(parameters, **options)
    for g, rate in zip(gradients, rates, strict=True):
        optimizer.step(g, rate)
    (b1, b2), epsilon = options.get("betas", (0.9, 0.99)), options.get("epsilon", 1e-8)
    for name, p in parameters.items():
        decay = options.get("weight_decay", 0.01) if name == "matrix" else 0.0
        for i in np.ndindex(p.shape):
            # a few dozen roundings of numbers of order one
            expected = loop_adamw(start[name][i], [g[name][i] for g in gradients], rates, b1, b2, epsilon, decay)
            assert p[i] == pytest.approx(expected, rel=1e-12, abs=1e-13)


def test_a_step_at_rate_zero_changes_nothing():
    model = made()
    before = bits(model.parameters)
    _, gradients = model.loss_and_gradients(ROWS[:, :-1], ROWS[:, 1:])
    AdamW(model.parameters, weight_decay=0.5).step(gradients, rate=0)
    assert bits(model.parameters) == before


def test_adamw_works_in_place_and_keeps_the_dtype():
    model = made()
    kept = dict(model.parameters)
    optimizer = AdamW(model.parameters)
    _, gradients = model.loss_and_gradients(ROWS[:, :-1], ROWS[:, 1:])
    given = bits(gradients)
    optimizer.step(gradients, rate=0.1)
    assert bits(gradients) == given
    assert all(model.parameters[name] is a for name, a in kept.items())
    arrays = (*model.parameters.values(), *optimizer.m.values(), *optimizer.v.values())
    assert {a.dtype for a in arrays} == {np.dtype("float32")}


# The trainer


def test_a_few_rows_are_memorized():
    trainer = Trainer(made(init_std=0.25), steps=150, learning_rate=0.02, batch_size=6)
    losses = trainer.run(ROWS)
    assert abs(losses[0] - math.log(8)) < 0.5
    assert trainer.model.cross_entropy(ROWS[:, :-1], ROWS[:, 1:]) < 0.05


def test_step_returns_its_loss_and_follows_the_schedule(monkeypatch):
    trainer, rates = Trainer(made(), steps=10, learning_rate=0.5, warmup_steps=4, batch_size=2), []
    monkeypatch.setattr(trainer.optimizer, "step", lambda _, rate: rates.append(rate))
    before = trainer.model.cross_entropy(ROWS[:, :-1], ROWS[:, 1:])
    assert trainer.step(ROWS[:, :-1], ROWS[:, 1:]) == pytest.approx(before, rel=1e-14)
    trainer.optimizer.steps = 6
    trainer.step(ROWS[:, :-1], ROWS[:, 1:])
    assert rates == [cosine_schedule(step, peak=0.5, steps=10, warmup_steps=4) for step in (0, 6)]


def test_the_gradient_of_a_step_is_clipped(monkeypatch):
    trainer, norms = Trainer(made(init_std=1.0), steps=1, grad_clip=0.01), []

    def step(gradients, rate):
        norms.append(math.sqrt(sum((g.astype(float) ** 2).sum() for g in gradients.values())))

    monkeypatch.setattr(trainer.optimizer, "step", step)
    trainer.step(ROWS[:, :-1], ROWS[:, 1:])
    assert norms == [pytest.approx(0.01, rel=1e-5)]  # scaled in float32


def test_warmup_is_a_tenth_of_all_steps_by_default():
    assert Trainer(made(), steps=200).options.warmup_steps == 20
    assert Trainer(made(), steps=3).options.warmup_steps == 1
    assert Trainer(made(), steps=200, warmup_steps=0).options.warmup_steps == 0


def test_callback_gets_number_loss_and_tokens_of_each_step():
    records = []
    rows = np.array([[1, 2, 3, -1], [4, 5, 6, 7]])
    trainer = Trainer(made(), steps=5, batch_size=4)
    losses = trainer.run(rows, callback=lambda **record: records.append(record))
    assert [record["step"] for record in records] == [1, 2, 3, 4, 5]
    assert [record["loss"] for record in records] == losses
    assert {record["tokens"] for record in records} <= set(range(8, 13))
    assert {record["tokens"] for record in records} & {9, 10, 11}  # rows of both lengths, their padding not counted
    assert trainer.run(rows) == []  # no steps are left


def test_the_seed_determines_batches_and_dropout():
    def weights(seed, rate):
        trainer = Trainer(made(dropout=rate), steps=3, batch_size=4, seed=seed)
        return trainer.run(ROWS), bits(trainer.model.parameters)

    assert weights(1, 0.2) == weights(1, 0.2)
    assert weights(1, 0.2) != weights(2, 0.2)
    assert weights(1, 0.0) != weights(1, 0.2)


@pytest.mark.parametrize("broken", [math.nan, 1e30])
def test_a_nonfinite_loss_is_an_error_and_changes_nothing(broken):
    trainer = Trainer(made(), steps=9, batch_size=2)
    trainer.step(ROWS[:, :-1], ROWS[:, 1:])
    trainer.model.parameters["tokens"][...] = broken  # with 1e30 the gradient is not finite, though the loss is
    before = [bits(of) for of in (trainer.model.parameters, trainer.optimizer.m, trainer.optimizer.v)]
    sentence = error_message(FloatingPointError, trainer.step, ROWS[:, :-1], ROWS[:, 1:])
    assert sentence.startswith("loss must stay finite; got ")
    assert sentence.endswith(" at step 2")
    after = [bits(of) for of in (trainer.model.parameters, trainer.optimizer.m, trainer.optimizer.v)]
    assert after == before
    assert trainer.optimizer.steps == 1


@pytest.mark.parametrize("rate", [0.0, 0.2])
def test_at_learning_rate_zero_only_moments_change(rate):
    trainer = Trainer(made(dropout=rate), steps=3, learning_rate=0, batch_size=4)
    before = bits(trainer.model.parameters)
    trainer.run(ROWS)
    assert bits(trainer.model.parameters) == before
    assert any(m.any() for m in trainer.optimizer.m.values())


def test_random_rows_are_memorized_and_others_not_predicted():
    rng = np.random.default_rng(0)
    rows, fresh = rng.integers(0, 8, (2, 64, 9))
    rows[:, 0], rows[:, 1] = np.divmod(np.arange(64), 8)  # identify a row, so its other tokens can be predicted
    targets = rows[:, 1:].copy()
    targets[:, 0] = -1
    model = made(width=32, layers=2)
    assert abs(cross_entropy(model, fresh) - math.log(8)) < 0.02
    trainer = Trainer(model, steps=500, learning_rate=6e-3, warmup_steps=20)
    loss = min(trainer.step(rows[:, :-1], targets) for _ in range(500))
    assert loss < 0.01
    assert cross_entropy(model, fresh) > math.log(8)


def test_rows_can_be_a_function_of_the_step(tmp_path):
    def batch(step):
        return np.roll(ROWS, -step, axis=0)[:4]

    steps = []
    whole, first = (Trainer(made(), steps=6, learning_rate=0.01) for _ in range(2))
    losses = whole.run(lambda step: (steps.append(step), batch(step))[1])
    assert steps == list(range(6))
    before = run_until(first, 2, batch)
    first.save(tmp_path / "checkpoint.npz")
    second = Trainer.load(tmp_path / "checkpoint.npz")
    assert before + second.run(batch) == losses
    assert bits(second.model.parameters) == bits(whole.model.parameters)


@pytest.mark.parametrize("broken", [False, True])
def test_a_loss_far_above_a_guess_is_an_error(broken):
    trainer = Trainer(made(), steps=3, batch_size=2)
    if broken:
        trainer.model.parameters["tokens"][...] *= 100  # so that logits are far apart
        trainer.model.parameters["norm.bias"][...] = np.random.default_rng(0).normal(size=16)
        before = bits(trainer.model.parameters)
        sentence = error_message(FloatingPointError, trainer.step, ROWS[:, :-1], ROWS[:, 1:])
        assert sentence.startswith("loss must stay below 20.8, ten times that of a guess; got ")
        assert bits(trainer.model.parameters) == before
    else:
        trainer.step(ROWS[:, :-1], ROWS[:, 1:])


# Held-out rows


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_nonfinite_held_out_loss_is_an_error(monkeypatch, loss):
    losses, steps = iter([2.0, loss]), []
    monkeypatch.setattr(training, "cross_entropy", lambda model, rows: next(losses))
    trainer = Trainer(made(), steps=9, batch_size=2, evaluate_every=2)
    sentence = error_message(
        FloatingPointError, trainer.run, ROWS, held_out=ROWS, callback=lambda step, **_: steps.append(step)
    )
    assert sentence == f"held-out loss must stay finite; got {loss} after step 4"
    assert (steps, trainer.best) == ([1, 2, 3], (2, 2.0))


def test_cross_entropy_is_the_mean_over_all_tokens():
    model, rng = made(dtype="float64"), np.random.default_rng(0)
    rows = rng.integers(0, 8, (230, 9))
    for row, length in zip(rows, rng.integers(2, 10, 230), strict=True):
        row[length:] = -1
    losses = [(model.cross_entropy([row[row >= 0][:-1]], [row[row >= 0][1:]]), (row >= 0).sum() - 1) for row in rows]
    mean = sum(loss * count for loss, count in losses) / sum(count for _, count in losses)
    assert cross_entropy(model, rows) == pytest.approx(mean, rel=1e-12)


def evaluated(monkeypatch, held_out_losses, **options):
    """Run a trainer whose evaluations give these losses; return it and what its callback was given."""
    losses, records = iter(held_out_losses), []
    monkeypatch.setattr(training, "cross_entropy", lambda model, rows: next(losses))
    trainer = Trainer(made(), **{"steps": 12, "batch_size": 2, "evaluate_every": 2, **options})
    trainer.run(ROWS, held_out=ROWS, callback=lambda **record: records.append(record))
    return trainer, records


def test_evaluations_are_periodic_and_find_the_best(monkeypatch):
    trainer, records = evaluated(monkeypatch, [3.0, 2.0, 2.0], steps=5)
    assert [(r["step"], r["held_out_loss"], r["improved"]) for r in records if "held_out_loss" in r] == [
        (2, 3.0, True), (4, 2.0, True), (5, 2.0, False),
    ]  # fmt: skip
    assert (trainer.best, trainer.evaluations_without_improvement, trainer.done) == ((4, 2.0), 1, True)


def test_patience_ends_the_run(monkeypatch, tmp_path):
    trainer, records = evaluated(monkeypatch, [3.0, 4.0, 2.0, 2.5, 2.0], patience=2)
    assert (records[-1]["step"], trainer.best, trainer.evaluations_without_improvement, trainer.done) == (
        10,
        (6, 2.0),
        2,
        True,
    )
    trainer.save(tmp_path / "checkpoint.npz")
    again = Trainer.load(tmp_path / "checkpoint.npz")
    assert (again.best, again.evaluations_without_improvement, again.done) == ((6, 2.0), 2, True)
    assert again.run(ROWS, held_out=ROWS) == []


def test_evaluations_do_not_change_training():
    without, evaluating = (Trainer(made(dropout=0.2), steps=4, batch_size=4, evaluate_every=1) for _ in range(2))
    assert without.run(ROWS) == evaluating.run(ROWS, held_out=ROWS[::-1])
    assert bits(without.model.parameters) == bits(evaluating.model.parameters)
    assert evaluating.best.loss == min(evaluating.best.loss, cross_entropy(evaluating.model, ROWS[::-1]))


@pytest.mark.parametrize(
    ("rows", "error", "expected"),
    [
        (ROWS[:0], ValueError, "have shape (n, T + 1), not empty; got (0, 9)"),
        (ROWS[0], ValueError, "have shape (n, T + 1), not empty; got (9,)"),
        (3, ValueError, "have shape (n, T + 1), not empty; got ()"),
        (ROWS / 2, TypeError, "be integers; got dtype float64"),
        ([["to", "be"]], TypeError, "be integers; got dtype <U2"),
    ],
    ids=str,
)
def test_wrong_rows_are_refused_before_any_step(rows, error, expected):
    trainer = Trainer(made(), steps=2, batch_size=2)
    assert error_message(error, trainer.run, rows) == f"rows must {expected}"
    assert error_message(error, trainer.run, lambda step: rows) == f"rows must {expected}"
    assert error_message(error, trainer.run, ROWS, held_out=rows) == f"held_out must {expected}"
    assert error_message(error, cross_entropy, made(), rows) == f"rows must {expected}"
    assert trainer.steps_taken == 0


# Stop and resume


class Stop(Exception):
    pass


def run_until(trainer, last, rows=ROWS):
    losses = []

    def callback(step, loss, **_):
        losses.append(loss)
        if step == last:
            raise Stop

    with pytest.raises(Stop):
        trainer.run(rows, callback=callback)
    return losses


@pytest.mark.parametrize("stopped", range(1, 7))
def test_a_stopped_run_resumes_bit_for_bit(tmp_path, stopped):
    def begin():
        return Trainer(made(dropout=0.2), steps=6, batch_size=4, learning_rate=0.01, seed=3)

    whole = begin()
    losses = whole.run(ROWS)
    first = begin()
    before = run_until(first, stopped)
    first.save(tmp_path / "checkpoint.npz")
    second = Trainer.load(tmp_path / "checkpoint.npz")
    assert second.options == whole.options
    assert second.optimizer.steps == stopped
    assert before + second.run(ROWS) == losses
    assert bits(second.model.parameters) == bits(whole.model.parameters)
    assert bits(second.optimizer.v) == bits(whole.optimizer.v)


COPIES = {"deepcopy": copy.deepcopy, "pickle": lambda trainer: pickle.loads(pickle.dumps(trainer))}


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("stopped", [0, 3])
def test_a_copied_trainer_continues_bit_for_bit(copied, stopped):
    """Both continue as one that was not copied, so neither changes the other."""

    def begin():
        return Trainer(made(dropout=0.2), steps=6, batch_size=4, evaluate_every=2, patience=5, seed=3)

    whole, first = begin(), begin()
    losses = whole.run(ROWS, held_out=ROWS)
    before = []
    if stopped:
        with pytest.raises(Stop):
            first.run(ROWS, held_out=ROWS, callback=functools.partial(stop_after, before, stopped))
    second = copied(first)
    assert second.optimizer.parameters is second.model.parameters is second.loss_and_gradients.model.parameters
    assert second.loss_and_gradients.pool is not first.loss_and_gradients.pool
    for trainer in (first, second):
        assert before + trainer.run(ROWS, held_out=ROWS) == losses
        assert (trainer.options, trainer.best, trainer.steps_taken) == (whole.options, whole.best, 6)
        assert trainer.evaluations_without_improvement == whole.evaluations_without_improvement
        for name in ("parameters", "m", "v"):
            assert bits(getattr(trainer.optimizer, name)) == bits(getattr(whole.optimizer, name))


def stop_after(losses, last, *, step, loss, **_):
    losses.append(loss)
    if step == last:
        raise Stop


def test_a_shallow_copy_shares_model_and_optimizer():
    trainer = Trainer(made(), steps=4)
    other = copy.copy(trainer)
    assert (other.model, other.optimizer) == (trainer.model, trainer.optimizer)
    other.run(ROWS)
    assert trainer.steps_taken == 4


def test_a_checkpoint_can_be_read_as_a_model(tmp_path):
    trainer, tokenizer = Trainer(made(), steps=2), SymbolTokenizer(tuple("abcdefgh"))
    trainer.run(ROWS)
    trainer.save(tmp_path / "checkpoint.npz", tokenizer, corpus="a note")
    assert bits(GPT.load(tmp_path / "checkpoint.npz").parameters) == bits(trainer.model.parameters)
    assert load_model(tmp_path / "checkpoint.npz").tokenizer == tokenizer
    assert load_model(tmp_path / "checkpoint.npz").records["corpus"] == "a note"


def test_parameters_of_any_layout_are_updated_in_place():
    rng = np.random.default_rng(0)
    p, g = rng.normal(size=(2, 6, 4))
    wide = np.zeros((6, 8))
    wide[:, ::2] = p
    given = {"rows": p.copy(), "columns": np.asfortranarray(p), "strided": wide[:, ::2]}
    optimizer = AdamW(given)
    for _ in range(3):
        optimizer.step(dict.fromkeys(given, g), 0.1)
    for name in ("columns", "strided"):
        np.testing.assert_allclose(given[name], given["rows"], rtol=1e-14)
    np.testing.assert_array_equal(wide[:, ::2], given["strided"])
    assert not wide[:, 1::2].any()


@pytest.mark.parametrize("options", [{"steps": np.int64(50)}, {"learning_rate": np.float32(0.5)}], ids=str)
def test_a_trainer_with_numpy_numbers_can_be_saved(tmp_path, options):
    trainer = Trainer(made(), **{"steps": 20, **options})
    trainer.save(tmp_path / "checkpoint.npz")
    assert Trainer.load(tmp_path / "checkpoint.npz").options == trainer.options


def test_a_model_is_not_a_checkpoint(tmp_path):
    made().save(tmp_path / "m.npz")
    sentence = error_message(ValueError, Trainer.load, tmp_path / "m.npz")
    assert sentence == f"checkpoint must hold a training state; {tmp_path / 'm.npz'} does not"


def without(arrays):
    del arrays["v/tokens"]


def misshaped(arrays):
    arrays["m/tokens"] = arrays["m/tokens"][:-1]


def of_one_row(arrays):
    arrays["m/tokens"] = arrays["m/tokens"][:1]


@pytest.mark.parametrize("change", [without, misshaped, of_one_row])
def test_a_checkpoint_with_wrong_moments_is_refused(tmp_path, change):
    path = tmp_path / "m.npz"
    Trainer(made(), steps=2).save(path)
    arrays, records = load_arrays(path, "model")
    change(arrays)
    save_arrays(path, "model", arrays, **records)
    assert error_message(ValueError, Trainer.load, path) == f"checkpoint must hold a training state; {path} does not"


ODD = [None, True, 0, -1, 3, 10**12, 0.5, 1e308, math.nan, math.inf, "", "x", "float64", [], {}, [1], [1, 2], {"a": 1}]


def places(record, above=()):
    """Yield the path of every entry of a nested record."""
    inside = record.items() if isinstance(record, dict) else enumerate(record) if isinstance(record, list) else ()
    for key, value in inside:
        yield (*above, key)
        yield from places(value, (*above, key))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_an_altered_checkpoint_is_refused_or_valid(tmp_path, data):
    path = tmp_path / "m.npz"
    trainer = Trainer(made(), steps=3, evaluate_every=1)
    trainer.run(ROWS[:2], held_out=ROWS)
    trainer.save(path, SymbolTokenizer(tuple("abcdefgh")))
    arrays, records = load_arrays(path, "model")
    *above, last = data.draw(st.sampled_from(sorted(places(records), key=str)))
    inside = functools.reduce(operator.getitem, above, records)
    inside[last] = data.draw(st.sampled_from(ODD))
    save_arrays(path, "model", arrays, **records)
    for load in (GPT.load, Trainer.load):
        with contextlib.suppress(ValueError):  # any other record is an error
            loaded = load(path)
            tokenizer = load_model(path).tokenizer
            assert tokenizer is None or tokenizer.decode(tokenizer.encode(tokenizer.symbols[7])) == tokenizer.symbols[7]
            if load is Trainer.load:
                assert loaded.best is None or (loaded.best[0] >= 1 and math.isfinite(loaded.best[1]))


@pytest.mark.parametrize(
    "record",
    [
        "x",
        3,
        0.5,
        [1],
        {"kind": "bpe"},
        {"kind": "bpe", "json": "{}"},
        {"kind": "bytes"},
        {"symbols": list("abc"), "separator": ""},
        {"symbols": list(range(8)), "separator": ""},
        {"symbols": list("abcdefgg"), "separator": ""},
        {"symbols": list("abcdefgh"), "separator": 3},
    ],
    ids=str,
)
def test_a_tokenizer_record_that_does_not_fit_is_refused(tmp_path, record):
    if "json" in str(record):
        pytest.importorskip("tokenizers")
    path = tmp_path / "m.npz"
    made().save(path)
    arrays, records = load_arrays(path, "model")
    save_arrays(path, "model", arrays, **{**records, "tokenizer": record})
    assert (
        error_message(ValueError, GPT.load, path)
        == f"model must hold the parameters that its configuration names; {path} does not"
    )


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"steps": 0}, ValueError, "steps must be an integer >= 1; got 0"),
        ({"steps": 2.0}, TypeError, "steps must be an integer >= 1; got 2.0"),
        ({"learning_rate": -1}, ValueError, "learning_rate must be a finite number >= 0; got -1"),
        ({"learning_rate": math.inf}, ValueError, "learning_rate must be a finite number >= 0; got inf"),
        ({"warmup_steps": -1}, ValueError, "warmup_steps must be an integer >= 0; got -1"),
        ({"weight_decay": -0.1}, ValueError, "weight_decay must be a finite number >= 0; got -0.1"),
        ({"grad_clip": 0.0}, ValueError, "grad_clip must be a finite number > 0; got 0.0"),
        ({"batch_size": 0}, ValueError, "batch_size must be an integer >= 1; got 0"),
        ({"seed": -1}, ValueError, "seed must be an integer >= 0; got -1"),
        ({"seed": "0"}, TypeError, "seed must be an integer >= 0; got '0'"),
    ],
    ids=str,
)
def test_wrong_options_are_refused(options, error, sentence):
    assert error_message(error, Trainer, made(), **{"steps": 5, **options}) == sentence


@pytest.mark.parametrize("model", [3, None, "model", GPT])
def test_only_a_model_is_trained(model):
    assert error_message(TypeError, Trainer, model, steps=5) == f"model must be a GPT; got {model!r}"


@pytest.mark.parametrize("path", [3, True, None])
def test_numbers_are_not_paths_of_checkpoints(path):
    for function in (Trainer.load, Trainer(made(), steps=1).save, GPT.load, made().save):
        assert error_message(TypeError, function, path) == f"path must be a string or a path object; got {path}"


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"betas": 0.9}, TypeError, "betas must be a tuple of two numbers; got 0.9"),
        ({"betas": (0.9,)}, TypeError, "betas must be a tuple of two numbers; got (0.9,)"),
        ({"betas": (0.9, 1.0)}, ValueError, "betas must be a number in [0, 1); got 1.0"),
        ({"epsilon": 0.0}, ValueError, "epsilon must be a finite number > 0; got 0.0"),
        ({"weight_decay": "0"}, TypeError, "weight_decay must be a finite number >= 0; got '0'"),
        ({"parameters": None}, TypeError, "parameters must be a dict; got None"),
    ],
    ids=str,
)
def test_wrong_options_of_adamw_are_refused(options, error, sentence):
    assert error_message(error, AdamW, **{"parameters": {}, **options}) == sentence


def test_a_wrong_rate_changes_nothing():
    p = np.ones(3)
    optimizer = AdamW({"p": p})
    expected = "rate must be a finite number >= 0; got nan"
    assert error_message(ValueError, optimizer.step, {"p": np.ones(3)}, math.nan) == expected
    assert (optimizer.steps, p.tolist()) == (0, [1, 1, 1])


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"step": -1}, ValueError, "step must be an integer >= 0; got -1"),
        ({"step": 0.5}, TypeError, "step must be an integer >= 0; got 0.5"),
        ({"peak": math.nan}, ValueError, "peak must be a finite number >= 0; got nan"),
        ({"steps": 0}, ValueError, "steps must be an integer >= 1; got 0"),
        ({"warmup_steps": None}, TypeError, "warmup_steps must be an integer >= 0; got None"),
        ({"final": -0.1}, ValueError, "final must be a finite number >= 0; got -0.1"),
    ],
    ids=str,
)
def test_a_wrong_schedule_is_refused(options, error, sentence):
    usual = {"step": 0, "peak": 1.0, "steps": 5, "warmup_steps": 1}
    assert error_message(error, cosine_schedule, **{**usual, **options}) == sentence
