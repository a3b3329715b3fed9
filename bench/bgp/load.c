/*
 * Load for BGP benchmarks: many sessions in one process, each sending a stream that was encoded beforehand and keeping
 * a bitmap of the prefixes it was told. Nothing is parsed beyond what finds the prefixes, so that this is not the limit;
 * its own processor time is printed with every phase.
 *
 * In: a file of lines
 *     target ADDRESS PORT FAMILY(4|6) PREFIXES
 *     peer LOCAL-ADDRESS AS ROUTER-ID EXPECTED ANNOUNCE-FILE|- WITHDRAW-FILE|-
 * Out: a line of JSON per phase (establish, announce, withdraw). Between phases it waits for a line on standard input.
 * EXPECTED is the number of prefixes the session has at the end of the announcement. Prefix numbers are those of load.ts.
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
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define RECEIVE (256 * 1024)
#define HEADER 19

struct stream {
  const uint8_t *data;
  size_t length;
};

struct peer {
  int fd;
  char address[64];
  uint32_t asn, router_id;
  uint32_t expected, present;
  struct stream announce, withdraw;
  const struct stream *sending;
  size_t sent;
  int open_received, established;
  uint8_t *bitmap;
  uint8_t *buffer;
  size_t filled;
  uint64_t updates;
};

static struct peer *peers;
static int count, epoll_fd, family;
static uint32_t prefixes;
static struct sockaddr_in target;

static void die(const char *what) {
  fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
  exit(1);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static double processor(void) {
  struct rusage u;
  getrusage(RUSAGE_SELF, &u);
  return u.ru_utime.tv_sec + u.ru_stime.tv_sec + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static struct stream map_file(const char *path) {
  struct stream s = {NULL, 0};
  if (strcmp(path, "-") == 0) return s;
  int fd = open(path, O_RDONLY);
  struct stat st;
  if (fd < 0 || fstat(fd, &st) < 0) die(path);
  s.length = st.st_size;
  s.data = mmap(NULL, s.length, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
  if (s.data == MAP_FAILED) die(path);
  close(fd);
  return s;
}

static void watch(struct peer *p, int writing) {
  struct epoll_event e = {.events = EPOLLIN | (writing ? EPOLLOUT : 0), .data.ptr = p};
  if (epoll_ctl(epoll_fd, EPOLL_CTL_MOD, p->fd, &e) < 0) die("epoll_ctl");
}

static void send_open(struct peer *p) {
  uint8_t m[64];
  int n = HEADER;
  memset(m, 0xff, 16);
  m[18] = 1;
  m[n++] = 4;
  uint16_t as2 = p->asn > 65535 ? 23456 : p->asn;
  m[n++] = as2 >> 8, m[n++] = as2;
  m[n++] = 0, m[n++] = 180;
  for (int i = 3; i >= 0; i--) m[n++] = p->router_id >> (8 * i);
  m[n++] = 16; /* optional parameters */
  m[n++] = 2, m[n++] = 14;
  m[n++] = 1, m[n++] = 4, m[n++] = 0, m[n++] = family == 4 ? 1 : 2, m[n++] = 0, m[n++] = 1;
  m[n++] = 65, m[n++] = 4;
  for (int i = 3; i >= 0; i--) m[n++] = p->asn >> (8 * i);
  m[n++] = 2, m[n++] = 0;
  m[16] = 0, m[17] = n;
  if (write(p->fd, m, n) != n) die("write of OPEN");
}

static void send_keepalive(struct peer *p) {
  uint8_t m[HEADER];
  memset(m, 0xff, 16);
  m[16] = 0, m[17] = HEADER, m[18] = 4;
  if (write(p->fd, m, HEADER) != HEADER) die("write of KEEPALIVE");
}

/* Number of the prefix at q; -1 when it is none of ours. */
static int64_t number_of(const uint8_t *q) {
  if (family == 4) return q[0] == 24 ? (int64_t)((q[1] << 16) | (q[2] << 8) | q[3]) - 0x010000 : -1;
  if (q[0] != 48 || q[1] != 0x20 || q[2] != 0x01) return -1;
  return ((int64_t)q[3] << 24) | (q[4] << 16) | (q[5] << 8) | q[6];
}

