/* sublet-exec: carries out a plan. docs/protocol.md says who does what. */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "executor.h"
#include "syscalls.h"

#define PAYLOAD_STACK 65536 /* bytes for the calls between clone and execve */
#define SLOT_ARGUMENT "--slot"

static struct plan plan;
static struct context context;

_Static_assert(WIRE_VERSION == 1, "the text below says so");
static const char version[] = "sublet-exec, wire version 1\n";

static int number_of(const char *text)
{
    int number = 0;
    if (*text == '\0')
        return -1;
    for (; *text; text++) {
        if (*text < '0' || *text > '9' || number > 100000000)
            return -1;
        number = number * 10 + (*text - '0');
    }
    return number;
}

/* Is this an open descriptor? */
static int descriptor_of(const char *text)
{
    int fd = number_of(text);
    return fd >= 0 && fcntl(fd, F_GETFD) >= 0 ? fd : -1;
}

static int usage(const char *what, const char *which)
{
    complain(what, which);
    return -1;
}

struct arguments {
    const char *plan_path;
    char **slots; /* argv from the first option on; the slots are looked for in it */
    int plan_file;
    int channel;
};

static int parse(char **argv, struct arguments *arguments)
{
    *arguments = (struct arguments){.slots = argv + 1, .plan_file = -1, .channel = -1};
    for (argv++; *argv; argv++) {
        const char *option = *argv;
        if (option[0] != '-') {
            if (arguments->plan_path || argv[1])
                return usage("one plan, and it comes last", option);
            arguments->plan_path = option;
            continue;
        }
        bool channel = strcmp(option, "--channel") == 0;
        bool plan_option = strcmp(option, "--plan") == 0;
        if (!channel && !plan_option && strcmp(option, SLOT_ARGUMENT) != 0)
            return usage("unknown option", option);
        const char *value = *++argv;
        if (!value)
            return usage("an option lacks its value", option);
        if (!channel && !plan_option)
            continue;
        int fd = descriptor_of(value);
        if (fd < 0)
            return usage(option, "not an open descriptor");
        *(channel ? &arguments->channel : &arguments->plan_file) = fd;
    }
    if ((arguments->plan_path == NULL) == (arguments->plan_file < 0))
        return usage("usage: sublet-exec [--channel FD] [--slot NAME=FD]... PLANFILE | --plan FD",
                     NULL);
    return 0;
}

/* Holes among 0, 1, 2 would be filled by the first descriptors that are opened, and the payload
 * would get those. */
static void fill_standard_descriptors(struct context *c)
{
    int fd;
    do {
        fd = open("/dev/null", O_RDWR | O_CLOEXEC | O_NOCTTY);
        if (fd < 0)
            fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fd >= 0 && fd < 3)
            fcntl(fd, F_SETFD, 0);
    } while (fd >= 0 && fd < 3);
    c->null = fd;
}

