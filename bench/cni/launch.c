/* Starts CNI plugins with the least that a runtime can spend on it, and measures each from its start to its end. In: on
 * standard input a line a call, `<executable> <configuration file> <verb> <container id> <netns path> <output file>`.
 * Out: a line a call, `<exit status> <nanoseconds>`; with the argument `parallel` all are started at once, and a last
 * line `total <nanoseconds>` follows. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_CALLS 4096

static struct {
  pid_t pid;
  long long start, took;
  int status;
} calls[MAX_CALLS];

static long long now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void start(int index, const char *file, const char *config, const char *verb, const char *id, const char *netns, const char *output) {
  char command[64], container[300], namespace[600];
  snprintf(command, sizeof command, "CNI_COMMAND=%s", verb);
  snprintf(container, sizeof container, "CNI_CONTAINERID=%s", id);
  snprintf(namespace, sizeof namespace, "CNI_NETNS=%s", netns);
  char path[600], socket[600];
  snprintf(path, sizeof path, "CNI_PATH=%s", getenv("CNI_PATH"));
  snprintf(socket, sizeof socket, "BRINDLE_SOCKET=%s", getenv("BRINDLE_SOCKET"));
  char *environment[] = {command, container, namespace, "CNI_IFNAME=eth0", path, socket, "PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL};
  char *arguments[] = {(char *)file, NULL};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, config, O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, output, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  calls[index].start = now();
  if (posix_spawn(&calls[index].pid, file, &actions, NULL, arguments, environment) != 0) calls[index].status = 127;
  posix_spawn_file_actions_destroy(&actions);
}

static void reap(int count) {
  int status;
  pid_t pid = wait(&status);
  long long end = now();
  for (int i = 0; i < count; i++) {
    if (calls[i].pid != pid) continue;
    calls[i].took = end - calls[i].start;
    calls[i].status = WIFEXITED(status) ? WEXITSTATUS(status) : 128;
    calls[i].pid = 0;
  }
}

int main(int argc, char **argv) {
  int is_parallel = argc > 1 && strcmp(argv[1], "parallel") == 0, count = 0;
  static char lines[MAX_CALLS][1500];
  while (count < MAX_CALLS && fgets(lines[count], sizeof lines[0], stdin)) count++;
  long long begin = now();
  for (int i = 0; i < count; i++) {
    char *field[6], *rest = lines[i];
    for (int f = 0; f < 6; f++) field[f] = strtok_r(f ? NULL : rest, " \n", &rest);
    if (!field[5]) return 2;
    start(i, field[0], field[1], field[2], field[3], field[4], field[5]);
    if (!is_parallel) reap(i + 1);
  }
  if (is_parallel)
    for (int i = 0; i < count; i++) reap(count);
  long long end = now();
  for (int i = 0; i < count; i++) printf("%d %lld\n", calls[i].status, calls[i].took);
  if (is_parallel) printf("total %lld\n", end - begin);
  return 0;
}
