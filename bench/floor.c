/* The floor that the load engine is measured against: what C, epoll and accept4 make of this kernel.
 *
 * Forks its workers, prints `ready PID...`, waits for a line on its input, drives the load, prints `done SECONDS`, holds
 * what it has until its input ends. With --mode serve it only accepts, and prints `done` with the seconds from the first
 * connection to the last. Whatever goes wrong ends it with a status other than 0 and a line on stderr.
 *
 *   floor --mode hold|churn|serve|half-open|udp --connections N --processes N --layout apart|pairs --listeners N
 *         --first-port PORT --batch N --window N --client poll|epoll|blocking|ring --close fin|reset --gather-ms N
 *
 * `connections` and `listeners` (per process) are split like the engine splits them: each process has ports of its own.
 * How an outcome is learnt: `poll` asks for a batch at once and watches the rest with epoll, `epoll` registers every
 * descriptor, for one event, `blocking` lets connect(2) wait. `ring` does all of it, and accepts, through io_uring.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MAX_BATCH = 4096, MAX_LISTENERS = 256, MAX_WORKERS = 256, MAX_EVENTS = 1024, SEND_BATCH = 64 };

static struct {
    const char *mode, *layout, *client, *close;
    int connections, processes, listeners, first_port, batch, window, gather_ms;
} options = {"hold", "apart", "poll", "fin", 20000, 2, 4, 7777, 512, 2048, 0};

struct server {
    int listeners[MAX_LISTENERS];
    int count, expected, accepted, open, epoll;
};

struct client {
    int first_port, ports, total, attempted, held, epoll;
};

struct times { struct timespec first_accept, last_accept; };

static pid_t workers[MAX_WORKERS];
static int worker_count;
static struct times *times; /* of each worker, in memory that all of them share */
static struct times *own_times;

static void die(const char *format, ...) {
    int error = errno;
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "floor: ");
    vfprintf(stderr, format, arguments);
    fprintf(stderr, ": %s\n", strerror(error));
    va_end(arguments);
    exit(1);
}

static double seconds_between(const struct timespec *from, const struct timespec *to) {
    return (double)(to->tv_sec - from->tv_sec) + (double)(to->tv_nsec - from->tv_nsec) / 1e9;
}

static struct timespec now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time;
}

static int is(const char *option, const char *value) { return strcmp(option, value) == 0; }

static int by_ring(void) { return is(options.client, "ring"); }

/* The size of part `number` of `total`, of which no two differ by more than one. */
static int part(int total, int parts, int number) { return total / parts + (number < total % parts); }

static struct sockaddr_in loopback(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

/* --- the accepting side --- */

static void watch_listener(struct server *server, int number) {
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = (unsigned)number};
    if (epoll_ctl(server->epoll, EPOLL_CTL_ADD, server->listeners[number], &event) != 0) die("epoll_ctl");
}

static void server_open(struct server *server, int first_port, int expected) {
    memset(server, 0, sizeof *server);
    server->count = options.listeners;
    server->expected = expected;
    server->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (server->epoll < 0) die("epoll_create1");
    for (int i = 0; i < server->count; i++) {
        struct sockaddr_in address = loopback(first_port + i);
        int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0) die("socket");
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0) die("port %d", first_port + i);
        if (listen(fd, part(expected, server->count, i) + 1) != 0) die("listen");
        server->listeners[i] = fd;
        watch_listener(server, i);
    }
}

/* Descriptors of a batch that the other side has closed are closed; the others are watched until it does. */
static void close_ended(struct server *server, const int *fds, int count) {
    static struct pollfd polled[MAX_BATCH];
    for (int i = 0; i < count; i++) polled[i] = (struct pollfd){fds[i], POLLRDHUP, 0};
    if (poll(polled, (nfds_t)count, 0) < 0) die("poll");
    for (int i = 0; i < count; i++) {
        if (polled[i].revents) {
            close(fds[i]);
            continue;
        }
        struct epoll_event event = {.events = EPOLLRDHUP, .data.u32 = (unsigned)fds[i] + MAX_LISTENERS};
        if (epoll_ctl(server->epoll, EPOLL_CTL_ADD, fds[i], &event) != 0) die("epoll_ctl");
        server->open++;
    }
}

