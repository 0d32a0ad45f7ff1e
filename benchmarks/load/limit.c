/* The limit: what the socket calls themselves cost.
 *
 * A server that does nothing but hand one prebuilt frame to send(), once for every connection,
 * whenever a request comes to publish it. Messages that are published together leave in one
 * send(), as those of a server that joins what is pending would.
 *
 *     limit PORT
 *
 * A GET with an upgrade becomes a WebSocket, another GET an event stream, and the body of a
 * POST is a message for everybody.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "wire.h"

#define MAX_FDS 65536
#define INPUT_SIZE (256u << 10)
#define EVENTS 256

enum kind { NONE, NEW, WEBSOCKET, EVENT_STREAM };

static uint8_t kinds[MAX_FDS];
static int readers[MAX_FDS], reader_count; /* who gets messages, and how many they are */
static int places[MAX_FDS];                /* of each reader in the list */
/* What is published by the requests of one read: as frames and as events. */
static uint8_t frames[2 * INPUT_SIZE];
static char events[2 * INPUT_SIZE];
static size_t frames_size, events_size;

static void forget(int fd) {
    if (kinds[fd] == WEBSOCKET || kinds[fd] == EVENT_STREAM) {
        int last = readers[--reader_count];
        readers[places[fd]] = last;
        places[last] = places[fd];
    }
    kinds[fd] = NONE;
    close(fd);
}

static bool send_all(int fd, const void *data, size_t size) {
    const uint8_t *left = data;
    while (size) {
        ssize_t sent = send(fd, left, size, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0) return false;
        left += sent;
        size -= (size_t)sent;
    }
    return true;
}

static void add_reader(int fd, enum kind kind) {
    kinds[fd] = (uint8_t)kind;
    places[fd] = reader_count;
    readers[reader_count++] = fd;
}

static void answer_get(int fd, const char *head, size_t size) {
    char reply[256];
    size_t key_size;
    const char *key = http_header(head, size, "Sec-WebSocket-Key", &key_size);
    if (key) {
        char answer[ACCEPT_KEY_LENGTH + 1];
        accept_key(key, key_size, answer);
        snprintf(reply, sizeof reply,
                 "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                 "Sec-WebSocket-Accept: %s\r\n\r\n", answer);
    } else {
        snprintf(reply, sizeof reply, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n");
    }
    add_reader(fd, key ? WEBSOCKET : EVENT_STREAM);
    send_all(fd, reply, strlen(reply));
}

static void publish(void) {
    for (int i = 0; i < reader_count; i++) {
        int fd = readers[i];
        /* A reader that is gone is forgotten when epoll says so. */
        if (kinds[fd] == WEBSOCKET) send_all(fd, frames, frames_size);
        else send_all(fd, events, events_size);
    }
}

/* One request; returns its size, 0 if it is not all there. */
static size_t take_request(int fd, const char *data, size_t size) {
    static const char *const end_of_head = "\r\n\r\n";
    const char *end = memmem(data, size, end_of_head, 4);
    if (!end) return 0;
    size_t head_size = (size_t)(end - data) + 4, value_size;
    if (memcmp(data, "GET ", 4) == 0) {
        answer_get(fd, data, head_size);
        return head_size;
    }
    const char *length = http_header(data, head_size, "Content-Length", &value_size);
    size_t body_size = length ? (size_t)strtoull(length, NULL, 10) : 0;
    if (size < head_size + body_size) return 0;
    frames_size += frame_write(frames + frames_size, FRAME_TEXT, body_size, false);
    memcpy(frames + frames_size, data + head_size, body_size);
    frames_size += body_size;
    events_size += (size_t)sprintf(events + events_size, "data: %.*s\n\n", (int)body_size, data + head_size);
    return head_size + body_size;
}

static void serve_new(int fd) {
    /* Requests that are cut in two wait here: only the publisher pipelines, so one buffer does. */
    static char input[INPUT_SIZE + 1];
    static size_t kept;
    static int owner = -1;
    if (owner != fd) kept = 0;
    owner = fd;
    ssize_t got = recv(fd, input + kept, INPUT_SIZE - kept, 0);
    if (got <= 0) {
        kept = 0;
        forget(fd);
        return;
    }
    size_t size = kept + (size_t)got, at = 0, taken;
    unsigned published = 0;
    input[size] = 0;
    frames_size = events_size = 0;
    while (at < size && (taken = take_request(fd, input + at, size - at))) {
        at += taken;
        published += kinds[fd] == NEW;
    }
    kept = size - at;
    memmove(input, input + at, kept);
    if (frames_size) publish();
    for (; published; published--) send_all(fd, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 38);
}

/* What a reader sends means nothing here; that it is gone does. */
static void serve_reader(int fd) {
    char ignored[1024];
    if (recv(fd, ignored, sizeof ignored, 0) <= 0) forget(fd);
}

int main(int argc, char **argv) {
    if (argc != 2 || atoi(argv[1]) < 1 || atoi(argv[1]) > 65535) die("usage: limit PORT");
    int listener = listen_on((uint16_t)atoi(argv[1])), epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        struct epoll_event happened[EVENTS];
        int count = epoll_wait(epoll, happened, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            int fd = happened[i].data.fd, yes = 1;
            if (fd != listener) {
                if (kinds[fd] == NEW) serve_new(fd);
                else serve_reader(fd);
                continue;
            }
            fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
            if (fd < 0) continue;
            if (fd >= MAX_FDS) die("expected at most %d connections", MAX_FDS);
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
            kinds[fd] = NEW;
            event = (struct epoll_event){.events = EPOLLIN, .data.fd = fd};
            epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
        }
    }
}
