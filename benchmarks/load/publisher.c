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
#define LONGEST_NAME 16
#define INPUT_SIZE (64u << 10)

enum blank_kind { CHANNEL, SEQUENCE, NOW_MS, BLANK_KINDS };

/* What stands for a number in the template, and how many digits take its place. */
static const struct {
    char name[LONGEST_NAME];
    size_t digits;
} blank_kinds[BLANK_KINDS] = {{"@@CHANNEL@@", 8}, {"@@SEQ@@", 8}, {"@@NOW_MS@@", 13}};

/* Where digits go. */
struct blank {
    size_t at;
    enum blank_kind kind;
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

/* The kind of the blank that begins here, BLANK_KINDS if none does. */
static enum blank_kind blank_at(const char *text, size_t size) {
    for (enum blank_kind kind = 0; kind < BLANK_KINDS; kind++) {
        size_t name_size = strlen(blank_kinds[kind].name);
        if (size >= name_size && memcmp(text, blank_kinds[kind].name, name_size) == 0) return kind;
    }
    return BLANK_KINDS;
}

static void read_template(struct publisher *self, const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) die("cannot read %s: %s", path, strerror(errno));
    char *text = need(malloc(INPUT_SIZE));
    size_t size = fread(text, 1, INPUT_SIZE, file);
    fclose(file);
    self->template = need(malloc(2 * INPUT_SIZE));
    bool numbered = false;
    for (size_t at = 0; at < size;) {
        enum blank_kind kind = blank_at(text + at, size - at);
        if (kind == BLANK_KINDS) {
            self->template[self->template_size++] = text[at++];
            continue;
        }
        if (self->blank_count == MAX_BLANKS) die("%s: expected at most %d blanks", path, MAX_BLANKS);
        self->blanks[self->blank_count++] = (struct blank){self->template_size, kind};
        self->template_size += blank_kinds[kind].digits;
        at += strlen(blank_kinds[kind].name);
        numbered |= kind == SEQUENCE;
    }
    free(text);
    if (!numbered) die("%s: expected @@SEQ@@ in the request", path);
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

static void write_digits(char *out, size_t digits, uint64_t number) {
    for (size_t i = digits; i > 0; i--, number /= 10) out[i - 1] = (char)('0' + number % 10);
}

static uint64_t wall_clock_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void publisher_queue(struct publisher *self, uint32_t channel, uint32_t sequence) {
    if (self->queue_size + self->template_size > self->queue_room) {
        self->queue_room = 2 * (self->queue_room + self->template_size);
        self->queue = need(realloc(self->queue, self->queue_room));
    }
    char *request = self->queue + self->queue_size;
    memcpy(request, self->template, self->template_size);
    uint64_t numbers[BLANK_KINDS] = {channel, sequence, wall_clock_ms()};
    for (unsigned i = 0; i < self->blank_count; i++) {
        enum blank_kind kind = self->blanks[i].kind;
        write_digits(request + self->blanks[i].at, blank_kinds[kind].digits, numbers[kind]);
    }
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
