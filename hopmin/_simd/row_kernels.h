/* The functions of row.h, compiled for every variant. _layers.pyx includes this file; row.h says what they do.
 *
 * `void *` stands for numbers of the table's float type: Cython calls float and double through the same signatures. */
#include <stddef.h>

typedef struct {
    void (*norm)(const void *x, ptrdiff_t m, ptrdiff_t d, const void *gain, const void *bias, double epsilon, void *y,
                 void *z, void *scale);
    void (*norm_back)(const void *dy, const void *z, const void *scale, ptrdiff_t m, ptrdiff_t d, const void *gain,
                      void *dx, void *dgain, void *dbias);
    void (*gelu)(const void *x, const void *bias, ptrdiff_t d, void *y, void *slope);
    void (*softmax)(void *scores, ptrdiff_t m, ptrdiff_t t, ptrdiff_t s, double beta);
    void (*softmax_back)(void *dweights, const void *weights, ptrdiff_t m, ptrdiff_t t, ptrdiff_t s, double beta);
    void (*adamw)(void *p, const void *g, void *m, void *v, ptrdiff_t count, double b1, double b2, double kept,
                  double rate, double epsilon);
    void (*add)(void *x, const void *change, const void *bias, ptrdiff_t d);
    void (*attend)(const void *q, const void *keys, ptrdiff_t step, const void *values, ptrdiff_t seen, ptrdiff_t s,
                   ptrdiff_t e, double beta, void *scores, void *y);
} row_kernels;

#define PAGE "row.h"
#define TABLE row_kernels
#include "variants.h"