static void server_drain(struct server *server, int listener) {
    static int batch[MAX_BATCH];
    int churn = is(options.mode, "churn"), pending = 0;
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EINTR || errno == ECONNABORTED) continue;
            if (errno != EAGAIN) die("accept4 after %d", server->accepted);
            break;
        }
        if (server->accepted++ == 0) own_times->first_accept = now();
        if (server->accepted == server->expected) own_times->last_accept = now();
        if (!churn) continue;
        batch[pending++] = fd;
        if (pending == MAX_BATCH) close_ended(server, batch, pending), pending = 0;
    }
    if (pending) close_ended(server, batch, pending);
}

/* Takes what there is, waiting at most `timeout_ms` for it. */
static void server_step(struct server *server, int timeout_ms) {
    struct epoll_event events[MAX_EVENTS];
    int count = epoll_wait(server->epoll, events, MAX_EVENTS, timeout_ms);
    if (count < 0 && errno != EINTR) die("epoll_wait");
    if (count > 0 && timeout_ms && options.gather_ms) {
        usleep((useconds_t)options.gather_ms * 1000);
        count = epoll_wait(server->epoll, events, MAX_EVENTS, 0);
    }
    for (int i = 0; i < count; i++) {
        unsigned number = events[i].data.u32;
        if (number < MAX_LISTENERS) {
            server_drain(server, server->listeners[number]);
        } else {
            close((int)(number - MAX_LISTENERS));
            server->open--;
        }
    }
}

static int server_is_done(const struct server *server) { return server->accepted >= server->expected; }

/* --- the connecting side --- */

static void client_open(struct client *client, int first_port, int total) {
    memset(client, 0, sizeof *client);
    client->first_port = first_port;
    client->ports = options.listeners;
    client->total = total;
    client->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (client->epoll < 0) die("epoll_create1");
}

static void client_established(struct client *client, int fd) {
    client->held++;
    if (is(options.mode, "churn")) close(fd);
}

static void client_answer(struct client *client, int fd, unsigned events) {
    if (events & (EPOLLERR | EPOLLHUP)) {
        socklen_t size = sizeof errno;
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &errno, &size);
        die("connect after %d", client->held);
    }
    client_established(client, fd);
}

static int client_connect(struct client *client) {
    int flags = is(options.client, "blocking") ? 0 : SOCK_NONBLOCK;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
    if (fd < 0) die("socket after %d", client->attempted);
    if (is(options.mode, "churn") && is(options.close, "reset")) {
        struct linger now_reset = {1, 0};
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &now_reset, sizeof now_reset);
    }
    struct sockaddr_in address = loopback(client->first_port + client->attempted % client->ports);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0 && errno != EINPROGRESS)
        die("connect after %d", client->attempted);
    client->attempted++;
    return fd;
}

static void watch_connect(struct client *client, int fd) {
    struct epoll_event event = {.events = EPOLLOUT | EPOLLONESHOT, .data.fd = fd};
    if (epoll_ctl(client->epoll, EPOLL_CTL_ADD, fd, &event) != 0) die("epoll_ctl");
}

/* Asks for the outcome of a batch at once; what has none yet is left to epoll. */
static void settle(struct client *client, const int *fds, int count) {
    static struct pollfd polled[MAX_BATCH];
    for (int i = 0; i < count; i++) polled[i] = (struct pollfd){fds[i], POLLOUT, 0};
    if (poll(polled, (nfds_t)count, 0) < 0) die("poll");
    for (int i = 0; i < count; i++) {
        if (polled[i].revents) client_answer(client, fds[i], (unsigned)polled[i].revents);
        else watch_connect(client, fds[i]);
    }
}

static void client_take_answers(struct client *client, int timeout_ms) {
    struct epoll_event events[MAX_EVENTS];
    int count;
    do {
        count = epoll_wait(client->epoll, events, MAX_EVENTS, timeout_ms);
        if (count < 0 && errno != EINTR) die("epoll_wait");
        for (int i = 0; i < count; i++) client_answer(client, events[i].data.fd, events[i].events);
        timeout_ms = 0;
    } while (count == MAX_EVENTS);
}