static void take(struct peer *p, const uint8_t *q, const uint8_t *end, int present) {
  while (q < end) {
    int64_t n = number_of(q);
    if (n >= 0 && n < prefixes) {
      uint8_t bit = 1 << (n & 7), *octet = &p->bitmap[n >> 3];
      if (present && !(*octet & bit)) *octet |= bit, p->present++;
      else if (!present && (*octet & bit)) *octet &= ~bit, p->present--;
    }
    q += 1 + (q[0] + 7) / 8;
  }
}

static void take_update(struct peer *p, const uint8_t *m, int length) {
  const uint8_t *q = m + HEADER, *end = m + length;
  int withdrawn = (q[0] << 8) | q[1];
  q += 2;
  take(p, q, q + withdrawn, 0);
  q += withdrawn;
  int attributes = (q[0] << 8) | q[1];
  q += 2;
  const uint8_t *a = q, *attributes_end = q + attributes;
  if (family == 6) {
    while (a < attributes_end) {
      int extended = a[0] & 0x10, code = a[1];
      int n = extended ? (a[2] << 8) | a[3] : a[2];
      const uint8_t *v = a + (extended ? 4 : 3);
      if (code == 14) take(p, v + 5 + v[3], v + n, 1);
      if (code == 15) take(p, v + 3, v + n, 0);
      a = v + n;
    }
  }
  take(p, attributes_end, end, 1);
  p->updates++;
}

static void receive(struct peer *p) {
  ssize_t n = read(p->fd, p->buffer + p->filled, RECEIVE - p->filled);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n <= 0) {
    fprintf(stderr, "load: %s: session lost\n", p->address);
    exit(1);
  }
  p->filled += n;
  size_t at = 0;
  while (p->filled - at >= HEADER) {
    const uint8_t *m = p->buffer + at;
    size_t length = (m[16] << 8) | m[17];
    if (p->filled - at < length) break;
    if (m[18] == 1) {
      p->open_received = 1;
      send_keepalive(p);
    } else if (m[18] == 4 && p->open_received) p->established = 1;
    else if (m[18] == 2) take_update(p, m, length);
    else if (m[18] == 3) {
      fprintf(stderr, "load: %s: NOTIFICATION %d/%d\n", p->address, m[19], m[20]);
      exit(1);
    }
    at += length;
  }
  memmove(p->buffer, p->buffer + at, p->filled - at);
  p->filled -= at;
}

static void transmit(struct peer *p) {
  const struct stream *s = p->sending;
  while (s && p->sent < s->length) {
    ssize_t n = write(p->fd, s->data + p->sent, s->length - p->sent);
    if (n < 0) {
      if (errno == EAGAIN) return;
      die("write");
    }
    p->sent += n;
  }
  p->sending = NULL;
  watch(p, 0);
}

static int connect_peer(struct peer *p) {
  struct sockaddr_in local = {.sin_family = AF_INET};
  inet_pton(AF_INET, p->address, &local.sin_addr);
  p->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (p->fd < 0) die("socket");
  int one = 1;
  setsockopt(p->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  setsockopt(p->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (bind(p->fd, (struct sockaddr *)&local, sizeof local) < 0) die(p->address);
  if (connect(p->fd, (struct sockaddr *)&target, sizeof target) < 0) {
    close(p->fd);
    return 0;
  }
  /* A listener that does not yet want this peer closes at once; that shows as readable end of file. */
  send_open(p);
  fcntl(p->fd, F_SETFL, O_NONBLOCK);
  struct epoll_event e = {.events = EPOLLIN, .data.ptr = p};
  if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, p->fd, &e) < 0) die("epoll_ctl");
  return 1;
}

static double last_keepalive;

static void turn(int timeout) {
  struct epoll_event events[256];
  int n = epoll_wait(epoll_fd, events, 256, timeout);
  for (int i = 0; i < n; i++) {
    struct peer *p = events[i].data.ptr;
    if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) receive(p);
    if (events[i].events & EPOLLOUT) transmit(p);
  }
  if (now() - last_keepalive > 20) {
    last_keepalive = now();
    for (int i = 0; i < count; i++)
      if (peers[i].established && !peers[i].sending) send_keepalive(&peers[i]);
  }
}

