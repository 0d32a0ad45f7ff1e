/* The load client: connects subscribers, publishes, counts what every one of them gets.
 *
 * One thread around epoll. Reports, beside the counts, its own processor time and the part of
 * the time that it waited for work: a client that waits was not the bottleneck.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "ledger.h"
#include "options.h"
#include "publisher.h"
#include "subscriber.h"
#include "wire.h"

#define EVENTS 512
#define SECOND_NS 1000000000ull

/* What an epoll event is about, when it is not a subscriber's index. */
enum { PUBLISHER = 0xffffffff, PACER = 0xfffffffe, INPUT = 0xfffffffd };

struct load {
    struct options options;
    struct subscriber *subscribers;
    struct ledger *ledger;
    struct publisher *publisher;
    int epoll, pacer;
    bool publisher_waits; /* for its socket to take more */
    bool input_ended;
    uint32_t begun, joined;
    uint64_t now_ns, waited_ns, progress_ns;
    uint64_t pace_from_ns, pace_count;
};

struct stopwatch {
    uint64_t at_ns, waited_ns;
    double cpu_s;
};

static struct stopwatch stopwatch_of(const struct load *load) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    double cpu_s = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                   (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
    return (struct stopwatch){now_ns(), load->waited_ns, cpu_s};
}

static double seconds(uint64_t duration_ns) { return (double)duration_ns / 1e9; }

static uint64_t to_ns(double duration_s) { return (uint64_t)(duration_s * 1e9); }

static void watch(const struct load *load, int fd, uint32_t about, uint32_t events, int operation) {
    struct epoll_event event = {.events = events, .data.u32 = about};
    if (epoll_ctl(load->epoll, operation, fd, &event) < 0) die("epoll_ctl: %s", strerror(errno));
}

static void begin_connections(struct load *load) {
    while (load->begun < load->options.connections && load->begun - load->joined < load->options.concurrency) {
        struct subscriber *subscriber = &load->subscribers[load->begun++];
        subscriber_connect(subscriber, load->options.port);
        watch(load, subscriber->fd, subscriber->index, EPOLLOUT, EPOLL_CTL_ADD);
    }
}

static void serve_subscriber(struct load *load, struct subscriber *subscriber) {
    if (subscriber->state == CONNECTING) {
        subscriber_greet(subscriber, load->options.port);
        watch(load, subscriber->fd, subscriber->index, EPOLLIN, EPOLL_CTL_MOD);
        return;
    }
    bool joined_before = subscriber->state == JOINED;
    subscriber_receive(subscriber, load->ledger);
    load->joined += !joined_before && subscriber->state == JOINED;
}

static void publish_next(struct load *load, uint64_t due_ns) {
    uint64_t number = ledger_publish(load->ledger, due_ns);
    uint32_t channels = load->options.channels;
    publisher_queue(load->publisher, (uint32_t)(number % channels), (uint32_t)(number / channels));
}

static void flush(struct load *load) {
    if (!load->publisher || load->publisher_waits) return;
    if (publisher_flush(load->publisher)) {
        load->publisher_waits = true;
        watch(load, publisher_fd(load->publisher), PUBLISHER, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD);
    }
}

static void serve_publisher(struct load *load, uint32_t events) {
    if (events & ~(uint32_t)EPOLLOUT) publisher_receive(load->publisher);
    if (load->publisher_waits && events & EPOLLOUT) {
        load->publisher_waits = false;
        watch(load, publisher_fd(load->publisher), PUBLISHER, EPOLLIN, EPOLL_CTL_MOD);
    }
}

static void serve_input(struct load *load) {
    char ignored[256];
    if (read(STDIN_FILENO, ignored, sizeof ignored) <= 0) {
        load->input_ended = true;
        epoll_ctl(load->epoll, EPOLL_CTL_DEL, STDIN_FILENO, NULL);
    }
}

/* One turn of the loop: wait, at most until a moment, and do what there is to do. */
static void turn(struct load *load, uint64_t until_ns) {
    struct epoll_event events[EVENTS];
    uint64_t before = now_ns();
    int wait_ms = until_ns > before ? (int)((until_ns - before) / 1000000 + 1) : 0;
    int count = epoll_wait(load->epoll, events, EVENTS, wait_ms);
    if (count < 0 && errno != EINTR) die("epoll_wait: %s", strerror(errno));
    load->now_ns = now_ns();
    load->waited_ns += load->now_ns - before;
    if (count > 0) load->progress_ns = load->now_ns;
    for (int i = 0; i < count; i++) {
        uint64_t ticks;
        uint32_t about = events[i].data.u32;
        if (about == PUBLISHER) serve_publisher(load, events[i].events);
        else if (about == PACER) (void)!read(load->pacer, &ticks, sizeof ticks);
        else if (about == INPUT) serve_input(load);
        else serve_subscriber(load, &load->subscribers[about]);
    }
    flush(load);
}

