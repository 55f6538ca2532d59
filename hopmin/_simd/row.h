/* The row-wise operations of a transformer between its matrix products, with the vectors of vectors.h.
 *
 * _layers_numpy.py has the formulas. Rows have any length: they are read one vector at a time, and the last vector is
 * padded. Numbers that are not finite give NaN, as in NumPy.
 */

/* j = 0, LANES, 2 LANES, ... < count */
#define EACH(j, count) for (ptrdiff_t j = 0; j < (count); j += LANES)

/* The next vector of a row with `left` numbers left: from (min(left, LANES),)  ->  vec, filled up with `filling`. */
INLINE vec NAME(take)(const T *from, ptrdiff_t left, T filling)
{
    if (left >= LANES)
        return NAME(load)(from);
    T part[BYTES / sizeof(T)];
    for (int l = 0; l < LANES; l++)
        part[l] = l < left ? from[l] : filling;
    return NAME(load)(part);
}

/* vec  ->  to (min(left, LANES),). */
INLINE void NAME(put)(T *to, vec v, ptrdiff_t left)
{
    if (left >= LANES) {
        NAME(store)(to, v);
        return;
    }
    T part[BYTES / sizeof(T)];
    NAME(store)(part, v);
    for (int l = 0; l < LANES && l < left; l++)
        to[l] = part[l];
}

/* Layer norm. x (m, d), gain (d,), bias (d,) or NULL  ->  y (m, d), z (m, d), scale (m,):
 *
 *     scale = 1 / sqrt(variance + epsilon),  z = (x - mean) scale,  y = gain z + bias
 *
 * z and scale are kept for norm_back. x - mean is stored in z before it is squared: subtracting first keeps the digits
 * of rows whose mean is large. */
static void NAME(norm)(const void *x, ptrdiff_t m, ptrdiff_t d, const void *gain, const void *bias, double epsilon,
                       void *y, void *z, void *scale)
{
    const T *x_ = x, *gain_ = gain, *bias_ = bias;
    T *y_ = y, *z_ = z;
    for (ptrdiff_t i = 0; i < m; i++, x_ += d, y_ += d, z_ += d) {
        vec total = {0}, squares = {0};
        EACH(j, d) total += NAME(take)(x_ + j, d - j, 0);
        const T mean = NAME(sum)(total) / (T)d;
        EACH(j, d) {
            NAME(put)(z_ + j, NAME(take)(x_ + j, d - j, 0) - mean, d - j);
            const vec c = NAME(take)(z_ + j, d - j, 0);
            squares = FMA(c, c, squares);
        }
        const T by = (T)(1 / sqrt((double)NAME(sum)(squares) / (double)d + epsilon));
        ((T *)scale)[i] = by;
        EACH(j, d) {
            const vec c = NAME(take)(z_ + j, d - j, 0) * by, g = NAME(take)(gain_ + j, d - j, 0);
            NAME(put)(z_ + j, c, d - j);
            NAME(put)(y_ + j, g * c + (bias ? NAME(take)(bias_ + j, d - j, 0) : (vec){0}), d - j);
        }
    }
}

/* The gradient of a layer norm. dy (m, d), z (m, d), scale (m,), gain (d,)
 * ->  dx (m, d); dgain (d,) and dbias (d,), which may be NULL, are added to:
 *
 *     dx = scale (dz - mean(dz) - z mean(dz z)),  dz = gain dy;  dgain += dy z,  dbias += dy  for each row
 *
 * z has mean 0 and a fixed norm, so dz loses its components along 1 and z. */