static int client_pending(const struct client *client) { return client->attempted - client->held; }

static int client_is_done(const struct client *client) { return client->held == client->total; }

/* Opens one batch, and takes the answers that there are; waits only when it may, and when nothing can be opened. */
static void client_step(struct client *client, int may_wait) {
    static int fds[MAX_BATCH];
    int room = options.window - client_pending(client), count = client->total - client->attempted;
    if (count > options.batch) count = options.batch;
    if (count > room) count = room;
    for (int i = 0; i < count; i++) {
        fds[i] = client_connect(client);
        if (is(options.client, "blocking")) client_established(client, fds[i]);
        else if (is(options.client, "epoll")) watch_connect(client, fds[i]);
    }
    if (is(options.client, "poll") && count > 0) settle(client, fds, count);
    if (client_pending(client)) client_take_answers(client, may_wait && count <= 0 ? -1 : 0);
}

#include "floor_ring.h"

/* --- packets that nobody answers --- */

/* As flood.py counts them: an address of 127.0.0.0/8 for each, without 0 and 255 in the last octet, 0 in the second. */
static in_addr_t flood_address(int index) {
    unsigned last = 1 + (unsigned)index % 254, third = (unsigned)index / 254 % 256;
    unsigned second = 1 + (unsigned)index / 254 / 256 % 254;
    return htonl(127u << 24 | second << 16 | third << 8 | last);
}

static void receive_nothing(int fd, int port) {
    struct sock_filter take_nothing = {BPF_RET | BPF_K, 0, 0, 0};
    struct sock_fprog program = {1, &take_nothing};
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) != 0) die("filter");
    if (bind(fd, (struct sockaddr *)&any, sizeof any) != 0) die("port %d", port);
}

static unsigned short checksum(const void *data, size_t bytes, unsigned sum) {
    const unsigned short *words = data;
    for (size_t i = 0; i < bytes / 2; i++) sum += words[i];
    while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
    return (unsigned short)~sum;
}

struct syn { struct iphdr ip; struct tcphdr tcp; };

static void put_syn(struct syn *syn, int source_port, int port, in_addr_t destination) {
    struct { in_addr_t source, destination; unsigned char zero, protocol; unsigned short length; } pseudo;
    memset(syn, 0, sizeof *syn);
    syn->ip = (struct iphdr){.version = 4, .ihl = 5, .tot_len = htons(sizeof *syn), .id = htons(1), .ttl = 64,
                             .frag_off = htons(0x4000), .protocol = IPPROTO_TCP, .saddr = htonl(INADDR_LOOPBACK),
                             .daddr = destination};
    syn->tcp = (struct tcphdr){.source = (unsigned short)source_port, .dest = htons((unsigned short)port),
                               .seq = htonl(1), .doff = 5, .syn = 1, .window = htons(64240)};
    memset(&pseudo, 0, sizeof pseudo);
    pseudo.source = syn->ip.saddr;
    pseudo.destination = destination;
    pseudo.protocol = IPPROTO_TCP;
    pseudo.length = htons(sizeof syn->tcp);
    unsigned sum = (unsigned short)~checksum(&pseudo, sizeof pseudo, 0);
    syn->tcp.check = checksum(&syn->tcp, sizeof syn->tcp, sum);
}

static void flood(int first, int count, int fd, int source_port, int port) {
    static struct mmsghdr messages[SEND_BATCH];
    static struct sockaddr_in addresses[SEND_BATCH];
    static struct iovec pieces[SEND_BATCH];
    static struct syn packets[SEND_BATCH];
    int syns = is(options.mode, "half-open");
    for (int sent = 0; sent < count;) {
        int batch = count - sent < SEND_BATCH ? count - sent : SEND_BATCH;
        for (int i = 0; i < batch; i++) {
            in_addr_t destination = flood_address(first + sent + i);
            addresses[i] = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = destination,
                                                .sin_port = syns ? 0 : htons((unsigned short)port)};
            if (syns) put_syn(&packets[i], source_port, port, destination);
            pieces[i] = (struct iovec){&packets[i], syns ? sizeof(struct syn) : 0};
            messages[i].msg_hdr = (struct msghdr){.msg_name = &addresses[i], .msg_namelen = sizeof addresses[i],
                                                  .msg_iov = &pieces[i], .msg_iovlen = 1};
        }
        int done = sendmmsg(fd, messages, (unsigned)batch, 0);
        if (done < 0) die("sendmmsg after %d", sent);
        sent += done;
    }
}

