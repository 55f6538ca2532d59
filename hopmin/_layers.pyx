"""The compiled layers: the functions of `_layers_numpy.py`, each in one pass over memory. Read that module first.

This file checks the arrays and releases the GIL. The arithmetic is in `_simd/row.h`, which is compiled once for each
instruction set.
"""

from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer,
)
from libc.math cimport sqrt
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

import numpy as np

cdef extern from "_simd/row_kernels.h" nogil:
    enum: VARIANTS
    ctypedef struct row_kernels:
        void (*norm)(const void* x, Py_ssize_t m, Py_ssize_t d, const void* gain, const void* bias, double epsilon,
                     void* y, void* z, void* scale) noexcept nogil
        void (*norm_back)(const void* dy, const void* z, const void* scale, Py_ssize_t m, Py_ssize_t d,
                          const void* gain, void* dx, void* dgain, void* dbias) noexcept nogil
        void (*gelu)(const void* x, const void* bias, Py_ssize_t d, void* y, void* slope) noexcept nogil
        void (*softmax)(void* scores, Py_ssize_t m, Py_ssize_t t, Py_ssize_t s, double beta) noexcept nogil
        void (*softmax_back)(void* dweights, const void* weights, Py_ssize_t m, Py_ssize_t t, Py_ssize_t s,
                             double beta) noexcept nogil
        void (*adamw)(void* p, const void* g, void* m, void* v, Py_ssize_t count, double b1, double b2,
                      double kept, double rate, double epsilon) noexcept nogil
        void (*add)(void* x, const void* change, const void* bias, Py_ssize_t d) noexcept nogil
        void (*attend)(const void* q, const void* keys, Py_ssize_t step, const void* values, Py_ssize_t seen,
                       Py_ssize_t s, Py_ssize_t e, double beta, void* scores, void* y) noexcept nogil
    struct variant:
        const char* name
        bint (*runs_here)() noexcept nogil
        const row_kernels* single_precision
        const row_kernels* double_precision
    const variant[VARIANTS] variants
    int best_variant()

ctypedef char* address

FUNCTIONS = (
    "simd", "layer_norm_forward", "layer_norm_backward", "gelu_and_derivative", "causal_softmax",
    "causal_softmax_backward", "adamw", "attend", "activate", "add_and_norm",
)
SIMD = tuple(variants[i].name.decode() for i in range(VARIANTS) if variants[i].runs_here())
cdef int chosen = best_variant()


def simd(name=None):
    global chosen
    chosen = chosen if name is None else SIMD.index(name)
    return SIMD[chosen]


cdef const row_kernels* kernels_of(a) except NULL:
    """Return the kernels for the dtype of an array."""
    kind = a.dtype.char
    if kind == "f":
        return variants[chosen].single_precision
    if kind == "d":
        return variants[chosen].double_precision
    raise TypeError(f"arrays must be float32 or float64; got {a.dtype}")


cdef address at(a, like, Py_ssize_t size, int flags=0) except? NULL:
    """Return the address of a contiguous array of `size` numbers with the dtype of `like`; NULL for None."""
    cdef Py_buffer view
    if a is None:
        return NULL
    PyObject_GetBuffer(a, &view, PyBUF_C_CONTIGUOUS | flags)
    cdef address start = <address> view.buf  # valid after the release: the caller holds the array
    cdef bint fits = view.len == size * view.itemsize and a.dtype.char == like.dtype.char
    PyBuffer_Release(&view)
    if not fits:
        raise ValueError(f"arrays must hold {size} numbers of type {like.dtype}; got {a.size} of type {a.dtype}")
    return start


cdef inline address to(a, like, Py_ssize_t size) except? NULL:
    """Return the address of an array to write to."""
    return at(a, like, size, PyBUF_WRITABLE)


cdef contiguous(a):
    """Return an array as a contiguous one; None for None."""
    return None if a is None else np.ascontiguousarray(a)


def layer_norm_forward(x, gain, bias, double epsilon):
    cdef const row_kernels* kernels = kernels_of(x)
    x, gain, bias = np.ascontiguousarray(x), np.ascontiguousarray(gain), contiguous(bias)
    cdef Py_ssize_t d = gain.size, m = x.size // d
    y, z, scale = np.empty_like(x), np.empty_like(x), np.empty((*x.shape[:x.ndim - 1], 1), x.dtype)
    cdef address x_ = at(x, x, m * d), gain_ = at(gain, x, d), bias_ = at(bias, x, d)
    cdef address y_ = to(y, x, m * d), z_ = to(z, x, m * d), scale_ = to(scale, x, m)
    with nogil:
        kernels.norm(x_, m, d, gain_, bias_, epsilon, y_, z_, scale_)
    return y, z, scale


def layer_norm_backward(dy, z, scale, gain, bias):
    cdef const row_kernels* kernels = kernels_of(z)
    dy, gain, bias = np.ascontiguousarray(dy), np.ascontiguousarray(gain), contiguous(bias)
    dx, dgain, dbias = np.empty_like(dy), np.zeros_like(gain), None if bias is None else np.zeros_like(bias)
    cdef Py_ssize_t d = gain.size, m = scale.size
    cdef address dy_ = at(dy, z, m * d), z_ = at(z, z, m * d), scale_ = at(scale, z, m), gain_ = at(gain, z, d)
    cdef address dx_ = to(dx, z, m * d), dgain_ = to(dgain, z, d), dbias_ = to(dbias, z, d)
    with nogil:
        kernels.norm_back(dy_, z_, scale_, m, d, gain_, dx_, dgain_, dbias_)
    return dx, dgain, dbias


