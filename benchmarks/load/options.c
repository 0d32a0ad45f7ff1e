#include "options.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "wire.h"

static const char help[] =
    "usage: load --port P (--ws N | --sse N) [of that group] ... [publishing]\n"
    "       load percentiles < durations\n"
    "\n"
    "Connects to 127.0.0.1:P, publishes, counts what every connection gets, and prints one\n"
    "line of JSON. A message contains ~SEQ:00000042~ once; a connection must see 0, 1, 2, ...\n"
    "\n"
    "  --port P           of the server\n"
    "  --ws N, --sse N    begin a group of N WebSockets or EventSources\n"
    "    --path PATH      what the group asks for\n"
    "    --hello TEXT     message to send once upgraded; may be repeated\n"
    "    --recover TEXT   instead of each --hello when coming back in a storm, with\n"
    "                     @@EPOCH@@ and @@OFFSET@@ of the reply to the first subscription\n"
    "    --ready TEXT     what the server sends once the subscription stands\n"
    "    --ping TEXT      message or line of one to answer with --pong TEXT\n"
    "  --channels C       channels; @@CHANNEL@@ becomes the 8 digits of a connection's (1)\n"
    "  --concurrency K    handshakes at a time (100)\n"
    "  --hold             print {\"joined\":N} once all are joined, wait for end of input\n"
    "  --publish FILE     one request with @@SEQ@@ (and @@CHANNEL@@), each 8 digits long,\n"
    "                     and @@NOW_MS@@, the time of day in milliseconds, 13 digits\n"
    "  --publish-port P   where it goes (the server's port)\n"
    "  --resp             it is RESP, not HTTP\n"
    "  --window W         messages that are on their way at a time (1)\n"
    "  --rate R           messages a second instead, whatever is on its way\n"
    "  --seconds S        how long to measure (1)\n"
    "  --warm-up S        how long to publish before (0.5)\n"
    "  --storm M          drop all connections, publish M messages, come back, get them all\n"
    "  --patience S       how long nothing may happen (10)\n"
    "  --drain S          how long what was published may take to come in the end (60)\n";

enum {
    PORT = 256, WS, SSE, PATH, HELLO, RECOVER, READY, PING, PONG, CHANNELS, CONCURRENCY, HOLD,
    PUBLISH, PUBLISH_PORT, RESP, WINDOW, RATE, SECONDS, WARM_UP, STORM, PATIENCE, DRAIN, HELP,
};

static const struct option names[] = {
    {"port", required_argument, NULL, PORT},
    {"ws", required_argument, NULL, WS},
    {"sse", required_argument, NULL, SSE},
    {"path", required_argument, NULL, PATH},
    {"hello", required_argument, NULL, HELLO},
    {"recover", required_argument, NULL, RECOVER},
    {"ready", required_argument, NULL, READY},
    {"ping", required_argument, NULL, PING},
    {"pong", required_argument, NULL, PONG},
    {"channels", required_argument, NULL, CHANNELS},
    {"concurrency", required_argument, NULL, CONCURRENCY},
    {"hold", no_argument, NULL, HOLD},
    {"publish", required_argument, NULL, PUBLISH},
    {"publish-port", required_argument, NULL, PUBLISH_PORT},
    {"resp", no_argument, NULL, RESP},
    {"window", required_argument, NULL, WINDOW},
    {"rate", required_argument, NULL, RATE},
    {"seconds", required_argument, NULL, SECONDS},
    {"warm-up", required_argument, NULL, WARM_UP},
    {"storm", required_argument, NULL, STORM},
    {"patience", required_argument, NULL, PATIENCE},
    {"drain", required_argument, NULL, DRAIN},
    {"help", no_argument, NULL, HELP},
    {NULL, 0, NULL, 0},
};

static double number(const char *text, const char *what, double least, double most) {
    char *end;
    double value = strtod(text, &end);
    if (*end || end == text || !(value >= least && value <= most))
        die("--%s: expected a number from %g to %g, got '%s'", what, least, most, text);
    return value;
}

static void append(const char *list[MAX_HELLOS], const char *text, const char *what) {
    for (int i = 0; i < MAX_HELLOS; i++)
        if (!list[i]) {
            list[i] = text;
            return;
        }
    die("--%s: expected at most %d a group", what, MAX_HELLOS);
}

static struct group *new_group(struct options *options, bool sse, double connections) {
    if (options->group_count == MAX_GROUPS) die("expected at most %d groups", MAX_GROUPS);
    struct group *group = &options->groups[options->group_count++];
    *group = (struct group){.sse = sse, .connections = (uint32_t)connections, .path = "/"};
    options->connections += group->connections;
    return group;
}

struct options options_read(int argc, char **argv) {
    struct options options = {
        .channels = 1, .concurrency = 100, .window = 1, .seconds = 1, .warm_up_s = 0.5, .patience_s = 10, .drain_s = 60,
    };
    struct group *group = NULL;
    int code, index;
    while ((code = getopt_long(argc, argv, "", names, &index)) != -1) {
        if (code == '?') die("load --help names the options");
        const char *what = names[index].name;
        if (code >= PATH && code <= PONG && !group) die("--%s: expected --ws or --sse before", what);
        switch (code) {
        case PORT: options.port = (uint16_t)number(optarg, what, 1, 65535); break;
        case WS: group = new_group(&options, false, number(optarg, what, 1, 1e6)); break;
        case SSE: group = new_group(&options, true, number(optarg, what, 1, 1e6)); break;
        case PATH: group->path = optarg; break;
        case HELLO: append(group->hello, optarg, what); break;
        case RECOVER: append(group->recover, optarg, what); break;
        case READY: group->ready = *optarg ? optarg : NULL; break;
        case PING: group->ping = *optarg ? optarg : NULL; break;
        case PONG: group->pong = optarg; break;
        case CHANNELS: options.channels = (uint32_t)number(optarg, what, 1, 1e6); break;
        case CONCURRENCY: options.concurrency = (uint32_t)number(optarg, what, 1, 1e6); break;
        case HOLD: options.hold = true; break;
        case PUBLISH: options.publish_file = optarg; break;
        case PUBLISH_PORT: options.publish_port = (uint16_t)number(optarg, what, 1, 65535); break;
        case RESP: options.publish_resp = true; break;
        case WINDOW: options.window = (uint32_t)number(optarg, what, 1, 10000); break;
        case RATE: options.rate_per_s = number(optarg, what, 0.1, 1e6); break;
        case SECONDS: options.seconds = number(optarg, what, 0.01, 3600); break;
        case WARM_UP: options.warm_up_s = number(optarg, what, 0, 60); break;
        case STORM: options.storm = (uint32_t)number(optarg, what, 1, 10000); break;
        case PATIENCE: options.patience_s = number(optarg, what, 0.1, 600); break;
        case DRAIN: options.drain_s = number(optarg, what, 0.1, 3600); break;
        case HELP: fputs(help, stdout); exit(0);
        }
    }
    if (optind < argc) die("expected options only, got '%s'", argv[optind]);
    if (!options.port) die("expected --port");
    if (!group) die("expected --ws or --sse");
    if (options.connections % options.channels)
        die("expected connections in equal numbers a channel, got %u for %u channels",
            options.connections, options.channels);
    if (options.storm && !options.publish_file) die("--storm: expected --publish");
    if (!options.publish_port) options.publish_port = options.port;
    return options;
}
