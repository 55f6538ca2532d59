"""The compiled core: the functions of `_core_numpy.py`, in the same numbered steps. Read that module first.

This file holds the control flow. The arithmetic on scores is in `_simd/tile.h`, which is compiled once for each
instruction set. Scores are computed twice: first roughly, in the dtype of the arrays, and then exactly, in float64, for
those patterns that may be among the k best, or large enough, by a bound on the rounding error. For the sums, scores are
computed exactly where rounding could change the weights noticeably. `docs/core.md` proves the bound.
"""

from libc.float cimport DBL_EPSILON, DBL_MAX, DBL_MIN, FLT_EPSILON, FLT_MAX, FLT_MIN
from libc.math cimport INFINITY, exp, fabs, sqrt
from libc.stdint cimport int32_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memset

import numpy as np

cdef extern from "_simd/tile_kernels.h" nogil:
    enum: _PANEL "PANEL"
    enum: _TILE "TILE"
    enum: VARIANTS
    double _SMALLEST "SMALLEST"
    double _LARGEST "LARGEST"
    double _OUTWARDS "OUTWARDS"
    ctypedef struct tile_kernels:
        void (*exp_nonpositive)(const void* x, Py_ssize_t count, void* out) noexcept nogil
        double (*max_abs)(const void* numbers, Py_ssize_t count) noexcept nogil
        void (*pack)(const void* patterns, Py_ssize_t stride, Py_ssize_t count, Py_ssize_t d,
                     void* panel) noexcept nogil
        void (*unpack)(const void* panel, Py_ssize_t count, Py_ssize_t d, void* patterns) noexcept nogil
        bint (*alike)(const void* panel, Py_ssize_t d, const void* pattern) noexcept nogil
        void (*group)(const void* queries, Py_ssize_t stride, Py_ssize_t m, Py_ssize_t d, void* groups) noexcept nogil
        void (*columns)(const void* values, Py_ssize_t stride, Py_ssize_t count, Py_ssize_t v,
                        void* panels) noexcept nogil
        void (*score)(const void* groups, Py_ssize_t m, const void* panel, Py_ssize_t d, bint difference, bint more,
                      void* scores) noexcept nogil
        double (*peak)(const void* scores, Py_ssize_t count, bint* finite) noexcept nogil
        double (*weigh)(void* scores, Py_ssize_t count, double peak, double beta) noexcept nogil
        void (*mix)(const void* weights, Py_ssize_t m, Py_ssize_t count, const void* values, Py_ssize_t v,
                    double* mix, Py_ssize_t stride) noexcept nogil
        Py_ssize_t (*collect)(const void* scores, Py_ssize_t j, Py_ssize_t count, double cut, Py_ssize_t room,
                              long long* places, void* found) noexcept nogil
        Py_ssize_t (*keep)(void* scores, long long* places, Py_ssize_t count, double cut) noexcept nogil
        double (*kth)(void* scores, Py_ssize_t count, Py_ssize_t k) noexcept nogil
        void (*exact)(const void* query, const void* patterns, const long long* places, Py_ssize_t count, bint packed,
                      Py_ssize_t d, bint difference, double* out) noexcept nogil
        void (*exact_panel)(const void* query, const void* panel, Py_ssize_t d, bint difference, bint more,
                            double* out) noexcept nogil
        bint (*encode)(const void* panel, Py_ssize_t d, const void* centre, uint32_t* words,
                       float* bounds) noexcept nogil
        void (*score_one)(const void* query, const void* panel, Py_ssize_t d, bint difference,
                          void* scores) noexcept nogil
        double (*rough)(const void* query, const void* pattern, Py_ssize_t stride, Py_ssize_t d,
                        bint difference) noexcept nogil
        Py_ssize_t (*places)(uint64_t bits, long long* places) noexcept nogil
        void (*spread)(const uint32_t* words, Py_ssize_t count, Py_ssize_t steps, Py_ssize_t first, int32_t* groups,
                       int32_t* minus) noexcept nogil
        void (*look)(const int32_t* groups, const int32_t* minus, const float* twice, const float* least, Py_ssize_t m,
                     const uint32_t* words, const float* bounds, Py_ssize_t steps, uint64_t* hits) noexcept nogil
    struct variant:
        const char* name
        bint (*runs_here)() noexcept nogil
        const tile_kernels* single_precision
        const tile_kernels* double_precision
    const variant[VARIANTS] variants
    int best_variant()

cdef extern from "_simd/state.h" nogil:
    uint64_t set_standard "standard_state"()
    void restore "restore_state"(uint64_t state)

cdef enum:
    _QUERIES = 384  # queries that are scored together: a multiple of ROWS in each variant (compare TASK)
    COORDINATES = 4096  # coordinates that are scored together, and columns of the values: a multiple of PANEL
    FEW = 8  # patterns of a panel that are scored exactly one by one: scoring a whole panel takes about as long
    SPARE = 32  # room for candidates beyond 2 k of them
    CANDIDATES = 1 << 18  # candidates of all queries that are scored together
    MANY = 24  # patterns of a panel scored for all queries, from which on the panel is unpacked first
    NEGLIGIBLE = 64  # weights of e^-64 and less may be rounded to 0
cdef double TOLERANCE = 0.015625  # of the relative error of weights: beyond it, scores are computed exactly

PANEL, TILE, SMALLEST, LARGEST, OUTWARDS = _PANEL, _TILE, _SMALLEST, _LARGEST, _OUTWARDS
FUNCTIONS = (
    "simd", "standard_state", "restore_state", "max_abs", "exp_nonpositive", "pack", "unpack", "encode",
    "scores", "gather", "search", "absorb", "merge",
)
SIMD = tuple(variants[i].name.decode() for i in range(VARIANTS) if variants[i].runs_here())
cdef int chosen = best_variant()

ctypedef fused floating:
    float
    double


def simd(name=None):
    global chosen
    chosen = chosen if name is None else SIMD.index(name)
    return SIMD[chosen]


cdef const tile_kernels* kernels_of(size_t size) noexcept nogil:
    return variants[chosen].single_precision if size == sizeof(float) else variants[chosen].double_precision


def standard_state():
    return set_standard()


def restore_state(state):
    restore(state)


def max_abs(numbers):
    if numbers.dtype == "float32":
        return _max_abs[float](numbers)
    return _max_abs[double](numbers)


cdef double _max_abs(const floating[::1] numbers) except? -1:
    cdef double largest
    cdef uint64_t state
    if numbers.shape[0] == 0:
        return 0
    with nogil:
        state = set_standard()
        largest = kernels_of(sizeof(floating)).max_abs(&numbers[0], numbers.shape[0])
        restore(state)
    return largest


def exp_nonpositive(x, out):
    if x.dtype == "float32":
        _exp_nonpositive[float](x, out)
    else:
        _exp_nonpositive[double](x, out)


