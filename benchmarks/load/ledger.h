/* The ledger: which messages were published, and how many of their subscribers got them.
 *
 * Message n goes to channel n % channels as that channel's number n / channels. Numbers on a
 * channel must arrive one by one; what does not is counted as an error of one of three kinds.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "histogram.h"

/* Messages on their way at a time, over all channels. */
#define LEDGER_SIZE (1u << 16)

struct ledger {
    uint32_t channels;
    uint32_t subscribers; /* of each channel */
    uint64_t published;
    uint64_t complete;     /* messages that reached all of their subscribers */
    uint64_t oldest;       /* all messages before it are complete */
    uint64_t deliveries;
    uint64_t holes;        /* messages that were skipped */
    uint64_t repeats;      /* messages that came again or after a later one */
    uint64_t strangers;    /* numbers that were never published */
    uint64_t measured_from_ns;
    struct histogram latency_ns;
    struct {
        uint32_t reached;
        uint64_t due_ns;
    } messages[LEDGER_SIZE];
};

struct ledger *ledger_new(uint32_t channels, uint32_t subscribers);

/* Whether another message fits. */
bool ledger_has_room(const struct ledger *ledger);

/* Enter the next message, which was due at a time; returns its number. */
uint64_t ledger_publish(struct ledger *ledger, uint64_t due_ns);

/* A subscriber that expects number *next of its channel got `sequence`. */
void ledger_receive(struct ledger *ledger, uint32_t channel, uint32_t *next, uint32_t sequence, uint64_t at_ns);

/* How many messages a channel has been given. */
uint64_t ledger_published_to(const struct ledger *ledger, uint32_t channel);
