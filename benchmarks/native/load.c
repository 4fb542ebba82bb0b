/*
 * A small load generator: one thread, one epoll set, N connections, one message outstanding on each.
 *
 * It exists because a load generator in Python would be slower than the servers it measures. Two protocols:
 *
 *   echo  sends a line of SIZE bytes and expects exactly these bytes back. Each line carries a sequence number, so
 *         an answer that is late, repeated or mixed up between connections is caught, not counted.
 *   http  sends a GET on a kept-alive connection and expects status 200 and exactly the given body, framed by
 *         Content-Length or chunked (RFC 9112, sections 6 and 7).
 *
 * The latency of a round trip runs from the moment the request is handed to the kernel to the moment the answer is
 * complete. Anything unexpected ends the run with a message on standard error and exit status 1.
 *
 * With --steps the program stops at two points, so that the caller can read the server's CPU time and memory while the
 * connections are open and idle: it prints "ready" after the warm-up and waits for a line before measuring, and it
 * waits for another line after printing the result, before closing.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_CONNECTIONS 10000u       /* more needs a raised descriptor limit, and is not what is measured here */
#define MAX_SIZE (64u * 1024 * 1024) /* the longest line a connection handler has to cope with in the tests */
#define MAX_RESPONSE (256u * 1024)   /* an HTTP answer is buffered whole; hello pages are a few hundred bytes */
#define SCRATCH (64u * 1024)
#define NANO 1000000000ull

/* Latencies are counted in buckets, 64 to each power of two of nanoseconds: under 1.6 % wide, of a fixed size. */
#define SUB_BITS 6
#define SUB (1u << SUB_BITS)
#define BUCKETS (SUB * (64 - SUB_BITS + 1))

struct connection {
    int fd;
    unsigned id;
    int busy;            /* a message is outstanding */
    int wants_out;       /* EPOLLOUT is armed */
    uint64_t started;    /* when the outstanding message was sent, ns */
    uint64_t trips;      /* since the start of the phase */
    uint64_t sequence;
    const char *out;
    size_t out_length, out_done;
    char *in;            /* echo: the line itself; http: the answer so far */
    size_t in_done;
};

static struct {
    int http;
    const char *host, *path, *body;
    size_t body_length;
    unsigned port, connections, warmup, timeout_ms;
    size_t size;
    double seconds;
    uint64_t count;
    int steps;
} opt = { .host = "127.0.0.1", .path = "/", .body = "", .connections = 1, .warmup = 20, .timeout_ms = 30000,
          .size = 64, .seconds = 1.0 };

static uint64_t histogram[BUCKETS];
static struct connection *connections;
static char request[4096];
static size_t request_length;
static int epoll_fd;

static void die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

static void die(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

static uint64_t now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NANO + (uint64_t)t.tv_nsec;
}

static double cpu_seconds(void)
{
    struct rusage r;

    getrusage(RUSAGE_SELF, &r);
    return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) + (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
}

/* ------------------------------------------------------------------ latencies */

static unsigned bucket_of(uint64_t ns)
{
    unsigned shift;

    if (ns < 2 * SUB)
        return (unsigned)ns;
    shift = 63u - (unsigned)__builtin_clzll(ns) - SUB_BITS;
    return shift * SUB + (unsigned)(ns >> shift);
}

static double bucket_middle(unsigned bucket)
{
    unsigned shift;

    if (bucket < 2 * SUB)
        return bucket;
    shift = bucket / SUB - 1;
    return ((double)(bucket - shift * SUB) + 0.5) * (double)(1ull << shift);
}

static double percentile(double fraction, uint64_t total)
{
    uint64_t wanted = (uint64_t)(fraction * (double)total), seen = 0;
    unsigned i;

    for (i = 0; i < BUCKETS; i++) {
        seen += histogram[i];
        if (seen > wanted)
            return bucket_middle(i) / 1000.0;
    }
    return 0.0;
}

/* ------------------------------------------------------------------ HTTP answers */

/* The end of the line that begins at p (its CR LF), or NULL if the line is not complete yet. */
static char *line_end(char *p, char *end)
{
    return memmem(p, (size_t)(end - p), "\r\n", 2);
}

static int header_is(const char *line, size_t length, const char *name)
{
    size_t n = strlen(name);

    return length > n && line[n] == ':' && strncasecmp(line, name, n) == 0;
}

