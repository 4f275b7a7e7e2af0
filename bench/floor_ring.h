/* The floor through io_uring, without a library: direct descriptors, a socket and its connect linked, one accept that goes
 * on for each listener. Included by floor.c, which has the options, die() and the rest. Needs Linux 6.1.
 */
#include <linux/io_uring.h>
#include <sys/syscall.h>

struct ring {
    int fd;
    unsigned sq_mask, cq_mask, tail, queued;
    unsigned *sq_tail, *cq_head, *cq_tail;
    struct io_uring_sqe *entries;
    struct io_uring_cqe *completions;
};

enum { RING_ENTRIES = 2048, RING_COMPLETIONS = 16384 };

/* `files` is how many descriptors its table has room for. */
static void ring_open(struct ring *ring, unsigned files) {
    struct io_uring_params params = {.cq_entries = RING_COMPLETIONS,
                                     .flags = IORING_SETUP_CQSIZE | IORING_SETUP_SINGLE_ISSUER |
                                              IORING_SETUP_DEFER_TASKRUN};
    struct io_uring_rsrc_register table = {.nr = files, .flags = IORING_RSRC_REGISTER_SPARSE};
    memset(ring, 0, sizeof *ring);
    ring->fd = (int)syscall(SYS_io_uring_setup, RING_ENTRIES, &params);
    if (ring->fd < 0) die("io_uring_setup");
    size_t sq_end = params.sq_off.array + params.sq_entries * sizeof(unsigned);
    size_t cq_end = params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe);
    char *shared = mmap(NULL, sq_end > cq_end ? sq_end : cq_end, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
                        ring->fd, IORING_OFF_SQ_RING);
    ring->entries = mmap(NULL, params.sq_entries * sizeof *ring->entries, PROT_READ | PROT_WRITE,
                         MAP_SHARED | MAP_POPULATE, ring->fd, IORING_OFF_SQES);
    if (shared == MAP_FAILED || ring->entries == MAP_FAILED) die("mmap of a ring");
    ring->sq_mask = params.sq_entries - 1;
    ring->cq_mask = params.cq_entries - 1;
    ring->sq_tail = (unsigned *)(shared + params.sq_off.tail);
    ring->cq_head = (unsigned *)(shared + params.cq_off.head);
    ring->cq_tail = (unsigned *)(shared + params.cq_off.tail);
    ring->completions = (struct io_uring_cqe *)(shared + params.cq_off.cqes);
    unsigned *order = (unsigned *)(shared + params.sq_off.array);
    for (unsigned i = 0; i < params.sq_entries; i++) order[i] = i;
    if (syscall(SYS_io_uring_register, ring->fd, IORING_REGISTER_FILES2, &table, sizeof table) < 0)
        die("a table of %u descriptors", files);
}

static struct io_uring_sqe *ring_entry(struct ring *ring, int operation, int flags) {
    struct io_uring_sqe *entry = &ring->entries[ring->tail++ & ring->sq_mask];
    memset(entry, 0, sizeof *entry);
    entry->opcode = (unsigned char)operation;
    entry->flags = (unsigned char)flags;
    ring->queued++;
    return entry;
}

/* Submits what is queued, and waits for so many completions. */
static void ring_enter(struct ring *ring, unsigned wait) {
    __atomic_store_n(ring->sq_tail, ring->tail, __ATOMIC_RELEASE);
    long taken = syscall(SYS_io_uring_enter, ring->fd, ring->queued, wait, IORING_ENTER_GETEVENTS, NULL, 0);
    if (taken < 0 && errno != EINTR) die("io_uring_enter");
    if (taken > 0) ring->queued -= (unsigned)taken;
}

/* The next completion, or none. */
static const struct io_uring_cqe *ring_next(struct ring *ring) {
    unsigned head = *ring->cq_head;
    if (head == __atomic_load_n(ring->cq_tail, __ATOMIC_ACQUIRE)) return NULL;
    return &ring->completions[head & ring->cq_mask];
}

static void ring_seen(struct ring *ring) { __atomic_store_n(ring->cq_head, *ring->cq_head + 1, __ATOMIC_RELEASE); }

/* --- the accepting side --- */

static void ring_accept(struct ring *ring, const struct server *server, unsigned listener) {
    struct io_uring_sqe *entry = ring_entry(ring, IORING_OP_ACCEPT, 0);
    entry->fd = server->listeners[listener];
    entry->ioprio = IORING_ACCEPT_MULTISHOT;
    entry->file_index = IORING_FILE_INDEX_ALLOC;
    entry->user_data = listener;
}

static void ring_server_open(struct ring *ring, const struct server *server) {
    ring_open(ring, (unsigned)server->expected);
    for (int i = 0; i < server->count; i++) ring_accept(ring, server, (unsigned)i);
    ring_enter(ring, 0);
}

static void ring_server_step(struct ring *ring, struct server *server, unsigned wait) {
    const struct io_uring_cqe *completion;
    ring_enter(ring, wait);
    while ((completion = ring_next(ring)) != NULL) {
        errno = -completion->res;
        if (completion->res < 0) die("accept after %d", server->accepted);
        if (!(completion->flags & IORING_CQE_F_MORE)) ring_accept(ring, server, (unsigned)completion->user_data);
        if (server->accepted++ == 0) own_times->first_accept = now();
        if (server->accepted == server->expected) own_times->last_accept = now();
        ring_seen(ring);
    }
}

/* --- the connecting side --- */

static void ring_connect(struct ring *ring, const struct client *client, const struct sockaddr_in *addresses) {
    struct io_uring_sqe *made = ring_entry(ring, IORING_OP_SOCKET, IOSQE_IO_LINK | IOSQE_CQE_SKIP_SUCCESS);
    made->fd = AF_INET;
    made->off = SOCK_STREAM;
    made->file_index = (unsigned)client->attempted + 1; /* one more than the slot */
    struct io_uring_sqe *entry = ring_entry(ring, IORING_OP_CONNECT, IOSQE_FIXED_FILE);
    entry->fd = client->attempted;
    entry->addr = (unsigned long)&addresses[client->attempted % client->ports];
    entry->addr2 = sizeof *addresses;
}

static void ring_client_step(struct ring *ring, struct client *client, int may_wait) {
    static struct sockaddr_in addresses[MAX_LISTENERS];
    int room = options.window - client_pending(client), count = client->total - client->attempted;
    if (addresses[0].sin_port == 0)
        for (int i = 0; i < client->ports; i++) addresses[i] = loopback(client->first_port + i);
    if (count > options.batch) count = options.batch;
    if (count > RING_ENTRIES / 2) count = RING_ENTRIES / 2;
    if (count > room) count = room;
    for (int i = 0; i < count; i++) {
        ring_connect(ring, client, addresses);
        client->attempted++;
    }
    ring_enter(ring, may_wait && count <= 0);
    for (const struct io_uring_cqe *completion; (completion = ring_next(ring)) != NULL; ring_seen(ring)) {
        errno = -completion->res;
        if (completion->res < 0) die("connect after %d", client->held);
        client->held++;
    }
}