/* --- workers --- */

static void byte_to(int fd) {
    if (write(fd, "x", 1) != 1) die("write");
}

static void byte_from(int fd) {
    char byte;
    if (read(fd, &byte, 1) != 1) exit(1);
}

static void work_as_server(int number, int total, int in, int out) {
    struct server server;
    server_open(&server, options.first_port + number * options.listeners, total);
    byte_to(out);
    byte_from(in);
    struct ring ring;
    if (by_ring()) ring_server_open(&ring, &server);
    while (!server_is_done(&server) || server.open) {
        if (by_ring()) ring_server_step(&ring, &server, 1);
        else server_step(&server, -1);
    }
    byte_to(out);
    byte_from(in);
}

static void work_as_client(int number, int total, int in, int out) {
    struct client client;
    client_open(&client, options.first_port + number * options.listeners, total);
    byte_to(out);
    byte_from(in);
    struct ring ring;
    if (by_ring()) ring_open(&ring, (unsigned)total);
    while (!client_is_done(&client)) {
        if (by_ring()) ring_client_step(&ring, &client, 1);
        else client_step(&client, 1);
    }
    byte_to(out);
    byte_from(in);
}

static void work_as_pair(int number, int total, int in, int out) {
    struct server server;
    struct client client;
    server_open(&server, options.first_port + number * options.listeners, total);
    client_open(&client, options.first_port + number * options.listeners, total);
    byte_to(out);
    byte_from(in);
    struct ring accepts, connects;
    if (by_ring()) {
        ring_server_open(&accepts, &server);
        ring_open(&connects, (unsigned)total);
    }
    while (by_ring() && (!client_is_done(&client) || !server_is_done(&server))) {
        if (!client_is_done(&client)) ring_client_step(&connects, &client, 0);
        ring_server_step(&accepts, &server, 0);
    }
    while (!client_is_done(&client) || !server_is_done(&server) || server.open) {
        if (!client_is_done(&client)) client_step(&client, 0);
        server_step(&server, 0);
    }
    byte_to(out);
    byte_from(in);
}

static void work_as_sender(int number, int total, int in, int out) {
    int syns = is(options.mode, "half-open"), port = options.first_port + number, first = 0;
    int receiver = socket(AF_INET, syns ? SOCK_STREAM : SOCK_DGRAM, 0);
    int sender = syns ? socket(AF_INET, SOCK_RAW, IPPROTO_RAW) : socket(AF_INET, SOCK_DGRAM, 0);
    int reserved = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = loopback(0);
    socklen_t size = sizeof address;
    if (sender < 0) die("no socket to send from");
    receive_nothing(receiver, port);
    if (syns) listen(receiver, 1);
    bind(reserved, (struct sockaddr *)&address, sizeof address);
    getsockname(reserved, (struct sockaddr *)&address, &size);
    for (int i = 0; i < number; i++) first += part(options.connections, options.processes, i);
    byte_to(out);
    byte_from(in);
    flood(first, total, sender, address.sin_port, port);
    byte_to(out);
    byte_from(in);
}

typedef void (*work_t)(int number, int total, int in, int out);

static int from_workers[MAX_WORKERS], to_workers[MAX_WORKERS];

static void add_worker(work_t work, int number) {
    int down[2], up[2];
    if (worker_count == MAX_WORKERS || pipe(down) != 0 || pipe(up) != 0) die("worker %d", worker_count);
    pid_t pid = fork();
    if (pid < 0) die("fork");
    if (pid == 0) {
        for (int i = 0; i < worker_count; i++) close(from_workers[i]), close(to_workers[i]);
        close(down[1]);
        close(up[0]);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        signal(SIGCHLD, SIG_DFL);
        own_times = &times[worker_count];
        work(number, part(options.connections, options.processes, number), down[0], up[1]);
        _exit(0);
    }
    close(down[0]);
    close(up[1]);
    workers[worker_count] = pid;
    from_workers[worker_count] = up[0];
    to_workers[worker_count++] = down[1];
}