static void check_body(const struct connection *c, size_t at, const char *data, size_t length, int last)
{
    if (at + length > opt.body_length || memcmp(opt.body + at, data, length) != 0
        || (last && at + length != opt.body_length))
        die("connection %u: wrong body after %llu answers: expected \"%s\", got \"%.*s\"", c->id,
            (unsigned long long)c->trips, opt.body, (int)(length < 200 ? length : 200), data);
}

/* Walks a chunked body from p. Returns its end, or NULL if it is not complete yet. */
static char *walk_chunks(const struct connection *c, char *p, char *end)
{
    size_t at = 0, size;
    char *eol, *digits_end;

    for (;;) {
        if ((eol = line_end(p, end)) == NULL)
            return NULL;
        size = strtoul(p, &digits_end, 16);
        if (digits_end == p)
            die("connection %u: bad chunk size line \"%.*s\"", c->id, (int)(eol - p), p);
        p = eol + 2;
        if (size == 0)
            break;
        if (size > MAX_RESPONSE)
            die("connection %u: a chunk of %zu bytes is more than the %u allowed", c->id, size, MAX_RESPONSE);
        if ((size_t)(end - p) < size + 2)
            return NULL;
        check_body(c, at, p, size, 0);
        at += size;
        p += size + 2;
    }
    for (;;) { /* trailers, up to the empty line */
        if ((eol = line_end(p, end)) == NULL)
            return NULL;
        if (eol == p)
            break;
        p = eol + 2;
    }
    check_body(c, at, "", 0, 1);
    return p + 2;
}

/* Looks at what has arrived of an answer. Returns 1 if it is complete and right, 0 if more must come. */
static int http_complete(struct connection *c)
{
    char *end = c->in + c->in_done, *p, *eol, *body, *answer_end;
    long content_length = -1;
    int chunked = 0;

    if ((body = memmem(c->in, c->in_done, "\r\n\r\n", 4)) == NULL)
        return 0;
    body += 4;
    eol = line_end(c->in, end);
    if (strncmp(c->in, "HTTP/1.1 200", 12) != 0)
        die("connection %u: after %llu answers the server said \"%.*s\"", c->id, (unsigned long long)c->trips,
            (int)(eol - c->in), c->in);
    for (p = eol + 2; p < body - 2; p = eol + 2) {
        size_t length;

        eol = line_end(p, end);
        length = (size_t)(eol - p);
        if (header_is(p, length, "Content-Length"))
            content_length = strtol(p + 15, NULL, 10);
        else if (header_is(p, length, "Transfer-Encoding"))
            chunked = memmem(p, length, "chunked", 7) != NULL;
        else if (header_is(p, length, "Connection") && memmem(p, length, "close", 5) != NULL)
            die("connection %u: the server does not keep the connection alive", c->id);
    }
    if (chunked) {
        if ((answer_end = walk_chunks(c, body, end)) == NULL)
            return 0;
    }
    else {
        if (content_length < 0)
            die("connection %u: the answer has neither Content-Length nor chunks", c->id);
        if (end - body < content_length)
            return 0;
        answer_end = body + content_length;
        check_body(c, 0, body, (size_t)content_length, 1);
    }
    if (answer_end != end)
        die("connection %u: %td bytes after the end of the answer", c->id, end - answer_end);
    return 1;
}

/* ------------------------------------------------------------------ connections */

static void watch(struct connection *c, int out)
{
    struct epoll_event event = { .events = EPOLLIN | (out ? EPOLLOUT : 0u), .data.ptr = c };

    if (epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &event) != 0)
        die("epoll_ctl: %s", strerror(errno));
    c->wants_out = out;
}

static void push(struct connection *c)
{
    while (c->out_done < c->out_length) {
        ssize_t n = send(c->fd, c->out + c->out_done, c->out_length - c->out_done, MSG_NOSIGNAL);

        if (n < 0) {
            if (errno == EINTR)
                continue;
            if (errno == EAGAIN)
                break;
            die("connection %u: sending failed after %llu round trips: %s", c->id, (unsigned long long)c->trips,
                strerror(errno));
        }
        c->out_done += (size_t)n;
    }
    if ((c->out_done < c->out_length) != c->wants_out)
        watch(c, !c->wants_out);
}

static void send_next(struct connection *c, uint64_t t)
{
    c->in_done = 0;
    c->out_done = 0;
    if (!opt.http) {
        /* The last byte stays the newline; a line too short for the number has only a part of it. */
        static const char digits[] = "0123456789abcdef";
        uint64_t value = c->sequence++;
        size_t i, n = opt.size - 1 < 12 ? opt.size - 1 : 12;

        for (i = 0; i < n; i++, value >>= 4)
            c->in[i] = digits[value & 15];
    }
    c->busy = 1;
    c->started = t;
    push(c);
}

