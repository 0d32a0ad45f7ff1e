#include "ledger.h"

#include <stdlib.h>

#include "wire.h"

struct ledger *ledger_new(uint32_t channels, uint32_t subscribers) {
    struct ledger *ledger = need(calloc(1, sizeof *ledger));
    ledger->channels = channels;
    ledger->subscribers = subscribers;
    return ledger;
}

bool ledger_has_room(const struct ledger *ledger) {
    return ledger->published - ledger->oldest < LEDGER_SIZE;
}

uint64_t ledger_publish(struct ledger *ledger, uint64_t due_ns) {
    uint64_t number = ledger->published++;
    ledger->messages[number % LEDGER_SIZE].reached = 0;
    ledger->messages[number % LEDGER_SIZE].due_ns = due_ns;
    return number;
}

uint64_t ledger_published_to(const struct ledger *ledger, uint32_t channel) {
    return ledger->published / ledger->channels + (channel < ledger->published % ledger->channels);
}

static void reach(struct ledger *ledger, uint64_t number) {
    if (++ledger->messages[number % LEDGER_SIZE].reached < ledger->subscribers) return;
    ledger->complete++;
    while (ledger->oldest < ledger->published &&
           ledger->messages[ledger->oldest % LEDGER_SIZE].reached >= ledger->subscribers)
        ledger->oldest++;
}

void ledger_receive(struct ledger *ledger, uint32_t channel, uint32_t *next, uint32_t sequence, uint64_t at_ns) {
    if (sequence < *next) {
        ledger->repeats++;
        return;
    }
    if (sequence >= ledger_published_to(ledger, channel)) {
        ledger->strangers++;
        return;
    }
    /* What was skipped counts as reached, so that one loss does not end the measurement. */
    for (; *next < sequence; (*next)++) {
        ledger->holes++;
        reach(ledger, (uint64_t)*next * ledger->channels + channel);
    }
    uint64_t number = (uint64_t)sequence * ledger->channels + channel;
    uint64_t due_ns = ledger->messages[number % LEDGER_SIZE].due_ns;
    *next = sequence + 1;
    ledger->deliveries++;
    if (due_ns >= ledger->measured_from_ns) histogram_add(&ledger->latency_ns, at_ns - due_ns);
    reach(ledger, number);
}
