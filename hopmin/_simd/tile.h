/* The tile: all arithmetic on scores, with the vectors of vectors.h. docs/core.md explains the ideas.
 *
 * For m queries, a tile of `count` <= TILE patterns with d coordinates, and v value dimensions, _core.pyx calls
 *
 *     group     queries (m, d)                      -> groups (m / ROWS, d, ROWS)
 *     pack      patterns (PANEL, d)                 -> panel (d, PANEL)                for each panel of the tile
 *     alike     panel, pattern (d,)                 -> whether all patterns equal it   where all scores are equal
 *     score     groups, panel                       -> scores (m, TILE), 64 columns    for each panel of the tile
 *     peak      scores of a query (count,)          -> their maximum                   for each query
 *     collect   scores of a query (count,), cut     -> the places of candidates        for each query
 *     kth, keep the scores of candidates            -> their k-th, and the best        for each query
 *     exact     a query and patterns                -> the exact scores                for candidates
 *     weigh     scores of a query (count,)          -> weights, in place               for each query
 *     columns   values (count, v)                   -> panels (v / PANEL, count, PANEL)
 *     mix       weights (m, TILE), columns          -> mix (m, v), added to
 *
 * If there are many coordinates, it passes a part of them at a time: `group`, `pack`, `columns` and `mix` read or write
 * d or v columns of matrices whose rows are `stride` apart, and with `more`, `score` and `exact_panel` continue the
 * sums of the coordinates before. The bits are the same.
 *
 * In a panel, the same coordinate of 64 patterns is contiguous in memory, and in a group, that of ROWS queries, so that
 * vectors are loaded without rearrangement. The score of a query and a pattern does not depend on their positions in
 * the group and the panel: it is a sum over the coordinates in order.
 */

/* x (count,) <= 0  ->  out (count,) = e^x, for any count. */
static void NAME(exp_nonpositive)(const void *x, ptrdiff_t count, void *out)
{
    for (ptrdiff_t i = 0; i < count; i += LANES) {
        T part[BYTES / sizeof(T)] = {0};
        const size_t size = sizeof(T) * (size_t)(count - i < LANES ? count - i : LANES);
        memcpy(part, (const T *)x + i, size);
        NAME(store)(part, NAME(exponential)(NAME(load)(part)));
        memcpy((T *)out + i, part, size);
    }
}

/* numbers (count,)  ->  the largest magnitude, NaN if a number is not finite.
 * One pass finds the largest magnitude and checks that all numbers are finite. */
static double NAME(max_abs)(const void *numbers, ptrdiff_t count)
{
    const T *a = numbers;
    const vec nothing = {0};
    vec top = {0}, zero = {0};                                                  /* zero: NaN unless all are finite */
    ptrdiff_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        const vec v = NAME(load)(a + i);
        top = MAX(top, MAX(v, -v));
        zero = FMA(v, nothing, zero);
    }
    T max_abs = NAME(highest)(top), none = NAME(sum)(zero);
    for (; i < count; i++) {
        const T magnitude = a[i] < 0 ? -a[i] : a[i];
        max_abs = magnitude > max_abs ? magnitude : max_abs;
        none += a[i] * 0;
    }
    return max_abs + none;
}

#if !PLAIN
/* from (4, 4), rows `from_step` apart  ->  to (4, 4) = its transpose, rows `to_step` apart. */
INLINE void NAME(transpose)(const T *from, ptrdiff_t from_step, T *to, ptrdiff_t to_step)
{
    typedef T four __attribute__((vector_size(4 * sizeof(T))));
    typedef I places __attribute__((vector_size(4 * sizeof(T)), unused));
    four a[4];
    UNROLL for (int i = 0; i < 4; i++)
        memcpy(&a[i], from + i * from_step, sizeof(four));
    const four low0 = SHUFFLE(places, a[0], a[1], 0, 4, 1, 5), low2 = SHUFFLE(places, a[2], a[3], 0, 4, 1, 5);
    const four high0 = SHUFFLE(places, a[0], a[1], 2, 6, 3, 7), high2 = SHUFFLE(places, a[2], a[3], 2, 6, 3, 7);
    a[0] = SHUFFLE(places, low0, low2, 0, 1, 4, 5);
    a[1] = SHUFFLE(places, low0, low2, 2, 3, 6, 7);
    a[2] = SHUFFLE(places, high0, high2, 0, 1, 4, 5);
    a[3] = SHUFFLE(places, high0, high2, 2, 3, 6, 7);
    UNROLL for (int i = 0; i < 4; i++)
        memcpy(to + i * to_step, &a[i], sizeof(four));
}
#endif

