"""What stands between the products of matrices when a GPT goes on by one token, as in transformer/model.py.

Arrays are small here, and calls of NumPy would take longer than what they compute.
"""

from libc.math cimport INFINITY, exp, expf, sqrt
from libc.stdlib cimport free, malloc

ctypedef fused floating:
    float
    double


cdef inline floating exponential(floating x) noexcept nogil:
    if floating is float:
        return expf(x)
    else:
        return exp(x)


cdef floating dot(const floating* a, const floating* b, Py_ssize_t size) noexcept nogil:
    cdef floating sums[8]
    cdef Py_ssize_t k, j
    for j in range(8):
        sums[j] = 0
    for k in range(0, size - size % 8, 8):
        for j in range(8):
            sums[j] += a[k + j] * b[k + j]
    for k in range(size - size % 8, size):
        sums[0] += a[k] * b[k]
    return ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]))


def attend(
    const floating[:, ::1] projected, const floating[::1] bias, floating[:, :, :, ::1] keys,
    floating[:, :, :, ::1] values, const Py_ssize_t[::1] start, Py_ssize_t length, floating[:, ::1] joined,
):
    """The heads' updates of the queries among `projected` + `bias` (B, 3 D), joined (B, D).

    The keys and values among them become position `length` of the cache (B, H, S, E), which row b sees from `start[b]`.
    """
    cdef Py_ssize_t B = keys.shape[0], H = keys.shape[1], E = keys.shape[3], D = H * E, b, h, e, at
    cdef floating* scores
    if length >= keys.shape[2]:
        raise ValueError("cache must have a position left")
    with nogil:
        scores = <floating*> malloc((length + 1 + E) * sizeof(floating))
        for b in range(B * (scores != NULL)):
            for h in range(H):
                at = h * E
                for e in range(E):
                    scores[length + 1 + e] = projected[b, at + e] + bias[at + e]
                    keys[b, h, length, e] = projected[b, D + at + e] + bias[D + at + e]
                    values[b, h, length, e] = projected[b, 2 * D + at + e] + bias[2 * D + at + e]
                update(scores + length + 1, &keys[b, h, 0, 0], &values[b, h, 0, 0], start[b], length, E, scores,
                       &joined[b, at])
        free(scores)
    if scores == NULL:
        raise MemoryError


cdef void update(const floating* q, const floating* keys, const floating* values, Py_ssize_t first, Py_ssize_t last,
                 Py_ssize_t E, floating* scores, floating* y) noexcept nogil:
    """y = softmax(q k^T / sqrt(E)) v over positions `first` to `last`: DotEnergy(1 / sqrt(E)).update."""
    cdef floating beta = <floating> (1 / sqrt(E)), peak = <floating> -INFINITY, weight
    cdef double total = 0
    cdef Py_ssize_t s, e
    for s in range(first, last + 1):
        scores[s] = beta * dot(q, keys + s * E, E)
        peak = scores[s] if scores[s] > peak else peak
    for e in range(E):
        y[e] = 0
    for s in range(first, last + 1):
        weight = exponential(scores[s] - peak)
        total += weight
        for e in range(E):
            y[e] += weight * values[s * E + e]
    for e in range(E):
        y[e] = <floating> (y[e] / total)


def activate(floating[:, ::1] x, const floating[::1] bias, bint relu):
    """x (B, M) <- max(x + bias, 0), or u w of u = x + bias: see `relu` and `gelu`."""
    cdef floating a = <floating> 1.5957691216057308, c = <floating> 0.044715, one = 1, u  # a = 2 sqrt(2 / pi)
    cdef Py_ssize_t b, j
    with nogil:
        for b in range(x.shape[0]):
            for j in range(x.shape[1]):
                u = x[b, j] + bias[j]
                if relu:
                    x[b, j] = u if u > 0 else 0
                else:  # (1 + tanh(z)) / 2 = 1 / (1 + exp(-2 z))
                    x[b, j] = u / (one + exponential(-a * u * (one + c * u * u)))


def settle(
    floating[:, ::1] x, const floating[:, ::1] change, const floating[::1] bias, const floating[::1] gain,
    const floating[::1] shift, floating[:, ::1] out, bint post,
):
    """x (B, D) <- x + change + bias, and `out` is its layer norm; with norms after the sums, so is x."""
    cdef Py_ssize_t b, j, D = x.shape[1]
    cdef double mean, square, scale
    with nogil:
        for b in range(x.shape[0]):
            mean = square = 0
            for j in range(D):
                x[b, j] += change[b, j] + bias[j]
                mean += x[b, j]
            mean /= D
            for j in range(D):
                square += (x[b, j] - mean) * (x[b, j] - mean)
            scale = 1 / sqrt(square / D + 1e-5)
            for j in range(D):
                out[b, j] = <floating> (gain[j] * ((x[b, j] - mean) * scale) + shift[j])
                if post:
                    x[b, j] = out[b, j]
