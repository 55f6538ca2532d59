/* The functions of tile.h, compiled for every variant. _core.pyx includes this file; tile.h says what they do.
 *
 * `void *` stands for numbers of the table's float type: Cython calls float and double through the same signatures. */
#include <stddef.h>
#include <stdint.h>

#define PANEL 64 /* patterns in a panel */
#define SMALLEST 0x1p-40 /* patterns whose largest coordinate, less the centre, is from SMALLEST to LARGEST have codes */
#define LARGEST 0x1p50
#define OUTWARDS 0x1p-21 /* by which bounds of codes are enlarged, for rounding in float32 */
#define TILE 512 /* patterns scored together; weights are summed tile by tile, so the results depend on it */

typedef struct {
    void (*exp_nonpositive)(const void *x, ptrdiff_t count, void *out);
    double (*max_abs)(const void *numbers, ptrdiff_t count);
    void (*pack)(const void *patterns, ptrdiff_t stride, ptrdiff_t count, ptrdiff_t d, void *panel);
    void (*unpack)(const void *panel, ptrdiff_t count, ptrdiff_t d, void *patterns);
    int (*alike)(const void *panel, ptrdiff_t d, const void *pattern);
    void (*group)(const void *queries, ptrdiff_t stride, ptrdiff_t m, ptrdiff_t d, void *groups);
    void (*columns)(const void *values, ptrdiff_t stride, ptrdiff_t count, ptrdiff_t v, void *panels);
    void (*score)(const void *groups, ptrdiff_t m, const void *panel, ptrdiff_t d, int difference, int more,
                  void *scores);
    double (*peak)(const void *scores, ptrdiff_t count, int *finite);
    double (*weigh)(void *scores, ptrdiff_t count, double peak, double beta);
    void (*mix)(const void *weights, ptrdiff_t m, ptrdiff_t count, const void *values, ptrdiff_t v, double *mix,
                ptrdiff_t stride);
    ptrdiff_t (*collect)(const void *scores, ptrdiff_t j, ptrdiff_t count, double cut, ptrdiff_t room,
                         long long *places, void *found);
    ptrdiff_t (*keep)(void *scores, long long *places, ptrdiff_t count, double cut);
    double (*kth)(void *scores, ptrdiff_t count, ptrdiff_t k);
    void (*exact)(const void *query, const void *patterns, const long long *places, ptrdiff_t count, int packed,
                  ptrdiff_t d, int difference, double *out);
    void (*exact_panel)(const void *query, const void *panel, ptrdiff_t d, int difference, int more, double *out);
    int (*encode)(const void *panel, ptrdiff_t d, const void *centre, uint32_t *words, float *bounds);
    void (*score_one)(const void *query, const void *panel, ptrdiff_t d, int difference, void *scores);
    double (*rough)(const void *query, const void *pattern, ptrdiff_t stride, ptrdiff_t d, int difference);
    ptrdiff_t (*places)(uint64_t bits, long long *places);
    void (*spread)(const uint32_t *words, ptrdiff_t count, ptrdiff_t steps, ptrdiff_t first, int32_t *groups,
                   int32_t *minus); /* this and the next: NULL where no instruction multiplies small integers */
    void (*look)(const int32_t *groups, const int32_t *minus, const float *twice, const float *least, ptrdiff_t m,
                 const uint32_t *words, const float *bounds, ptrdiff_t steps, uint64_t *hits);
} tile_kernels;

#define PAGE "tile.h"
#define TABLE tile_kernels
#include "variants.h"