/* patterns (count, d), rows `stride` apart, count <= PANEL  ->  panel (d, PANEL), the last pattern repeated to the end.
 * Panels are always full: a repeated pattern changes neither the maximum of the scores nor whether they are finite. */
static void NAME(pack)(const void *patterns, ptrdiff_t stride, ptrdiff_t count, ptrdiff_t d, void *panel)
{
    const T *from = patterns;
    T *to = panel;
    ptrdiff_t c = 0;
#if !PLAIN
    for (; count == PANEL && c + 4 <= d; c += 4)
        for (ptrdiff_t j = 0; j < PANEL; j += 4) {
            PREFETCH(from + PANEL * stride + PANEL * c + 4 * j);                /* after both loops, all of the next panel */
            NAME(transpose)(from + j * stride + c, stride, to + c * PANEL + j, PANEL);
        }
#endif
    for (; c < d; c++)
        for (ptrdiff_t j = 0; j < PANEL; j++)
            to[c * PANEL + j] = from[(j < count ? j : count - 1) * stride + c];
}

/* panel (d, PANEL)  ->  patterns (count, d), the first `count` of them. */
static void NAME(unpack)(const void *panel, ptrdiff_t count, ptrdiff_t d, void *patterns)
{
    const T *from = panel;
    T *to = patterns;
    ptrdiff_t c = 0;
#if !PLAIN
    for (; count == PANEL && c + 4 <= d; c += 4)
        for (ptrdiff_t j = 0; j < PANEL; j += 4)
            NAME(transpose)(from + c * PANEL + j, PANEL, to + j * d + c, d);
#endif
    for (; c < d; c++)
        for (ptrdiff_t j = 0; j < count; j++)
            to[j * d + c] = from[c * PANEL + j];
}

/* panel (d, PANEL), pattern (d,)  ->  whether all patterns of the panel equal this one. */
static int NAME(alike)(const void *panel, ptrdiff_t d, const void *pattern)
{
    const T *p = panel, *q = pattern;
    for (ptrdiff_t c = 0; c < d; c++) {
        ivec differ = {0};
        for (ptrdiff_t j = 0; j < PANEL; j += LANES, p += LANES)
            differ |= MASK(NAME(load)(p) != NAME(splat)(q[c]));
        if (NAME(total)(differ))
            return 0;
    }
    return 1;
}

/* panel (d, PANEL), centre (d,)  ->  words (ceil(d / 4), PANEL), bounds (3, PANEL); whether all patterns are finite.
 *
 * Each pattern, less the centre, becomes a scale times integers from -127 to 127, stored plus 128, as the four bytes of
 * a word, the first coordinate in the lowest. With its scale come a bound on the distance to what the integers stand for,
 * and what step 2 of `search` subtracts. docs/core.md derives the bounds. */
