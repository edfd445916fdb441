/* Failures and messages: what the executor's processes, and the launcher, tell one another. */

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "executor.h"
#include "syscalls.h"

static int note(struct context *c, uint16_t step, int error, int64_t value)
{
    struct failure *failure = &c->shared->failure;
    if (failure->noted)
        return -1;
    *failure = (struct failure){
        .phase = c->phase,
        .step = step,
        .operation = c->operation,
        .error = error,
        .value = value,
    };
    __atomic_store_n(&failure->noted, 1, __ATOMIC_RELEASE);
    return -1;
}

int fail(struct context *c, uint16_t step, int error)
{
    return note(c, step, error ? error : EINVAL, 0);
}

int fail_status(struct context *c, uint16_t step, int64_t status)
{
    return note(c, step, 0, status);
}

void enter_phase(struct context *c, uint16_t phase)
{
    c->phase = phase;
    __atomic_store_n(&c->shared->phase, phase, __ATOMIC_RELAXED);
}

union control {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(int))];
};

int message_send(int fd, const struct wire_message *message, int descriptor)
{
    struct iovec part = {(void *)(uintptr_t)message, sizeof *message};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};
    union control control;
    if (descriptor >= 0) {
        memset(&control, 0, sizeof control);
        header.msg_control = &control;
        header.msg_controllen = sizeof control;
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(sizeof descriptor);
        memcpy(CMSG_DATA(&control.header), &descriptor, sizeof descriptor);
    }
    ssize_t done;
    do
        done = sendmsg(fd, &header, MSG_NOSIGNAL);
    while (done < 0 && errno == EINTR);
    return done < 0 ? -1 : 0;
}

/* Take the descriptor out of a received message; any that nobody expects is closed. The buffer has
 * room for one header only. */
static int take_descriptor(struct msghdr *header, int *descriptor)
{
    int taken = -1;
    struct cmsghdr *rights = CMSG_FIRSTHDR(header);
    if (rights && rights->cmsg_level == SOL_SOCKET && rights->cmsg_type == SCM_RIGHTS) {
        size_t count = (rights->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(rights) + i * sizeof fd, sizeof fd);
            if (taken < 0 && descriptor)
                taken = fd;
            else
                close(fd);
        }
    }
    if (descriptor)
        *descriptor = taken;
    return taken < 0 ? 0 : 1;
}

int message_receive(int fd, struct wire_message *message, int *descriptor)
{
    struct iovec part = {message, sizeof *message};
    union control control;
    struct msghdr header = {
        .msg_iov = &part,
        .msg_iovlen = 1,
        .msg_control = &control,
        .msg_controllen = sizeof control,
    };
    ssize_t done;
    do
        done = recvmsg(fd, &header, MSG_CMSG_CLOEXEC);
    while (done < 0 && errno == EINTR);
    if (done <= 0)
        /* A peer that went away with something unread is gone as well. */
        return done < 0 && errno != ECONNRESET ? -1 : 0;
    int taken = take_descriptor(&header, descriptor);
    if (done != sizeof *message || (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) ||
        message->version != WIRE_VERSION || message->descriptors != (uint32_t)taken) {
        if (taken && descriptor) {
            close(*descriptor);
            *descriptor = -1;
        }
        errno = EPROTO;
        return -1;
    }
    return 1;
}

int say(struct context *c, int fd, uint16_t kind, int64_t value, int descriptor)
{
    struct wire_message message = {
        .version = WIRE_VERSION,
        .kind = kind,
        .phase = c->phase,
        .operation = WIRE_NONE,
        .value = value,
        .descriptors = descriptor >= 0,
    };
    if (message_send(fd, &message, descriptor) < 0)
        return fail(c, WIRE_STEP_SENDMSG, errno);
    return 0;
}

bool legal(uint16_t *state, uint8_t sender, uint16_t kind, bool sync_start)
{
    for (size_t i = 0; i < WIRE_DIALOGUE_ROWS; i++) {
        const struct wire_dialogue *row = &wire_dialogue[i];
        if (row->state == *state && row->sender == sender && row->message == kind &&
            (row->when == 0 || (row->when == 1) == sync_start)) {
            *state = row->next;
            return true;
        }
    }
    return false;
}