/* Reads what there is. Returns 1 when the outstanding answer is complete. */
static int pull(struct connection *c)
{
    static char scratch[SCRATCH];
    char *into = opt.http ? c->in + c->in_done : scratch;
    size_t room = opt.http ? MAX_RESPONSE - c->in_done : SCRATCH;
    ssize_t n;

    if (room == 0)
        die("connection %u: the answer is longer than %u bytes", c->id, MAX_RESPONSE);
    n = recv(c->fd, into, room, 0);
    if (n < 0) {
        if (errno == EAGAIN || errno == EINTR)
            return 0;
        die("connection %u: receiving failed after %llu round trips: %s", c->id, (unsigned long long)c->trips,
            strerror(errno));
    }
    if (n == 0)
        die("connection %u: closed by the server after %llu round trips", c->id, (unsigned long long)c->trips);
    if (!c->busy)
        die("connection %u: %zd bytes that nobody asked for", c->id, n);
    if (opt.http) {
        c->in_done += (size_t)n;
        return http_complete(c);
    }
    if (c->in_done + (size_t)n > opt.size || memcmp(c->in + c->in_done, scratch, (size_t)n) != 0)
        die("connection %u: wrong echo after %llu round trips", c->id, (unsigned long long)c->trips);
    c->in_done += (size_t)n;
    return c->in_done == opt.size;
}

static void open_connection(struct connection *c, unsigned id)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)opt.port) };
    struct timeval limit = { .tv_sec = opt.timeout_ms / 1000 };
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = c };
    int on = 1;

    c->id = id;
    if (inet_pton(AF_INET, opt.host, &address.sin_addr) != 1)
        die("%s is not an IPv4 address", opt.host);
    if ((c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) < 0)
        die("socket: %s", strerror(errno));
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit); /* bounds connect() as well */
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) != 0)
        die("connecting to %s:%u failed: %s", opt.host, opt.port, strerror(errno));
    fcntl(c->fd, F_SETFL, fcntl(c->fd, F_GETFL) | O_NONBLOCK);
    if (opt.http) {
        c->in = malloc(MAX_RESPONSE);
        c->out = request;
        c->out_length = request_length;
    }
    else {
        c->in = malloc(opt.size);
        c->out = c->in;
        c->out_length = opt.size;
    }
    if (c->in == NULL)
        die("out of memory");
    if (!opt.http) {
        size_t i;

        for (i = 0; i + 1 < opt.size; i++)
            c->in[i] = (char)('a' + (i + id) % 26);
        c->in[opt.size - 1] = '\n';
    }
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &event) != 0)
        die("epoll_ctl: %s", strerror(errno));
}

/*
 * Runs the first n connections until the budget of round trips is used up or the deadline has passed, then waits for
 * the answers that are still outstanding: everything sent is also verified. quota, if not 0, is the number of round
 * trips of each connection. Returns the number of round trips.
 */
static uint64_t run(unsigned n, uint64_t budget, uint64_t quota, uint64_t deadline)
{
    struct epoll_event events[256];
    uint64_t done = 0, issued = 0, t = now();
    unsigned i, outstanding = 0;

    for (i = 0; i < n; i++) {
        connections[i].trips = 0;
        if (issued < budget) {
            issued++;
            outstanding++;
            send_next(&connections[i], t);
        }
    }
    while (outstanding > 0) {
        int ready = epoll_wait(epoll_fd, events, 256, (int)opt.timeout_ms), k;

        if (ready < 0 && errno != EINTR)
            die("epoll_wait: %s", strerror(errno));
        if (ready == 0)
            die("no answer on %u of %u connections within %u s (after %llu round trips)", outstanding, n,
                opt.timeout_ms / 1000, (unsigned long long)done);
        for (k = 0; k < ready; k++) {
            struct connection *c = events[k].data.ptr;

            if (events[k].events & EPOLLOUT)
                push(c);
            if (!(events[k].events & (EPOLLIN | EPOLLERR | EPOLLHUP)) || !pull(c))
                continue;
            t = now();
            histogram[bucket_of(t - c->started)]++;
            c->busy = 0;
            c->trips++;
            done++;
            if (issued < budget && t < deadline && (quota == 0 || c->trips < quota)) {
                issued++;
                send_next(c, t);
            }
            else {
                outstanding--;
            }
        }
    }
    return done;
}

