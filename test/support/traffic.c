// Makes and answers traffic in many network namespaces from one process, for tests of policy with real packets.
// In: orders, one a line. Out: one line an answer. Needs Linux and root.
//   ns INDEX PATH                  names a namespace
//   listen NS PROTOCOL PORT        TCP and UDP: answers on this port; others: reports what arrives (PORT is ignored)
//   probe ID NS PROTOCOL SOURCE|- DESTINATION SOURCE-PORT PORT TYPE CODE
//     answers `ID open` when an answer came (TCP handshake, UDP echo) or, of other protocols, when the packet has arrived at
//     one of the namespaces; `ID closed` when it was refused; `ID busy` when the source port is in use; nothing while nothing comes
//   connect ID NS SOURCE|- DESTINATION SOURCE-PORT PORT     a TCP connection that stays; `ID open`, `ID closed`
//   say ID                         sends an octet over it; `ID echo` when it comes back
//   drop ID                        forgets a probe or connection that is not answered
//   sync TEXT                      answers `TEXT done`: all orders before it were carried out
// ID is a number from 1 to 65535, used once for each kind of packet: raw packets carry it.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { INPUT, ACCEPTOR, ECHO, DATAGRAMS, SNIFFER, TCP_PROBE, UDP_PROBE, LIVE };
#define NAMESPACES 256
#define IDS 65536
#define LISTENERS 4096

static int namespaces[NAMESPACES];
static int kinds[1 << 16];      // by descriptor
static int owners[1 << 16];     // id of a probe, protocol of a sniffer
static int families[1 << 16];
static int probes[IDS];         // descriptor + 1, or -1 for a raw probe that nothing has arrived of
static struct { int ns, protocol, port; } listeners[LISTENERS];
static int listener_count;
static int epoll;

static void fail(const char *what) {
  fprintf(stderr, "traffic: %s: %s\n", what, strerror(errno));
  exit(1);
}

static void watch(int fd, int kind, int owner, int family, uint32_t events) {
  kinds[fd] = kind;
  owners[fd] = owner;
  families[fd] = family;
  struct epoll_event event = {.events = events, .data.fd = fd};
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event)) fail("epoll_ctl");
}

static int open_socket(int ns, int family, int type, int protocol) {
  if (setns(namespaces[ns], CLONE_NEWNET)) fail("setns");
  int fd = socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
  if (fd < 0) fail("socket");
  return fd;
}

static socklen_t address(struct sockaddr_storage *out, const char *text, int port) {
  memset(out, 0, sizeof *out);
  struct sockaddr_in *four = (void *)out;
  struct sockaddr_in6 *six = (void *)out;
  if (inet_pton(AF_INET, text, &four->sin_addr) == 1) {
    four->sin_family = AF_INET;
    four->sin_port = htons(port);
    return sizeof *four;
  }
  if (inet_pton(AF_INET6, text, &six->sin6_addr) != 1) fail(text);
  six->sin6_family = AF_INET6;
  six->sin6_port = htons(port);
  return sizeof *six;
}

static void forget(int id) {
  if (probes[id] > 0) close(probes[id] - 1);
  probes[id] = 0;
}

static void answer(int id, const char *word) {
  printf("%d %s\n", id, word);
}