static bool out_of_patience(const struct load *load) {
    return load->now_ns > load->progress_ns + to_ns(load->options.patience_s);
}

static uint64_t patience_ends(const struct load *load) {
    return load->progress_ns + to_ns(load->options.patience_s);
}

/* Connect all, so many at a time; returns the seconds from the first SYN to the last reply. */
static double join_all(struct load *load) {
    uint64_t from = load->progress_ns = load->now_ns = now_ns();
    load->begun = load->joined = 0;
    while (load->joined < load->options.connections) {
        begin_connections(load);
        turn(load, patience_ends(load));
        if (out_of_patience(load))
            die("expected %u connections to join, got %u and then nothing for %g s",
                load->options.connections, load->joined, load->options.patience_s);
    }
    return seconds(now_ns() - from);
}

static void hold(struct load *load) {
    watch(load, STDIN_FILENO, INPUT, EPOLLIN, EPOLL_CTL_ADD);
    while (!load->input_ended) turn(load, now_ns() + SECOND_NS);
}

/* Publish what the window or the pace allows at this moment. */
static void publish_allowed(struct load *load) {
    struct ledger *ledger = load->ledger;
    if (load->options.rate_per_s > 0) {
        /* Each is due at its time, whether or not the machine was ready for it. */
        for (;;) {
            uint64_t due = load->pace_from_ns + to_ns((double)load->pace_count / load->options.rate_per_s);
            if (due > load->now_ns) {
                struct itimerspec next = {.it_value = {(time_t)(due / SECOND_NS), (long)(due % SECOND_NS)}};
                timerfd_settime(load->pacer, TFD_TIMER_ABSTIME, &next, NULL);
                return;
            }
            if (!ledger_has_room(ledger)) die("the server is %u messages behind", LEDGER_SIZE);
            publish_next(load, due);
            load->pace_count++;
        }
    }
    while (ledger->published - ledger->complete < load->options.window && ledger_has_room(ledger))
        publish_next(load, load->now_ns);
}

/* Publish for so long. Patience is for deliveries here: the pacer alone is no progress. */
static void publish_for(struct load *load, uint64_t duration_ns) {
    uint64_t until = now_ns() + duration_ns, seen = load->ledger->deliveries, seen_ns = now_ns();
    for (load->now_ns = now_ns(); load->now_ns < until;) {
        publish_allowed(load);
        flush(load);
        turn(load, until);
        if (load->ledger->deliveries != seen) seen = load->ledger->deliveries, seen_ns = load->now_ns;
        if (load->now_ns > seen_ns + to_ns(load->options.patience_s)) return;
    }
}

static uint64_t missing(const struct load *load) {
    uint64_t count = 0;
    for (uint32_t i = 0; i < load->options.connections; i++) {
        const struct subscriber *subscriber = &load->subscribers[i];
        count += ledger_published_to(load->ledger, subscriber->channel) - subscriber->next;
    }
    return count;
}

/* Wait until everybody has everything that was published, or nothing comes any more. */
static void drain(struct load *load) {
    uint64_t until = now_ns() + to_ns(load->options.drain_s);
    load->progress_ns = load->now_ns = now_ns();
    while (load->ledger->complete < load->ledger->published && !out_of_patience(load) && load->now_ns < until)
        turn(load, patience_ends(load) < until ? patience_ends(load) : until);
}

static void print_time(const struct stopwatch *from, const struct stopwatch *to) {
    double wall_s = seconds(to->at_ns - from->at_ns);
    printf(",\"seconds\":%.6f,\"client_cpu_s\":%.6f,\"client_idle\":%.4f", wall_s, to->cpu_s - from->cpu_s,
           wall_s > 0 ? seconds(to->waited_ns - from->waited_ns) / wall_s : 0);
}

static void print_counts(const struct load *load) {
    const struct ledger *ledger = load->ledger;
    printf(",\"published\":%llu,\"received\":%llu,\"holes\":%llu,\"repeats\":%llu,\"strangers\":%llu,\"missing\":%llu",
           (unsigned long long)ledger->published, (unsigned long long)ledger->deliveries,
           (unsigned long long)ledger->holes, (unsigned long long)ledger->repeats,
           (unsigned long long)ledger->strangers, (unsigned long long)missing(load));
}

