"""One more position through a block: `block` of transformer/model.py for a token a row, whose keys and values join a cache.

Arrays are small here, and calls of NumPy would take longer than what they compute. Sums are taken in double precision
where they are divided by; a row of weights is read once for all rows of the batch.
"""

from libc.math cimport INFINITY, exp, expf, sqrt

ctypedef fused floating:
    float
    double


cdef inline floating exponential(floating x) noexcept nogil:
    if floating is float:
        return expf(x)
    else:
        return exp(x)


cdef void linear(const floating* x, const floating* weight, const floating* bias, Py_ssize_t rows, Py_ssize_t i,
                 Py_ssize_t o, floating* y) noexcept nogil:
    """y = x W + b."""
    cdef Py_ssize_t row, k, j
    cdef const floating* w
    cdef floating* out
    cdef floating a, b, c, d
    for row in range(rows):
        for j in range(o):
            y[row * o + j] = bias[j]
    for k in range(0, i - i % 4, 4):  # so that a sum is read and written a quarter as often
        w = weight + k * o
        for row in range(rows):
            out = y + row * o
            a, b, c, d = x[row * i + k], x[row * i + k + 1], x[row * i + k + 2], x[row * i + k + 3]
            for j in range(o):
                out[j] += (a * w[j] + b * w[o + j]) + (c * w[2 * o + j] + d * w[3 * o + j])
    for k in range(i - i % 4, i):
        for row in range(rows):
            for j in range(o):
                y[row * o + j] += x[row * i + k] * weight[k * o + j]


cdef void normed(const floating* x, const floating* gain, const floating* bias, Py_ssize_t rows, Py_ssize_t D,
                 floating* y) noexcept nogil:
    """y = gain (x - mean) / sqrt(variance + 1e-5) + bias; x may be y."""
    cdef Py_ssize_t row, j
    cdef double mean, square, scale
    for row in range(rows):
        mean = square = 0
        for j in range(D):
            mean += x[row * D + j]
        mean /= D
        for j in range(D):
            square += (x[row * D + j] - mean) * (x[row * D + j] - mean)
        scale = 1 / sqrt(square / D + 1e-5)
        for j in range(D):
            y[row * D + j] = <floating> (gain[j] * ((x[row * D + j] - mean) * scale) + bias[j])


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


cdef void attend(const floating* q, const floating* keys, const floating* values, Py_ssize_t first, Py_ssize_t last,
                 Py_ssize_t E, floating* scores, floating* y) noexcept nogil:
    """y = softmax(q k^T / sqrt(E)) v over positions `first` to `last`: one update of a DotEnergy."""
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


cdef void activate(floating* x, Py_ssize_t size, bint relu) noexcept nogil:
    """max(x, 0), or x / (1 + exp(-2 u)) with GPT-2's u."""
    cdef floating a = <floating> 1.5957691216057308, c = <floating> 0.044715, zero = 0, one = 1  # a = 2 sqrt(2 / pi)
    cdef Py_ssize_t j
    for j in range(size):
        if relu:
            x[j] = x[j] if x[j] > zero else zero
        else:
            x[j] = x[j] / (one + exponential(-a * x[j] * (one + c * x[j] * x[j])))


def decode(
    floating[:, ::1] x, const floating[::1] gain1, const floating[::1] bias1,
    const floating[:, ::1] attention, const floating[::1] attention_bias,
    const floating[:, ::1] output, const floating[::1] output_bias,
    const floating[::1] gain2, const floating[::1] bias2,
    const floating[:, ::1] expand, const floating[::1] expand_bias,
    const floating[:, ::1] contract, const floating[::1] contract_bias,
    floating[:, :, :, ::1] keys, floating[:, :, :, ::1] values, const Py_ssize_t[::1] start, Py_ssize_t length,
    bint post, bint relu, floating[::1] space,
):
    """The states x (B, D) of the next tokens, in place, through a block whose cache (B, H, S, E) holds `length` positions.

    `space` is B (6 D + M) + S numbers to work in.
    """
    cdef Py_ssize_t B = x.shape[0], D = x.shape[1], H = keys.shape[1], S = keys.shape[2], E = keys.shape[3]
    cdef Py_ssize_t M = expand.shape[1], row, h, j, at
    cdef floating* before = &space[0]
    cdef floating* projected = before + B * D
    cdef floating* joined = projected + 3 * B * D
    cdef floating* change = joined + B * D
    cdef floating* wide = change + B * D
    cdef floating* scores = wide + B * M
    cdef floating* states = &x[0, 0]
    if space.shape[0] < B * (6 * D + M) + S or length >= S or H * E != D or start.shape[0] < B:
        raise ValueError("cache and space must fit the states")
    with nogil:
        before = states if post else before
        if not post:
            normed(states, &gain1[0], &bias1[0], B, D, before)
        linear(before, &attention[0, 0], &attention_bias[0], B, D, 3 * D, projected)
        for row in range(B):
            for h in range(H):
                at = row * 3 * D + h * E
                for j in range(E):
                    keys[row, h, length, j], values[row, h, length, j] = projected[at + D + j], projected[at + 2 * D + j]
                attend(projected + at, &keys[row, h, 0, 0], &values[row, h, 0, 0], start[row], length, E, scores,
                       joined + row * D + h * E)
        linear(joined, &output[0, 0], &output_bias[0], B, D, D, change)
        for j in range(B * D):
            states[j] += change[j]
        if post:
            normed(states, &gain1[0], &bias1[0], B, D, states)
        else:
            normed(states, &gain2[0], &bias2[0], B, D, before)
        linear(before, &expand[0, 0], &expand_bias[0], B, D, M, wide)
        activate(wide, B * M, relu)
        linear(wide, &contract[0, 0], &contract_bias[0], B, M, D, change)
        for j in range(B * D):
            states[j] += change[j]
        if post:
            normed(states, &gain2[0], &bias2[0], B, D, states)
