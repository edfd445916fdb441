/* Runs all C unit tests, or those whose names contain the argument. */

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test.h"

#define MAX_TESTS 512

static struct {
    const char *name;
    void (*run)(void);
} tests[MAX_TESTS];
static int count;

/* Shared with the children that tests make. */
static struct {
    int failed;
    int skipped;
    char why[128];
} * state;

void test_register(const char *name, void (*run)(void))
{
    if (count == MAX_TESTS)
        abort();
    tests[count].name = name;
    tests[count++].run = run;
}

bool test_check(bool held, const char *what, const char *file, int line)
{
    if (!held) {
        state->failed++;
        fprintf(stderr, "%s:%d: not so: %s\n", file, line, what);
    }
    return held;
}

void test_skip(const char *why)
{
    state->skipped = 1;
    snprintf(state->why, sizeof state->why, "%s", why);
}

void test_in_child(void (*run)(void *), void *argument)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        run(argument);
        fflush(NULL);
        _exit(0);
    }
    int status = -1;
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static bool put(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool done = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0)
        close(fd);
    return done;
}

bool test_private_mounts(void)
{
    char uids[64];
    char gids[64];
    if (unshare(CLONE_NEWNS) == 0)
        return true;
    snprintf(uids, sizeof uids, "0 %u 1", (unsigned int)geteuid());
    snprintf(gids, sizeof gids, "0 %u 1", (unsigned int)getegid());
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0 && put("/proc/self/setgroups", "deny") &&
        put("/proc/self/uid_map", uids) && put("/proc/self/gid_map", gids))
        return true;
    test_skip("no mount namespaces for this user");
    return false;
}

int main(int argc, char **argv)
{
    int ran = 0;
    int failed = 0;
    int skipped = 0;
    const char *must = getenv("SUBLET_MUST_WORK");
    state = mmap(NULL, sizeof *state, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (state == MAP_FAILED)
        return 2;
    for (int i = 0; i < count; i++) {
        if (argc > 1 && strstr(tests[i].name, argv[1]) == NULL)
            continue;
        state->failed = 0;
        state->skipped = 0;
        tests[i].run();
        ran++;
        if (state->skipped && must && strcmp(must, "1") == 0)
            state->failed++;
        failed += state->failed != 0;
        skipped += state->skipped;
        if (state->failed || state->skipped)
            printf("%s: %s %s\n", tests[i].name, state->failed ? "FAILED" : "skipped",
                   state->skipped ? state->why : "");
    }
    printf("%d tests, %d failed, %d skipped\n", ran, failed, skipped);
    return failed != 0 || ran == 0;
}
