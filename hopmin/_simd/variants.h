/* Compile a PAGE of functions once for each variant (instruction set) and each float type, and choose a variant at run
 * time. README.md in this directory explains the include scheme.
 *
 * In    PAGE       the header that defines the functions, such as "tile.h"
 *       TABLE      the struct of function pointers that the page ends with, such as tile_kernels
 * Out   variants   for each variant its name, whether this processor can run it, and a TABLE for each float type
 *       best_variant()
 *
 * No compiler flag decides: the file as a whole is compiled for the baseline of the architecture, and each better
 * variant with the target attributes of its own functions, so one binary runs everywhere. Where the compiler has no
 * vector extensions (or PLAIN is set) a vector is a single number, and the same source compiles to plain loops.
 */
#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifndef PLAIN
#if defined(__GNUC__) || defined(__clang__)
#define PLAIN 0
#else
#define PLAIN 1
#endif
#endif

#if PLAIN
#define INLINE static inline
INLINE int lowest(uint64_t bits) { int place = 0; for (; !(bits & 1); bits >>= 1) place++; return place; }
#define LOWEST(bits) lowest(bits)
#define FIRST(lanes) 0 /* the place of the lowest bit: there is one lane only */
#define UNROLL
#define PREFETCH(address)
#else
#define INLINE static inline __attribute__((always_inline))
#define FIRST(lanes) __builtin_ctz(lanes)
#define LOWEST(bits) __builtin_ctzll(bits)
#define PREFETCH(address) __builtin_prefetch(address)
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
#if defined(__clang__) || __GNUC__ >= 12
#define SHUFFLE(places, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(places, a, b, ...) __builtin_shuffle(a, b, (places){__VA_ARGS__})
#endif
#endif

/* The coefficients of q in e^r = 1 + r + r^2 q(r), highest power first; see `exponential` in vectors.h. */
#define Q_FLOAT 0.00139262134663f, 0.00836320297158f, 0.04166655443769f, 0.16666576845994f, 0.5f
#define Q_DOUBLE \
    2.0914717341716376e-9, 2.5105259538448493e-8, 2.7557273570102140e-7, 2.7557255297969644e-6, 2.4801587325605323e-5, \
    1.9841269874901259e-4, 1.3888888888883732e-3, 8.3333333333261121e-3, 4.1666666666669770e-2, 1.6666666666666671e-1, 0.5

#define JOIN_(a, b, c) a##b##c
#define JOIN(a, b, c) JOIN_(a, b, c)
#define NAME(f) JOIN(f, VARIANT, T) /* score_avx2_float: functions carry their variant and float type in their names */

/* Each variant defines the macros that vectors.h lists, and then includes it.
 *
 * The baseline is what every processor of the architecture has: SSE2 on x86-64, NEON on ARM, elsewhere whatever the
 * compiler makes of vectors of 16 bytes. */
#define VARIANT _baseline_
#if PLAIN
#define BYTES sizeof(T)
#define ROWS 6
#define WIDE 2
#elif defined(__aarch64__)
#define BYTES 16
#define ROWS 6
#define WIDE 4 /* 32 registers hold 6 x 4 sums; 16 registers hold 6 x 2 */
#else
#define BYTES 16
#define ROWS 6
#define WIDE 2
#endif
#if !PLAIN && defined(__aarch64__)
#include <arm_neon.h>
#define FMA(a, b, c) OF(vfmaq_f32, vfmaq_f64)(c, a, b)
#else
#define FMA(a, b, c) ((a) * (b) + (c))
#endif
#if !PLAIN && defined(__x86_64__)
#include <immintrin.h>
#define MAX OF(_mm_max_ps, _mm_max_pd)
#define SQRT OF(_mm_sqrt_ps, _mm_sqrt_pd)
#define AT_LEAST(a, b) OF(_mm_movemask_ps, _mm_movemask_pd)(OF(_mm_cmpge_ps, _mm_cmpge_pd)(a, b))
#define PAIRS(a, b) _mm_madd_epi16((__m128i)(a), (__m128i)(b))
#else
#define MAX NAME(greater)
#define SQRT NAME(root)
#define AT_LEAST NAME(at_least)
#endif
#define LESS(a, b) ((a) - NAME(splat)(b))
#define BYTES4(sum, a, b)
#define BYTES4_TARGET
#define BYTES4_HERE() 0
#include "vectors.h"