static int NAME(encode)(const void *panel, ptrdiff_t d, const void *centre, uint32_t *words, float *bounds)
{
    const T *p = panel, *o = centre;
    /* added to a number, it leaves the integer, plus 128 (256 + 1), in the lowest bits */
    const vec shift = NAME(splat)(OF(12582912.f, 6755399441055744.) + 32896), byte = NAME(splat)(256);
    const double epsilon = OF(FLT_EPSILON, DBL_EPSILON), slack = (double)(d + 8) * epsilon;
    int finite = 1;
    for (ptrdiff_t l = 0; l < PANEL; l += LANES) {
        /* 1. scales */
        vec top = {0};
        for (ptrdiff_t c = 0; c < d; c++) {
            const vec u = NAME(load)(p + c * PANEL + l) - NAME(splat)(o[c]);
            top = MAX(top, MAX(u, -u));
        }
        T scale[BYTES / sizeof(T)], inverse[BYTES / sizeof(T)], largest[BYTES / sizeof(T)];
        NAME(store)(largest, top);
        for (int i = 0; i < LANES; i++) {
            scale[i] = largest[i] >= SMALLEST && largest[i] <= LARGEST ? (T)(float)(largest[i] / 127) : 0;
            inverse[i] = scale[i] > 0 ? 1 / scale[i] : 0;
        }
        /* 2. integers, and what rounding takes away */
        const vec inverted = NAME(load)(inverse);
        vec square = {0}, rest = {0};
        for (ptrdiff_t c = 0; c < d; c += 4) {
            vec shifted[4], integer[4];
            UNROLL for (int e = 0; e < 4; e++) {
                shifted[e] = shift;
                integer[e] = (vec){0};
                if (c + e < d) {
                    const vec u = (NAME(load)(p + (c + e) * PANEL + l) - NAME(splat)(o[c + e])) * inverted;
                    shifted[e] = u + shift;
                    integer[e] = shifted[e] - shift;
                    const vec r = u - integer[e];
                    square = FMA(integer[e], integer[e], square);               /* the product is exact */
                    rest = rest + r * r;
                }
            }
            /* two integers, each plus 128, to the lowest bits of a number, without rounding; then all four to a word */
            const ivec low = NAME(bits)(FMA(integer[1], byte, shifted[0]));
            const ivec high = NAME(bits)(FMA(integer[3], byte, shifted[2]));
            const ivec word = (low & 65535) | (high << 16);
            I lane[BYTES / sizeof(T)];
            memcpy(lane, &word, sizeof word);
            for (int i = 0; i < LANES; i++)
                words[c / 4 * PANEL + l + i] = (uint32_t)lane[i];
        }
        /* 3. bounds, rounded outwards */
        T squares[BYTES / sizeof(T)], rests[BYTES / sizeof(T)];
        NAME(store)(squares, square);
        NAME(store)(rests, rest);
        for (int i = 0; i < LANES; i++) {
            finite &= squares[i] == squares[i];                                 /* NaN if a coordinate is not finite */
            const int usable = scale[i] > 0 || largest[i] == 0;
            const double image = (double)scale[i] * scale[i] * squares[i];
            const double away =
                ((double)scale[i] * sqrt((double)rests[i]) * (1 + slack) + 2 * epsilon * sqrt(image)) * (1 + OUTWARDS);
            bounds[l + i] = (float)scale[i];
            bounds[PANEL + l + i] = usable ? (float)away : 0;
            bounds[2 * PANEL + l + i] =
                usable ? (float)(image * (1 - slack - 2 * OUTWARDS) - away * away * (1 + 2 * OUTWARDS)) : -INFINITY;
        }
    }
    return finite;
}

/* queries (m, d), rows `stride` apart  ->  groups (ceil(m / ROWS), d, ROWS), the last filled up with zeros. */
static void NAME(group)(const void *queries, ptrdiff_t stride, ptrdiff_t m, ptrdiff_t d, void *groups)
{
    T *to = groups;
    for (ptrdiff_t i = 0; i < m; i += ROWS)
        for (ptrdiff_t c = 0; c < d; c++)
            for (ptrdiff_t row = i; row < i + ROWS; row++)
                *to++ = row < m ? ((const T *)queries)[row * stride + c] : 0;
}

/* values (count, v), rows `stride` apart  ->  panels (ceil(v / PANEL), count, PANEL), the last filled up with zeros.
 * A panel holds PANEL columns of the values, row by row: the layout of b in `block`, where `mix` sums over patterns. */
static void NAME(columns)(const void *values, ptrdiff_t stride, ptrdiff_t count, ptrdiff_t v, void *panels)
{
    T *to = panels;
    for (ptrdiff_t c = 0; c < v; c += PANEL)
        for (ptrdiff_t j = 0; j < count; j++, to += PANEL) {
            const size_t size = sizeof(T) * (size_t)(v - c < PANEL ? v - c : PANEL);
            memcpy(to, (const T *)values + j * stride + c, size);
            memset((char *)to + size, 0, sizeof(T) * PANEL - size);
        }
}

/* The register block: a (rows, d), b (d, wide * LANES)  ->  out (rows, wide * LANES),
 *
 *     out[i, l] = sum_c a[i, c] b[c, l],  or with `difference`  -sum_c (a[i, c] - b[c, l])^2
 *
 * with a[i, c] at a[i * row + c * step], b[c, l] at b[c * PANEL + l], out[i, l] at out[i * stride + l]. With `more`,
 * the sums start from those in out, not from 0.
 *
 * All sums stay in registers, so that a number is used rows or wide * LANES times for each load. Each sum runs over c
 * in order: which rows and columns are computed together does not change its bits. The compiler unrolls the loops over
 * i and w, whose lengths are constants in every call. */
