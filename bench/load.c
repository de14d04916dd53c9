/* The load generator: one thread, one epoll, so cheap that the server is what is measured.
 *
 * load echo PORT CONNECTIONS SIZE     connections stay open; each sends SIZE bytes, and again once it has them back
 * load accept PORT CONNECTIONS SIZE   so many connections at a time are made, echo once, and are closed by this side
 *
 * It says "ready", then takes lines "milliseconds wait" from standard input, loads for so long, lets what is under way
 * finish, and answers with a line "requests seconds busy-seconds errors". It ends when its input ends. `wait` is
 * `sleep`, or, with a core of its own, `spin`: whoever sends to a process that sleeps pays for waking it, which on a
 * virtual machine is an interrupt to another core, dearer than the whole request. Spinning is not counted as busy.
 * Closed connections leave TIME_WAIT on this side; so each goes out from the next of 64 loopback addresses.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

enum { MOST = 4096, BATCH = 256, STALLED_MS = 10000, SOURCES = 64 };

struct connection {
    int fd;
    int connecting;
    size_t unsent, unread;
};

static struct connection connections[MOST];
static struct sockaddr_in server;
static int poller, busy, churn;
static size_t size;
static char *payload, *sink;
static long requests, errors;
static unsigned sources;

static double now(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void watch(struct connection *c, int op, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.ptr = c};
    if (epoll_ctl(poller, op, c->fd, &e))
        die("epoll_ctl");
}

static void dial(struct connection *c)
{
    int on = 1;
    struct sockaddr_in source = {.sin_family = AF_INET};
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | (churn ? SOCK_NONBLOCK : 0), 0);
    if (c->fd < 0)
        die("socket");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (churn) {
        source.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + sources++ % SOURCES);
        setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
        if (bind(c->fd, (struct sockaddr *)&source, sizeof source))
            die("bind");
    }
    if (connect(c->fd, (struct sockaddr *)&server, sizeof server) && errno != EINPROGRESS)
        die("connect");
    c->connecting = churn;
    if (!churn)
        fcntl(c->fd, F_SETFL, O_NONBLOCK);
    watch(c, EPOLL_CTL_ADD, churn ? EPOLLOUT : EPOLLIN);
}

/* 0 if the connection broke. */
static int push(struct connection *c)
{
    ssize_t n = send(c->fd, payload, c->unsent, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN)
        return 0;
    if (n > 0)
        c->unsent -= n;
    if (c->unsent)
        watch(c, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
    return 1;
}

static int ask(struct connection *c)
{
    c->unsent = c->unread = size;
    return push(c);
}

static void hang_up(struct connection *c, int failed)
{
    errors += failed;
    close(c->fd);
    c->fd = -1;
}

/* One event; 1 if this request is over, whichever way. */
static int step(struct connection *c, uint32_t events)
{
    ssize_t n;
    if (c->connecting && events & (EPOLLERR | EPOLLHUP)) {
        hang_up(c, 1);
        return 1;
    }
    if (events & EPOLLOUT) {
        watch(c, EPOLL_CTL_MOD, EPOLLIN);
        if (c->connecting ? (c->connecting = 0, !ask(c)) : !push(c)) {
            hang_up(c, 1);
            return 1;
        }
    }
    if (!(events & (EPOLLIN | EPOLLERR | EPOLLHUP)))
        return 0;
    n = recv(c->fd, sink, size, 0);
    if (n < 0 && errno == EAGAIN)
        return 0;
    if (n <= 0) {
        hang_up(c, 1);
        return 1;
    }
    c->unread -= (size_t)n < c->unread ? (size_t)n : c->unread;
    if (c->unread)
        return 0;
    requests++;
    if (churn)
        hang_up(c, 0);
    return 1;
}

static void begin(struct connection *c)
{
    busy++;
    if (churn)
        dial(c);
    else if (!ask(c))
        die("send");
}

static void run(int count, double seconds, int spin)
{
    struct epoll_event events[BATCH];
    double begun = now(CLOCK_MONOTONIC), cpu = now(CLOCK_PROCESS_CPUTIME_ID), heard = begun, spun = 0;
    requests = errors = 0;
    for (int i = 0; i < count; i++)
        begin(&connections[i]);
    while (busy) {
        double before = spin ? now(CLOCK_PROCESS_CPUTIME_ID) : 0;
        int n = epoll_wait(poller, events, BATCH, spin ? 0 : STALLED_MS);
        double time = now(CLOCK_MONOTONIC);
        if (n)
            heard = time;
        else if (spin)
            spun += now(CLOCK_PROCESS_CPUTIME_ID) - before;
        if (time - heard > STALLED_MS / 1e3 || (!n && !spin)) {
            fprintf(stderr, "load: no answer for %d ms\n", STALLED_MS);
            exit(1);
        }
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            if (!step(c, events[i].events))
                continue;
            busy--;
            if (time - begun < seconds && (churn || c->fd >= 0))
                begin(c);
        }
    }
    cpu = now(CLOCK_PROCESS_CPUTIME_ID) - cpu - spun;
    printf("%ld %.9f %.9f %ld\n", requests, now(CLOCK_MONOTONIC) - begun, cpu, errors);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    char line[64];
    if (argc != 5)
        return 2;
    int count = atoi(argv[3]);
    if (count < 1 || count > MOST)
        return 2;
    churn = !strcmp(argv[1], "accept");
    size = strtoul(argv[4], 0, 10);
    payload = calloc(1, size);
    sink = malloc(size);
    server.sin_family = AF_INET;
    server.sin_port = htons(atoi(argv[2]));
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    poller = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; !churn && i < count; i++)
        dial(&connections[i]);
    puts("ready");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin))
        run(count, atof(line) / 1000, !!strstr(line, "spin"));
    return 0;
}