#if !PLAIN && defined(__x86_64__)

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
#define VARIANT _avx2_
#define BYTES 32
#define ROWS 6
#define WIDE 2
#define FMA OF(_mm256_fmadd_ps, _mm256_fmadd_pd)
#define MAX OF(_mm256_max_ps, _mm256_max_pd)
#define SQRT OF(_mm256_sqrt_ps, _mm256_sqrt_pd)
#define AT_LEAST(a, b) OF(_mm256_movemask_ps, _mm256_movemask_pd)(OF(_mm256_cmp_ps, _mm256_cmp_pd)(a, b, _CMP_GE_OQ))
#define LESS(a, b) ((a) - NAME(splat)(b))
#define PAIRS(a, b) _mm256_madd_epi16((__m256i)(a), (__m256i)(b))
#define BYTES4(sum, a, b)
#define BYTES4_TARGET
#define BYTES4_HERE() 0
#include "vectors.h"
#if defined(__clang__)
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx512f,avx512vl,avx512bw,avx512dq,avx2,fma"))), apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx512f,avx512vl,avx512bw,avx512dq,avx2,fma,prefer-vector-width=512")
#endif
#define VARIANT _avx512_
#define BYTES 64
#define ROWS 6
#define WIDE 4 /* rather than 12 x 2: on some processors a broadcast costs as much as an addition */
#define FMA OF(_mm512_fmadd_ps, _mm512_fmadd_pd)
#define MAX OF(_mm512_max_ps, _mm512_max_pd)
#define SQRT OF(_mm512_sqrt_ps, _mm512_sqrt_pd)
#define AT_LEAST(a, b) OF(_mm512_cmp_ps_mask, _mm512_cmp_pd_mask)(a, b, _CMP_GE_OQ)
/* an operand in memory is copied to all lanes on the way in, without an instruction; compilers copy it to a register */
#define LESS(a, b) ({ vec u_; LESS_FROM_MEMORY(u_, a, b); u_; })
#define LESS_FROM_MEMORY(u, a, b) \
    __asm__(OF("vsubps %2%{1to16%}, %1, %0", "vsubpd %2%{1to8%}, %1, %0") : "=v"(u) : "v"(a), "m"(b))
#define PAIRS(a, b) _mm512_madd_epi16((__m512i)(a), (__m512i)(b))
#define BYTES4(sum, a, b) __asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(a), "m"(b))
#define BYTES4_TARGET __attribute__((target("avx512vnni")))
#define BYTES4_HERE() __builtin_cpu_supports("avx512vnni")
#include "vectors.h"
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

static int has_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
static int has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl")
           && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
}

#endif

static int always(void) { return 1; }

#define BOTH(variant) &JOIN(TABLE, variant, float), &JOIN(TABLE, variant, double)

/* The variants of this build, the most basic first. A processor that can run one can run all before it. */
static const struct variant {
    const char *name;
    int (*runs_here)(void);
    const TABLE *single_precision, *double_precision;
} variants[] = {
    {"baseline", always, BOTH(_baseline_)},
#if !PLAIN && defined(__x86_64__)
    {"avx2", has_avx2, BOTH(_avx2_)},
    {"avx512", has_avx512, BOTH(_avx512_)},
#endif
};
enum { VARIANTS = sizeof variants / sizeof *variants };

/* The index of the last variant that this processor can run. */
static int best_variant(void)
{
    int best = 0;
    while (best + 1 < VARIANTS && variants[best + 1].runs_here())
        best++;
    return best;
}