INLINE void NAME(block)(const T *a, ptrdiff_t row, ptrdiff_t step, const T *b, ptrdiff_t d, int rows, int wide,
                        int difference, int more, T *out, ptrdiff_t stride)
{
    vec sum[8][8], y[8];
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int w = 0; w < wide; w++) {
            sum[i][w] = (vec){0};
            if (more) {
                const vec before = NAME(load)(out + i * stride + w * LANES);
                sum[i][w] = difference ? (vec){0} - before : before;
            }
        }
    for (ptrdiff_t c = 0; c < d; c++, a += step, b += PANEL) {
        UNROLL for (int w = 0; w < wide; w++)
            y[w] = NAME(load)(b + w * LANES);
        UNROLL for (int i = 0; i < rows; i++) {
            const vec x = NAME(splat)(a[i * row]);
            UNROLL for (int w = 0; w < wide; w++) {
                const vec u = difference ? LESS(y[w], a[i * row]) : x;
                sum[i][w] = difference ? FMA(u, u, sum[i][w]) : FMA(x, y[w], sum[i][w]);
            }
        }
    }
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int w = 0; w < wide; w++)
            NAME(store)(out + i * stride + w * LANES, difference ? (vec){0} - sum[i][w] : sum[i][w]);
}

/* a (rows, d), b (d, PANEL)  ->  out (rows, columns), rounded up to whole vectors: `block` for any number of rows.
 *
 * `block` is compiled for 1, 2, 4 and ROWS rows, and the smallest that suffices is used. Fewer rows leave registers for
 * more columns, so that memory is read in longer runs. */
#define BLOCKS(rows, wide) \
    for (ptrdiff_t l = 0; l < columns; l += (wide) * LANES) \
        NAME(block)(a, row, step, b + l, d, rows, wide, difference, more, out + l, stride)
#define FULL (PANEL / LANES < 8 ? PANEL / LANES : 8)
INLINE void NAME(panel)(const T *a, ptrdiff_t row, ptrdiff_t step, const T *b, ptrdiff_t columns, ptrdiff_t d,
                        ptrdiff_t rows, int difference, int more, T *out, ptrdiff_t stride)
{
    if (rows <= 1) BLOCKS(1, FULL);
    else if (rows <= 2) BLOCKS(2, 4);
    else if (rows <= 4) BLOCKS(4, WIDE);
    else if (columns <= LANES) BLOCKS(ROWS, 1);
    else if (columns <= 2 * LANES) BLOCKS(ROWS, 2);
    else BLOCKS(ROWS, WIDE);
}

/* groups (ceil(m / ROWS), d, ROWS), panel (d, PANEL)  ->  scores (m rounded up to ROWS, PANEL), rows TILE apart:
 * x.p, or -|x - p|^2 with `difference`; with `more`, added to the scores.
 *
 * With many groups, the next panel in memory, if there is one, is prefetched into the cache meanwhile. */
static void NAME(score)(const void *groups, ptrdiff_t m, const void *panel, ptrdiff_t d, int difference, int more,
                        void *scores)
{
    const char *next = (const char *)((const T *)panel + PANEL * d);
    for (ptrdiff_t i = 0; i < m; i += ROWS) {
        const T *a = (const T *)groups + i * d;
        T *out = (T *)scores + i * TILE;
        if (difference) NAME(panel)(a, 1, ROWS, panel, PANEL, d, m - i, 1, more, out, TILE);
        else NAME(panel)(a, 1, ROWS, panel, PANEL, d, m - i, 0, more, out, TILE);
        if (m > 8 * ROWS)                                                       /* this group's part of the next panel */
            for (ptrdiff_t e = 0; e < PANEL * d * ROWS / m * (ptrdiff_t)sizeof(T); e += 64, next += 64)
                PREFETCH(next);
    }
}

/* query (d,), panel (d, PANEL)  ->  scores (PANEL,): `score` for a single query. */
static void NAME(score_one)(const void *query, const void *panel, ptrdiff_t d, int difference, void *scores)
{
    if (difference) NAME(panel)(query, 0, 1, panel, PANEL, d, 1, 1, 0, scores, TILE);
    else NAME(panel)(query, 0, 1, panel, PANEL, d, 1, 0, 0, scores, TILE);
}

