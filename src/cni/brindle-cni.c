/* The CNI executable (CNI specification 1.1.0). Runtimes start it once a call, so its start is the cost: it only
 * carries the call to the agent and the answer back. In: CNI_* environment, configuration on standard input.
 * Out: the agent's answer on standard output, its exit status. protocol.ts describes the protocol; executable.ts is the
 * same program for machines without a C compiler. Without an agent: DEL is journalled in the spool directory and
 * succeeds, STATUS answers error 50, all else error 11. Socket: BRINDLE_SOCKET, else the configuration's `socket`. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define SUPPORTED "\"0.3.1\",\"0.4.0\",\"1.0.0\",\"1.1.0\""
#define CURRENT "1.1.0"
#define DEFAULT_SOCKET "/run/brindle/brindle.sock"
#define MAX_CONFIG (4u << 20) /* as in protocol.ts */

struct buffer {
  char *data;
  size_t length, capacity;
};

static void append(struct buffer *to, const void *bytes, size_t count) {
  if (to->length + count + 1 > to->capacity) {
    to->capacity = (to->length + count + 1) * 2;
    to->data = realloc(to->data, to->capacity);
    if (!to->data) abort();
  }
  memcpy(to->data + to->length, bytes, count);
  to->length += count;
  to->data[to->length] = 0;
}

/* Reads to the end of file; false on an error or past the limit. */
static int drain(int fd, struct buffer *to, size_t limit) {
  char chunk[16384];
  for (;;) {
    ssize_t got = read(fd, chunk, sizeof chunk);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return got == 0;
    if (to->length + (size_t)got > limit) return 0;
    append(to, chunk, (size_t)got);
  }
}

static int put(int fd, const char *bytes, size_t count) {
  while (count > 0) {
    ssize_t sent = write(fd, bytes, count);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return 0;
    bytes += sent;
    count -= (size_t)sent;
  }
  return 1;
}

/* The plain text value of a key of the outermost object of a JSON text; false when it has none such. */
static int find(const char *json, const char *key, char *out, size_t size) {
  const char *blank = " \t\r\n";
  int depth = 0;
  for (const char *at = json; at && *at; at++) {
    if (*at == '{' || *at == '[') depth++;
    if (*at == '}' || *at == ']') depth--;
    if (*at != '"') continue;
    const char *text = ++at;
    while (*at && *at != '"') at += *at == '\\' && at[1] ? 2 : 1;
    if (!*at) return 0;
    const char *after = at + 1 + strspn(at + 1, blank);
    if (depth != 1 || *after != ':' || strlen(key) != (size_t)(at - text) || memcmp(text, key, strlen(key))) continue;
    after += 1 + strspn(after + 1, blank);
    size_t length = *after == '"' ? strcspn(after + 1, "\"\\") : size;
    if (length >= size || after[1 + length] != '"') return 0;
    memcpy(out, after + 1, length);
    out[length] = 0;
    return length > 0;
  }
  return 0;
}

/* Prints a CNI error on standard output (where libcni looks for it); returns the exit status. */
static int fail(const char *config, int code, const char *format, ...) {
  char version[16], text[1024], escaped[2200];
  if (!find(config, "cniVersion", version, sizeof version) || version[strspn(version, "0123456789.")])
    strcpy(version, CURRENT); /* errors speak the configuration's version where it has one */
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  size_t to = 0;
  for (const char *from = text; *from; from++) {
    if (*from == '"' || *from == '\\') escaped[to++] = '\\';
    escaped[to++] = (unsigned char)*from < 32 ? '?' : *from;
  }
  escaped[to] = 0;
  printf("{\"cniVersion\":\"%s\",\"code\":%d,\"msg\":\"%s\"}\n", version, code, escaped);
  return 1;
}

static int connect_to(const char *path, int seconds) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof address.sun_path) {
    errno = ENAMETOOLONG;
    return -1;
  }
  strcpy(address.sun_path, path);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  struct timeval limit = {.tv_sec = seconds};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  return connect(fd, (struct sockaddr *)&address, sizeof address) == 0 ? fd : -1;
}