cdef int _exp_nonpositive(const floating[::1] x, floating[::1] out) except -1:
    cdef uint64_t state
    expect("numbers in out", out.shape[0], x.shape[0])
    if x.shape[0]:
        state = set_standard()
        kernels_of(sizeof(floating)).exp_nonpositive(&x[0], x.shape[0], &out[0])
        restore(state)
    return 0


def pack(patterns, panels):
    if patterns.dtype == "float32":
        _pack[float](patterns, panels)
    else:
        _pack[double](patterns, panels)


cdef int _pack(const floating[:, ::1] patterns, floating[:, :, ::1] panels) except -1:
    cdef Py_ssize_t n = patterns.shape[0], d = patterns.shape[1], j
    cdef const tile_kernels* kernels = kernels_of(sizeof(floating))
    expect_panels(panels.shape[0], panels.shape[1], panels.shape[2], n, d)
    with nogil:
        for j from 0 <= j < n by _PANEL:
            kernels.pack(&patterns[j, 0], d, min(_PANEL, n - j), d, &panels[j // _PANEL, 0, 0])
    return 0


def unpack(panels, patterns):
    if patterns.dtype == "float32":
        _unpack[float](panels, patterns)
    else:
        _unpack[double](panels, patterns)


cdef int _unpack(const floating[:, :, ::1] panels, floating[:, ::1] patterns) except -1:
    cdef Py_ssize_t n = patterns.shape[0], d = patterns.shape[1], j
    cdef const tile_kernels* kernels = kernels_of(sizeof(floating))
    expect_panels(min(panels.shape[0], panels_for(n)), panels.shape[1], panels.shape[2], n, d)  # there may be more
    with nogil:
        for j from 0 <= j < n by _PANEL:
            kernels.unpack(&panels[j // _PANEL, 0, 0], min(_PANEL, n - j), d, &patterns[j, 0])
    return 0


def encode(panels, n, centre, words, bounds):
    if panels.dtype == "float32":
        return bool(_encode[float](panels, n, centre, words, bounds))
    return bool(_encode[double](panels, n, centre, words, bounds))


cdef int _encode(const floating[:, :, ::1] panels, Py_ssize_t n, const floating[::1] centre, uint32_t[:, :, ::1] words,
                 float[:, :, ::1] bounds) except -1:
    cdef Py_ssize_t d = panels.shape[1], j
    cdef bint finite = True
    cdef uint64_t state
    cdef Patterns p = Patterns(<const char*> &panels[0, 0, 0], n, d, sizeof(floating), True, True, 0,
                               kernels_of(sizeof(floating)))
    expect_panels(panels.shape[0], d, panels.shape[2], n, centre.shape[0])
    expect_codes(words.shape[0], words.shape[1], words.shape[2], bounds.shape[0], bounds.shape[1], bounds.shape[2], n,
                 d)
    expect_few_coordinates(d)
    cdef void* panel = allocate(_PANEL * d * sizeof(floating))
    with nogil:
        state = set_standard()
        # in `encode` of tile.h
        # 1. scales
        # 2. integers, and what rounding takes away
        # 3. bounds, rounded outwards
        for j from 0 <= j < n by _PANEL:
            finite &= p.kernels.encode(panel_at(&p, j, 0, panel), d, &centre[0], &words[j // _PANEL, 0, 0],
                                       &bounds[j // _PANEL, 0, 0])
        restore(state)
    release(panel)
    return finite


def scores(queries, patterns, metric, out):
    if queries.dtype == "float32":
        _scores[float](queries, patterns.reshape(-1), patterns.ndim == 3, metric == "euclidean", out)
    else:
        _scores[double](queries, patterns.reshape(-1), patterns.ndim == 3, metric == "euclidean", out)


cdef struct Patterns:
    # The patterns of a call, and how to score them.
    const char* start  # (n, d), or panels if packed
    Py_ssize_t n, d, size  # size: bytes of a number
    bint packed, difference  # difference: the metric is "euclidean", not "dot"
    long long first  # the index of the first pattern
    const tile_kernels* kernels


cdef inline Py_ssize_t panels_for(Py_ssize_t n) noexcept nogil:
    return (n + _PANEL - 1) // _PANEL


cdef inline const void* panel_at(const Patterns* p, Py_ssize_t j, Py_ssize_t c, void* panel) noexcept nogil:
    """Return COORDINATES of the panel that starts with pattern j, from coordinate c on, or those that are left.

    They are packed into `panel` unless the patterns are already packed. A packed panel with fewer patterns may hold
    anything after them, even places that a `Memory` is writing to: it is copied into `panel` and filled with its last
    pattern, as `pack` does.
    """
    cdef const char* start = p.start + j * p.d * p.size
    cdef char* filled = <char*> panel
    cdef Py_ssize_t lane, count = min(_PANEL, p.n - j), width = min(COORDINATES, p.d - c), size = p.size
    if not p.packed:
        p.kernels.pack(start + c * size, p.d, count, width, panel)
        return panel
    start += c * _PANEL * size
    if count == _PANEL:
        return start
    for _ in range(width):
        memcpy(filled, start, count * size)
        for lane in range(count, _PANEL):
            memcpy(filled + lane * size, start + (count - 1) * size, size)
        filled += _PANEL * size
        start += _PANEL * size
    return panel


cdef int _scores(const floating[:, ::1] queries, const floating[::1] patterns, bint packed, bint difference,
                 double[:, ::1] out) except -1:
    cdef Py_ssize_t m = queries.shape[0], n = out.shape[1], d = queries.shape[1], i, j, c, count
    cdef Patterns p = Patterns(<const char*> &patterns[0], n, d, sizeof(floating), packed, difference, 0,
                               kernels_of(sizeof(floating)))
    cdef double s[_PANEL]
    cdef uint64_t state
    expect("numbers in patterns", patterns.shape[0], (panels_for(n) * _PANEL if packed else n) * d)
    expect("rows of out", out.shape[0], m)
    cdef void* panel = allocate(_PANEL * min(d, COORDINATES) * sizeof(floating))
    cdef const void* packed_panel
    with nogil:
        state = set_standard()
        memset(s, 0, sizeof(s))
        for j from 0 <= j < n by _PANEL:
            count = min(_PANEL, n - j)
            for c from 0 <= c < d by COORDINATES:
                packed_panel = panel_at(&p, j, c, panel)
                for i in range(m):
                    memcpy(s, &out[i, j], count * sizeof(double))
                    p.kernels.exact_panel(&queries[i, c], packed_panel, min(COORDINATES, d - c), difference, c > 0, s)
                    memcpy(&out[i, j], s, count * sizeof(double))
        restore(state)
    release(panel)
    return 0


def gather(queries, patterns, n, metric, least, first):
    if queries.dtype == "float32":
        return _gather[float](queries, patterns.reshape(-1), patterns.ndim == 3, n, metric == "euclidean", least, first)
    return _gather[double](queries, patterns.reshape(-1), patterns.ndim == 3, n, metric == "euclidean", least, first)


cdef struct Hit:
    double score
    long long row, index


cdef struct Hits:
    Hit* start
    Py_ssize_t count, capacity


cdef _gather(const floating[:, ::1] queries, const floating[::1] patterns, bint packed, Py_ssize_t n, bint difference,
             const double[::1] least, long long first):
    cdef Py_ssize_t m = queries.shape[0], d = queries.shape[1], row, batch, start, count, whole, width, i, j, c
    cdef bint finite = True, ready
    cdef double reach, largest
    expect("numbers in patterns", patterns.shape[0], (panels_for(n) * _PANEL if packed else n) * d)
    expect("length of least", least.shape[0], m)
    cdef Patterns p = Patterns(<const char*> &patterns[0], n, d, sizeof(floating), packed, difference, first,
                               kernels_of(sizeof(floating)))
    cdef const tile_kernels* kernels = p.kernels
    cdef Hits hits = Hits(NULL, 0, 0)
    # working memory, whatever m, n and d: a panel; queries with their scores, and the bounds on these
    cdef Py_ssize_t rows = min(_QUERIES, (m + 23) // 24 * 24)  # a multiple of ROWS in each variant
    cdef Py_ssize_t deep = min(d, COORDINATES)
    cdef floating* panel = <floating*> allocate((_PANEL * deep + rows * (deep + _TILE) + _PANEL) * sizeof(floating))
    cdef floating* groups = panel + _PANEL * deep
    cdef floating* s = groups + rows * deep  # `collect` may read up to a vector past the last score
    cdef Search* search = <Search*> allocate(rows * sizeof(Search))
    cdef double* cuts = <double*> allocate(rows * sizeof(double))
    cdef uint64_t state = set_standard()
    try:
        with nogil:
            for row from 0 <= row < m by rows:
                batch = min(rows, m - row)
                for i in range(batch):
                    _begin(&search[i], &queries[row + i, 0], d, difference)
                for start from 0 <= start < n by _TILE:
                    count = min(_TILE, n - start)
                    # 1. scores
                    reach = 0
                    for c from 0 <= c < d by COORDINATES:
                        width = min(COORDINATES, d - c)
                        if start == 0 or d > COORDINATES:  # otherwise they are still there
                            kernels.group(&queries[row, c], d, batch, width, groups)
                        for j from 0 <= j < count by _PANEL:
                            kernels.score(groups, batch, panel_at(&p, start + j, c, panel), width, difference, c > 0,
                                          s + j)
                        if packed and count % _PANEL:  # the last panel, filled by `panel_at`
                            largest = kernels.max_abs(panel, _PANEL * width)
                            finite &= largest <= DBL_MAX
                            reach = max(reach, largest)
                    # 2. those that are large enough
                    whole = count // _PANEL * _PANEL if packed else count
                    largest = kernels.max_abs(&patterns[start * d], whole * d)
                    finite &= largest <= DBL_MAX
                    reach = max(reach, largest)
                    for i in range(batch):
                        cuts[i] = _loosen(&search[i], least[row + i], reach)
                    for j from 0 <= j < count by _PANEL:
                        ready = False
                        for i in range(batch):
                            finite &= _take(&hits, &search[i], &p, s + i * _TILE + j, start + j, min(_PANEL, count - j),
                                            cuts[i], least[row + i], row + i, reach, panel, &ready)
        return *_hits(&hits), finite
    finally:
        restore(state)
        release(panel)
        release(search)
        release(cuts)
        free(hits.start)


cdef bint _take(Hits* hits, const Search* f, const Patterns* p, const floating* s, Py_ssize_t start, Py_ssize_t count,
                double cut, double least, Py_ssize_t row, double reach, floating* panel,
                bint* ready) except -1 nogil:
    """Add the patterns of a panel whose exact score is at least `least`, and return whether exact scores are finite.

    `ready` is whether all coordinates of this panel are in `panel`.
    """
    cdef long long places[_PANEL]
    cdef double exact[_PANEL]
    cdef Py_ssize_t number, i, c
    cdef const void* packed_panel = panel
    cdef bint finite = True
    if f.overflow * reach > 1:  # products, whose rough scores may then be NaN: score all exactly
        number = count
        for i in range(count):
            places[i] = i
    else:
        number = p.kernels.collect(s, 0, count, cut, count, places, exact)
    if number > FEW:
        for c from 0 <= c < p.d by COORDINATES:
            if not ready[0]:
                packed_panel = panel_at(p, start, c, panel)
            p.kernels.exact_panel(<const char*> f.query + c * p.size, packed_panel, min(COORDINATES, p.d - c),
                                  p.difference, c > 0, exact)
        ready[0] = not p.packed and p.d <= COORDINATES
        for i in range(number):
            exact[i] = exact[places[i]]
    for i in range(number):
        places[i] += start
    if number <= FEW:
        p.kernels.exact(f.query, p.start, places, number, p.packed, p.d, p.difference, exact)
    for i in range(number):
        finite &= p.difference or fabs(exact[i]) <= DBL_MAX
        if exact[i] >= least:
            _append(hits, Hit(exact[i], row, p.first + places[i]))
    return finite


cdef int _append(Hits* hits, Hit hit) except -1 nogil:
    cdef Hit* grown
    if hits.count == hits.capacity:
        grown = <Hit*> realloc(hits.start, (2 * hits.capacity + _PANEL) * sizeof(Hit))
        if grown == NULL:
            with gil:
                raise MemoryError(f"no memory for {2 * hits.capacity + _PANEL} neighbours")
        hits.start, hits.capacity = grown, 2 * hits.capacity + _PANEL
    hits.start[hits.count] = hit
    hits.count += 1
    return 0


cdef tuple _hits(const Hits* hits):
    """Return arrays of the rows, scores and indices."""
    rows, found, indices = np.empty(hits.count, np.int64), np.empty(hits.count), np.empty(hits.count, np.int64)
    cdef long long[::1] rows_view = rows, indices_view = indices
    cdef double[::1] found_view = found
    cdef Py_ssize_t i
    for i in range(hits.count):
        rows_view[i], found_view[i], indices_view[i] = hits.start[i].row, hits.start[i].score, hits.start[i].index
    return rows, found, indices


def search(queries, patterns, n, centre, words, bounds, metric, allowed, first, best, indices):
    difference = metric == "euclidean"
    rest = (queries, patterns, n, centre, words, bounds, difference, allowed, first, best, indices)
    return bool(_search[float](*rest) if queries.dtype == "float32" else _search[double](*rest))


cdef int _search(const floating[:, ::1] queries, const floating[:, :, ::1] patterns, Py_ssize_t n,
                 const floating[::1] centre, const uint32_t[:, :, ::1] words, const float[:, :, ::1] bounds,
                 bint difference, const uint64_t[::1] allowed, long long first, double[:, ::1] best,
                 long long[:, ::1] indices) except -1:
    cdef Py_ssize_t m = queries.shape[0], d = queries.shape[1], steps = (queries.shape[1] + 3) // 4, k = best.shape[1]
    cdef Py_ssize_t row, batch, count, number, looks, pause, fails, step, i, j, c
    cdef bint finite = True, usable = True, coded, some = allowed.shape[0] > 0  # some: not all patterns are allowed
    cdef uint64_t those
    cdef double score, reach = 0, share, slack = (d + 8) * (FLT_EPSILON if floating is float else DBL_EPSILON)
    cdef uint64_t state
    expect_panels(patterns.shape[0], patterns.shape[1], patterns.shape[2], n, d)
    expect("length of centre", centre.shape[0], d)
    expect_codes(words.shape[0], words.shape[1], words.shape[2], bounds.shape[0], bounds.shape[1], bounds.shape[2], n,
                 d)
    expect_few_coordinates(d)
    expect("length of allowed", allowed.shape[0], panels_for(n) if some else 0)
    expect("rows of best", best.shape[0], m)
    expect("rows of indices", indices.shape[0], m)
    expect("columns of indices", indices.shape[1], k)
    cdef Patterns p = Patterns(<const char*> &patterns[0, 0, 0], n, d, sizeof(floating), True, difference, first,
                               kernels_of(sizeof(floating)))
    cdef const tile_kernels* kernels = p.kernels
    cdef Py_ssize_t capacity = min(k + k // 2, n) + SPARE // 4
    cdef Py_ssize_t rows = max(24, min(_QUERIES, CANDIDATES // capacity // 24 * 24, (m + 23) // 24 * 24))
    cdef floating* panel = <floating*> allocate(
        ((2 * _PANEL + 2) * d + rows * (d + _TILE) + _PANEL + rows * (capacity + _PANEL)) * sizeof(floating))
    cdef Copies copies = Copies(panel + _PANEL * d, panel, -1, 0)
    cdef floating* groups = panel + (_PANEL + 1) * d
    cdef floating* s = groups + rows * d
    cdef floating* rough = s + rows * _TILE + _PANEL
    cdef floating* flat = rough + rows * (capacity + _PANEL)
    cdef floating* origin = flat + _PANEL * d  # the centre of the codes of queries
    cdef long long* places = <long long*> allocate(rows * capacity * sizeof(long long))
    cdef double* exact = <double*> allocate(capacity * sizeof(double))
    cdef Search* search = <Search*> allocate(rows * sizeof(Search))
    cdef Aim* aims = <Aim*> allocate(rows * sizeof(Aim))
    cdef int32_t* codes = <int32_t*> allocate((2 * steps + 1) * rows * sizeof(int32_t))
    cdef int32_t* minus = codes + 2 * steps * rows
    cdef float* twice = <float*> allocate(rows * 3 * sizeof(float))
    cdef float* least = twice + 2 * rows
    cdef uint64_t* hits = <uint64_t*> allocate(rows * sizeof(uint64_t))
    cdef uint32_t* query_words = <uint32_t*> allocate(steps * _PANEL * sizeof(uint32_t))
    cdef const void* source
    cdef const float* panel_bounds
    cdef float query_bounds[3 * _PANEL]
    cdef float product_bounds[3 * _PANEL]
    cdef const floating* pattern
    cdef long long near[_PANEL]
    with nogil:
        state = set_standard()
        memset(codes, 0, (2 * steps + 1) * rows * sizeof(int32_t))
        memset(twice, 0, rows * 3 * sizeof(float))
        if difference:
            memcpy(origin, &centre[0], d * sizeof(floating))
        else:
            memset(origin, 0, d * sizeof(floating))
            usable = _reach(&p, &centre[0], &bounds[0, 0, 0], panel, &reach)
        for row from 0 <= row < m by rows:
            batch = min(rows, m - row)
            kernels.group(&queries[row, 0], d, batch, d, groups)
            for i in range(batch):
                search[i].rough = rough + i * (capacity + _PANEL)  # `kth` may write up to a vector after the last
                search[i].places, search[i].exact = places + i * capacity, exact
                search[i].count, search[i].capacity, search[i].kind = 0, capacity, 0
                search[i].k, search[i].kth = k, -INFINITY
                search[i].best, search[i].indices = &best[row + i, 0], &indices[row + i, 0]
                _begin(&search[i], &queries[row + i, 0], d, difference)
            # 1. the codes of the queries
            coded, share = usable and kernels.look != NULL, 0
            for i in range(batch if not difference else 0):
                coded &= 4 * search[i].overflow * reach <= 1
            pause = 0 if coded else n
            for i from 0 <= i < (batch if pause == 0 else 0) by _PANEL:
                count = min(_PANEL, batch - i)
                kernels.pack(&queries[row + i, 0], d, count, d, panel)
                kernels.encode(panel, d, origin, query_words, query_bounds)
                kernels.spread(query_words, count, steps, i, codes, minus)
                for c in range(count):
                    aims[i + c] = Aim(query_bounds[c], query_bounds[_PANEL + c], query_bounds[2 * _PANEL + c], 0)
                    if not difference:
                        _aim_at_products(&aims[i + c], &queries[row + i + c, 0], &centre[0], d, reach)
                        share = max(share, query_bounds[_PANEL + c] / max(aims[i + c].away, FLT_MIN))
            fails, j = 0, 0
            for i in range(batch if pause == 0 else 0):
                _aim(&search[i], aims[i], d, reach, &twice[2 * i], &least[i])
                if best[row + i, k - 1] == -INFINITY and not some:
                    pause = (k + _PANEL - 1) // _PANEL * _PANEL
            while j < n:
                copies.kind = -1
                those = allowed[j // _PANEL] if some else ~<uint64_t> 0
                if those == 0:
                    j += min(_PANEL, n - j)
                    continue
                if pause > 0 and not some:  # all rough scores of a tile or a part of it
                    count = min(min(pause, _TILE), n - j)
                    for c from 0 <= c < count by _PANEL:
                        kernels.score(groups, batch, panel_at(&p, j + c, 0, panel), d, difference, False, s + c)
                    for i in range(batch):
                        _consider(&search[i], &p, s + i * _TILE, kernels.peak(s + i * _TILE, count, &finite), j, count,
                                  reach, &copies)
                    pause -= count
                    j += count
                    if pause == 0:
                        for i in range(batch):
                            _aim(&search[i], aims[i], d, reach, &twice[2 * i], &least[i])
                    continue
                # 2. those whose codes are near enough
                count, looks, panel_bounds = min(_PANEL, n - j), 0, &bounds[j // _PANEL, 0, 0]
                if not difference:
                    _bound_products(panel_bounds, count, share, slack, product_bounds)
                    panel_bounds = product_bounds
                if pause == 0:
                    kernels.look(codes, minus, twice, least, batch, &words[j // _PANEL, 0, 0], panel_bounds, steps,
                                 hits)
                for i in range(batch):
                    hits[i] = (hits[i] if pause == 0 else ~<uint64_t> 0) & those
                    if count < _PANEL:
                        hits[i] &= (<uint64_t> 1 << count) - 1
                    looks += kernels.places(hits[i], near)
                # 3. their scores, but rough ones
                source = panel_at(&p, j, 0, panel)
                if looks >= MANY:
                    kernels.unpack(source, _PANEL, d, flat)
                for i in range(batch):
                    if hits[i] == 0:
                        continue
                    number = kernels.places(hits[i], near)
                    if number > FEW and some:
                        kernels.score_one(search[i].query, source, d, difference, s)
                        for c in range(number):
                            _offer(&search[i], &p, s[near[c]], j + near[c], reach)
                    elif number > FEW:
                        kernels.score_one(search[i].query, source, d, difference, s)
                        _consider(&search[i], &p, s, kernels.peak(s, count, &finite), j, count, reach, &copies)
                    else:
                        for c in range(number):
                            pattern, step = <const floating*> source + near[c], _PANEL
                            if looks >= MANY:
                                pattern, step = flat + near[c] * d, 1
                            score = kernels.rough(search[i].query, pattern, step, d, difference)
                            _offer(&search[i], &p, <floating> score, j + near[c], reach)
                    if some and search[i].kth == -INFINITY:  # as the pause would
                        _shrink(&search[i], &p, reach)
                    if pause == 0:
                        _aim(&search[i], aims[i], d, reach, &twice[2 * i], &least[i])
                j += count
                if some:
                    continue
                # codes say little: a pause, the longer the more often
                fails = min(fails + 1, 6) if looks > 4 * batch else 0
                pause = _PANEL << (fails - 1) if fails else 0
            # 4. the k best
            for i in range(batch):
                _rescore(&search[i], &p, reach)
        restore(state)
    release(panel)
    release(places)
    release(exact)
    release(search)
    release(aims)
    release(codes)
    release(twice)
    release(hits)
    release(query_words)
    return finite or difference


cdef struct Aim:
    # The code of a query: its scale, the distance to what its integers stand for, and the square of their length less
    # that of this distance. For products, `away` is at least the sum of the lengths of the query, and of what its code
    # leaves out; `offset` is its product with the centre, and more than all rounding in float64.
    float scale, away, rest
    double offset


cdef void _aim_at_products(Aim* aim, const floating* query, const floating* centre, Py_ssize_t d,
                           double reach) noexcept nogil:
    cdef double square = 0, product = 0, size = 0, farthest = reach
    cdef Py_ssize_t c
    for c in range(d):
        square += <double> query[c] * query[c]
        product += <double> query[c] * centre[c]
        size += fabs(query[c])
        farthest = max(farthest, fabs(centre[c]))
    aim.away = <float> ((sqrt(square) * (1 + (d + 8) * DBL_EPSILON) + 2 * aim.away) * (1 + _OUTWARDS))
    aim.offset = product + 2 * (d + 8) * DBL_EPSILON * size * farthest + d * DBL_MIN


cdef bint _reach(const Patterns* p, const floating* centre, const float* bounds, void* panel,
                 double* reach) noexcept nogil:
    """Set a bound on the magnitudes of all coordinates, from their codes; return whether all patterns have one."""
    cdef double largest = 0
    cdef Py_ssize_t j, place
    cdef bint coded = True
    for j in range(p.n):
        place = 3 * (j // _PANEL) * _PANEL + j % _PANEL
        coded &= bounds[place + 2 * _PANEL] > -INFINITY
        largest = max(largest, bounds[place])
    reach[0] = p.kernels.max_abs(centre, p.d) + 128 * largest
    for j from 0 <= j < (0 if coded else p.n) by _PANEL:
        reach[0] = max(reach[0], p.kernels.max_abs(panel_at(p, j, 0, panel), _PANEL * p.d))
    return coded


cdef void _bound_products(const float* bounds, Py_ssize_t count, double share, double slack, float* out) noexcept nogil:
    """Set bounds of a panel with which the first look is at products."""
    cdef Py_ssize_t j, place
    cdef double away, square
    for j in range(_PANEL):
        place = min(j, count - 1)
        away = bounds[_PANEL + place]
        square = fabs(bounds[2 * _PANEL + place] + away * away) * (1 + 2 * slack + 8 * _OUTWARDS)
        out[j] = bounds[place]
        out[_PANEL + j] = <float> ((away + (share + 2 * _OUTWARDS) * sqrt(square)) * (1 + 2 * _OUTWARDS))
        out[2 * _PANEL + j] = 0


cdef void _aim(const Search* f, Aim aim, Py_ssize_t d, double reach, float* twice, float* least) noexcept nogil:
    """Set what the codes of a pattern must reach for it to be among the k best."""
    cdef double worst = max(f.best[f.k - 1], _loosen(f, f.kth, reach)), radius, cut
    if not f.difference:
        if worst == -INFINITY or aim.rest == -INFINITY:
            twice[0], twice[1], least[0] = 0, 0, -INFINITY
            return
        cut = worst - aim.offset
        least[0] = <float> (cut - fabs(cut) * _OUTWARDS - FLT_MIN)
        twice[0], twice[1] = aim.scale, <float> (aim.away * (1 + 2 * _OUTWARDS))
        return
    radius = sqrt(FLT_MIN - worst * (1 + (d + 8) * DBL_EPSILON))
    if radius > _LARGEST or aim.rest == -INFINITY:
        twice[0], twice[1], least[0] = 0, 0, -INFINITY
        return
    cut = aim.rest - radius * (radius + 2 * aim.away) * (1 + _OUTWARDS)
    least[0] = <float> (cut - fabs(cut) * _OUTWARDS)
    twice[0] = 2 * aim.scale
    twice[1] = <float> (2 * (radius + aim.away) * (1 + 2 * _OUTWARDS))


cdef void _offer(Search* f, const Patterns* p, floating score, long long place, double reach) noexcept nogil:
    """Add one pattern to the candidates if it may be among the k best."""
    if f.k == 1:
        f.kth = max(f.kth, score)
    if score >= <floating> _cut(f, reach):
        (<floating*> f.rough)[f.count], f.places[f.count] = score, place
        f.count += 1
        if f.count == f.capacity:
            _make_room(f, p, reach)


def absorb(queries, patterns, values, metric, beta, first, peak, total, mix, best, indices):
    if queries.dtype == "float32":
        return bool(_absorb[float](queries, patterns.reshape(-1), patterns.ndim == 3, values, metric == "euclidean",
                                   beta, first, peak, total, mix, best, indices))
    return bool(_absorb[double](queries, patterns.reshape(-1), patterns.ndim == 3, values, metric == "euclidean",
                                beta, first, peak, total, mix, best, indices))


cdef int _absorb(const floating[:, ::1] queries, const floating[::1] patterns, bint packed,
                 const floating[:, ::1] values, bint difference, double beta, long long first, double[::1] peak,
                 double[::1] total, double[:, ::1] mix, double[:, ::1] best, long long[:, ::1] indices) except -1:
    cdef Py_ssize_t m = queries.shape[0], n = values.shape[0], d = queries.shape[1], v = values.shape[1]
    cdef Py_ssize_t k = best.shape[1], row, batch, start, count, whole, i, j, c, width
    cdef bint soft = peak.shape[0] > 0, finite = True
    # few queries: scores of rows as they are; in the sums, they must not depend on the number of queries
    cdef bint by_rows = m <= 2 and not soft and not packed
    cdef double s_peak, shrink, least, origin, reach
    cdef uint64_t state
    expect("numbers in patterns", patterns.shape[0], (panels_for(n) * _PANEL if packed else n) * d)
    expect("length of peak", peak.shape[0], m if soft else 0)
    expect("length of total", total.shape[0], peak.shape[0])
    expect("rows of mix", mix.shape[0], peak.shape[0])
    expect("columns of mix", mix.shape[1], v)
    expect("rows of best", best.shape[0], m)
    expect("rows of indices", indices.shape[0], m)
    expect("columns of indices", indices.shape[1], k)
    cdef Patterns p = Patterns(<const char*> &patterns[0], n, d, sizeof(floating), packed, difference, first,
                               kernels_of(sizeof(floating)))
    cdef const tile_kernels* kernels = p.kernels
    # working memory, whatever m, n, d and v: a panel; queries with their scores and candidates; the values of a tile
    cdef Py_ssize_t deep = min(d, COORDINATES), wide = min(panels_for(v) * _PANEL, COORDINATES)
    cdef Py_ssize_t capacity = min(2 * k, n) + SPARE
    cdef Py_ssize_t rows = max(24, min(_QUERIES, CANDIDATES // capacity // 24 * 24, (m + 23) // 24 * 24))
    cdef floating* panel = <floating*> allocate(
        ((_PANEL + 1) * deep + rows * (deep + _TILE) + _PANEL + _TILE * wide) * sizeof(floating))
    cdef floating* groups = panel + (_PANEL + 1) * deep
    cdef Copies copies = Copies(panel + _PANEL * deep, panel, -1, 0)
    cdef floating* s = groups + rows * deep
    cdef floating* columns = s + rows * _TILE + _PANEL  # `collect` may read up to a vector past the last score
    cdef Search* search = <Search*> allocate(rows * sizeof(Search))
    cdef floating* rough = <floating*> allocate(rows * (capacity + _PANEL) * sizeof(floating))
    cdef long long* places = <long long*> allocate(rows * capacity * sizeof(long long))
    cdef double* exact = <double*> allocate(capacity * sizeof(double))
    with nogil:
        state = set_standard()
        for row from 0 <= row < m by rows:
            batch = min(rows, m - row)
            reach = 0
            for i in range(batch):
                search[i].rough = rough + i * (capacity + _PANEL)  # `kth` may write up to a vector after the last
                search[i].places, search[i].exact = places + i * capacity, exact
                search[i].count, search[i].capacity, search[i].kind = 0, capacity, 0
                search[i].k, search[i].kth = k, -INFINITY
                if k > 0:
                    search[i].best, search[i].indices = &best[row + i, 0], &indices[row + i, 0]
                _begin(&search[i], &queries[row + i, 0], d, difference)
            for start from 0 <= start < n by _TILE:
                count, copies.kind = min(_TILE, n - start), -1
                # 1. scores of this tile
                for i in range(batch if by_rows else 0):
                    for j in range(count):
                        s_peak = kernels.rough(&queries[row + i, 0], &patterns[(start + j) * d], 1, d, difference)
                        s[i * _TILE + j] = <floating> s_peak
                    for j in range(count, panels_for(count) * _PANEL):  # `peak` reads whole vectors
                        s[i * _TILE + j] = s[i * _TILE + count - 1]
                for c from 0 <= c < (0 if by_rows else d) by COORDINATES:
                    width = min(COORDINATES, d - c)
                    if start == 0 or d > COORDINATES:  # otherwise they are still there
                        kernels.group(&queries[row, c], d, batch, width, groups)
                    for j from 0 <= j < count by _PANEL:
                        kernels.score(groups, batch, panel_at(&p, start + j, c, panel), width, difference, c > 0, s + j)
                    if not difference and packed and count % _PANEL:  # the last panel, filled by `panel_at`
                        reach = max(reach, kernels.max_abs(panel, _PANEL * width))
                if not difference:
                    whole = count // _PANEL * _PANEL if packed else count
                    reach = max(reach, kernels.max_abs(&patterns[start * d], whole * d))
                for i in range(batch):
                    # 2. their peak
                    s_peak = kernels.peak(s + i * _TILE, count, &finite)
                    # 3. their k best: only candidates, until they are scored exactly
                    if k > 0:
                        _consider(&search[i], &p, s + i * _TILE, s_peak, start, count, reach, &copies)
                    if not soft:
                        continue
                    origin = 0
                    if floating is float and beta * _expected_error(&search[i], s_peak, reach, d) > TOLERANCE:
                        # subtract the error bound twice: both the peak and the scores compared with it may be rough
                        least = _loosen(&search[i], max(peak[row + i], s_peak) - NEGLIGIBLE / beta, reach)
                        least = _loosen(&search[i], least, reach)
                        s_peak = _score_exactly(&search[i], &p, s + i * _TILE, start, count, least, panel)
                        origin = s_peak
                    # 4. the common peak, to which the sums so far are rescaled
                    if s_peak > peak[row + i]:
                        shrink = exp(beta * (peak[row + i] - s_peak))
                        peak[row + i] = s_peak
                        total[row + i] *= shrink
                        for c in range(v):
                            mix[row + i, c] *= shrink
                    # 5. their weights, relative to the peak, and the total
                    total[row + i] += kernels.weigh(s + i * _TILE, count, peak[row + i] - origin, beta)
                # 6. the mix
                for c from 0 <= c < (v if soft else 0) by COORDINATES:
                    width = min(COORDINATES, v - c)
                    kernels.columns(&values[start, c], v, count, width, columns)
                    kernels.mix(s, batch, count, columns, width, &mix[row, c], v)
            # the remaining candidates
            for i in range(batch):
                if k > 0:
                    _rescore(&search[i], &p, reach)
        restore(state)
    release(panel)
    release(search)
    release(rough)
    release(places)
    release(exact)
    return finite


cdef struct Copies:
    # Tiles whose patterns are all the same: their scores are all too close to call.
    void* pattern  # (d,), in the latest such tile
    void* panel  # working memory, for a panel
    long long kind, latest  # kind of the tile: -1 if unknown, 0 if the patterns differ; each pattern has its own


cdef struct Search:
    # The search for the k best patterns of one query.
    const void* query
    bint difference
    void* rough  # the rough scores of the candidates
    long long* places  # the positions of the candidates among the patterns
    double* exact  # working memory, for as many exact scores
    Py_ssize_t count, capacity, k  # count: of candidates, at most `capacity`
    double kth  # at least k patterns have a rough score as large
    double copied  # the exact score of the pattern of tiles of this kind, if it is not 0
    long long kind
    double* best  # the k best exact scores so far, in descending order, and the indices of their patterns
    long long* indices
    # The error of a rough score is at most relative |score| + slope reach + least, where `reach` is the largest
    # magnitude of a coordinate so far; a score below `lowest` may have overflowed, and a sum of products if
    # overflow reach > 1.
    double relative, slope, least, lowest, overflow


cdef void _begin(Search* f, const floating* query, Py_ssize_t d, bint difference) noexcept nogil:
    """Set the error bound of rough scores.

    The error of a sum of d squares is at most (d + 3) / 2 epsilons of the sum, the error of a sum of d products as many
    epsilons of the sum of their magnitudes; underflow adds to both at most d times. The constant d + 8 is more than
    twice as large, so that the bound can also be inverted, and evaluated with rounding.
    """
    cdef double epsilon = (d + 8) * (FLT_EPSILON if floating is float else DBL_EPSILON)
    cdef Py_ssize_t c
    f.query, f.difference = query, difference
    f.relative, f.slope = epsilon if difference else 0, 0
    f.least = d * (FLT_MIN if floating is float else DBL_MIN)
    f.lowest = -(FLT_MAX if floating is float else DBL_MAX) if epsilon < 0.5 else INFINITY
    if not difference:
        for c in range(d):
            f.slope += epsilon * fabs(query[c])
    f.overflow = f.slope / epsilon / (0.5 * (FLT_MAX if floating is float else DBL_MAX))


cdef double _loosen(const Search* f, double score, double reach) noexcept nogil:
    """Return the least rough score that an exact one may have, or the least exact score that a rough one may have."""
    cdef double loose = score + f.relative * score - f.slope * reach - f.least
    return loose if loose >= f.lowest else -INFINITY


cdef double _expected_error(const Search* f, double score, double reach, Py_ssize_t d) noexcept nogil:
    """Return an estimate of the error of a score: errors of random signs grow with the square root of their number."""
    return 4 * (f.relative * fabs(score) + f.slope * reach) / sqrt(d + 8)


cdef double _score_exactly(const Search* f, const Patterns* p, floating* s, Py_ssize_t start, Py_ssize_t count,
                           double least, floating* panel) noexcept nogil:
    """Replace scores of a tile by exact ones, relative to their peak, and return the peak.

    Panels without a score of at least `least` are not scored again; their scores become -inf.
    """
    cdef double exact[_TILE]
    cdef long long place
    cdef Py_ssize_t j, c
    cdef double top = -INFINITY
    for j from 0 <= j < count by _PANEL:
        if p.kernels.collect(s + j, 0, min(_PANEL, count - j), least, 1, &place, exact + j) == 0:
            for c in range(_PANEL):
                exact[j + c] = -INFINITY
            continue
        for c from 0 <= c < p.d by COORDINATES:
            p.kernels.exact_panel(<const char*> f.query + c * p.size, panel_at(p, start + j, c, panel),
                                  min(COORDINATES, p.d - c), p.difference, c > 0, exact + j)
        for c in range(_PANEL):
            top = max(top, exact[j + c])
    for j in range(count):
        s[j] = exact[j] - top if top > -INFINITY else -INFINITY
    return top


cdef double _cut(const Search* f, double reach) noexcept nogil:
    """Return the least rough score with which a pattern may still be among the k best."""
    return max(_loosen(f, f.best[f.k - 1], reach), _loosen(f, _loosen(f, f.kth, reach), reach))


cdef bint _repeats(Search* f, const Patterns* p, Py_ssize_t start, Py_ssize_t j, Py_ssize_t count,
                   Copies* copies) noexcept nogil:
    """Return whether all patterns of a tile are the same, and from place j on come after k that are as good."""
    cdef long long place = start
    if copies.kind < 0:
        copies.kind = _kind(p, start, count, copies)
    if copies.kind == 0:
        return False
    if copies.kind != f.kind:
        f.kind = copies.kind
        p.kernels.exact(f.query, p.start, &place, 1, p.packed, p.d, p.difference, &f.copied)
    return _before(f.best[f.k - 1], f.indices[f.k - 1], f.copied, p.first + start + j)


cdef long long _kind(const Patterns* p, Py_ssize_t start, Py_ssize_t count, Copies* copies) noexcept nogil:
    """Return the kind of a tile."""
    cdef Py_ssize_t j = 0
    if p.d > COORDINATES:
        return 0
    if copies.latest == 0 or not p.kernels.alike(panel_at(p, start, 0, copies.panel), p.d, copies.pattern):
        p.kernels.unpack(panel_at(p, start, 0, copies.panel), 1, p.d, copies.pattern)
        copies.latest += 1
    while j < count and p.kernels.alike(panel_at(p, start + j, 0, copies.panel), p.d, copies.pattern):
        j += _PANEL
    return copies.latest if j >= count else 0


cdef void _consider(Search* f, const Patterns* p, const floating* s, double s_peak, Py_ssize_t start,
                    Py_ssize_t count, double reach, Copies* copies) noexcept nogil:
    """Add the patterns of a tile that may be among the k best to the candidates."""
    cdef Py_ssize_t j = 0, number = 1, room = 1, i
    cdef bint level = s[0] == s_peak and s[count // 2] == s_peak and s[count - 1] == s_peak
    cdef double cut
    if f.k == 1:
        f.kth = max(f.kth, s_peak)
    while number == room:
        if level and f.best[f.k - 1] > -INFINITY and _repeats(f, p, start, j, count, copies):
            return
        cut, room, number = _cut(f, reach), f.capacity - f.count, 0
        if s_peak >= cut:
            number = p.kernels.collect(s, j, count, cut, room, f.places + f.count, <char*> f.rough + f.count * p.size)
        for i in range(f.count, f.count + number):
            j = f.places[i] + 1
            f.places[i] += start
        f.count += number
        if number == room:
            _make_room(f, p, reach)


cdef void _make_room(Search* f, const Patterns* p, double reach) noexcept nogil:
    _shrink(f, p, reach)
    if 4 * f.count > 3 * f.capacity:  # too close to call
        _rescore(f, p, reach)


cdef void _shrink(Search* f, const Patterns* p, double reach) noexcept nogil:
    """Drop candidates that are not among the k best for certain."""
    if f.count > f.k:
        f.kth = max(f.kth, p.kernels.kth(f.rough, f.count, f.k))
    f.count = p.kernels.keep(f.rough, f.places, f.count, _cut(f, reach))


cdef void _rescore(Search* f, const Patterns* p, double reach) noexcept nogil:
    """Score the candidates exactly and merge them into the k best."""
    cdef Py_ssize_t i
    _shrink(f, p, reach)
    p.kernels.exact(f.query, p.start, f.places, f.count, p.packed, p.d, p.difference, f.exact)
    for i in range(f.count):
        f.places[i] += p.first
    _sort(f.exact, f.places, f.count)
    _merge_best(f.best, f.indices, f.k, f.exact, f.places, f.count)
    f.count = 0


def merge(beta, peak, total, mix, best, indices, other_peak, other_total, other_mix, other_best, other_indices):
    _merge(beta, peak, total, mix, best, indices, other_peak, other_total, other_mix, other_best, other_indices)


cdef int _merge(double beta, double[::1] peak, double[::1] total, double[:, ::1] mix, double[:, ::1] best,
                long long[:, ::1] indices, const double[::1] other_peak, const double[::1] other_total,
                const double[:, ::1] other_mix, const double[:, ::1] other_best,
                const long long[:, ::1] other_indices) except -1:
    cdef Py_ssize_t k = best.shape[1], other_k = other_best.shape[1], i, c
    cdef double top, shrink, other_shrink
    cdef uint64_t state
    expect("length of total", total.shape[0], peak.shape[0])
    expect("rows of mix", mix.shape[0], peak.shape[0])
    expect("rows of indices", indices.shape[0], best.shape[0])
    expect("columns of indices", indices.shape[1], k)
    expect("length of other_peak", other_peak.shape[0], peak.shape[0])
    expect("length of other_total", other_total.shape[0], peak.shape[0])
    expect("rows of other_mix", other_mix.shape[0], peak.shape[0])
    expect("columns of other_mix", other_mix.shape[1], mix.shape[1])
    expect("rows of other_best", other_best.shape[0], best.shape[0])
    expect("rows of other_indices", other_indices.shape[0], best.shape[0])
    expect("columns of other_indices", other_indices.shape[1], other_k)
    with nogil:
        state = set_standard()
        for i in range(peak.shape[0]):
            # 1. the common peak
            top = max(peak[i], other_peak[i])
            # 2. both sides are rescaled to it
            if top > -INFINITY:
                shrink, other_shrink = exp(beta * (peak[i] - top)), exp(beta * (other_peak[i] - top))
                peak[i] = top
                total[i] = total[i] * shrink + other_shrink * other_total[i]
                for c in range(mix.shape[1]):
                    mix[i, c] = mix[i, c] * shrink + other_shrink * other_mix[i, c]
        # 3. the k best of both in descending order, ties by the lower index
        if k > 0 and other_k > 0:
            for i in range(best.shape[0]):
                _merge_best(&best[i, 0], &indices[i, 0], k, &other_best[i, 0], &other_indices[i, 0], other_k)
        restore(state)
    return 0


# Helpers

cdef int expect(str what, Py_ssize_t size, Py_ssize_t expected) except -1:
    if size != expected:
        raise ValueError(f"{what} must be {expected}; got {size}")
    return 0


cdef int expect_panels(Py_ssize_t count, Py_ssize_t d, Py_ssize_t lanes, Py_ssize_t n, Py_ssize_t expected_d) except -1:
    expect("number of panels", count, panels_for(n))
    expect("coordinates of panels", d, expected_d)
    expect("patterns in a panel", lanes, _PANEL)
    return 0


cdef int expect_few_coordinates(Py_ssize_t d) except -1:
    if d > COORDINATES:
        raise ValueError(f"coordinates of panels must be at most {COORDINATES}; got {d}")
    return 0


cdef int expect_codes(Py_ssize_t count, Py_ssize_t steps, Py_ssize_t lanes, Py_ssize_t panels, Py_ssize_t kinds,
                      Py_ssize_t places, Py_ssize_t n, Py_ssize_t d) except -1:
    expect_panels(count, steps, lanes, n, (d + 3) // 4)
    expect_panels(panels, kinds, places, n, 3)
    return 0


cdef void* allocate(size_t size) except NULL:
    """Return memory that starts at a cache line, preceded by the address to free."""
    cdef char* memory = <char*> malloc(size + 128)
    cdef void** aligned
    if memory == NULL:
        raise MemoryError(f"no memory for {size} bytes")
    aligned = <void**> (memory + 128 - <size_t> memory % 64)
    (aligned - 1)[0] = memory
    return aligned


cdef void release(void* aligned) noexcept nogil:
    free((<void**> aligned - 1)[0])


cdef bint _before(double a, long long a_index, double b, long long b_index) noexcept nogil:
    """Return whether a comes before b: larger scores first, ties by the lower index."""
    return a > b or (a == b and a_index < b_index)


cdef void _swap(double* scores, long long* indices, Py_ssize_t i, Py_ssize_t j) noexcept nogil:
    scores[i], scores[j] = scores[j], scores[i]
    indices[i], indices[j] = indices[j], indices[i]


cdef Py_ssize_t _split(double* scores, long long* indices, Py_ssize_t count) noexcept nogil:
    """Rearrange at least two scores, with their indices, and return a number of them that come before all others."""
    cdef Py_ssize_t i = 0, j = count - 1, middle = j // 2
    cdef double score
    cdef long long index
    # the median of three
    if _before(scores[middle], indices[middle], scores[0], indices[0]):
        _swap(scores, indices, middle, 0)
    if _before(scores[j], indices[j], scores[middle], indices[middle]):
        _swap(scores, indices, j, middle)
        if _before(scores[middle], indices[middle], scores[0], indices[0]):
            _swap(scores, indices, middle, 0)
    score, index = scores[middle], indices[middle]
    while True:
        while _before(scores[i], indices[i], score, index):
            i += 1
        while _before(score, index, scores[j], indices[j]):
            j -= 1
        if i >= j:
            return j + 1
        _swap(scores, indices, i, j)
        i += 1
        j -= 1


cdef void _sort(double* scores, long long* indices, Py_ssize_t count) noexcept nogil:
    """Sort scores, with their indices."""
    cdef Py_ssize_t i, j
    cdef double score
    cdef long long index
    while count > 16:
        i = _split(scores, indices, count)
        if 2 * i < count:  # the smaller part first, so that calls are nested log2(count) deep at most
            _sort(scores, indices, i)
            scores, indices, count = scores + i, indices + i, count - i
        else:
            _sort(scores + i, indices + i, count - i)
            count = i
    for i in range(1, count):
        j, score, index = i, scores[i], indices[i]
        while j > 0 and _before(score, index, scores[j - 1], indices[j - 1]):
            scores[j], indices[j] = scores[j - 1], indices[j - 1]
            j -= 1
        scores[j], indices[j] = score, index


cdef void _merge_best(double* best, long long* indices, Py_ssize_t k, const double* other,
                      const long long* other_indices, Py_ssize_t other_k) noexcept nogil:
    """Keep the k best of two sorted lists, in place: drop the worst, then fill from the end."""
    cdef Py_ssize_t a = k - 1, b = other_k - 1, i
    for _ in range(other_k):
        if a < 0 or (b >= 0 and _before(best[a], indices[a], other[b], other_indices[b])):
            b -= 1
        else:
            a -= 1
    for i in range(k - 1, -1, -1):
        if b < 0:
            return
        if a >= 0 and _before(other[b], other_indices[b], best[a], indices[a]):
            best[i], indices[i], a = best[a], indices[a], a - 1
        else:
            best[i], indices[i], b = other[b], other_indices[b], b - 1
