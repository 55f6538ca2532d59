"""Results do not depend on NumPy's error handling or on the processor's floating-point state, and both are kept."""

import ctypes
import mmap
import platform
import sys
from contextlib import contextmanager
from functools import partial

import numpy as np
import pytest

import hopmin
from hopmin import _backend, special
from hopmin._arithmetic import standard
from hopmin.memory.reduction import SMALL, reduce
from hopmin.paper import capacity, certificates, density
from hopmin.transformer.training import cross_entropy

# Arrays

MAGNITUDES = {
    "ordinary": lambda a: a,
    "tiny": lambda a: 1e-200 * a,
    "subnormal": lambda a: (1e-40 * a).astype(np.float32),
    "large": lambda a: (1e3 * a).astype(np.float32),
    "mixed": lambda a: (np.sign(a) * 10.0 ** (18 * a)).astype(np.float32),
}


def arrays(magnitude, m=4, n=30, d=5):
    rng = np.random.default_rng(0)
    return [MAGNITUDES[magnitude](rng.normal(size=(count, d)).clip(-2, 2)) for count in (m, n)]


# NumPy's errors

CONTINUOUS = [
    hopmin.DistanceEnergy,
    hopmin.DotEnergy,
    hopmin.EuclideanEnergy,
    hopmin.SparseEnergy,
    hopmin.EpanechnikovEnergy,
]
BINARY = [hopmin.HopfieldEnergy, hopmin.PolynomialEnergy, hopmin.ExponentialEnergy]


def of_memories(x, p):
    """Calls of the public functions on queries and patterns."""
    for metric in ("euclidean", "dot", "cosine"):
        yield partial(hopmin.nearest, x, p, 3, metric=metric)
    yield from (partial(hopmin.within, x, p, 1.0), partial(hopmin.separation, p), partial(hopmin.Packed, p))
    for beta in (1e-20, 1.0, 1e4):
        yield partial(hopmin.certify, p, 0.1, beta=beta)
        yield partial(density.log_density, x, p, beta=beta)
        yield partial(capacity.retrieval_error_bound, p, 0.1, beta=beta)
        for kind in CONTINUOUS:
            energy = kind(beta=beta)
            for name in ("value", "gradient", "weights", "update", "hessian"):
                yield partial(getattr(energy, name), x, p)
            yield partial(energy.guaranteed_decrease, x, p[: len(x)])
            yield lambda energy=energy: hopmin.retrieve(x, p, energy, max_steps=20).weights
            memory = hopmin.Memory(p, energy=energy)
            for name in ("nearest", "retrieve", "lookup", "energies", "weights", "update"):
                yield partial(getattr(memory, name), x)
            yield lambda memory=memory: memory.add(1e-300 * np.ones(p.shape[1]))
        layered = hopmin.LayeredMemory([p, 2 * p], energy=hopmin.DistanceEnergy(beta))
        for name in ("layer_energies", "global_energy", "responsibilities", "sequential_pass", "weighted_step"):
            yield partial(getattr(layered, name), x)
    for function in (capacity.dot_separation, certificates.convex_beta):
        yield partial(function, p)
    signs, stored = (np.where(a < 0, -1.0, 1.0) for a in (x, p))
    for kind in BINARY:
        for name in ("value", "weights", "update"):
            yield partial(getattr(kind(), name), signs, stored)
        yield partial(hopmin.retrieve, signs, stored, kind())


def of_numbers():
    a = np.array([0.0, -1e-300, -50.0, -1e4, 700.0])
    for function in (hopmin.logsumexp, hopmin.softmax, hopmin.log_softmax, hopmin.entmax, special.erf, special.erfc):
        for dtype in (np.float64, np.float32, np.float16):
            yield partial(function, a.astype(dtype))
    yield partial(hopmin.tsallis_entropy, hopmin.softmax(a))
    yield partial(hopmin.softmax_derivative, hopmin.softmax(a), a)
    yield partial(special.log_gamma_p, 1e3, 1e-3)
    yield partial(special.log_noncentral_chi2, 50, 1e-3, [1e3])
    yield partial(special.wrightomega, -1e3)
    yield partial(capacity.one_step_error, 1e-4)
    yield partial(capacity.one_step_load, 1e-200)
    yield partial(capacity.hebb_overlap, 0.01)
    yield partial(density.log_ball_integral, 300, 1e-3)


def of_a_transformer():
    config = hopmin.GPTConfig(vocabulary=11, positions=8, layers=2, heads=2, width=16, init_std=1.0)
    rows = np.random.default_rng(0).integers(0, 11, (8, 9))
    model = hopmin.GPT(config, 0)
    yield partial(model.logits, rows[:, :8])
    yield partial(model.generate, rows[0, :3], max_new_tokens=3)
    yield partial(cross_entropy, model, rows)
    yield lambda: hopmin.Trainer(hopmin.GPT(config, 0), steps=3, batch_size=4).run(rows)


def raising(calls):
    """Make each call as it is and, if that succeeds, with all of NumPy's errors raised."""
    count = 0
    for call in calls:
        try:
            call()
        except ValueError:  # the magnitude does not suit the function
            continue
        with np.errstate(all="raise"):
            call()
        count += 1
    assert count


@pytest.mark.parametrize("magnitude", MAGNITUDES)
def test_raised_errors_do_not_break_memories(magnitude, backend):
    raising(of_memories(*arrays(magnitude)))


