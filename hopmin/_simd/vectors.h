/* Vectors and the operations on them. variants.h includes this file once for each variant, and defines
 *
 *     VARIANT, BYTES   the name of the variant, and the size of its vectors (of one number without vector extensions)
 *     ROWS, WIDE       the register block of tile.h: ROWS rows times WIDE vectors of sums fit into the registers
 *     FMA(a, b, c)     a b + c, rounded once where the processor can
 *     MAX(a, b)        lane by lane; b where one of them is NaN
 *     SQRT(a)          lane by lane
 *     AT_LEAST(a, b)   a bit for each lane with a >= b
 *     LESS(a, b)       a - b in every lane, where b is a number in memory; by default it is copied to all lanes first
 *     PAIRS(a, b)      for each 32 bits of two vectors, a sum of two products of 16-bit integers; not in all variants
 *     BYTES4(s, a, b)  adds to each 32 bits of s four products of bytes: of a, unsigned, and of b, signed and in memory
 *     BYTES4_HERE()    whether this processor can, in functions with the attribute BYTES4_TARGET
 *
 * This file then includes itself once for each float type, with
 *
 *     T                float or double
 *     I                the signed integer of the same size
 *     OF(f, d)         f for float, d for double
 *
 * and after the definitions below it includes the PAGE. These are
 *
 *     LANES            numbers in a vector
 *     vec, ivec        vectors of T and of I
 *     MASK(condition)  an ivec with all bits set in the lanes where the condition holds
 */
#ifndef T

#define T float
#define I int32_t
#define OF(of_float, of_double) of_float
#include "vectors.h"
#undef T
#undef I
#undef OF

#define T double
#define I int64_t
#define OF(of_float, of_double) of_double
#include "vectors.h"
#undef T
#undef I
#undef OF

#undef VARIANT
#undef BYTES
#undef ROWS
#undef WIDE
#undef FMA
#undef MAX
#undef SQRT
#undef AT_LEAST
#undef LESS
#undef PAIRS
#undef BYTES4
#undef BYTES4_TARGET
#undef BYTES4_HERE

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

/* Memory at any address <-> vec; a number in every lane; the bits of a vec <-> ivec. */
INLINE vec NAME(load)(const T *from) { vec v; memcpy(&v, from, sizeof v); return v; }
INLINE void NAME(store)(T *to, vec v) { memcpy(to, &v, sizeof v); }
INLINE vec NAME(splat)(T x) { return x - (vec){0}; }
INLINE ivec NAME(bits)(vec v) { ivec b; memcpy(&b, &v, sizeof b); return b; }
INLINE vec NAME(floats)(ivec b) { vec v; memcpy(&v, &b, sizeof v); return v; }

/* MAX, AT_LEAST and SQRT for variants without intrinsics. */
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

INLINE vec NAME(root)(vec v)
{
    T lane[BYTES / sizeof(T)];
    NAME(store)(lane, v);
    for (int l = 0; l < LANES; l++)
        lane[l] = OF(sqrtf, sqrt)(lane[l]);
    return NAME(load)(lane);
}

/* The largest of the LANES numbers of v, for numbers that are not NaN. */
INLINE T NAME(highest)(vec v)
{
    T lane[BYTES / sizeof(T)];
    NAME(store)(lane, v);
    for (int half = LANES / 2; half; half /= 2)
        for (int l = 0; l < half; l++)
            lane[l] = lane[l] > lane[l + half] ? lane[l] : lane[l + half];
    return lane[0];
}

/* The sum of the LANES numbers of v, by halves, so that the order of additions depends on LANES alone. */
INLINE T NAME(sum)(vec v)
{
    T lane[BYTES / sizeof(T)];
    NAME(store)(lane, v);
    for (int half = LANES / 2; half; half /= 2)
        for (int l = 0; l < half; l++)
            lane[l] += lane[l + half];
    return lane[0];
}

/* The sum of the LANES integers of b. */
INLINE I NAME(total)(ivec b)
{
    I lane[BYTES / sizeof(T)], sum = 0;
    memcpy(lane, &b, sizeof b);
    for (int l = 0; l < LANES; l++)
        sum += lane[l];
    return sum;
}

/* e^x for x <= 0, lane by lane: within 2 ulp and monotone; exactly 1 at 0, exactly 0 where e^x would be subnormal.
 * Every step is one vector operation, without branches; the C library's exp takes one number per call. */
INLINE vec NAME(exponential)(vec x)
{
    /* 1. x = n log 2 + r, with |r| <= log(2) / 2. Adding 1.5 * 2^23 (or 2^52) rounds to an integer, and leaves n in the
     * lowest bits of t. log 2 is subtracted in two parts, high and low; n * high is exact. */
    const T shift = OF(12582912.f, 6755399441055744.);
    const vec t = x * (T)1.4426950408889634 + shift, n = t - shift;
    const T high = OF(0.693359375f, 6.93147180369123816490e-01);
    const T low = OF(-2.12194440e-4f, 1.90821492927058770002e-10);
    const vec r = FMA(n, NAME(splat)(-low), FMA(n, NAME(splat)(-high), x));
    /* 2. e^r = 1 + r + r^2 q(r), with a minimax polynomial q (mpmath's chebyfit); its error is .13 and .002 ulp */
    static const T q[] = {OF(Q_FLOAT, Q_DOUBLE)};
    vec p = NAME(splat)(q[0]);
    UNROLL for (int i = 1; i < (int)(sizeof q / sizeof *q); i++)
        p = FMA(p, r, NAME(splat)(q[i]));
    p = FMA(r * r, p, r) + (T)1;
    /* 3. times 2^n: shifted left, t has n in the bits of the exponent, and loses its other bits */
    const ivec scaled = NAME(bits)(p) + (NAME(bits)(t) << OF(23, 52));
    return NAME(floats)(scaled & MASK(x >= OF(-87.33654f, -708.3964185322641)));
}

#include PAGE

#undef LANES
#undef MASK
#undef vec
#undef ivec

#endif