/* Sends the request and prints the answer; the exit status, or -1 when there was no whole answer. */
static int ask(const char *path, int seconds, const struct buffer *request) {
  int fd = connect_to(path, seconds);
  if (fd < 0) return -1;
  struct buffer answer = {0};
  if (!put(fd, request->data, request->length) || !drain(fd, &answer, 16 * MAX_CONFIG) || !answer.data) {
    if (errno == 0) errno = ECONNRESET;
    return -1; /* the process is about to end: nothing is freed or closed here */
  }
  char *end;
  long status = strtol(answer.data, &end, 10);
  unsigned long length = *end == ' ' ? strtoul(end + 1, &end, 10) : 0;
  if (end == answer.data || *end != '\n' || answer.length - (size_t)(end + 1 - answer.data) != length) {
    errno = EPROTO;
    return -1;
  }
  if (!put(STDOUT_FILENO, end + 1, length)) return 1;
  return (int)(status & 255);
}

/* Keeps the request for the agent's next start: whole or not at all, hence the rename. */
static int spool(const char *socket, const struct buffer *request) {
  char directory[512], temporary[640], final[620];
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  snprintf(directory, sizeof directory, "%s.spool", socket);
  if (mkdir(directory, 0700) < 0 && errno == ENOENT) {
    char parent[512];
    snprintf(parent, sizeof parent, "%s", socket);
    char *slash = strrchr(parent, '/');
    if (slash && slash != parent) *slash = 0;
    mkdir(parent, 0755);
    mkdir(directory, 0700);
  }
  snprintf(final, sizeof final, "%s/%lld%09ld-%ld.del", directory, (long long)now.tv_sec, now.tv_nsec, (long)getpid());
  snprintf(temporary, sizeof temporary, "%s.tmp", final);
  int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) return 0;
  int written = put(fd, request->data, request->length) && fdatasync(fd) == 0;
  if (close(fd) == 0 && written && rename(temporary, final) == 0) return 1;
  int reason = errno;
  unlink(temporary);
  errno = reason;
  return 0;
}

int main(void) {
  const char *verb = getenv("CNI_COMMAND"), *path = getenv("BRINDLE_SOCKET");
  if (!verb || !*verb) {
    fputs("Brindle's CNI plugin; supported versions: " SUPPORTED ". Container runtimes call it.\n", stderr);
    return 0;
  }
  if (strcmp(verb, "VERSION") == 0) {
    puts("{\"cniVersion\":\"" CURRENT "\",\"supportedVersions\":[" SUPPORTED "]}");
    return 0;
  }
  struct buffer config = {0}, variables = {0}, request = {0};
  append(&config, "", 0);
  if (!drain(STDIN_FILENO, &config, MAX_CONFIG)) return fail("", 5, "cannot read the configuration on standard input");
  char configured[128];
  if (!path || !*path) path = find(config.data, "socket", configured, sizeof configured) ? configured : DEFAULT_SOCKET;
  for (char **variable = environ; *variable; variable++)
    if (strncmp(*variable, "CNI_", 4) == 0) append(&variables, *variable, strlen(*variable) + 1);
  char head[64];
  int length = snprintf(head, sizeof head, "BRINDLE-CNI 1 %zu %zu\n", variables.length, config.length);
  append(&request, head, (size_t)length);
  append(&request, variables.data, variables.length);
  append(&request, config.data, config.length);

  int is_del = strcmp(verb, "DEL") == 0, is_status = strcmp(verb, "STATUS") == 0;
  signal(SIGPIPE, SIG_IGN); /* an agent that dies while we write is an error, not our death */
  errno = 0;
  int status = ask(path, is_status ? 5 : is_del ? 20 : 90, &request);
  if (status >= 0) return status;
  const char *reason = errno == EAGAIN ? "no answer in time" : strerror(errno);
  if (is_del && spool(path, &request)) return 0;
  if (is_del) return fail(config.data, 11, "the agent at %s: %s; and the call cannot be journalled in %s.spool: %s", path, reason, path, strerror(errno));
  return fail(config.data, is_status ? 50 : 11, "the Brindle agent does not answer at %s: %s; start it, then try again", path, reason);
}