/* Copy the plan into private memory, once: nobody can change it after the checks. */
static int load(struct context *c, const struct arguments *arguments)
{
    struct stat st;
    c->plan_file = arguments->plan_file;
    if (arguments->plan_path)
        c->plan_file = open(arguments->plan_path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (c->plan_file < 0)
        return fail(c, WIRE_STEP_OPEN, errno);
    if (fstat(c->plan_file, &st) < 0)
        return fail(c, WIRE_STEP_FSTAT, errno);
    if (!S_ISREG(st.st_mode) || st.st_size < (off_t)sizeof(struct wire_header) ||
        st.st_size > (off_t)WIRE_MAX_SIZE)
        return fail(c, WIRE_STEP_CHECK, EINVAL);
    size_t size = (size_t)st.st_size;
    /* Rounded up, what belongs to operations, maps and words, and the stack at the end. An
     * operation or a map is more than four ints, a word is one. */
    size_t lists = (plan_arena(size) + 15) / 16 * 16;
    size_t total = lists + size + PAYLOAD_STACK;
    total = (total + 4095) / 4096 * 4096;
    uint8_t *arena = mmap(NULL, total, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (arena == MAP_FAILED)
        return fail(c, WIRE_STEP_MMAP, errno);
    for (size_t done = 0; done < size;) {
        ssize_t part = pread(c->plan_file, arena + done, size - done, (off_t)done);
        if (part <= 0)
            return fail(c, WIRE_STEP_READ, part < 0 ? errno : EIO);
        done += (size_t)part;
    }
    if (plan_decode(&plan, arena, size) < 0) {
        c->operation = plan.wrong;
        return fail(c, WIRE_STEP_CHECK, errno);
    }
    uint32_t operations = plan.counts[WIRE_SECTION_OPERATIONS];
    c->outside = (int *)(arena + lists);
    c->sources = c->outside + operations;
    c->works = c->sources + operations;
    c->map_namespaces = c->works + operations;
    c->lowers = c->map_namespaces + plan.counts[WIRE_SECTION_MAPS];
    int *end = c->map_namespaces + plan.counts[WIRE_SECTION_MAPS];
    for (int *fd = c->outside; fd < end; fd++)
        *fd = -1;
    c->arena = arena;
    c->arena_size = total;
    c->stack_top = arena + total;
    return 0;
}

/* Every slot of the plan, and no other. What follows the equals sign is a descriptor. */
static int take_slots(struct context *c, char **options)
{
    uint32_t count = plan.counts[WIRE_SECTION_SLOTS];
    uint32_t taken = 0;
    for (; *options; options++) {
        if ((*options)[0] != '-')
            continue;
        bool slot = strcmp(*options, SLOT_ARGUMENT) == 0;
        const char *value = *++options;
        if (!slot)
            continue;
        const char *equals = strchr(value, '=');
        size_t length = equals ? (size_t)(equals - value) : 0;
        uint32_t i = 0;
        for (; i < count; i++) {
            const char *name = plan.strings + plan.slots[i];
            if (strlen(name) == length && memcmp(name, value, length) == 0)
                break;
        }
        if (i == count || c->slots[i] >= 0)
            return fail(c, WIRE_STEP_CHECK, ENXIO);
        c->slots[i] = descriptor_of(equals + 1);
        if (c->slots[i] < 0)
            return fail(c, WIRE_STEP_CHECK, EBADF);
        taken++;
    }
    return taken == count ? 0 : fail(c, WIRE_STEP_CHECK, ENXIO);
}

/* Before the program is started anew, which keeps the request but not the parent's PID. */
static void follow_parent(struct context *c, pid_t parent)
{
    if (!setting(c, WIRE_SETTING_DIE_WITH_PARENT))
        return;
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
        fail(c, WIRE_STEP_PDEATHSIG, errno);
    else if (getppid() != parent)
        _exit(EXIT_SETUP); /* it died before it could be watched */
}

static int prepare(struct context *c, char **argv, pid_t parent)
{
    struct arguments arguments;
    if (parse(argv, &arguments) < 0)
        return -1;
    c->channel = arguments.channel;
    enter_phase(c, WIRE_PHASE_DECODE);
    if (load(c, &arguments) < 0 || take_slots(c, arguments.slots) < 0)
        return 0;
    follow_parent(c, parent);
    if (c->shared->failure.noted || program_protect(c, argv) < 0)
        return 0;
    if (setting(c, WIRE_SETTING_SYNC_START) && c->channel < 0)
        fail(c, WIRE_STEP_CHECK, EINVAL);
    c->announce = c->channel >= 0;
    return 0;
}

/* Python ignores SIGPIPE and SIGXFSZ, and its children inherit that; without SIGCHLD nothing could
 * be waited for. What else is ignored was wanted (nohup). */
static void reset_signals(void)
{
    static const int restored[] = {SIGPIPE, SIGXFSZ, SIGCHLD};
    struct sigaction action = {.sa_handler = SIG_DFL};
    for (size_t i = 0; i < sizeof restored / sizeof *restored; i++)
        sigaction(restored[i], &action, NULL);
}

int main(int argc, char **argv)
{
    struct context *c = &context;
    pid_t parent = getppid();
    if (getauxval(AT_SECURE) || geteuid() != getuid() || getegid() != getgid()) {
        complain("not to be run with other privileges than its caller's", NULL);
        return EXIT_SETUP;
    }
    if (argc == 2 && strcmp(argv[1], "--version") == 0)
        return write(1, version, sizeof version - 1) == sizeof version - 1 ? 0 : EXIT_SETUP;
    *c = (struct context){.plan = &plan,
                          .operation = WIRE_NONE,
                          .root = -1,
                          .devpts = -1,
                          .terminal = -1,
                          .master = -1,
                          .procfs = -1,
                          .caller_uid = WIRE_NONE,
                          .caller_gid = WIRE_NONE,
                          .proc = -1,
                          .null = -1,
                          .plan_file = -1,
                          .channel = -1,
                          .link = -1,
                          .signals = -1,
                          .child = -1};
    memset(c->slots, 0xff, sizeof c->slots);
    c->shared =
        mmap(NULL, sizeof *c->shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (c->shared == MAP_FAILED) {
        complain("mmap", "no memory");
        return EXIT_SETUP;
    }
    fill_standard_descriptors(c);
    reset_signals();
    if (prepare(c, argv, parent) < 0)
        return EXIT_SETUP;
    return supervise(c);
}