/* bits  ->  the places of those that are set, and their number. */
static ptrdiff_t NAME(places)(uint64_t bits, long long *places)
{
    ptrdiff_t number = 0;
    for (; bits; bits &= bits - 1)
        places[number++] = LOWEST(bits);
    return number;
}

/* scores (count,)  ->  their maximum; *finite becomes 0 if one is not finite.
 * The maximum includes the scores after `count` in the last vector, which are those of a repeated pattern. */
static double NAME(peak)(const void *scores, ptrdiff_t count, int *finite)
{
    const T *s = scores;
    const vec nothing = {0};
    vec top = NAME(load)(s), zero = {0};
    for (ptrdiff_t j = 0; j < count; j += LANES) {
        const vec v = NAME(load)(s + j);
        top = MAX(top, v);
        zero = FMA(v, nothing, zero);
    }
    *finite &= NAME(sum)(zero) == 0;
    return NAME(highest)(top);
}

/* scores (count,)  ->  weights = exp(beta (score - peak)), in place, and their sum.
 * Weights after `count`, to the end of the panel, become 0, so that `mix` can sum over whole panels. */
static double NAME(weigh)(void *scores, ptrdiff_t count, double peak, double beta)
{
    T *s = scores;
    vec total = {0};
    for (ptrdiff_t j = count; j % PANEL; j++)
        s[j] = -(T)INFINITY;
    for (ptrdiff_t j = 0; j < count; j += LANES) {
        const vec w = NAME(exponential)((NAME(load)(s + j) - (T)peak) * (T)beta);
        NAME(store)(s + j, w);
        total += w;
    }
    return NAME(sum)(total);
}

/* weights (m rounded up to ROWS, TILE), values as `columns` lays them out  ->  mix (m, v), rows `stride` apart,
 * += weights values.
 * A tile's sum is in T, in the registers of `block`; tiles are added in double. */
static void NAME(mix)(const void *weights, ptrdiff_t m, ptrdiff_t count, const void *values, ptrdiff_t v, double *mix,
                      ptrdiff_t stride)
{
    for (ptrdiff_t c = 0; c < v; c += PANEL)
        for (ptrdiff_t i = 0; i < m; i += ROWS) {
            T out[ROWS][PANEL];
            const ptrdiff_t columns = v - c < PANEL ? v - c : PANEL;
            NAME(panel)((const T *)weights + i * TILE, TILE, 1, (const T *)values + c * count, columns, count, m - i, 0,
                        0, out[0], PANEL);
            for (ptrdiff_t row = i; row < m && row < i + ROWS; row++)
                for (ptrdiff_t e = 0; e < columns; e++)
                    mix[row * stride + c + e] += out[row - i][e];
        }
}

#if OF(1, 0) /* one function for both float types */
/* The first look at a panel. For each of m queries, the sum over its and each pattern's integers, and then a bit in hits
 * (m,) for each pattern with  twice[0] scale sum + twice[1] away - rest >= least,  where (scale, away, rest) = bounds.
 *
 *     groups    (ceil(m / ROWS), steps, ROWS, 2) words: four bytes, or two pairs of 16 bits, of each query
 *     minus     (m,) -128 times the sum of a query's integers, since those of patterns are stored plus 128
 *     twice     (m, 2)
 *     words     (steps, PANEL)
 */
#ifdef PAIRS
/* words (steps, PANEL) of queries, count <= PANEL  ->  their places in groups, and minus (m,), from `first` on. */
static void NAME(spread)(const uint32_t *words, ptrdiff_t count, ptrdiff_t steps, ptrdiff_t first, int32_t *groups,
                         int32_t *minus)
{
    const int whole = BYTES4_HERE();
    for (ptrdiff_t l = 0; l < count; l++) {
        int32_t *to = groups + ((first + l) / ROWS * steps * ROWS + (first + l) % ROWS) * 2, sum = 0;
        for (ptrdiff_t c = 0; c < steps; c++, to += 2 * ROWS) {
            int32_t q[4];
            for (int e = 0; e < 4; e++)
                sum += q[e] = (int32_t)(words[c * PANEL + l] >> (8 * e) & 255) - 128;
            to[0] = whole ? (int32_t)(words[c * PANEL + l] ^ 0x80808080) : (q[0] & 65535) | q[2] * 65536;
            to[1] = (q[1] & 65535) | q[3] * 65536;
        }
        minus[first + l] = -128 * sum;
    }
}