static void NAME(norm_back)(const void *dy, const void *z, const void *scale, ptrdiff_t m, ptrdiff_t d,
                            const void *gain, void *dx, void *dgain, void *dbias)
{
    const T *dy_ = dy, *z_ = z, *gain_ = gain;
    T *dx_ = dx, *dgain_ = dgain, *dbias_ = dbias;
    for (ptrdiff_t i = 0; i < m; i++, dy_ += d, z_ += d, dx_ += d) {
        vec total = {0}, product = {0};
        EACH(j, d) {
            const ptrdiff_t left = d - j;
            const vec change = NAME(take)(dy_ + j, left, 0), c = NAME(take)(z_ + j, left, 0);
            const vec dz = change * NAME(take)(gain_ + j, left, 0);
            total += dz;
            product = FMA(dz, c, product);
            NAME(put)(dgain_ + j, FMA(change, c, NAME(take)(dgain_ + j, left, 0)), left);
            if (dbias)
                NAME(put)(dbias_ + j, NAME(take)(dbias_ + j, left, 0) + change, left);
        }
        const T mean = NAME(sum)(total) / (T)d, along = NAME(sum)(product) / (T)d, by = ((const T *)scale)[i];
        EACH(j, d) {
            const ptrdiff_t left = d - j;
            const vec dz = NAME(take)(dy_ + j, left, 0) * NAME(take)(gain_ + j, left, 0);
            NAME(put)(dx_ + j, (dz - mean - NAME(take)(z_ + j, left, 0) * along) * by, left);
        }
    }
}

/* GELU. x (d,), bias (d,) or NULL  ->  y (d,), which may be x; and slope (d,) = dy/du, unless it is NULL:
 *
 *     u = x + bias,  y = u w,  w = 1 / (1 + e^-v),  v = a u (1 + c u^2)
 *
 * This w is the (1 + tanh(v / 2)) / 2 of the NumPy twin, with one exponential and no tanh. */
static void NAME(gelu)(const void *x, const void *bias, ptrdiff_t d, void *y, void *slope)
{
    const T a = (T)1.5957691216057308, c = (T)0.044715;                         /* a = 2 sqrt(2 / pi) */
    EACH(j, d) {
        vec u = NAME(take)((const T *)x + j, d - j, 0);
        if (bias)
            u += NAME(take)((const T *)bias + j, d - j, 0);
        const vec square = u * u, v = a * u * ((T)1 + c * square);
        /* e^-|v| never overflows; w and 1 - w swap with the sign of v, and neither is computed by cancellation */
        const ivec negative = MASK(v < 0);
        const vec e = NAME(exponential)(NAME(floats)((NAME(bits)(v) & negative) | (NAME(bits)(-v) & ~negative)));
        const vec more = (T)1 / ((T)1 + e), less = e * more;
        const vec w = NAME(floats)((NAME(bits)(less) & negative) | (NAME(bits)(more) & ~negative));
        NAME(put)((T *)y + j, u * w, d - j);
        if (slope)                                                              /* w + u w (1 - w) dv/du */
            NAME(put)((T *)slope + j, w + u * less * more * (a + 3 * a * c * square), d - j);
    }
}

/* The number of positions that row i of scores (m, s) sees. Rows are t queries at the last t of s positions, once for
 * each of m / t heads: row i is query i % t, at position s - t + i % t, and sees the positions up to its own. */
#define SEEN(i) (s - t + (i) % t + 1)

/* Causal softmax. scores (m, s)  ->  in place, softmax(beta scores) over the positions that each row sees, 0 elsewhere.
 *
 * Subtracting the maximum first keeps the exponentials in (0, 1]. A NaN or +inf gives a row of NaN; -inf gives 0. */
static void NAME(softmax)(void *scores, ptrdiff_t m, ptrdiff_t t, ptrdiff_t s, double beta)
{
    T *row = scores;
    const vec lowest = NAME(splat)(OF(-FLT_MAX, -DBL_MAX)), nothing = {0};
    for (ptrdiff_t i = 0; i < m; i++, row += s) {
        const ptrdiff_t seen = SEEN(i);
        vec peak = NAME(splat)(-(T)INFINITY), total = {0};
        EACH(j, seen) {
            const vec score = NAME(take)(row + j, seen - j, -(T)INFINITY);
            peak = MAX(peak, score);
            total = FMA(MAX(lowest, score), nothing, total);                    /* 0; NaN if a score is NaN or +inf */
        }
        const T top = NAME(highest)(peak);
        EACH(j, seen) {
            const vec w = NAME(exponential)((NAME(take)(row + j, seen - j, -(T)INFINITY) - top) * (T)beta);
            NAME(put)(row + j, w, seen - j);
            total += w;
        }
        const T all = NAME(sum)(total);
        EACH(j, seen) NAME(put)(row + j, NAME(take)(row + j, seen - j, 0) / all, seen - j);
        memset(row + seen, 0, sizeof(T) * (size_t)(s - seen));
    }
}

