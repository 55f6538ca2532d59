/* The tile: all arithmetic on scores. `_tiles.h` includes this file once for each variant, and defines
 *
 *     VARIANT, BYTES   its name, and the size of its vectors (of one number, where the compiler has none)
 *     ROWS, WIDE       queries, and vectors of patterns, that are scored together: registers hold ROWS x WIDE sums
 *     FMA(a, b, c)     a b + c, rounded once where the processor can
 *     MAX(a, b)        lane by lane
 *     AT_LEAST(a, b)   a bit for each lane with a >= b
 *
 * Here it includes itself for each type T of floats, with I, the integers of that size, and OF, the choice between what
 * is written for one or the other.
 *
 * Patterns lie in panels of PANEL, coordinate by coordinate, so that neighbours in memory are scored together; queries
 * in groups of ROWS, likewise. What a pair of them scores does not depend on where in panel and group they stand.
 */
#ifndef T

#define T float
#define I int32_t
#define OF(of_float, of_double) of_float
#include "_tile.h"
#undef T
#undef I
#undef OF

#define T double
#define I int64_t
#define OF(of_float, of_double) of_double
#include "_tile.h"
#undef T
#undef I
#undef OF

#undef VARIANT
#undef BYTES
#undef ROWS
#undef WIDE
#undef FMA
#undef MAX
#undef AT_LEAST

#else

#define LANES ((int)(BYTES / sizeof(T)))
#define vec NAME(vec)
#define ivec NAME(ivec)
#if PLAIN
typedef T vec;
typedef I ivec;
#define MASK(condition) (-(ivec)(condition))
#else
typedef T vec __attribute__((vector_size(BYTES)));
typedef I ivec __attribute__((vector_size(BYTES)));
#define MASK(condition) ((ivec)(condition))
#endif

INLINE vec NAME(load)(const T *from) { vec v; memcpy(&v, from, sizeof v); return v; }
INLINE void NAME(store)(T *to, vec v) { memcpy(to, &v, sizeof v); }
INLINE vec NAME(splat)(T x) { return x - (vec){0}; }
INLINE ivec NAME(bits)(vec v) { ivec b; memcpy(&b, &v, sizeof b); return b; }
INLINE vec NAME(floats)(ivec b) { vec v; memcpy(&v, &b, sizeof v); return v; }

/* For those without intrinsics. */
INLINE vec NAME(greater)(vec a, vec b)
{
    const ivec first = MASK(a > b);
    return NAME(floats)((NAME(bits)(a) & first) | (NAME(bits)(b) & ~first));
}

INLINE unsigned NAME(at_least)(vec a, vec b)
{
    T a_lane[BYTES / sizeof(T)], b_lane[BYTES / sizeof(T)];
    unsigned lanes = 0;
    NAME(store)(a_lane, a);
    NAME(store)(b_lane, b);
    for (int l = 0; l < LANES; l++)
        lanes |= (unsigned)(a_lane[l] >= b_lane[l]) << l;
    return lanes;
}

INLINE T NAME(highest)(vec v)
{
    T lane[BYTES / sizeof(T)];
    NAME(store)(lane, v);
    for (int half = LANES / 2; half; half /= 2)
        for (int l = 0; l < half; l++)
            lane[l] = lane[l] > lane[l + half] ? lane[l] : lane[l + half];
    return lane[0];
}

INLINE T NAME(sum)(vec v)
{
    T lane[BYTES / sizeof(T)];
    NAME(store)(lane, v);
    for (int half = LANES / 2; half; half /= 2)
        for (int l = 0; l < half; l++)
            lane[l] += lane[l + half];
    return lane[0];
}