INLINE void NAME(look_block)(const int32_t *g, const int32_t *minus, const float *twice, const float *least,
                             const uint32_t *words, const float *bounds, ptrdiff_t steps, int rows, int wide, int bytes,
                             uint64_t *hits)
{
    ivec sum[8][8], y[8];
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int w = 0; w < wide; w++)
            sum[i][w] = (ivec){0} + minus[i];
    for (ptrdiff_t c = 0; c < steps; c++, g += 2 * ROWS, words += PANEL) {
        UNROLL for (int w = 0; w < wide; w++)
            memcpy(&y[w], words + w * LANES, sizeof *y);
        if (bytes) {
            UNROLL for (int i = 0; i < rows; i++)
                UNROLL for (int w = 0; w < wide; w++)
                    BYTES4(sum[i][w], y[w], g[2 * i]);
            continue;
        }
        UNROLL for (int half = 0; half < 2; half++) {                           /* coordinates 0 and 2, then 1 and 3 */
            ivec pairs[8];
            UNROLL for (int w = 0; w < wide; w++)
                pairs[w] = (half ? y[w] >> 8 : y[w]) & 0x00ff00ff;
            UNROLL for (int i = 0; i < rows; i++) {
                const ivec x = (ivec){0} + g[2 * i + half];
                UNROLL for (int w = 0; w < wide; w++)
                    sum[i][w] += (ivec)PAIRS(pairs[w], x);
            }
        }
    }
    UNROLL for (int i = 0; i < rows; i++) {
        const vec product = NAME(splat)(twice[2 * i]), radius = NAME(splat)(twice[2 * i + 1]), cut = NAME(splat)(least[i]);
        UNROLL for (int w = 0; w < wide; w++) {
            const vec scaled = __builtin_convertvector(sum[i][w], vec) * NAME(load)(bounds + w * LANES);
            const vec rest = radius * NAME(load)(bounds + PANEL + w * LANES) - NAME(load)(bounds + 2 * PANEL + w * LANES);
            hits[i] |= (uint64_t)AT_LEAST(FMA(product, scaled, rest), cut) << (w * LANES);
        }
    }
}

#define LOOKS(rows, wide) \
    for (ptrdiff_t l = 0; l < PANEL; l += (wide) * LANES) { \
        uint64_t found[ROWS] = {0}; \
        NAME(look_block)(g, minus + i, twice + 2 * i, least + i, words + l, bounds + l, steps, rows, wide, bytes, found); \
        for (ptrdiff_t r = 0; r < ROWS && r < m - i; r++) \
            hits[i + r] |= found[r] << l; \
    }
INLINE void NAME(look_all)(const int32_t *groups, const int32_t *minus, const float *twice, const float *least,
                           ptrdiff_t m, const uint32_t *words, const float *bounds, ptrdiff_t steps, int bytes,
                           uint64_t *hits)
{
    memset(hits, 0, sizeof *hits * (size_t)m);
    for (ptrdiff_t i = 0; i < m; i += ROWS) {
        const int32_t *g = groups + i * steps * 2;
        if (m - i == 1) LOOKS(1, WIDE)
        else LOOKS(ROWS, WIDE)
    }
}

static BYTES4_TARGET void NAME(look_bytes)(const int32_t *groups, const int32_t *minus, const float *twice,
                                           const float *least, ptrdiff_t m, const uint32_t *words, const float *bounds,
                                           ptrdiff_t steps, uint64_t *hits)
{
    NAME(look_all)(groups, minus, twice, least, m, words, bounds, steps, 1, hits);
}

static void NAME(look)(const int32_t *groups, const int32_t *minus, const float *twice, const float *least, ptrdiff_t m,
                       const uint32_t *words, const float *bounds, ptrdiff_t steps, uint64_t *hits)
{
    if (BYTES4_HERE()) NAME(look_bytes)(groups, minus, twice, least, m, words, bounds, steps, hits);
    else NAME(look_all)(groups, minus, twice, least, m, words, bounds, steps, 0, hits);
}
#undef LOOKS
#endif
#endif

