#include "publisher.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "wire.h"

#define MAX_BLANKS 16
#define DIGITS 8
#define INPUT_SIZE (64u << 10)

/* Where digits go, and whether they are those of the channel or of the message. */
struct blank {
    size_t at;
    bool channel;
};

struct publisher {
    int fd;
    bool resp;
    char *template;
    size_t template_size;
    struct blank blanks[MAX_BLANKS];
    unsigned blank_count;
    char *queue;
    size_t queue_size, queue_room, queue_sent;
    uint64_t replies;
    /* RESP: values that the reply still has, and bytes of a string to skip. */
    uint64_t values_left;
    /* Input that waits for more. */
    char input[INPUT_SIZE + 1];
    size_t input_size;
    uint64_t skip;
};

static void read_template(struct publisher *self, const char *path) {
    static const char channel[] = "@@CHANNEL@@", sequence[] = "@@SEQ@@";
    FILE *file = fopen(path, "rb");
    if (!file) die("cannot read %s: %s", path, strerror(errno));
    char *text = need(malloc(INPUT_SIZE + 1));
    size_t size = fread(text, 1, INPUT_SIZE, file);
    fclose(file);
    text[size] = 0;
    self->template = need(malloc(2 * INPUT_SIZE));
    for (size_t at = 0; at < size;) {
        bool is_channel = size - at >= sizeof channel - 1 && memcmp(text + at, channel, sizeof channel - 1) == 0;
        bool is_sequence = size - at >= sizeof sequence - 1 && memcmp(text + at, sequence, sizeof sequence - 1) == 0;
        if (is_channel || is_sequence) {
            if (self->blank_count == MAX_BLANKS) die("%s: expected at most %d blanks", path, MAX_BLANKS);
            self->blanks[self->blank_count++] = (struct blank){self->template_size, is_channel};
            self->template_size += DIGITS;
            at += is_channel ? sizeof channel - 1 : sizeof sequence - 1;
        } else {
            self->template[self->template_size++] = text[at++];
        }
    }
    free(text);
    if (!self->blank_count) die("%s: expected @@SEQ@@ in the request", path);
}

struct publisher *publisher_open(const char *file, uint16_t port, bool resp) {
    struct publisher *self = need(calloc(1, sizeof *self));
    int yes = 1;
    self->resp = resp;
    read_template(self, file);
    self->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(self->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(self->fd, (struct sockaddr *)&address, sizeof address) < 0)
        die("cannot connect to port %u to publish: %s", port, strerror(errno));
    return self;
}

int publisher_fd(const struct publisher *self) { return self->fd; }

uint64_t publisher_replies(const struct publisher *self) { return self->replies; }

static void write_digits(char *out, uint32_t number) {
    for (int i = DIGITS - 1; i >= 0; i--, number /= 10) out[i] = (char)('0' + number % 10);
}

void publisher_queue(struct publisher *self, uint32_t channel, uint32_t sequence) {
    if (self->queue_size + self->template_size > self->queue_room) {
        self->queue_room = 2 * (self->queue_room + self->template_size);
        self->queue = need(realloc(self->queue, self->queue_room));
    }
    char *request = self->queue + self->queue_size;
    memcpy(request, self->template, self->template_size);
    for (unsigned i = 0; i < self->blank_count; i++)
        write_digits(request + self->blanks[i].at, self->blanks[i].channel ? channel : sequence);
    self->queue_size += self->template_size;
}

bool publisher_flush(struct publisher *self) {
    size_t left = self->queue_size - self->queue_sent;
    if (!left) return false;
    ssize_t sent = send(self->fd, self->queue + self->queue_sent, left, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno != EAGAIN) die("cannot publish: %s", strerror(errno));
    if (sent > 0) self->queue_sent += (size_t)sent;
    if (self->queue_sent < self->queue_size) return true;
    self->queue_size = self->queue_sent = 0;
    return false;
}

/* One line of a RESP reply, and the string it announces; returns its size without the string. */
static size_t take_resp(struct publisher *self, const char *data, size_t size) {
    const char *end = memmem(data, size, "\r\n", 2);
    if (!end) return 0;
    long long number = strtoll(data + 1, NULL, 10);
    if (!self->values_left) self->values_left = 1;
    if (*data == '-' || *data == '!') die("publishing was refused: %.*s", (int)(end - data), data);
    if (*data == '*' && number > 0) self->values_left += (uint64_t)number;
    if (*data == '$' && number >= 0) self->skip = (uint64_t)number + 2;
    if (!--self->values_left) self->replies++;
    return (size_t)(end - data) + 2;
}

/* The head of an HTTP reply; returns its size. Its body is skipped. */
static size_t take_http(struct publisher *self, const char *data, size_t size) {
    const char *end = memmem(data, size, "\r\n\r\n", 4);
    size_t value_size;
    if (!end) return 0;
    size_t head_size = (size_t)(end - data) + 4;
    if (head_size < 12 || memcmp(data, "HTTP/1.1 2", 10) != 0) die("publishing was refused: %.*s", (int)size, data);
    const char *length = http_header(data, head_size, "Content-Length", &value_size);
    if (length) {
        self->skip = strtoull(length, NULL, 10);
    } else if (http_header(data, head_size, "Transfer-Encoding", &value_size)) {
        const char *last = memmem(end, size - (size_t)(end - data), "\r\n0\r\n\r\n", 7);
        if (!last) return 0;
        head_size = (size_t)(last - data) + 7;
    }
    self->replies++;
    return head_size;
}

void publisher_receive(struct publisher *self) {
    ssize_t got = recv(self->fd, self->input + self->input_size, INPUT_SIZE - self->input_size, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) die("the server cut the connection that publishes");
    self->input_size += (size_t)got;
    self->input[self->input_size] = 0;
    size_t at = 0;
    while (at < self->input_size) {
        size_t left = self->input_size - at;
        if (self->skip) {
            size_t skipped = self->skip < left ? (size_t)self->skip : left;
            self->skip -= skipped;
            at += skipped;
            continue;
        }
        size_t taken = self->resp ? take_resp(self, self->input + at, left) : take_http(self, self->input + at, left);
        if (!taken) break;
        at += taken;
    }
    self->input_size -= at;
    memmove(self->input, self->input + at, self->input_size);
    if (self->input_size == INPUT_SIZE) die("expected replies of at most 64 KiB to what was published");
}