/* e^x for x <= 0: within 2 ulp and monotone; exactly 1 at 0, exactly 0 where it would be less than normal numbers. */
INLINE vec NAME(exponential)(vec x)
{
    /* x = n log 2 + r, with |r| <= log(2) / 2. Adding 3/2 of 2^23 (or 2^52) rounds, and leaves n in the lowest bits. */
    const T shift = OF(12582912.f, 6755399441055744.);
    const vec t = x * (T)1.4426950408889634 + shift, n = t - shift;
    const T high = OF(0.693359375f, 6.93147180369123816490e-01);                /* of log 2: n times it is exact */
    const T low = OF(-2.12194440e-4f, 1.90821492927058770002e-10);
    const vec r = FMA(n, NAME(splat)(-low), FMA(n, NAME(splat)(-high), x));
    /* e^r = 1 + r + r^2 q(r), where q is minimax (mpmath's chebyfit); the error is .13 and .002 ulp */
    static const T q[] = {OF(Q_FLOAT, Q_DOUBLE)};
    vec p = NAME(splat)(q[0]);
    UNROLL for (int i = 1; i < (int)(sizeof q / sizeof *q); i++)
        p = FMA(p, r, NAME(splat)(q[i]));
    p = FMA(r * r, p, r) + (T)1;
    /* times 2^n: into the exponent's bits with it; the other bits of t fall off on the left */
    const ivec scaled = NAME(bits)(p) + (NAME(bits)(t) << OF(23, 52));
    return NAME(floats)(scaled & MASK(x >= OF(-87.33654f, -708.3964185322641)));
}

static void NAME(exponentials)(const void *x, ptrdiff_t count, void *out)
{
    for (ptrdiff_t i = 0; i < count; i += LANES) {
        T part[BYTES / sizeof(T)] = {0};
        const size_t size = sizeof(T) * (size_t)(count - i < LANES ? count - i : LANES);
        memcpy(part, (const T *)x + i, size);
        NAME(store)(part, NAME(exponential)(NAME(load)(part)));
        memcpy((T *)out + i, part, size);
    }
}

/* The largest magnitude; NaN if one of them is not finite. */
static double NAME(largest)(const void *numbers, ptrdiff_t count)
{
    const T *a = numbers;
    const vec nothing = {0};
    vec top = {0}, zero = {0};                                                  /* every finite number times 0 */
    ptrdiff_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        const vec v = NAME(load)(a + i);
        top = MAX(top, MAX(v, -v));
        zero = FMA(v, nothing, zero);
    }
    T largest = NAME(highest)(top), none = NAME(sum)(zero);
    for (; i < count; i++) {
        const T magnitude = a[i] < 0 ? -a[i] : a[i];
        largest = magnitude > largest ? magnitude : largest;
        none += a[i] * 0;
    }
    return largest + none;
}

#if !PLAIN
/* Four rows of four, transposed; rows lie `from_step` and `to_step` apart. */
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

/* `count` rows of d numbers into one panel; the last row once more where there are fewer than PANEL. */
static void NAME(pack)(const void *rows, ptrdiff_t count, ptrdiff_t d, void *panel)
{
    const T *from = rows;
    T *to = panel;
    ptrdiff_t c = 0;
#if !PLAIN
    for (; count == PANEL && c + 4 <= d; c += 4)
        for (ptrdiff_t j = 0; j < PANEL; j += 4) {
            PREFETCH(from + PANEL * d + PANEL * c + 4 * j);                     /* of the next panel, all in turn */
            NAME(transpose)(from + j * d + c, d, to + c * PANEL + j, PANEL);
        }
#endif
    for (; c < d; c++)
        for (ptrdiff_t j = 0; j < PANEL; j++)
            to[c * PANEL + j] = from[(j < count ? j : count - 1) * d + c];
}