/* query (d,), a pattern with its coordinates 1 or PANEL apart  ->  -|x - p|^2 or x.p in T, in any order of summation. */
INLINE double NAME(roughly)(const T *x, const T *p, ptrdiff_t stride, ptrdiff_t d, int difference)
{
    vec sums[2] = {(vec){0}, (vec){0}};
    T sum[4] = {0};
    ptrdiff_t c = 0;
    for (; stride == 1 && c + 2 * LANES <= d; c += 2 * LANES)
        UNROLL for (int i = 0; i < 2; i++) {
            const vec a = NAME(load)(x + c + i * LANES), b = NAME(load)(p + c + i * LANES);
            sums[i] = difference ? FMA(a - b, a - b, sums[i]) : FMA(a, b, sums[i]);
        }
    for (; c < d; c += 4)
        UNROLL for (int i = 0; i < 4; i++)
            if (c + i < d) {
                const T a = x[c + i], b = p[(c + i) * stride];
                sum[i] += difference ? (a - b) * (a - b) : a * b;
            }
    const double total = (double)(NAME(sum)(sums[0] + sums[1]) + ((sum[0] + sum[1]) + (sum[2] + sum[3])));
    return difference ? -total : total;
}

static double NAME(rough)(const void *query, const void *pattern, ptrdiff_t stride, ptrdiff_t d, int difference)
{
    return difference ? NAME(roughly)(query, pattern, stride, d, 1) : NAME(roughly)(query, pattern, stride, d, 0);
}

/* scores (count,)  ->  places (room,), the first `room` places from j on whose score is at least `cut`, with these
 * scores in found (room,); returns their number.
 * Candidates are rare, so most vectors take a single comparison for LANES scores. */
static ptrdiff_t NAME(collect)(const void *scores, ptrdiff_t j, ptrdiff_t count, double cut, ptrdiff_t room,
                               long long *places, void *found)
{
    const T *s = scores;
    const vec threshold = NAME(splat)((T)cut);
    ptrdiff_t number = 0;
    for (; j < count; j += LANES)
        for (unsigned lanes = AT_LEAST(NAME(load)(s + j), threshold); lanes; lanes &= lanes - 1) {
            const ptrdiff_t place = j + FIRST(lanes);
            if (place >= count || number == room)
                return number;
            places[number] = place;
            ((T *)found)[number++] = s[place];
        }
    return number;
}

/* scores (count,), places (count,)  ->  those with a score of at least `cut`, in place; returns their number. */
static ptrdiff_t NAME(keep)(void *scores, long long *places, ptrdiff_t count, double cut)
{
    T *s = scores;
    const T least = (T)cut;
    ptrdiff_t kept = 0;
    for (ptrdiff_t i = 0; i < count; i++) {
        const T score = s[i];
        s[kept] = score;
        places[kept] = places[i];
        kept += score >= least;
    }
    return kept;
}

/* An integer that is the larger, the larger the number; and the number again. */
INLINE I NAME(key)(T x) { I b; memcpy(&b, &x, sizeof b); return b < 0 ? b ^ OF(INT32_MAX, INT64_MAX) : b; }
INLINE T NAME(number)(I key) { T x; key = key < 0 ? key ^ OF(INT32_MAX, INT64_MAX) : key; memcpy(&x, &key, sizeof x); return x; }

/* scores (count,)  ->  a number that at least k <= count of them reach, but, if no others are equal, few more than k.
 * Bisection: to count the scores that reach a number takes no branches. Up to a vector after `count` is overwritten. */
static double NAME(kth)(void *scores, ptrdiff_t count, ptrdiff_t k)
{
    T *s = scores;
    NAME(store)(s + count, NAME(splat)(s[0]));
    vec top = NAME(load)(s), bottom = -top;
    for (ptrdiff_t i = 0; i < count; i += LANES) {
        top = MAX(top, NAME(load)(s + i));
        bottom = MAX(bottom, -NAME(load)(s + i));
    }
    NAME(store)(s + count, NAME(splat)((T)-INFINITY));
    I least = NAME(key)(-NAME(highest)(bottom)), most = NAME(key)(NAME(highest)(top));
    while (least < most) {                                                      /* the k-th score is from least to most */
        const I middle = (least >> 1) + (most >> 1) + ((least | most) & 1);     /* above least */
        const vec threshold = NAME(splat)(NAME(number)(middle));
        ivec reached = {0};
        for (ptrdiff_t i = 0; i < count; i += LANES)
            reached -= MASK(NAME(load)(s + i) >= threshold);
        const ptrdiff_t number = (ptrdiff_t)NAME(total)(reached);
        if (number < k)
            most = middle - 1;
        else
            least = middle;
        if (number >= k && number <= k + k / 8)
            break;
    }
    return NAME(number)(least);
}