/* ------------------------------------------------------------------ command line */

static void usage(void)
{
    die("usage: load echo|http --port PORT [--host ADDRESS] [--connections N] [--seconds S | --count N] [--warmup N]\n"
        "            [--size BYTES] [--path PATH] [--body TEXT] [--timeout SECONDS] [--steps]");
}

static void options(int argc, char **argv)
{
    int i;

    if (argc < 2 || (strcmp(argv[1], "echo") != 0 && strcmp(argv[1], "http") != 0))
        usage();
    opt.http = strcmp(argv[1], "http") == 0;
    for (i = 2; i < argc; i++) {
        const char *name = argv[i], *value;

        if (strcmp(name, "--steps") == 0) {
            opt.steps = 1;
            continue;
        }
        if (i + 1 == argc)
            usage();
        value = argv[++i];
        if (strcmp(name, "--host") == 0)
            opt.host = value;
        else if (strcmp(name, "--port") == 0)
            opt.port = (unsigned)atoi(value);
        else if (strcmp(name, "--connections") == 0)
            opt.connections = (unsigned)atoi(value);
        else if (strcmp(name, "--seconds") == 0)
            opt.seconds = atof(value);
        else if (strcmp(name, "--count") == 0)
            opt.count = strtoull(value, NULL, 10);
        else if (strcmp(name, "--warmup") == 0)
            opt.warmup = (unsigned)atoi(value);
        else if (strcmp(name, "--size") == 0)
            opt.size = strtoul(value, NULL, 10);
        else if (strcmp(name, "--path") == 0)
            opt.path = value;
        else if (strcmp(name, "--body") == 0)
            opt.body = value;
        else if (strcmp(name, "--timeout") == 0)
            opt.timeout_ms = (unsigned)(atof(value) * 1000);
        else
            usage();
    }
    if (opt.port == 0 || opt.port > 65535 || opt.connections == 0 || opt.connections > MAX_CONNECTIONS
        || opt.warmup == 0 || opt.size == 0 || opt.size > MAX_SIZE || (opt.count == 0 && opt.seconds <= 0))
        usage();
    opt.body_length = strlen(opt.body);
    request_length = (size_t)snprintf(request, sizeof request,
        "GET %s HTTP/1.1\r\nHost: localhost\r\nUser-Agent: load\r\nAccept: */*\r\n\r\n", opt.path);
    if (request_length >= sizeof request)
        die("the path is too long");
}

static void wait_for_caller(void)
{
    int c;

    if (opt.steps)
        while ((c = getchar()) != '\n' && c != EOF)
            ;
}

int main(int argc, char **argv)
{
    uint64_t began, done;
    double elapsed, cpu;
    unsigned i;

    options(argc, argv);
    if ((epoll_fd = epoll_create1(EPOLL_CLOEXEC)) < 0)
        die("epoll_create1: %s", strerror(errno));
    if ((connections = calloc(opt.connections, sizeof *connections)) == NULL)
        die("out of memory");

    /* One round trip alone first, so that no server is measured by how it copes with a crowd at its first import. */
    open_connection(&connections[0], 0);
    run(1, 1, 1, UINT64_MAX);
    for (i = 1; i < opt.connections; i++)
        open_connection(&connections[i], i);
    run(opt.connections, UINT64_MAX, opt.warmup, UINT64_MAX);
    memset(histogram, 0, sizeof histogram);

    if (opt.steps) {
        puts("ready");
        fflush(stdout);
    }
    wait_for_caller();

    cpu = cpu_seconds();
    began = now();
    done = run(opt.connections, opt.count ? opt.count : UINT64_MAX, 0,
               opt.count ? UINT64_MAX : began + (uint64_t)(opt.seconds * (double)NANO));
    elapsed = (double)(now() - began) / (double)NANO;
    cpu = cpu_seconds() - cpu;

    printf("{\"round_trips\": %llu, \"seconds\": %.6f, \"rate\": %.2f, \"p50_us\": %.2f, \"p95_us\": %.2f, "
           "\"p99_us\": %.2f, \"client_cpu_seconds\": %.6f}\n",
           (unsigned long long)done, elapsed, (double)done / elapsed, percentile(0.50, done), percentile(0.95, done),
           percentile(0.99, done), cpu);
    fflush(stdout);
    wait_for_caller();
    return 0;
}
