/* Times whole commands, one after the other in rounds, so that all of them meet the same machine.
 *
 *     timer ROUNDS PAUSE COMMAND [ARG...] [::: COMMAND [ARG...]]...
 *
 * Prints a line for each round: nanoseconds from posix_spawn to wait of each command. Output of the
 * commands goes to /dev/null; a command that fails ends it all with status 1. A caller of a few
 * hundred KiB, so that nothing of its own weight is in the figures. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static long long now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

int main(int argc, char **argv)
{
    struct timespec pause = {0};
    posix_spawn_file_actions_t quiet;
    char **commands[64];
    int count = 0;

    if (argc < 4)
        return 2;
    /* The kernel takes namespaces and cgroups down after their last process has ended: with a
     * pause, what a heavy command leaves behind is not in the figures of the next. */
    pause.tv_nsec = atoi(argv[2]) * 1000000L;
    commands[count++] = argv + 3;
    for (int i = 3; i < argc; i++) {
        if (strcmp(argv[i], ":::") == 0 && count < 64) {
            argv[i] = NULL;
            commands[count++] = argv + i + 1;
        }
    }
    posix_spawn_file_actions_init(&quiet);
    posix_spawn_file_actions_addopen(&quiet, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&quiet, 1, "/dev/null", O_WRONLY, 0);
    for (int round = atoi(argv[1]); round > 0; round--) {
        for (int i = 0; i < count; i++) {
            long long start = now();
            int status = 0;
            pid_t pid;

            if (posix_spawnp(&pid, commands[i][0], &quiet, NULL, commands[i], environ) != 0 ||
                waitpid(pid, &status, 0) != pid || status != 0) {
                fprintf(stderr, "%s: status %#x\n", commands[i][0], (unsigned)status);
                return 1;
            }
            printf("%lld%c", now() - start, i + 1 < count ? ' ' : '\n');
            if (pause.tv_nsec > 0)
                nanosleep(&pause, NULL);
        }
    }
    return 0;
}
