#include "subscriber.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "wire.h"

/* Addresses to connect from: 20 of them have half a million ports. */
#define SOURCE_ADDRESSES 20
#define SHOWN 200
#define TEXT_SIZE 4096

/* The example of RFC 6455, whose answer is known. */
static const char key[] = "dGhlIHNhbXBsZSBub25jZQ==";
static const char key_answer[] = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

static uint8_t input[INPUT_SIZE];

static _Noreturn void fail(const struct subscriber *self, const char *what, const void *text, size_t size) {
    static const char *const states[] = {"away", "connecting", "upgrading", "joining", "joined"};
    die("connection %u (%s, %u messages): %s%.*s", self->index, states[self->state], self->next, what,
        (int)(size < SHOWN ? size : SHOWN), size ? (const char *)text : "");
}

void subscriber_connect(struct subscriber *self, uint16_t port) {
    int yes = 1;
    self->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (self->fd < 0) die("expected room for %u connections: %s", self->index + 1, strerror(errno));
    setsockopt(self->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    /* The port is chosen by the connect, so that all addresses share none. */
    setsockopt(self->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes);
    struct sockaddr_in address = {.sin_family = AF_INET};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + self->index % SOURCE_ADDRESSES);
    if (bind(self->fd, (struct sockaddr *)&address, sizeof address) < 0)
        die("cannot connect from another loopback address: %s", strerror(errno));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port);
    if (connect(self->fd, (struct sockaddr *)&address, sizeof address) < 0 && errno != EINPROGRESS)
        fail(self, strerror(errno), NULL, 0);
    self->state = CONNECTING;
    self->carry_size = 0;
    self->chunk_left = 0;
    self->chunked = false;
}

static void send_all(const struct subscriber *self, const void *data, size_t size) {
    if (send(self->fd, data, size, MSG_NOSIGNAL) != (ssize_t)size)
        fail(self, "cannot send: ", strerror(errno), strlen(strerror(errno)));
}

/* Append a text to out, with the connection's channel, epoch and offset filled in. */
static size_t fill_in(const struct subscriber *self, char *out, size_t room, const char *text) {
    size_t size = 0;
    while (*text) {
        if (room - size < EPOCH_SIZE) fail(self, "expected a shorter text than ", text, strlen(text));
        if (strncmp(text, "@@CHANNEL@@", 11) == 0) {
            size += (size_t)sprintf(out + size, "%08u", self->channel);
            text += 11;
        } else if (strncmp(text, "@@EPOCH@@", 9) == 0) {
            size += (size_t)sprintf(out + size, "%s", self->epoch);
            text += 9;
        } else if (strncmp(text, "@@OFFSET@@", 10) == 0) {
            size += (size_t)sprintf(out + size, "%llu", (unsigned long long)self->offset);
            text += 10;
        } else {
            out[size++] = *text++;
        }
    }
    return size;
}

void subscriber_greet(struct subscriber *self, uint16_t port) {
    int error = 0;
    socklen_t error_size = sizeof error;
    getsockopt(self->fd, SOL_SOCKET, SO_ERROR, &error, &error_size);
    if (error) fail(self, strerror(error), NULL, 0);
    char path[TEXT_SIZE], request[2 * TEXT_SIZE];
    path[fill_in(self, path, sizeof path - 1, self->group->path)] = 0;
    int size = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%u\r\n%s%s%s\r\n", path, port,
                        self->group->sse ? "Accept: text/event-stream\r\n"
                                         : "Upgrade: websocket\r\nConnection: Upgrade\r\n"
                                           "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ",
                        self->group->sse ? "" : key, self->group->sse ? "" : "\r\n");
    send_all(self, request, (size_t)size);
    self->state = UPGRADING;
}

static void send_text(const struct subscriber *self, uint8_t opcode, const char *text, size_t size) {
    uint8_t frame[FRAME_HEADER_MAX + TEXT_SIZE];
    size_t header = frame_write(frame, opcode, size, true);
    memcpy(frame + header, text, size);
    send_all(self, frame, header + size);
}

static void say_hello(struct subscriber *self) {
    const char *const *texts = self->comes_back && self->group->recover[0] ? self->group->recover : self->group->hello;
    for (int i = 0; i < MAX_HELLOS && texts[i]; i++) {
        char text[TEXT_SIZE];
        send_text(self, FRAME_TEXT, text, fill_in(self, text, sizeof text, texts[i]));
    }
    self->state = self->group->ready ? JOINING : JOINED;
}