static void settle(double quiet) {
  double until = now() + quiet;
  while (now() < until) turn(20);
}

static void run_phase(const char *name, double limit) {
  int announce = strcmp(name, "announce") == 0;
  double cpu = processor(), start = now();
  for (int i = 0; i < count; i++) {
    struct peer *p = &peers[i];
    p->sending = announce ? &p->announce : &p->withdraw;
    p->sent = 0;
    if (p->sending->length == 0) p->sending = NULL;
    else {
      watch(p, 1);
      transmit(p);
    }
  }
  for (;;) {
    /* Some speakers send a route back to whom it came from: a session may have more than expected. */
    int left = 0;
    for (int i = 0; i < count && !left; i++) {
      struct peer *p = &peers[i];
      left = p->sending != NULL || (announce ? p->present < p->expected : p->present > 0 && p->expected > 0);
    }
    if (!left) break;
    if (now() - start > limit) {
      uint64_t present = 0, expected = 0;
      for (int i = 0; i < count; i++) present += peers[i].present, expected += peers[i].expected;
      printf("{\"phase\":\"%s\",\"error\":\"timeout\",\"present\":%lu,\"expected\":%lu}\n", name, present, expected);
      fflush(stdout);
      exit(2);
    }
    turn(100);
  }
  uint64_t updates = 0;
  double seconds = now() - start;
  for (int i = 0; i < count; i++) updates += peers[i].updates, peers[i].updates = 0;
  printf("{\"phase\":\"%s\",\"seconds\":%.6f,\"generatorProcessor\":%.6f,\"updates\":%lu}\n", name, seconds,
         processor() - cpu, updates);
  fflush(stdout);
}

/* Goes on with the sessions while waiting for the driver. */
static void wait_line(void) {
  char line[16];
  fcntl(0, F_SETFL, O_NONBLOCK);
  for (;;) {
    ssize_t n = read(0, line, sizeof line);
    if (n > 0) return;
    if (n == 0) exit(0);
    turn(5);
  }
}

int main(int argc, char **argv) {
  FILE *f = argc > 1 ? fopen(argv[1], "r") : NULL;
  if (!f) die("configuration");
  double limit = argc > 2 ? atof(argv[2]) : 120;
  char word[64], address[64], announce[256], withdraw[256];
  epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  while (fscanf(f, "%63s", word) == 1) {
    if (strcmp(word, "target") == 0) {
      int port;
      if (fscanf(f, "%63s %d %d %u", address, &port, &family, &prefixes) != 4) die("target");
      target.sin_family = AF_INET;
      target.sin_port = htons(port);
      inet_pton(AF_INET, address, &target.sin_addr);
    } else {
      peers = realloc(peers, (count + 1) * sizeof *peers);
      struct peer *p = memset(&peers[count++], 0, sizeof *p);
      if (fscanf(f, "%63s %u %u %u %255s %255s", p->address, &p->asn, &p->router_id, &p->expected, announce, withdraw) != 6)
        die("peer");
      p->announce = map_file(announce);
      p->withdraw = map_file(withdraw);
    }
  }
  double start = now();
  last_keepalive = start;
  for (int i = 0; i < count; i++) {
    peers[i].bitmap = calloc(prefixes / 8 + 1, 1);
    peers[i].buffer = malloc(RECEIVE);
    while (!connect_peer(&peers[i])) {
      if (now() - start > limit) die("connect");
      usleep(20000);
    }
  }
  for (;;) {
    int left = 0;
    for (int i = 0; i < count; i++) left += !peers[i].established;
    if (!left) break;
    if (now() - start > limit) {
      fprintf(stderr, "load: %d of %d sessions are not established\n", left, count);
      return 1;
    }
    turn(100);
  }
  printf("{\"phase\":\"establish\",\"seconds\":%.6f}\n", now() - start);
  fflush(stdout);
  settle(1.0);
  wait_line();
  run_phase("announce", limit);
  wait_line();
  int withdraws = 0;
  for (int i = 0; i < count; i++) withdraws |= peers[i].withdraw.length > 0;
  if (!withdraws) return 0;
  run_phase("withdraw", limit);
  return 0;
}
