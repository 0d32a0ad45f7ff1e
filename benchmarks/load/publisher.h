/* The connection that publishes: one request template, filled in for each message.
 *
 * Requests are queued and leave together when the event loop's turn ends. Replies are counted
 * and checked; one that is no success ends the program.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct publisher;

/* Connect and read the template. */
struct publisher *publisher_open(const char *file, uint16_t port, bool resp);
int publisher_fd(const struct publisher *publisher);

void publisher_queue(struct publisher *publisher, uint32_t channel, uint32_t sequence);

/* Write what is queued; true if something is left, for when the socket takes more. */
bool publisher_flush(struct publisher *publisher);

/* Take the replies that came. */
void publisher_receive(struct publisher *publisher);
uint64_t publisher_replies(const struct publisher *publisher);
