#include "wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

bool frame_read(const uint8_t *data, size_t size, struct frame *frame) {
    if (size < 2) return false;
    frame->opcode = data[0] & 0x0f;
    frame->masked = data[1] & 0x80;
    uint8_t code = data[1] & 0x7f;
    size_t length_bytes = code == 126 ? 2 : code == 127 ? 8 : 0;
    frame->header_size = (uint8_t)(2 + length_bytes + (frame->masked ? 4 : 0));
    if (size < frame->header_size) return false;
    frame->payload_size = length_bytes ? 0 : code;
    for (size_t i = 0; i < length_bytes; i++)
        frame->payload_size = frame->payload_size << 8 | data[2 + i];
    return true;
}

size_t frame_write(uint8_t *out, uint8_t opcode, size_t payload_size, bool masked) {
    size_t length_bytes = payload_size < 126 ? 0 : payload_size < 65536 ? 2 : 8;
    uint8_t code = length_bytes == 0 ? (uint8_t)payload_size : length_bytes == 2 ? 126 : 127;
    out[0] = 0x80 | opcode;
    out[1] = (uint8_t)(code | (masked ? 0x80 : 0));
    for (size_t i = 0; i < length_bytes; i++)
        out[2 + i] = (uint8_t)(payload_size >> 8 * (length_bytes - 1 - i));
    size_t size = 2 + length_bytes;
    if (masked) {
        memset(out + size, 0, 4);
        size += 4;
    }
    return size;
}

static uint32_t rotate(uint32_t value, unsigned bits) { return value << bits | value >> (32 - bits); }

static void sha1_block(uint32_t state[5], const uint8_t block[64]) {
    uint32_t w[80];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 |
               (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
    for (int i = 16; i < 80; i++) w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3], e = state[4];
    for (int i = 0; i < 80; i++) {
        uint32_t f, k;
        if (i < 20) f = (b & c) | (~b & d), k = 0x5a827999;
        else if (i < 40) f = b ^ c ^ d, k = 0x6ed9eba1;
        else if (i < 60) f = (b & c) | (b & d) | (c & d), k = 0x8f1bbcdc;
        else f = b ^ c ^ d, k = 0xca62c1d6;
        uint32_t next = rotate(a, 5) + f + e + k + w[i];
        e = d, d = c, c = rotate(b, 30), b = a, a = next;
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d, state[4] += e;
}

void accept_key(const char *key, size_t key_size, char out[ACCEPT_KEY_LENGTH + 1]) {
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint8_t text[128] = {0};
    size_t size = key_size + sizeof guid - 1;
    if (size > sizeof text - 9) die("expected a WebSocket key of 24 characters, got %zu", key_size);
    memcpy(text, key, key_size);
    memcpy(text + key_size, guid, sizeof guid - 1);
    text[size] = 0x80;
    size_t padded = size + 9 > 64 ? 128 : 64;
    text[padded - 2] = (uint8_t)(size * 8 >> 8);
    text[padded - 1] = (uint8_t)(size * 8);
    uint32_t state[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    for (size_t at = 0; at < padded; at += 64) sha1_block(state, text + at);
    uint8_t digest[21] = {0};
    for (int i = 0; i < 20; i++) digest[i] = (uint8_t)(state[i / 4] >> (24 - 8 * (i % 4)));
    for (int i = 0; i < 7; i++) {
        uint32_t three = (uint32_t)digest[3 * i] << 16 | (uint32_t)digest[3 * i + 1] << 8 | digest[3 * i + 2];
        for (int j = 0; j < 4; j++) out[4 * i + j] = digits[three >> (18 - 6 * j) & 63];
    }
    out[ACCEPT_KEY_LENGTH - 1] = '='; /* 20 bytes leave one character over */
    out[ACCEPT_KEY_LENGTH] = 0;
}

const char *http_header(const char *head, size_t size, const char *name, size_t *value_size) {
    const char *end = head + size;
    size_t name_size = strlen(name);
    for (const char *line = memmem(head, size, "\r\n", 2); line && line + 2 < end;
         line = memmem(line, (size_t)(end - line), "\r\n", 2)) {
        line += 2;
        const char *stop = memmem(line, (size_t)(end - line), "\r\n", 2);
        if (!stop) return NULL;
        if ((size_t)(stop - line) > name_size && line[name_size] == ':' &&
            strncasecmp(line, name, name_size) == 0) {
            const char *value = line + name_size + 1;
            while (value < stop && *value == ' ') value++;
            *value_size = (size_t)(stop - value);
            return value;
        }
    }
    return NULL;
}

int listen_on(uint16_t port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int yes = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 4096) < 0)
        die("cannot listen on port %u: %s", port, strerror(errno));
    return fd;
}

void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

void *need(void *memory) {
    if (!memory) die("out of memory");
    return memory;
}
