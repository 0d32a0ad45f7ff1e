#include "histogram.h"

#include <math.h>

/* Values below 256 have a bucket each; above, the leading 8 bits choose the bucket. */
static unsigned shift_of(uint64_t value) {
    unsigned bits = value ? 64 - (unsigned)__builtin_clzll(value) : 0;
    return bits > HISTOGRAM_PRECISION_BITS + 1 ? bits - HISTOGRAM_PRECISION_BITS - 1 : 0;
}

void histogram_add(struct histogram *histogram, uint64_t value) {
    unsigned shift = shift_of(value);
    histogram->buckets[((uint64_t)shift << HISTOGRAM_PRECISION_BITS) + (value >> shift)]++;
    histogram->count++;
    if (value > histogram->max) histogram->max = value;
}

/* The largest value that falls into a bucket. */
static uint64_t top_of(uint64_t bucket) {
    if (bucket < 2u << HISTOGRAM_PRECISION_BITS) return bucket;
    uint64_t shift = (bucket >> HISTOGRAM_PRECISION_BITS) - 1;
    uint64_t leading = bucket - (shift << HISTOGRAM_PRECISION_BITS);
    return ((leading + 1) << shift) - 1;
}

uint64_t histogram_percentile(const struct histogram *histogram, double percent) {
    uint64_t rank = (uint64_t)ceil((double)histogram->count * percent / 100);
    if (rank == 0) rank = 1;
    uint64_t seen = 0;
    for (uint64_t bucket = 0; bucket < HISTOGRAM_BUCKETS; bucket++) {
        seen += histogram->buckets[bucket];
        if (seen >= rank) {
            uint64_t top = top_of(bucket);
            return top < histogram->max ? top : histogram->max;
        }
    }
    return 0;
}