static void print_latency(const struct histogram *latency_ns) {
    printf("\"count\":%llu,\"p50_us\":%.1f,\"p99_us\":%.1f,\"p999_us\":%.1f,\"max_us\":%.1f",
           (unsigned long long)latency_ns->count, (double)histogram_percentile(latency_ns, 50) / 1e3,
           (double)histogram_percentile(latency_ns, 99) / 1e3, (double)histogram_percentile(latency_ns, 99.9) / 1e3,
           (double)latency_ns->max / 1e3);
}

static void run_publishing(struct load *load) {
    load->pace_from_ns = now_ns();
    publish_for(load, to_ns(load->options.warm_up_s));
    struct stopwatch from = stopwatch_of(load);
    uint64_t received = load->ledger->deliveries, complete = load->ledger->complete;
    load->ledger->measured_from_ns = from.at_ns;
    publish_for(load, to_ns(load->options.seconds));
    struct stopwatch to = stopwatch_of(load);
    received = load->ledger->deliveries - received;
    complete = load->ledger->complete - complete;
    drain(load);
    print_time(&from, &to);
    printf(",\"deliveries_per_s\":%.1f,\"messages_per_s\":%.1f,\"latency\":{",
           (double)received / seconds(to.at_ns - from.at_ns), (double)complete / seconds(to.at_ns - from.at_ns));
    print_latency(&load->ledger->latency_ns);
    printf("}");
}

static void run_storm(struct load *load) {
    for (uint32_t i = 0; i < load->options.connections; i++) {
        subscriber_drop(&load->subscribers[i]);
        load->subscribers[i].comes_back = true;
    }
    load->now_ns = load->progress_ns = now_ns();
    for (uint32_t i = 0; i < load->options.storm; i++) publish_next(load, load->now_ns);
    do {
        flush(load);
        turn(load, patience_ends(load));
        if (out_of_patience(load)) die("expected replies to what was published, got none for %g s", load->options.patience_s);
    } while (publisher_replies(load->publisher) < load->options.storm);
    struct stopwatch from = stopwatch_of(load);
    double rejoin_s = join_all(load);
    drain(load);
    struct stopwatch to = stopwatch_of(load);
    print_time(&from, &to);
    printf(",\"rejoin_s\":%.6f", rejoin_s);
}

static struct load *load_new(struct options options) {
    struct load *load = need(calloc(1, sizeof *load));
    load->options = options;
    load->ledger = ledger_new(options.channels, options.connections / options.channels);
    load->subscribers = need(calloc(options.connections, sizeof *load->subscribers));
    load->epoll = epoll_create1(EPOLL_CLOEXEC);
    load->pacer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    watch(load, load->pacer, PACER, EPOLLIN, EPOLL_CTL_ADD);
    uint32_t index = 0;
    for (unsigned i = 0; i < options.group_count; i++)
        for (uint32_t j = 0; j < options.groups[i].connections; j++, index++) {
            load->subscribers[index].group = &load->options.groups[i];
            load->subscribers[index].index = index;
            load->subscribers[index].channel = index % options.channels;
        }
    if (options.publish_file) {
        load->publisher = publisher_open(options.publish_file, options.publish_port, options.publish_resp);
        watch(load, publisher_fd(load->publisher), PUBLISHER, EPOLLIN, EPOLL_CTL_ADD);
    }
    return load;
}

/* `load percentiles`: what the histogram makes of the nanoseconds on standard input. */
static int print_percentiles(void) {
    static struct histogram histogram;
    unsigned long long value;
    while (scanf("%llu", &value) == 1) histogram_add(&histogram, value);
    printf("{");
    print_latency(&histogram);
    printf("}\n");
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "percentiles") == 0) return print_percentiles();
    struct load *load = load_new(options_read(argc, argv));
    double connect_s = join_all(load);
    /* A line of its own: whoever started us may look at the server between the two parts. */
    printf("{\"joined\":%u}\n", load->joined);
    fflush(stdout);
    if (load->options.hold) hold(load);
    printf("{\"connections\":%u,\"channels\":%u,\"connect_s\":%.6f", load->joined, load->options.channels, connect_s);
    if (load->options.storm) run_storm(load);
    else if (load->publisher) run_publishing(load);
    print_counts(load);
    printf("}\n");
    return 0;
}