static void listen_on(int ns, int protocol, int port) {
  if (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP) port = 0;
  for (int i = 0; i < listener_count; i++)
    if (listeners[i].ns == ns && listeners[i].protocol == protocol && listeners[i].port == port) return;
  if (listener_count == LISTENERS) fail("too many listeners");
  listeners[listener_count].ns = ns;
  listeners[listener_count].protocol = protocol;
  listeners[listener_count++].port = port;
  for (int i = 0; i < 2; i++) {
    int family = i ? AF_INET6 : AF_INET, one = 1;
    if (protocol == (i ? IPPROTO_ICMP : IPPROTO_ICMPV6)) continue;
    int type = protocol == IPPROTO_TCP ? SOCK_STREAM : protocol == IPPROTO_UDP ? SOCK_DGRAM : SOCK_RAW;
    int fd = open_socket(ns, family, type, protocol);
    if (type == SOCK_RAW) {
      watch(fd, SNIFFER, protocol, family, EPOLLIN);
      continue;
    }
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (i) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
    struct sockaddr_storage at;
    socklen_t length = address(&at, i ? "::" : "0.0.0.0", port);
    if (bind(fd, (void *)&at, length)) fail("bind");
    if (type == SOCK_DGRAM)
      setsockopt(fd, i ? IPPROTO_IPV6 : IPPROTO_IP, i ? IPV6_RECVPKTINFO : IP_PKTINFO, &one, sizeof one);
    if (type == SOCK_STREAM && listen(fd, 1024)) fail("listen");
    watch(fd, type == SOCK_STREAM ? ACCEPTOR : DATAGRAMS, port, family, EPOLLIN);
  }
}

static uint32_t sum(const void *data, size_t length, uint32_t start) {
  const uint8_t *octets = data;
  for (size_t i = 0; i + 1 < length; i += 2) start += octets[i] << 8 | octets[i + 1];
  if (length & 1) start += octets[length - 1] << 8;
  return start;
}

static uint16_t folded(uint32_t value) {
  while (value >> 16) value = (value & 0xffff) + (value >> 16);
  return htons(~value & 0xffff);
}

static uint32_t crc32c(const uint8_t *data, size_t length) {
  uint32_t crc = ~0u;
  for (size_t i = 0; i < length; i++) {
    crc ^= data[i];
    for (int k = 0; k < 8; k++) crc = crc & 1 ? crc >> 1 ^ 0x82f63b78 : crc >> 1;
  }
  return ~crc;
}

// The mark by which an arrived raw packet is known, at the same place in each protocol's packet.
#define MARK 0x62726e64
#define SIZE 32
#define ID_AT 24

static size_t raw_packet(uint8_t *out, int id, int protocol, const struct sockaddr_storage *from, const struct sockaddr_storage *to,
                         int source_port, int port, int type, int code) {
  memset(out, 0, SIZE);
  uint32_t mark = htonl(MARK), number = htonl(id);
  memcpy(out + ID_AT, &mark, 4);
  memcpy(out + ID_AT + 4, &number, 4);
  uint16_t ports[2] = {htons(source_port), htons(port)}, length = htons(SIZE), value;
  if (protocol == IPPROTO_SCTP) { // RFC 9260: INIT
    memcpy(out, ports, 4);
    out[12] = 1;
    out[15] = SIZE - 12;
    out[19] = 1;             // initiate tag
    out[21] = 1;             // receiver window 0x10000
    uint32_t crc = crc32c(out, SIZE);
    for (int i = 0; i < 4; i++) out[8 + i] = crc >> 8 * i;
  } else if (protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6) {
    out[0] = type;
    out[1] = code;
    value = htons(id);
    memcpy(out + 4, &value, 2);
    if (protocol == IPPROTO_ICMP) {
      value = folded(sum(out, SIZE, 0));
      memcpy(out + 2, &value, 2);
    }
  } else if (protocol == IPPROTO_UDPLITE) { // RFC 3828: covered whole. Trap: the kernel's connection tracking
    // takes the protocol of UDP into the checksum, and calls what follows the RFC invalid.
    memcpy(out, ports, 4);
    memcpy(out + 4, &length, 2);
    int six = to->ss_family == AF_INET6, octets = six ? 16 : 4;
    const uint8_t *a = six ? (void *)&((struct sockaddr_in6 *)from)->sin6_addr : (void *)&((struct sockaddr_in *)from)->sin_addr;
    const uint8_t *b = six ? (void *)&((struct sockaddr_in6 *)to)->sin6_addr : (void *)&((struct sockaddr_in *)to)->sin_addr;
    value = folded(sum(out, SIZE, sum(a, octets, sum(b, octets, IPPROTO_UDP + SIZE))));
    memcpy(out + 6, &value, 2);
  } else if (protocol == IPPROTO_GRE) { // RFC 2784
    out[2] = 8;
  }
  return SIZE;
}

