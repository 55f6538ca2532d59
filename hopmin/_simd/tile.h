/* The tile: all arithmetic on scores, in the vectors of `vectors.h`. Besides those, `variants.h` defines
 *
 *     ROWS, WIDE       queries, and vectors of patterns, that are scored together: registers hold ROWS x WIDE sums
 *
 * Patterns lie in panels of PANEL, coordinate by coordinate, so that neighbours in memory are scored together; queries
 * in groups of ROWS, likewise. What a pair of them scores does not depend on where in panel and group they stand.
 */
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

/* The max_abs magnitude; NaN if one of them is not finite. */
static double NAME(max_abs)(const void *numbers, ptrdiff_t count)
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
    T max_abs = NAME(highest)(top), none = NAME(sum)(zero);
    for (; i < count; i++) {
        const T magnitude = a[i] < 0 ? -a[i] : a[i];
        max_abs = magnitude > max_abs ? magnitude : max_abs;
        none += a[i] * 0;
    }
    return max_abs + none;
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
static void NAME(pack)(const void *patterns, ptrdiff_t count, ptrdiff_t d, void *panel)
{
    const T *from = patterns;
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

/* The max_abs of count scores (and of those after, to the end of the panel); `finite` becomes 0 if one is not. */
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

static const tile_kernels NAME(tile_kernels) = {
    NAME(exp_nonpositive), NAME(max_abs), NAME(pack), NAME(unpack), NAME(group), NAME(columns),
    NAME(score), NAME(peak), NAME(weigh), NAME(mix), NAME(above), NAME(exact), NAME(exact_panel),
};

#undef BLOCKS
#undef FULL
