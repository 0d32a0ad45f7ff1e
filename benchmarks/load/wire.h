/* What both programs speak: WebSocket frames and handshakes, sockets on loopback, the clock. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

enum { FRAME_CONTINUATION = 0, FRAME_TEXT = 1, FRAME_CLOSE = 8, FRAME_PING = 9, FRAME_PONG = 10 };

#define FRAME_HEADER_MAX 14
#define ACCEPT_KEY_LENGTH 28

struct frame {
    uint8_t opcode;
    uint8_t header_size;
    bool masked;
    uint64_t payload_size;
};

/* Read a frame's header: true if it is there in full, whether or not the payload is. */
bool frame_read(const uint8_t *data, size_t size, struct frame *frame);

/* Write a final frame's header, with a mask of zeros if `masked`; returns its size. */
size_t frame_write(uint8_t *out, uint8_t opcode, size_t payload_size, bool masked);

/* The Sec-WebSocket-Accept for a key (RFC 6455, 4.2.2), null-terminated. */
void accept_key(const char *key, size_t key_size, char out[ACCEPT_KEY_LENGTH + 1]);

/* Find a header line by its name, whatever the case; returns its value up to the CR. */
const char *http_header(const char *head, size_t size, const char *name, size_t *value_size);

/* Listen on 127.0.0.1:port. Ends the program if it cannot. */
int listen_on(uint16_t port);

/* End the program with status 1 and a sentence on stderr. */
_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Memory or the end of the program. */
void *need(void *memory);

static inline uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
