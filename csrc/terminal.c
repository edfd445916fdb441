/* The plan's own terminal: made inside, relayed to the caller's outside. */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>

#include "executor.h"
#include "syscalls.h"

#ifndef TIOCGPTPEER
#define TIOCGPTPEER _IO('T', 0x41)
#endif

#define CHUNK 4096 /* a pipe that is ready takes as much without blocking (PIPE_BUF) */

/* Bytes on their way. */
struct stream {
    char bytes[CHUNK];
    size_t from, to;
    bool ended; /* nothing more will come in */
};

static struct {
    struct stream input, output; /* caller to pty, pty to caller */
    struct termios saved;
    bool raw; /* `saved` is to be put back */
    bool closing;
    bool told_end;
    bool abandoned; /* nobody takes our output */
    size_t piece;   /* bytes of output that are written at once */
    char last;      /* byte that went into the pty */
} relay = {.last = '\n', .piece = CHUNK};

int terminal_open(struct context *c)
{
    int unlocked = 0;
    if (c->terminal >= 0)
        return 0;
    if (c->devpts >= 0)
        c->master = openat(c->devpts, "ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
    else
        c->master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (c->master < 0)
        return fail(c, WIRE_STEP_OPEN, errno);
    if (ioctl(c->master, TIOCSPTLCK, &unlocked) < 0)
        return fail(c, WIRE_STEP_IOCTL, errno);
    /* By descriptor: no path stands between the two sides. */
    c->terminal = ioctl(c->master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (c->terminal < 0)
        return fail(c, WIRE_STEP_IOCTL, errno);
    relay_resize(c);
    return 0;
}

void relay_resize(const struct context *c)
{
    struct winsize size;
    if (c->master < 0)
        return;
    for (int fd = 0; fd < 3; fd++)
        if (ioctl(fd, TIOCGWINSZ, &size) == 0) {
            ioctl(c->master, TIOCSWINSZ, &size);
            return;
        }
}

/* A terminal that is ready for a byte is not for a chunk, and the write would hold up signals and
 * time. Not blocking, but for nobody else who has it: it is opened once more. */
static void open_output_again(void)
{
    struct termios present;
    if (tcgetattr(1, &present) < 0)
        return;
    int fd = open("/proc/self/fd/1", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0) {
        relay.piece = 1; /* somebody else's, after su(1), say: for one byte it is ready */
        return;
    }
    dup2(fd, 1);
    close(fd);
}

void relay_start(struct context *c)
{
    open_output_again();
    int flags = fcntl(c->master, F_GETFL);
    fcntl(c->master, F_SETFL, flags | O_NONBLOCK);
    /* It may have changed since the pty was made. */
    relay_resize(c);
    if (tcgetattr(0, &relay.saved) < 0)
        return; /* a pipe or a file: nothing to be put back */
    struct termios raw = relay.saved;
    cfmakeraw(&raw);
    relay.raw = tcsetattr(0, TCSANOW, &raw) == 0;
}

void relay_stop(void)
{
    if (relay.raw)
        tcsetattr(0, relay.abandoned ? TCSANOW : TCSADRAIN, &relay.saved);
    relay.raw = false;
}

void relay_closing(void)
{
    relay.closing = true;
}

static bool pending(const struct stream *stream)
{
    return stream->from < stream->to;
}

void relay_abandon(void)
{
    relay.output.from = relay.output.to;
    relay.output.ended = true;
    relay.abandoned = true;
}

bool relay_drained(const struct context *c)
{
    return c->master < 0 || (relay.output.ended && !pending(&relay.output));
}

enum { READ_IN, WRITE_OUT, READ_PTY, WRITE_PTY };

int relay_prepare(struct context *c, struct pollfd *fds)
{
    struct stream *in = &relay.input, *out = &relay.output;
    bool alive = !out->ended && !relay.closing;
    fds[READ_IN] =
        (struct pollfd){.fd = alive && !in->ended && !pending(in) ? 0 : -1, .events = POLLIN};
    fds[WRITE_OUT] = (struct pollfd){.fd = pending(out) ? 1 : -1, .events = POLLOUT};
    fds[READ_PTY] =
        (struct pollfd){.fd = !out->ended && !pending(out) ? c->master : -1, .events = POLLIN};
    fds[WRITE_PTY] =
        (struct pollfd){.fd = alive && pending(in) ? c->master : -1, .events = POLLOUT};
    return RELAY_FDS;
}

static void take(struct stream *stream, int fd)
{
    ssize_t length = read(fd, stream->bytes, sizeof stream->bytes);
    if (length < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    stream->from = 0;
    stream->to = length > 0 ? (size_t)length : 0;
    /* The pty's other side is closed when reading fails with EIO. */
    stream->ended = length <= 0;
}

static void give(struct stream *stream, int fd, size_t most)
{
    size_t rest = stream->to - stream->from;
    ssize_t length = write(fd, stream->bytes + stream->from, rest < most ? rest : most);
    if (length > 0)
        stream->from += (size_t)length;
    else if (length < 0 && errno != EINTR && errno != EAGAIN)
        stream->from = stream->to; /* nobody reads it: it is lost, but the payload goes on */
}

/* The end of our input is the end of the payload's, which a pty says with a character. One alone
 * only sends off what stands in an unfinished line. */
static void tell_end(struct context *c)
{
    struct termios present;
    if (!relay.input.ended || pending(&relay.input) || relay.told_end)
        return;
    relay.told_end = true;
    if (tcgetattr(c->master, &present) < 0 || !(present.c_lflag & ICANON))
        return;
    relay.input.bytes[0] = relay.input.bytes[1] = (char)present.c_cc[VEOF];
    relay.input.from = 0;
    relay.input.to = relay.last == '\n' ? 1 : 2;
}

void relay_work(struct context *c, const struct pollfd *fds)
{
    if (fds[READ_IN].revents)
        take(&relay.input, 0);
    if (fds[WRITE_PTY].revents) {
        give(&relay.input, c->master, CHUNK);
        if (relay.input.from > 0)
            relay.last = relay.input.bytes[relay.input.from - 1];
    }
    tell_end(c);
    if (fds[READ_PTY].revents)
        take(&relay.output, c->master);
    else if (relay.closing && !pending(&relay.output))
        relay.output.ended = true; /* others may hold the pty open: what was written is out */
    if (fds[WRITE_OUT].revents)
        give(&relay.output, 1, relay.piece);
}
