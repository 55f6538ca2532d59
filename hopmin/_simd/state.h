/* The floating-point state of a thread: how it rounds, and whether it replaces subnormal numbers by zero.
 *
 * A library compiled with -ffast-math sets "flush to zero" and "denormals are zero" for the thread that loads it and
 * for all threads started from there; others change the direction of rounding, or let exceptions trap. The core
 * therefore works between
 *
 *     state = standard_state()     saves the state, and sets the default: to nearest, with subnormal numbers, no traps
 *     restore_state(state)         restores it, flags included
 *
 * on x86-64 and 64-bit ARM; elsewhere, these do nothing. */
#include <stdint.h>

#if defined(__GNUC__) || defined(__clang__)
#define APART __attribute__((noinline)) /* so that no arithmetic is moved across the call */
#else
#define APART
#endif

#if defined(__x86_64__) || defined(_M_X64)
#include <xmmintrin.h>
#define STANDARD 0x1F80u /* all exceptions masked, no flags */
#define GET_STATE() _mm_getcsr()
#define SET_STATE(state) _mm_setcsr((unsigned)(state))
#elif defined(__aarch64__) && (defined(__GNUC__) || defined(__clang__))
#define STANDARD 0u
static inline uint64_t get_fpcr(void)
{
    uint64_t state;
    __asm__ volatile("mrs %0, fpcr" : "=r"(state));
    return state;
}
#define GET_STATE() get_fpcr()
#define SET_STATE(state) __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)(state)))
#else
#define STANDARD 0u
#define GET_STATE() 0u
#define SET_STATE(state) (void)(state)
#endif

static APART uint64_t standard_state(void)
{
    const uint64_t state = GET_STATE();
    SET_STATE(STANDARD);
    return state;
}

static APART void restore_state(uint64_t state) { SET_STATE(state); }