static void begin(int kind, int id, int ns, int protocol, const char *source, const char *destination, int source_port, int port,
                  int type, int code) {
  struct sockaddr_storage to, from;
  int raw = protocol != IPPROTO_TCP && protocol != IPPROTO_UDP;
  forget(id);
  socklen_t length = address(&to, destination, raw ? 0 : port);
  int family = to.ss_family, one = 1;
  int fd = open_socket(ns, family, raw ? SOCK_RAW : protocol == IPPROTO_TCP ? SOCK_STREAM : SOCK_DGRAM, protocol);
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  struct linger linger = {1, 0};
  if (protocol == IPPROTO_TCP) setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
  const char *own = strcmp(source, "-") ? source : family == AF_INET6 ? "::" : "0.0.0.0";
  socklen_t own_length = address(&from, own, raw ? 0 : source_port);
  if (bind(fd, (void *)&from, own_length) || (connect(fd, (void *)&to, length) && errno != EINPROGRESS)) {
    int taken = errno == EADDRINUSE || errno == EADDRNOTAVAIL;
    close(fd);
    return answer(id, taken ? "busy" : "unreachable");
  }
  if (raw) {
    uint8_t packet[SIZE];
    own_length = sizeof from;
    getsockname(fd, (void *)&from, &own_length);
    size_t size = raw_packet(packet, id, protocol, &from, &to, source_port, port, type, code);
    probes[id] = -1;
    if (send(fd, packet, size, 0) < 0) {
      probes[id] = 0;
      answer(id, "unreachable");
    }
    close(fd);
    return;
  }
  probes[id] = fd + 1;
  if (protocol == IPPROTO_UDP) {
    watch(fd, UDP_PROBE, id, family, EPOLLIN);
    if (send(fd, "x", 1, 0) < 0) answer(id, "unreachable");
  } else watch(fd, kind, id, family, EPOLLOUT);
}

static void order(char *line) {
  char word[16] = "", source[64], destination[64], path[256];
  int id, ns, protocol, source_port, port, type, code;
  sscanf(line, "%15s", word);
  if (sscanf(line, "ns %d %255s", &ns, path) == 2) {
    if (namespaces[ns] > 0) close(namespaces[ns]);
    namespaces[ns] = open(path, O_RDONLY | O_CLOEXEC);
    if (namespaces[ns] < 0) fail(path);
    for (int i = 0; i < listener_count; i++) if (listeners[i].ns == ns) listeners[i].ns = -1; // of a former one
  } else if (sscanf(line, "listen %d %d %d", &ns, &protocol, &port) == 3) {
    listen_on(ns, protocol, port);
  } else if (sscanf(line, "probe %d %d %d %63s %63s %d %d %d %d", &id, &ns, &protocol, source, destination, &source_port, &port,
                    &type, &code) == 9) {
    begin(TCP_PROBE, id, ns, protocol, source, destination, source_port, port, type, code);
  } else if (sscanf(line, "connect %d %d %63s %63s %d %d", &id, &ns, source, destination, &source_port, &port) == 6) {
    begin(LIVE, id, ns, IPPROTO_TCP, source, destination, source_port, port, 0, 0);
  } else if (sscanf(line, "say %d", &id) == 1) {
    if (probes[id] > 0) (void)!send(probes[id] - 1, "x", 1, MSG_NOSIGNAL);
  } else if (sscanf(line, "drop %d", &id) == 1) {
    forget(id);
  } else if (!strcmp(word, "sync")) {
    printf("%s done\n", line + 5);
  } else {
    fprintf(stderr, "traffic: cannot read \"%s\"\n", line);
    exit(1);
  }
}

