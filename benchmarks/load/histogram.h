/* A histogram of durations: 128 buckets for each power of two, so a value is known to 0.8 %. */
#pragma once

#include <stdint.h>

#define HISTOGRAM_PRECISION_BITS 7
#define HISTOGRAM_BUCKETS ((64 - HISTOGRAM_PRECISION_BITS + 1) << HISTOGRAM_PRECISION_BITS)

struct histogram {
    uint64_t count;
    uint64_t max;
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_add(struct histogram *histogram, uint64_t value);

/* The value at or below which `percent` of all values lie, by the nearest rank; 0 if empty. */
uint64_t histogram_percentile(const struct histogram *histogram, double percent);