@pytest.mark.parametrize("calls", [of_numbers, of_a_transformer])
def test_raised_errors_do_not_break_numbers_and_models(calls, backend):
    raising(calls())


def test_error_handling_is_restored_even_after_an_exception():
    with np.errstate(all="raise"):
        for k in (1, 99):
            try:
                hopmin.nearest([1.0], [[2.0]], k)
            except ValueError:
                assert k == 99
            assert set(np.geterr().values()) == {"raise"}


def test_functions_and_methods_keep_their_names_and_signatures():
    assert hopmin.nearest.__module__ == "hopmin.memory.nearest"
    assert hopmin.nearest.__wrapped__.__name__ == hopmin.nearest.__name__ == "nearest"
    assert "patterns" in hopmin.Memory.update.__doc__
    assert standard(lambda x, *, y: (x, y))(1, y=2) == (1, 2)


# The processor's state

FLUSH, UP, DOWN, TO_ZERO = (
    0x8040,
    0x4000,
    0x2000,
    0x6000,
)  # flush to zero and denormals are zero; directions of rounding
FLAGS = 0x3F


@pytest.fixture(scope="module")
def registers():
    """Functions that read and write MXCSR, as machine code: `stmxcsr [rdi]; ret` and `ldmxcsr [rdi]; ret`."""
    if platform.machine() not in ("x86_64", "AMD64") or sys.platform == "win32":
        pytest.skip("sets the register of x86-64 by the calling convention of Unix")
    memory = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    memory.write(bytes.fromhex("0fae1fc3 0fae17c3"))
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    word = ctypes.c_uint32()
    store, load = (ctypes.CFUNCTYPE(None, ctypes.c_void_p)(start + 4 * i) for i in range(2))

    def read():
        assert not memory.closed  # and it lives as long as this function
        store(ctypes.byref(word))
        return word.value

    def write(value):
        word.value = value
        load(ctypes.byref(word))

    return read, write


@pytest.fixture
def in_state(registers):
    """in_state(bits): a context in which these bits of MXCSR are set."""
    read, write = registers

    @contextmanager
    def context(bits):
        before = read()
        write(before & ~0xE040 | bits)
        try:
            yield
            assert read() & ~FLAGS == before & ~0xE040 & ~FLAGS | bits
        finally:
            write(before)

    return context


needs_core = pytest.mark.skipif(hopmin.BACKEND != "compiled", reason="NumPy cannot set the processor's state")
STATES = pytest.mark.parametrize("bits", [FLUSH, UP, DOWN, TO_ZERO])


def copies(result):
    return [np.array(a).tobytes() for a in (result if isinstance(result, tuple) else (result,)) if a is not None]


@needs_core
@pytest.mark.usefixtures("simd")
@STATES
@pytest.mark.parametrize("magnitude", MAGNITUDES)
def test_searches_and_sums_do_not_depend_on_the_state(bits, magnitude, in_state):
    x, p = arrays(magnitude)
    calls = [partial(hopmin.nearest, x, p, 5, metric=metric) for metric in ("euclidean", "dot", "cosine")]
    calls += [partial(reduce, x, p, p, metric=metric, beta=0.7) for metric in ("euclidean", "dot")]
    calls += [
        partial(getattr(kind(0.7), name), x, p) for kind in CONTINUOUS[:2] for name in ("value", "update", "weights")
    ]
    calls += [
        partial(hopmin.retrieve, x, p, hopmin.DistanceEnergy()),
        partial(hopmin.separation, p),
        lambda: hopmin.within(x, p, 1.0)[1][0],
    ]
    for call in calls:
        try:
            result = call()
        except ValueError:  # products of these magnitudes overflow
            continue
        expected = copies(result.states if isinstance(result, hopmin.Retrieval) else result)
        with in_state(bits):
            result = call()
        assert copies(result.states if isinstance(result, hopmin.Retrieval) else result) == expected


@needs_core
@STATES
def test_the_core_itself_does_not_depend_on_the_state(bits, in_state):
    """Called directly, on subnormal numbers, as a thread of the pool calls it."""
    x, p = arrays("subnormal")
    exponents = np.linspace(-800, 0, 999)
    for call in (
        lambda: (_backend.core.max_abs(x.ravel()), reduce(x, p, p, metric="euclidean", beta=1e30, k=9)[1:]),
        lambda: (_backend.core.scores(x, p, "dot", out := np.empty((len(x), len(p)))), out),
        lambda: (_backend.core.exp_nonpositive(exponents, out := np.empty(999)), out),
    ):
        expected = copies(call()[1])
        with in_state(bits):
            assert copies(call()[1]) == expected


@needs_core
def test_threads_that_inherit_a_state_do_not_use_it(in_state, threads):
    x, p = arrays("subnormal", m=800, n=400, d=SMALL // (800 * 400) + 1)
    threads(1)
    expected = copies(hopmin.nearest(x, p, 3))
    with in_state(FLUSH | TO_ZERO):
        threads(2)  # starts new threads, which inherit the state of this one
        assert copies(hopmin.nearest(x, p, 3)) == expected
    assert copies(hopmin.nearest(x, p, 3)) == expected


@needs_core
def test_the_state_is_restored_after_an_exception(in_state):
    with in_state(FLUSH), pytest.raises(ValueError, match="k must be"):
        hopmin.nearest([1.0], [[2.0]], 3)
    state = _backend.core.standard_state()
    _backend.core.restore_state(state)
    assert _backend.core.standard_state() == state
    _backend.core.restore_state(state)