static void arrived(int fd) {
  uint8_t packet[512];
  for (;;) {
    ssize_t size = recv(fd, packet, sizeof packet, 0);
    if (size < 0) return;
    // A raw socket of IPv4 shows the IP header too.
    size_t start = families[fd] == AF_INET ? (packet[0] & 15) * 4 : 0;
    uint32_t mark, number;
    if ((size_t)size < start + SIZE) continue;
    memcpy(&mark, packet + start + ID_AT, 4);
    memcpy(&number, packet + start + ID_AT + 4, 4);
    uint32_t id = ntohl(number);
    // The answer of an echo carries the mark back to who asked: it tells the same.
    if (ntohl(mark) != MARK || id >= IDS || probes[id] != -1) continue;
    probes[id] = 0;
    answer(id, "open");
  }
}

// From the very address that was asked: one namespace stands for many hosts.
static void echo_datagrams(int fd) {
  char octets[2048], control[128];
  struct sockaddr_storage from;
  for (;;) {
    struct iovec data = {octets, sizeof octets};
    struct msghdr message = {.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &data, .msg_iovlen = 1,
                             .msg_control = control, .msg_controllen = sizeof control};
    ssize_t size = recvmsg(fd, &message, 0);
    if (size < 0) return;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
      if (c->cmsg_level == IPPROTO_IP) ((struct in_pktinfo *)CMSG_DATA(c))->ipi_ifindex = 0;
      else ((struct in6_pktinfo *)CMSG_DATA(c))->ipi6_ifindex = 0;
    }
    data.iov_len = size;
    (void)!sendmsg(fd, &message, 0);
  }
}

static void ready(int fd, uint32_t events) {
  char octets[2048];
  int id = owners[fd], error = 0;
  socklen_t length = sizeof error;
  ssize_t size;
  switch (kinds[fd]) {
    case ACCEPTOR:
      for (int next; (next = accept4(fd, 0, 0, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) watch(next, ECHO, 0, 0, EPOLLIN);
      break;
    case ECHO:
      while ((size = recv(fd, octets, sizeof octets, 0)) > 0) (void)!send(fd, octets, size, MSG_NOSIGNAL);
      if (size == 0 || errno != EAGAIN) close(fd);
      break;
    case DATAGRAMS:
      echo_datagrams(fd);
      break;
    case SNIFFER:
      arrived(fd);
      break;
    case TCP_PROBE:
    case LIVE:
      if (events & EPOLLOUT || events & EPOLLERR) {
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
        answer(id, error == ECONNREFUSED ? "closed" : error == ETIMEDOUT ? "silent" : error ? "unreachable" : "open");
        if (error || kinds[fd] == TCP_PROBE) forget(id);
        else {
          struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
          epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &event);
        }
      } else if ((size = recv(fd, octets, sizeof octets, 0)) > 0) answer(id, "echo");
      else forget(id);
      break;
    case UDP_PROBE:
      size = recv(fd, octets, sizeof octets, 0);
      answer(id, size >= 0 ? "open" : errno == ECONNREFUSED ? "closed" : "unreachable");
      forget(id);
      break;
  }
}

int main(void) {
  static char input[1 << 16];
  size_t have = 0;
  struct rlimit many = {1 << 16, 1 << 16};
  setrlimit(RLIMIT_NOFILE, &many);
  setvbuf(stdout, 0, _IOLBF, 0);
  epoll = epoll_create1(EPOLL_CLOEXEC);
  watch(0, INPUT, 0, 0, EPOLLIN);
  for (;;) {
    struct epoll_event events[256];
    int count = epoll_wait(epoll, events, 256, -1);
    // Orders last: they open descriptors, and one just closed may have its number in `events` still.
    int asked = 0;
    for (int i = 0; i < count; i++) {
      if (kinds[events[i].data.fd] == INPUT) asked = 1;
      else ready(events[i].data.fd, events[i].events);
    }
    if (asked) {
      ssize_t size = read(0, input + have, sizeof input - have - 1);
      if (size <= 0) return 0;
      have += size;
      input[have] = 0;
      char *line = input;
      for (char *end; (end = strchr(line, '\n')); line = end + 1) {
        *end = 0;
        order(line);
      }
      have -= line - input;
      memmove(input, line, have);
    }
  }
}