def gelu_and_derivative(x):
    cdef const row_kernels* kernels = kernels_of(x)
    x = np.ascontiguousarray(x)
    y, slope = np.empty_like(x), np.empty_like(x)
    cdef Py_ssize_t size = x.size
    cdef address x_ = at(x, x, size)
    cdef address y_ = to(y, x, size), slope_ = to(slope, x, size)
    with nogil:
        kernels.gelu(x_, NULL, size, y_, slope_)
    return y, slope


def causal_softmax(scores, double beta):
    cdef const row_kernels* kernels = kernels_of(scores)
    scores = np.ascontiguousarray(scores)
    cdef Py_ssize_t t = scores.shape[scores.ndim - 2], s = scores.shape[scores.ndim - 1], m = scores.size // s
    cdef address scores_ = to(scores, scores, m * s)
    with nogil:
        kernels.softmax(scores_, m, t, s, beta)
    return scores


def causal_softmax_backward(dweights, weights, double beta):
    cdef const row_kernels* kernels = kernels_of(weights)
    dweights = np.ascontiguousarray(dweights)
    cdef Py_ssize_t t = weights.shape[weights.ndim - 2], s = weights.shape[weights.ndim - 1], m = weights.size // s
    cdef address dweights_ = to(dweights, weights, m * s)
    cdef address weights_ = at(weights, weights, m * s)
    with nogil:
        kernels.softmax_back(dweights_, weights_, m, t, s, beta)
    return dweights


def adamw(p, g, m, v, double b1, double b2, double kept, double rate, double epsilon):
    cdef const row_kernels* kernels = kernels_of(p)
    g = np.ascontiguousarray(g)
    cdef Py_ssize_t size = p.size
    cdef address p_ = to(p, p, size), m_ = to(m, p, size), v_ = to(v, p, size)
    cdef address g_ = at(g, p, size)
    with nogil:
        kernels.adamw(p_, g_, m_, v_, size, b1, b2, kept, rate, epsilon)


def attend(projected, bias, keys, values, const Py_ssize_t[::1] start, Py_ssize_t length, joined):
    cdef const row_kernels* kernels = kernels_of(keys)
    cdef Py_ssize_t B = start.shape[0], H = keys.shape[1], S = keys.shape[2], E = keys.shape[3], size = keys.itemsize
    cdef Py_ssize_t b, h, e, first, head
    cdef address query = to(projected, keys, B * 3 * H * E), y = to(joined, keys, B * H * E)
    cdef address keys_ = to(keys.mT, keys, B * H * S * E), values_ = to(values, keys, B * H * S * E)
    cdef address bias_ = at(bias, keys, 3 * H * E)
    cdef void* scores
    if length >= S:
        raise ValueError("cache must have a position left")
    with nogil:
        scores = malloc((length + 1) * size)
        for b in range(B * (scores != NULL)):
            kernels.add(query, NULL, bias_, 3 * H * E)
            first = min(start[b], length)
            for h in range(H):
                head = (b * H + h) * S * E * size
                # 1. the token's key and value are added to the cache
                for e in range(E):
                    memcpy(keys_ + head + (e * S + length) * size, query + (H * E + e) * size, size)
                memcpy(values_ + head + length * E * size, query + 2 * H * E * size, E * size)
                # 2. weights of the positions that it sees
                # 3. the weighted mean of their values
                kernels.attend(query, keys_ + head + first * size, S, values_ + head + first * E * size,
                               length + 1 - first, S - first, E, 1 / sqrt(E), scores, y)
                query, y = query + E * size, y + E * size
            query += 2 * H * E * size
        free(scores)
    if scores == NULL:
        raise MemoryError


def activate(x, bias, bint relu):
    cdef const row_kernels* kernels = kernels_of(x)
    cdef Py_ssize_t b, B = x.shape[0], M = x.shape[1], size = x.itemsize
    cdef address row = to(x, x, B * M)
    cdef address bias_ = at(bias, x, M)
    if relu:
        return np.maximum(np.add(x, bias, out=x), 0, out=x)
    with nogil:
        for b in range(B):
            kernels.gelu(row + b * M * size, bias_, M, row + b * M * size, NULL)
    return x


def add_and_norm(x, change, bias, gain, shift, z, scale, out, bint post):
    cdef const row_kernels* kernels = kernels_of(x)
    cdef Py_ssize_t b, B = x.shape[0], D = x.shape[1], size = x.itemsize
    cdef address x_ = to(x, x, B * D), change_ = at(change, x, B * D)
    cdef address bias_ = at(bias, x, D), gain_ = at(gain, x, D), shift_ = at(shift, x, D)
    cdef address z_ = to(z, x, B * D), scale_ = to(scale, x, B), out_ = to(out, x, B * D)
    with nogil:
        # 1. the sum
        for b in range(B):
            kernels.add(x_ + b * D * size, change_ + b * D * size, bias_, D)
        # 2. its layer norm
        kernels.norm(x_, B, D, gain_, shift_, 1e-5, out_, z_, scale_)
        if post:
            memcpy(x_, out_, B * D * size)