/* The reply to the upgrade or the GET; returns its size, 0 if it is not all there. */
static size_t take_response(struct subscriber *self, const uint8_t *data, size_t size) {
    const uint8_t *end = memmem(data, size, "\r\n\r\n", 4);
    if (!end) return 0;
    const char *head = (const char *)data;
    size_t head_size = (size_t)(end - data) + 4, value_size = 0;
    const char *status = self->group->sse ? "HTTP/1.1 200" : "HTTP/1.1 101";
    if (head_size < 12 || memcmp(head, status, 12) != 0) fail(self, "expected 101 (WebSocket) or 200 (SSE), got: ", head, size);
    if (self->group->sse) {
        const char *coding = http_header(head, head_size, "Transfer-Encoding", &value_size);
        self->chunked = coding && value_size == 7 && strncasecmp(coding, "chunked", 7) == 0;
    } else {
        const char *answer = http_header(head, head_size, "Sec-WebSocket-Accept", &value_size);
        if (!answer || value_size != ACCEPT_KEY_LENGTH || memcmp(answer, key_answer, ACCEPT_KEY_LENGTH) != 0)
            fail(self, "expected the Sec-WebSocket-Accept of the key, got: ", head, head_size);
    }
    say_hello(self);
    return head_size;
}

static bool is_marker(const char *text) {
    if (memcmp(text, "~SEQ:", 5) != 0 || text[MARKER_SIZE - 1] != '~') return false;
    for (int i = 5; i < MARKER_SIZE - 1; i++)
        if (!isdigit((unsigned char)text[i])) return false;
    return true;
}

static uint32_t marked(const char *text) {
    uint32_t sequence = 0;
    for (int i = 5; i < MARKER_SIZE - 1; i++) sequence = sequence * 10 + (uint32_t)(text[i] - '0');
    return sequence;
}

/* Find the markers in a piece of the stream of payloads, wherever it was cut. */
static void take_markers(struct subscriber *self, struct ledger *ledger, const char *text, size_t size, uint64_t at_ns) {
    if (self->carry_size) {
        char seam[2 * MARKER_SIZE];
        size_t added = size < MARKER_SIZE - 1 ? size : MARKER_SIZE - 1, seam_size = self->carry_size + added;
        memcpy(seam, self->carry, self->carry_size);
        memcpy(seam + self->carry_size, text, added);
        if (seam_size < MARKER_SIZE) {
            memcpy(self->carry, seam, seam_size);
            self->carry_size = (uint8_t)seam_size;
            return;
        }
        self->carry_size = 0;
        if (is_marker(seam)) ledger_receive(ledger, self->channel, &self->next, marked(seam), at_ns);
    }
    const char *end = text + size;
    for (const char *at = memchr(text, '~', size); at; at = memchr(at, '~', (size_t)(end - at))) {
        if (end - at < MARKER_SIZE) {
            if (memcmp(at, "~SEQ:", (size_t)(end - at < 5 ? end - at : 5)) == 0) {
                self->carry_size = (uint8_t)(end - at);
                memcpy(self->carry, at, self->carry_size);
                return;
            }
            at++;
        } else if (is_marker(at)) {
            ledger_receive(ledger, self->channel, &self->next, marked(at), at_ns);
            at += MARKER_SIZE;
        } else {
            at++;
        }
    }
}

/* Keep the position that a reply to a subscription names, for coming back. */
static void take_position(struct subscriber *self, const char *text, size_t size) {
    static const char epoch_name[] = "\"epoch\":\"", offset_name[] = "\"offset\":";
    const char *epoch = memmem(text, size, epoch_name, sizeof epoch_name - 1);
    if (!epoch) return;
    epoch += sizeof epoch_name - 1;
    size_t left = size - (size_t)(epoch - text);
    const char *quote = memchr(epoch, '"', left);
    if (!quote || quote - epoch >= EPOCH_SIZE) fail(self, "expected an epoch in ", text, size);
    memcpy(self->epoch, epoch, (size_t)(quote - epoch));
    self->epoch[quote - epoch] = 0;
    const char *offset = memmem(quote, left - (size_t)(quote - epoch), offset_name, sizeof offset_name - 1);
    self->offset = offset ? strtoull(offset + sizeof offset_name - 1, NULL, 10) : 0;
}

static bool is_line(const char *text, const char *end, const char *line, size_t line_size) {
    return (size_t)(end - text) >= line_size && memcmp(text, line, line_size) == 0 &&
           (text + line_size == end || text[line_size] == '\n');
}

