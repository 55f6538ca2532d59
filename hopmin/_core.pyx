# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The compiled core: `_core_numpy.py` in C, function by function and step by step. Read that one first."""

from libc.math cimport INFINITY, exp
from libc.stdlib cimport free, malloc

cdef enum:
    _BLOCK = 64

BLOCK = _BLOCK
FUNCTIONS = ("scores", "absorb", "merge")

ctypedef fused floating:
    float
    double


def scores(queries, patterns, metric, out):
    if queries.dtype == "float32":
        _scores[float](queries, patterns, metric == "euclidean", out)
    else:
        _scores[double](queries, patterns, metric == "euclidean", out)


cdef int _scores(const floating[:, ::1] queries, const floating[:, ::1] patterns, bint euclidean,
                 double[:, ::1] out) except -1:
    cdef Py_ssize_t m = queries.shape[0], n = patterns.shape[0], d = queries.shape[1], b, start, i
    cdef double* packed = _doubles(_BLOCK * d)
    with nogil:
        for b in range((n + _BLOCK - 1) // _BLOCK):
            start = b * _BLOCK
            _pack(patterns, start, packed)
            for i in range(m):
                _score_block(&queries[i, 0], packed, d, min(_BLOCK, n - start), euclidean, &out[i, start])
    free(packed)
    return 0


def absorb(queries, patterns, values, metric, beta, first, peak, total, mix, best, indices):
    if queries.dtype == "float32":
        _absorb[float](queries, patterns, values, metric == "euclidean", beta, first, peak, total, mix, best, indices)
    else:
        _absorb[double](queries, patterns, values, metric == "euclidean", beta, first, peak, total, mix, best, indices)


cdef int _absorb(const floating[:, ::1] queries, const floating[:, ::1] patterns, const floating[:, ::1] values,
                 bint euclidean, double beta, Py_ssize_t first, double[::1] peak, double[::1] total,
                 double[:, ::1] mix, double[:, ::1] best, long long[:, ::1] indices) except -1:
    cdef Py_ssize_t m = queries.shape[0], n = patterns.shape[0], d = queries.shape[1], v = mix.shape[1]
    cdef Py_ssize_t k = best.shape[1], b, start, block, i, j, c
    cdef double s[_BLOCK]
    cdef double s_peak, s_total, w
    cdef double* packed = _doubles(_BLOCK * d + v)
    cdef double* s_mix = packed + _BLOCK * d
    with nogil:
        for b in range((n + _BLOCK - 1) // _BLOCK):
            start = b * _BLOCK
            block = min(_BLOCK, n - start)
            _pack(patterns, start, packed)
            for i in range(m):
                # 1. scores of this block
                _score_block(&queries[i, 0], packed, d, block, euclidean, s)
                # 2. its peak
                s_peak = s[0]
                for j in range(1, block):
                    s_peak = max(s_peak, s[j])
                # 3. its weights, relative to its peak; 4. its total and mix
                s_total = 0
                for c in range(v):
                    s_mix[c] = 0
                for j in range(block):
                    w = exp(beta * (s[j] - s_peak))
                    s_total += w
                    for c in range(v):
                        s_mix[c] += w * values[start + j, c]
                # 5. its k best, which go straight to where step 6 would merge them
                for j in range(block):
                    _insert(best, indices, i, k, s[j], first + start + j)
                # 6. merge
                _merge_weights(beta, peak, total, mix, i, s_peak, s_total, s_mix)
    free(packed)
    return 0


def merge(beta, peak, total, mix, best, indices, other_peak, other_total, other_mix, other_best, other_indices):
    _merge(beta, peak, total, mix, best, indices, other_peak, other_total, other_mix, other_best, other_indices)


cdef int _merge(double beta, double[::1] peak, double[::1] total, double[:, ::1] mix, double[:, ::1] best,
                long long[:, ::1] indices, const double[::1] other_peak, const double[::1] other_total,
                const double[:, ::1] other_mix, const double[:, ::1] other_best,
                const long long[:, ::1] other_indices) except -1:
    cdef Py_ssize_t k = best.shape[1], i, j
    cdef double nothing = 0
    with nogil:
        for i in range(peak.shape[0]):
            # 1. the common peak; 2. both sides shrink to it
            _merge_weights(beta, peak, total, mix, i, other_peak[i], other_total[i],
                           &other_mix[i, 0] if mix.shape[1] else &nothing)
            # 3. the k best of 2k, larger first, of equals the lower index first
            for j in range(k):
                _insert(best, indices, i, k, other_best[i, j], other_indices[i, j])
    return 0


# What the three share.

cdef double* _doubles(Py_ssize_t count) except NULL:
    cdef double* memory = <double*> malloc(count * sizeof(double))
    if memory == NULL:
        raise MemoryError(f"no memory for {count} floats")
    return memory


cdef void _pack(const floating[:, ::1] patterns, Py_ssize_t start, double* packed) noexcept nogil:
    """A block of patterns, coordinate by coordinate, so that neighbours in memory are scored together."""
    cdef Py_ssize_t c, j, block = min(_BLOCK, patterns.shape[0] - start)
    for j in range(block):
        for c in range(patterns.shape[1]):
            packed[c * _BLOCK + j] = patterns[start + j, c]


cdef void _score_block(const floating* query, const double* packed, Py_ssize_t d, Py_ssize_t block, bint euclidean,
                       double* s) noexcept nogil:
    cdef Py_ssize_t c, j
    cdef double x, difference
    for j in range(block):
        s[j] = 0
    for c in range(d):
        x = query[c]
        if euclidean:
            for j in range(block):
                difference = x - packed[c * _BLOCK + j]
                s[j] -= difference * difference
        else:
            for j in range(block):
                s[j] += x * packed[c * _BLOCK + j]


cdef void _merge_weights(double beta, double[::1] peak, double[::1] total, double[:, ::1] mix, Py_ssize_t i,
                         double other_peak, double other_total, const double* other_mix) noexcept nogil:
    cdef double top = max(peak[i], other_peak), shrink, other_shrink
    cdef Py_ssize_t c
    if top == -INFINITY:
        return
    shrink, other_shrink = exp(beta * (peak[i] - top)), exp(beta * (other_peak - top))
    peak[i] = top
    total[i] = total[i] * shrink + other_shrink * other_total
    for c in range(mix.shape[1]):
        mix[i, c] = mix[i, c] * shrink + other_shrink * other_mix[c]


cdef void _insert(double[:, ::1] best, long long[:, ::1] indices, Py_ssize_t i, Py_ssize_t k, double score,
                  long long j) noexcept nogil:
    """Put (score, j) in its place among the k best of query i, if it has one."""
    cdef Py_ssize_t c = k
    while c > 0 and (score > best[i, c - 1] or (score == best[i, c - 1] and j < indices[i, c - 1])):
        if c < k:
            best[i, c], indices[i, c] = best[i, c - 1], indices[i, c - 1]
        c -= 1
    if c < k:
        best[i, c], indices[i, c] = score, j
