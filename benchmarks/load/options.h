/* What the load client is told. `load --help` prints what each option means. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define MAX_GROUPS 8
#define MAX_HELLOS 4

/* Connections that are made alike. */
struct group {
    bool sse;
    uint32_t connections;
    const char *path;
    const char *hello[MAX_HELLOS];
    const char *recover[MAX_HELLOS];
    const char *ready;
    const char *ping;
    const char *pong;
};

struct options {
    uint16_t port;
    struct group groups[MAX_GROUPS];
    unsigned group_count;
    uint32_t connections; /* of all groups */
    uint32_t channels;
    uint32_t concurrency; /* handshakes at a time */
    bool hold;
    const char *publish_file; /* NULL: nothing is published */
    uint16_t publish_port;
    bool publish_resp;
    uint32_t window;
    double rate_per_s; /* 0: closed loop */
    double seconds;
    double warm_up_s;
    uint32_t storm; /* messages published while nobody is connected; 0: no storm */
    double patience_s;
};

/* Read the command line; ends the program with a sentence when it makes no sense. */
struct options options_read(int argc, char **argv);
