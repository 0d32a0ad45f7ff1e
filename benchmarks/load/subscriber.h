/* One connection that subscribes: from the SYN to the last message, without the event loop. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ledger.h"
#include "options.h"

/* Largest WebSocket message or header that is understood: a recovery of thousands fits. */
#define INPUT_SIZE (4u << 20)
#define MARKER_SIZE 14
#define EPOCH_SIZE 32

enum state { AWAY, CONNECTING, UPGRADING, JOINING, JOINED };

struct subscriber {
    int fd;
    uint8_t state;
    bool chunked;
    bool comes_back; /* it has a position and says its --recover */
    uint8_t carry_size;
    char carry[MARKER_SIZE]; /* the beginning of a marker whose rest has not come */
    const struct group *group;
    uint32_t index;
    uint32_t channel;
    uint32_t next; /* number of the message it expects */
    uint64_t chunk_left;
    uint64_t offset;
    char epoch[EPOCH_SIZE];
    uint8_t *rest; /* input that waits for more */
    size_t rest_size;
};

/* Begin to connect, from an address that has ports to spare. */
void subscriber_connect(struct subscriber *subscriber, uint16_t port);

/* The connection stands: ask for what the group asks for. */
void subscriber_greet(struct subscriber *subscriber, uint16_t port);

/* Take what the socket has. Ends the program when the server refuses or closes. */
void subscriber_receive(struct subscriber *subscriber, struct ledger *ledger);

/* Cut the connection without a word, as a lost network does. */
void subscriber_drop(struct subscriber *subscriber);