/* The gradient of a causal softmax. dweights (m, s), weights (m, s)  ->  dweights becomes dscores:
 *
 *     dscores = beta weights (dweights - sum_j weights_j dweights_j),  0 where a row does not see */
static void NAME(softmax_back)(void *dweights, const void *weights, ptrdiff_t m, ptrdiff_t t, ptrdiff_t s, double beta)
{
    T *row = dweights;
    const T *w = weights;
    for (ptrdiff_t i = 0; i < m; i++, row += s, w += s) {
        const ptrdiff_t seen = SEEN(i);
        vec product = {0};
        EACH(j, seen) product = FMA(NAME(take)(row + j, seen - j, 0), NAME(take)(w + j, seen - j, 0), product);
        const T mean = NAME(sum)(product);
        EACH(j, seen) {
            const vec change = (NAME(take)(row + j, seen - j, 0) - mean) * NAME(take)(w + j, seen - j, 0);
            NAME(put)(row + j, change * (T)beta, seen - j);
        }
        memset(row + seen, 0, sizeof(T) * (size_t)(s - seen));
    }
}

/* AdamW. p, m, v (count,), overwritten, and the gradient g (count,):
 *
 *     m += (1 - b1) (g - m),  v += (1 - b2) (g^2 - v),  p = kept p - rate m / (sqrt(v) + epsilon)
 *
 * It takes one pass over the four arrays, where NumPy takes more than ten; memory bandwidth is the limit. */
static void NAME(adamw)(void *p, const void *g, void *m, void *v, ptrdiff_t count, double b1, double b2,
                        double kept, double rate, double epsilon)
{
    T *p_ = p, *m_ = m, *v_ = v;
    EACH(j, count) {
        const ptrdiff_t left = count - j;
        const vec slope = NAME(take)((const T *)g + j, left, 0);
        vec m = NAME(take)(m_ + j, left, 0), v = NAME(take)(v_ + j, left, 0);
        m += (slope - m) * (T)(1 - b1);
        v += (slope * slope - v) * (T)(1 - b2);
        NAME(put)(m_ + j, m, left);
        NAME(put)(v_ + j, v, left);
        NAME(put)(p_ + j, NAME(take)(p_ + j, left, 0) * (T)kept - m / (SQRT(v) + (T)epsilon) * (T)rate, left);
    }
}

/* x (d,) += change (d,), unless it is NULL, + bias (d,). */
static void NAME(add)(void *x, const void *change, const void *bias, ptrdiff_t d)
{
    EACH(j, d) {
        vec sum = NAME(take)((T *)x + j, d - j, 0);
        if (change)
            sum += NAME(take)((const T *)change + j, d - j, 0);
        NAME(put)((T *)x + j, sum + NAME(take)((const T *)bias + j, d - j, 0), d - j);
    }
}

/* Attention of one query over the cache. q (e,), keys (e, s) with rows `step` apart, values (s, e)
 * ->  y (e,) = softmax(beta q keys) values over the first `seen` positions; scores (seen,) is working memory.
 *
 * Keys are transposed: a vector holds one coordinate of LANES neighbouring keys, and scores need no sum across lanes.
 */
static void NAME(attend)(const void *q, const void *keys, ptrdiff_t step, const void *values, ptrdiff_t seen,
                         ptrdiff_t s, ptrdiff_t e, double beta, void *scores, void *y)
{
    const T *value = values;
    T *score = scores, *y_ = y;
    EACH(j, seen) {
        vec product = {0};
        for (ptrdiff_t i = 0; i < e; i++) {
            const vec key = NAME(take)((const T *)keys + i * step + j, s - j, 0);
            product = FMA(NAME(splat)(((const T *)q)[i]), key, product);
        }
        NAME(put)(score + j, product, seen - j);
    }
    NAME(softmax)(score, 1, 1, seen, beta);
    EACH(i, e) {
        vec sum = {0};
        for (ptrdiff_t j = 0; j < seen; j++)
            sum = FMA(NAME(take)(value + j * e + i, e - i, 0), NAME(splat)(score[j]), sum);
        NAME(put)(y_ + i, sum, e - i);
    }
}

static const row_kernels NAME(row_kernels) = {
    NAME(norm), NAME(norm_back), NAME(gelu), NAME(softmax), NAME(softmax_back), NAME(adamw), NAME(add),
    NAME(attend),
};

#undef EACH
#undef SEEN