/* The first `count` rows of a panel. */
static void NAME(unpack)(const void *panel, ptrdiff_t count, ptrdiff_t d, void *rows)
{
    const T *from = panel;
    T *to = rows;
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

/* m queries (m, d) in groups of ROWS, the last filled up with zeros. */
static void NAME(group)(const void *queries, ptrdiff_t m, ptrdiff_t d, void *groups)
{
    T *to = groups;
    for (ptrdiff_t i = 0; i < m; i += ROWS)
        for (ptrdiff_t c = 0; c < d; c++)
            for (ptrdiff_t row = i; row < i + ROWS; row++)
                *to++ = row < m ? ((const T *)queries)[row * d + c] : 0;
}

/* Values (count, v) in panels of PANEL columns, row by row, filled up with zeros: what `mix` multiplies by. */
static void NAME(columns)(const void *values, ptrdiff_t count, ptrdiff_t v, void *panels)
{
    T *to = panels;
    for (ptrdiff_t c = 0; c < v; c += PANEL)
        for (ptrdiff_t j = 0; j < count; j++, to += PANEL) {
            const size_t size = sizeof(T) * (size_t)(v - c < PANEL ? v - c : PANEL);
            memcpy(to, (const T *)values + j * v + c, size);
            memset((char *)to + size, 0, sizeof(T) * PANEL - size);
        }
}

/* The register block, all arithmetic of a tile: for `rows` rows of a, and `wide` vectors of columns of b,
 *
 *     out[i, l] = sum_c a[i, c] b[c, l],  or  -sum_c (a[i, c] - b[c, l])^2
 *
 * with a[i, c] at a[i * row + c * step], b[c, l] at b[c * PANEL + l]. Sums run over c in order, so the rest of the
 * arrangement (which rows, which columns, how many) does not show in their bits. */
INLINE void NAME(block)(const T *a, ptrdiff_t row, ptrdiff_t step, const T *b, ptrdiff_t d, int rows, int wide,
                        int difference, T *out, ptrdiff_t stride)
{
    vec sum[8][8], y[8];
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int w = 0; w < wide; w++)
            sum[i][w] = (vec){0};
    for (ptrdiff_t c = 0; c < d; c++, a += step, b += PANEL) {
        UNROLL for (int w = 0; w < wide; w++)
            y[w] = NAME(load)(b + w * LANES);
        UNROLL for (int i = 0; i < rows; i++) {
            const vec x = NAME(splat)(a[i * row]);
            UNROLL for (int w = 0; w < wide; w++) {
                const vec u = x - y[w];
                sum[i][w] = difference ? FMA(u, u, sum[i][w]) : FMA(x, y[w], sum[i][w]);
            }
        }
    }
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int w = 0; w < wide; w++)
            NAME(store)(out + i * stride + w * LANES, difference ? (vec){0} - sum[i][w] : sum[i][w]);
}

/* The same for columns of a panel, with numbers of rows that the compiler knows: 1, 2, 4 or ROWS, the least that holds them.
 * Fewer rows leave registers for more columns, so that memory is read in long runs. */
#define BLOCKS(rows, wide) \
    for (ptrdiff_t l = 0; l < columns; l += (wide) * LANES) \
        NAME(block)(a, row, step, b + l, d, rows, wide, difference, out + l, stride)
#define FULL (PANEL / LANES < 8 ? PANEL / LANES : 8)
INLINE void NAME(panel)(const T *a, ptrdiff_t row, ptrdiff_t step, const T *b, ptrdiff_t columns, ptrdiff_t d,
                        ptrdiff_t rows, int difference, T *out, ptrdiff_t stride)
{
    if (rows <= 1) BLOCKS(1, FULL);
    else if (rows <= 2) BLOCKS(2, 4);
    else if (rows <= 4) BLOCKS(4, WIDE);
    else if (columns <= LANES) BLOCKS(ROWS, 1);
    else if (columns <= 2 * LANES) BLOCKS(ROWS, 2);
    else BLOCKS(ROWS, WIDE);
}