static void answer_ping(const struct subscriber *self, const char *text, size_t size) {
    const char *ping = self->group->ping, *end = text + size;
    if (!ping) return;
    size_t ping_size = strlen(ping);
    bool asked = is_line(text, end, ping, ping_size);
    for (const char *line = text; !asked && (line = memchr(line, '\n', (size_t)(end - line))) && ++line < end;)
        asked = is_line(line, end, ping, ping_size);
    if (asked && self->group->pong) send_text(self, FRAME_TEXT, self->group->pong, strlen(self->group->pong));
}

static void take_text(struct subscriber *self, struct ledger *ledger, const char *text, size_t size, uint64_t at_ns) {
    if (self->state == JOINING) {
        const char *ready = memmem(text, size, self->group->ready, strlen(self->group->ready));
        if (ready) {
            take_position(self, ready, size - (size_t)(ready - text));
            self->state = JOINED;
        } else if (memmem(text, size, "\"error\"", 7)) {
            fail(self, "expected to be subscribed, got: ", text, size);
        }
    }
    take_markers(self, ledger, text, size, at_ns);
}

/* One WebSocket frame; returns its size, 0 if it is not all there. */
static size_t take_frame(struct subscriber *self, struct ledger *ledger, const uint8_t *data, size_t size, uint64_t at_ns) {
    struct frame frame;
    if (!frame_read(data, size, &frame)) return 0;
    if (frame.payload_size > INPUT_SIZE - FRAME_HEADER_MAX) fail(self, "expected frames of at most 4 MiB", NULL, 0);
    size_t whole = frame.header_size + (size_t)frame.payload_size;
    if (frame.opcode >= FRAME_CLOSE && frame.payload_size > 125) fail(self, "expected short control frames", NULL, 0);
    if (size < whole) return 0;
    const char *text = (const char *)data + frame.header_size;
    switch (frame.opcode) {
    case FRAME_PING:
        send_text(self, FRAME_PONG, text, frame.payload_size);
        break;
    case FRAME_PONG:
        break;
    case FRAME_CLOSE:
        fail(self, "the server closed: ", text + 2, frame.payload_size > 2 ? frame.payload_size - 2 : 0);
    default:
        answer_ping(self, text, frame.payload_size);
        take_text(self, ledger, text, frame.payload_size, at_ns);
    }
    return whole;
}

/* A piece of an event stream's body; returns its size, 0 if more is needed to go on. */
static size_t take_body(struct subscriber *self, struct ledger *ledger, const uint8_t *data, size_t size, uint64_t at_ns) {
    if (!self->chunked || self->chunk_left) {
        size_t taken = self->chunked && self->chunk_left < size ? (size_t)self->chunk_left : size;
        take_text(self, ledger, (const char *)data, taken, at_ns);
        if (self->chunked) self->chunk_left -= taken;
        return taken;
    }
    /* The line with the next chunk's size, and before it the end of the line of the last. */
    size_t start = size >= 2 && memcmp(data, "\r\n", 2) == 0 ? 2 : 0;
    const uint8_t *end = memmem(data + start, size - start, "\r\n", 2);
    if (!end) return 0;
    self->chunk_left = strtoull((const char *)data + start, NULL, 16);
    if (!self->chunk_left) fail(self, "the server ended the event stream", NULL, 0);
    return (size_t)(end - data) + 2;
}

void subscriber_receive(struct subscriber *self, struct ledger *ledger) {
    size_t kept = self->rest_size;
    if (kept) memcpy(input, self->rest, kept);
    ssize_t got = recv(self->fd, input + kept, sizeof input - 1 - kept, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) fail(self, "the server cut the connection", NULL, 0);
    uint64_t at_ns = now_ns();
    size_t size = kept + (size_t)got, at = 0;
    input[size] = 0; /* so that numbers in it end */
    while (at < size) {
        size_t taken = self->state == UPGRADING   ? take_response(self, input + at, size - at)
                       : self->group->sse         ? take_body(self, ledger, input + at, size - at, at_ns)
                                                  : take_frame(self, ledger, input + at, size - at, at_ns);
        if (!taken) break;
        at += taken;
    }
    self->rest_size = size - at;
    if (self->rest_size) {
        self->rest = need(realloc(self->rest, self->rest_size));
        memcpy(self->rest, input + at, self->rest_size);
    } else if (self->rest) {
        free(self->rest);
        self->rest = NULL;
    }
}

void subscriber_drop(struct subscriber *self) {
    struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    setsockopt(self->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close(self->fd);
    free(self->rest);
    self->rest = NULL;
    self->rest_size = 0;
    self->state = AWAY;
}