/* x (d,), p (d, count), rows `stride` apart  ->  out (count,) = the exact scores; with `more`, added to those in out.
 * "Exact" scores are double, summed in order and rounded after each operation (setup.py turns off fused multiply-add),
 * so they are the same in all variants and in the NumPy twin. They decide where rough scores are too close to call. */
INLINE void NAME(exactly)(const T *x, const T *p, ptrdiff_t stride, ptrdiff_t d, int count, int difference, int more,
                          double *out)
{
    double sum[PANEL] = {0};
    if (more)
        memcpy(sum, out, sizeof *out * (size_t)count);
    for (ptrdiff_t c = 0; c < d; c++, p += stride)
        for (int l = 0; l < count; l++) {
            const double u = (double)x[c] - (double)p[l];
            sum[l] += difference ? -(u * u) : (double)x[c] * (double)p[l];
        }
    memcpy(out, sum, sizeof *out * (size_t)count);
}

/* query (d,), patterns (n, d) or panels, places (count,)  ->  out (count,) = the exact scores of the patterns there.
 * A sum in order waits for each of its additions; SOME sums at a time take little longer than one. */
#define SOME 8
INLINE void NAME(exact_some)(const T *x, const T *patterns, const long long *places, ptrdiff_t count, int packed,
                             ptrdiff_t d, int difference, int some, double *out)
{
    const T *p[SOME];
    double sum[SOME] = {0};
    for (int l = 0; l < some; l++) {
        const ptrdiff_t j = (ptrdiff_t)places[l < count ? l : count - 1];
        p[l] = patterns + (packed ? j / PANEL * PANEL * d + j % PANEL : j * d);
    }
    for (ptrdiff_t c = 0; c < d; c++)
        UNROLL for (int l = 0; l < some; l++) {
            const double x_c = (double)x[c], p_c = (double)p[l][packed ? c * PANEL : c], u = x_c - p_c;
            sum[l] += difference ? -(u * u) : x_c * p_c;
        }
    for (int l = 0; l < some && l < count; l++)
        out[l] = sum[l];
}

static void NAME(exact)(const void *query, const void *patterns, const long long *places, ptrdiff_t count, int packed,
                        ptrdiff_t d, int difference, double *out)
{
    for (; count > 0; count -= SOME, places += SOME, out += SOME)
        if (count == 1 && difference) NAME(exact_some)(query, patterns, places, count, packed, d, 1, 1, out);
        else if (count == 1) NAME(exact_some)(query, patterns, places, count, packed, d, 0, 1, out);
        else if (difference) NAME(exact_some)(query, patterns, places, count, packed, d, 1, SOME, out);
        else NAME(exact_some)(query, patterns, places, count, packed, d, 0, SOME, out);
}
#undef SOME

/* query (d,), panel (d, PANEL)  ->  out (PANEL,) = the exact scores; with `more`, added to those in out. */
static void NAME(exact_panel)(const void *query, const void *panel, ptrdiff_t d, int difference, int more, double *out)
{
    if (difference) NAME(exactly)(query, panel, PANEL, d, PANEL, 1, more, out);
    else NAME(exactly)(query, panel, PANEL, d, PANEL, 0, more, out);
}

static const tile_kernels NAME(tile_kernels) = {
    NAME(exp_nonpositive), NAME(max_abs), NAME(pack), NAME(unpack), NAME(alike), NAME(group), NAME(columns), NAME(score),
    NAME(peak), NAME(weigh), NAME(mix), NAME(collect), NAME(keep), NAME(kth), NAME(exact), NAME(exact_panel),
    NAME(encode), NAME(score_one), NAME(rough), NAME(places),
#ifdef PAIRS
    OF(NAME(spread), JOIN(spread, VARIANT, float)), OF(NAME(look), JOIN(look, VARIANT, float)),
#else
    NULL, NULL,
#endif
};

#undef BLOCKS
#undef FULL