static void end_workers(void) {
    signal(SIGCHLD, SIG_DFL);
    for (int i = 0; i < worker_count; i++) kill(workers[i], SIGKILL);
    while (wait(NULL) > 0 || errno == EINTR) {}
}

static void from_all(void) {
    for (int i = 0; i < worker_count; i++) {
        char byte;
        while (read(from_workers[i], &byte, 1) != 1) {}
    }
}

static void to_all(void) {
    for (int i = 0; i < worker_count; i++) byte_to(to_workers[i]);
}

static void await_line(void) {
    char byte;
    while (read(STDIN_FILENO, &byte, 1) == 1 && byte != '\n') {}
}

/* A worker has ended, which none does by itself: it has said why. */
static void on_worker_end(int signal_number) {
    (void)signal_number;
    for (int i = 0; i < worker_count; i++) kill(workers[i], SIGKILL);
    _exit(1);
}

static void add_workers(void) {
    int floods = is(options.mode, "half-open") || is(options.mode, "udp");
    int serves = is(options.mode, "serve"), apart = serves || is(options.layout, "apart");
    for (int i = 0; i < options.processes; i++)
        add_worker(floods ? work_as_sender : apart ? work_as_server : work_as_pair, i);
    for (int i = 0; i < options.processes && apart && !serves && !floods; i++) add_worker(work_as_client, i);
}

/* From the first connection that any server accepted to the last. */
static void between_accepts(struct timespec *start, struct timespec *end) {
    *start = times[0].first_accept;
    *end = times[0].last_accept;
    for (int i = 1; i < worker_count; i++) {
        if (seconds_between(&times[i].first_accept, start) > 0) *start = times[i].first_accept;
        if (seconds_between(end, &times[i].last_accept) > 0) *end = times[i].last_accept;
    }
}

static const struct option names[] = {
    {"mode", 1, 0, 'm'}, {"connections", 1, 0, 'n'}, {"processes", 1, 0, 'p'}, {"layout", 1, 0, 'l'},
    {"listeners", 1, 0, 'L'}, {"first-port", 1, 0, 'f'}, {"batch", 1, 0, 'b'}, {"window", 1, 0, 'w'},
    {"client", 1, 0, 'c'}, {"close", 1, 0, 'C'}, {"gather-ms", 1, 0, 'g'}, {0, 0, 0, 0}};

static void parse(int argc, char **argv) {
    for (int letter; (letter = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        switch (letter) {
        case 'm': options.mode = optarg; break;
        case 'n': options.connections = atoi(optarg); break;
        case 'p': options.processes = atoi(optarg); break;
        case 'l': options.layout = optarg; break;
        case 'L': options.listeners = atoi(optarg); break;
        case 'f': options.first_port = atoi(optarg); break;
        case 'b': options.batch = atoi(optarg); break;
        case 'w': options.window = atoi(optarg); break;
        case 'c': options.client = optarg; break;
        case 'C': options.close = optarg; break;
        case 'g': options.gather_ms = atoi(optarg); break;
        default: exit(2);
        }
    }
    if (options.batch < 1 || options.batch > MAX_BATCH || options.listeners < 1 || options.listeners > MAX_LISTENERS ||
        options.processes < 1 || options.connections < options.processes || options.window < 1) {
        fprintf(stderr, "floor: a number is out of range\n");
        exit(2);
    }
}

int main(int argc, char **argv) {
    struct rlimit files;
    struct timespec start, end;
    parse(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    times = mmap(NULL, sizeof *times * MAX_WORKERS, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (times == MAP_FAILED) die("mmap");
    signal(SIGCHLD, on_worker_end);
    add_workers();
    from_all();
    printf("ready");
    for (int i = 0; i < worker_count; i++) printf(" %d", workers[i]);
    printf("\n");
    fflush(stdout);
    await_line();
    start = now();
    to_all();
    from_all();
    end = now();
    if (is(options.mode, "serve")) between_accepts(&start, &end);
    printf("done %.6f\n", seconds_between(&start, &end));
    fflush(stdout);
    await_line();
    end_workers();
    return 0;
}