/* Scores of m grouped queries and one panel, into scores (m filled up to groups, TILE): x.p, or -|x - p|^2. */
static void NAME(score)(const void *groups, ptrdiff_t m, const void *panel, ptrdiff_t d, int difference, void *scores)
{
    const char *next = (const char *)((const T *)panel + PANEL * d);
    for (ptrdiff_t i = 0; i < m; i += ROWS) {
        const T *a = (const T *)groups + i * d;
        T *out = (T *)scores + i * TILE;
        if (difference) NAME(panel)(a, 1, ROWS, panel, PANEL, d, m - i, 1, out, TILE);
        else NAME(panel)(a, 1, ROWS, panel, PANEL, d, m - i, 0, out, TILE);
        if (m > 8 * ROWS)                                                       /* a share of the panel that may follow */
            for (ptrdiff_t e = 0; e < PANEL * d * ROWS / m * (ptrdiff_t)sizeof(T); e += 64, next += 64)
                PREFETCH(next);
    }
}

/* The largest of count scores (and of those after, to the end of the panel); `finite` becomes 0 if one is not. */
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

/* Scores become weights exp(beta (score - peak)), and are summed; those after count, to the end of the panel, 0. */
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

/* mix (m, v) += weights (m filled up to groups, TILE) times values (count, v), which lie in columns. */
static void NAME(mix)(const void *weights, ptrdiff_t m, ptrdiff_t count, const void *values, ptrdiff_t v, double *mix)
{
    for (ptrdiff_t c = 0; c < v; c += PANEL)
        for (ptrdiff_t i = 0; i < m; i += ROWS) {
            T out[ROWS][PANEL];
            const ptrdiff_t columns = v - c < PANEL ? v - c : PANEL;
            NAME(panel)((const T *)weights + i * TILE, TILE, 1, (const T *)values + c * count, columns, count, m - i, 0,
                        out[0], PANEL);
            for (ptrdiff_t row = i; row < m && row < i + ROWS; row++)
                for (ptrdiff_t e = 0; e < columns; e++)
                    mix[row * v + c + e] += out[row - i][e];
        }
}

/* The first of the scores from j on, before count, that reaches the cut; count if none does. */
static ptrdiff_t NAME(above)(const void *scores, ptrdiff_t j, ptrdiff_t count, double cut)
{
    const vec threshold = NAME(splat)((T)cut);
    for (; j < count; j += LANES) {
        unsigned lanes = AT_LEAST(NAME(load)((const T *)scores + j), threshold);
        if (lanes) {
            for (; !(lanes & 1); lanes >>= 1)
                j++;
            return j < count ? j : count;
        }
    }
    return count;
}

/* Scores in float64, rounded after each operation, the sum in order: the judge of all others. Of one query and `count`
 * patterns side by side, whose coordinates lie `stride` apart. */
INLINE void NAME(exactly)(const T *x, const T *p, ptrdiff_t stride, ptrdiff_t d, int count, int difference, double *out)
{
    double sum[PANEL] = {0};
    for (ptrdiff_t c = 0; c < d; c++, p += stride)
        for (int l = 0; l < count; l++) {
            const double u = (double)x[c] - (double)p[l];
            sum[l] += difference ? -(u * u) : (double)x[c] * (double)p[l];
        }
    memcpy(out, sum, sizeof *out * (size_t)count);
}

static void NAME(exact)(const void *query, const void *pattern, ptrdiff_t stride, ptrdiff_t d, int difference, double *out)
{
    if (difference) NAME(exactly)(query, pattern, stride, d, 1, 1, out);
    else NAME(exactly)(query, pattern, stride, d, 1, 0, out);
}

static void NAME(exact_panel)(const void *query, const void *panel, ptrdiff_t d, int difference, double *out)
{
    if (difference) NAME(exactly)(query, panel, PANEL, d, PANEL, 1, out);
    else NAME(exactly)(query, panel, PANEL, d, PANEL, 0, out);
}

static const tile NAME(tile) = {
    NAME(exponentials), NAME(largest), NAME(pack), NAME(unpack), NAME(group), NAME(columns),
    NAME(score), NAME(peak), NAME(weigh), NAME(mix), NAME(above), NAME(exact), NAME(exact_panel),
};

#undef LANES
#undef MASK
#undef BLOCKS
#undef FULL
#undef vec
#undef ivec

#endif
