/* What a transformer does to each row between its products of matrices, in the vectors of `vectors.h`.
 *
 * A row is read a vector at a time; the last one is filled up. What is not finite leaves NaN behind, as in NumPy. */
#define EACH(j, count) for (ptrdiff_t j = 0; j < (count); j += LANES)

INLINE vec NAME(take)(const T *from, ptrdiff_t left, T filling)
{
    if (left >= LANES)
        return NAME(load)(from);
    T part[BYTES / sizeof(T)];
    for (int l = 0; l < LANES; l++)
        part[l] = l < left ? from[l] : filling;
    return NAME(load)(part);
}

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

/* y = gain z + bias, with z = (x - mean) scale and scale = 1 / sqrt(variance + epsilon), for m rows of d numbers. */
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

/* dx, and what the rows add to dgain and dbias (NULL: there is none): dz = gain dy without what points along 1 and z. */
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

/* y = u w and its slope (NULL: not wanted), where u = x + bias (NULL: x) and w = 1 / (1 + e^-v), v = a u (1 + c u^2). */
static void NAME(gelu)(const void *x, const void *bias, ptrdiff_t d, void *y, void *slope)
{
    const T a = (T)1.5957691216057308, c = (T)0.044715;                         /* a = 2 sqrt(2 / pi) */
    EACH(j, d) {
        vec u = NAME(take)((const T *)x + j, d - j, 0);
        if (bias)
            u += NAME(take)((const T *)bias + j, d - j, 0);
        const vec square = u * u, v = a * u * ((T)1 + c * square);
        /* e^-|v| never overflows; w and 1 - w change places with the sign of v, and keep all their digits */
        const ivec negative = MASK(v < 0);
        const vec e = NAME(exponential)(NAME(floats)((NAME(bits)(v) & negative) | (NAME(bits)(-v) & ~negative)));
        const vec more = (T)1 / ((T)1 + e), less = e * more;
        const vec w = NAME(floats)((NAME(bits)(less) & negative) | (NAME(bits)(more) & ~negative));
        NAME(put)((T *)y + j, u * w, d - j);
        if (slope)                                                              /* w + u w (1 - w) dv/du */
            NAME(put)((T *)slope + j, w + u * less * more * (a + 3 * a * c * square), d - j);
    }
}

/* How many of s positions the i-th row sees: those up to its own, where rows are the last t of them, again and again. */
#define SEEN(i) (s - t + (i) % t + 1)

/* scores (m, s) <- softmax(beta scores) over what each row sees, 0 elsewhere. */
static void NAME(soften)(void *scores, ptrdiff_t m, ptrdiff_t t, ptrdiff_t s, double beta)
{
    T *row = scores;
    const vec lowest = NAME(splat)(OF(-FLT_MAX, -DBL_MAX)), nothing = {0};
    for (ptrdiff_t i = 0; i < m; i++, row += s) {
        const ptrdiff_t seen = SEEN(i);
        vec peak = NAME(splat)(-(T)INFINITY), total = {0};
        EACH(j, seen) {
            const vec score = NAME(take)(row + j, seen - j, -(T)INFINITY);
            peak = MAX(peak, score);
            total = FMA(MAX(lowest, score), nothing, total);                    /* 0; NaN if one is NaN or infinite */
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

/* dweights (m, s) <- dscores = beta weights (dweights - their mean under the weights). */
static void NAME(soften_back)(void *dweights, const void *weights, ptrdiff_t m, ptrdiff_t t, ptrdiff_t s, double beta)
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

/* m and v follow g and g^2; p <- kept p - rate m / (sqrt(v) + epsilon). */
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

/* x += change (NULL: none) + bias. */
static void NAME(add)(void *x, const void *change, const void *bias, ptrdiff_t d)
{
    EACH(j, d) {
        vec sum = NAME(take)((T *)x + j, d - j, 0);
        if (change)
            sum += NAME(take)((const T *)change + j, d - j, 0);
        NAME(put)((T *)x + j, sum + NAME(take)((const T *)bias + j, d - j, 0), d - j);
    }
}

/* y = softmax(beta q k) v of one query (e) over the m `seen` of s keys, which lie side by side (e, step), and of
 * values (s, e). */
static void NAME(update)(const void *q, const void *keys, ptrdiff_t step, const void *values, ptrdiff_t seen,
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
    NAME(soften)(score, 1, 1, seen, beta);
    EACH(i, e) {
        vec sum = {0};
        for (ptrdiff_t j = 0; j < seen; j++)
            sum = FMA(NAME(take)(value + j * e + i, e - i, 0), NAME(splat)(score[j]), sum);
        NAME(put)(y_ + i, sum, e - i);
    }
}

static const row_kernels NAME(row_kernels) = {
    NAME(norm), NAME(norm_back), NAME(gelu), NAME(soften), NAME(soften_back), NAME(adamw), NAME(add),
    NAME(update),
};

#undef EACH
#undef SEEN
