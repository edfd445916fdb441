/* Messages, failures, and which descriptors stay. */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../executor.h"
#include "test.h"

static struct shared page;
static struct plan no_plan;

static struct context fresh(void)
{
    memset(&page, 0, sizeof page);
    struct context c = {.plan = &no_plan, .shared = &page, .operation = WIRE_NONE};
    return c;
}

TEST(proto_first_failure_counts)
{
    struct context c = fresh();
    enter_phase(&c, WIRE_PHASE_MOUNTS);
    c.operation = 4;
    CHECK(fail(&c, WIRE_STEP_OPEN_TREE, ENOENT) == -1);
    c.operation = 5;
    CHECK(fail(&c, WIRE_STEP_CHECK, 0) == -1);
    CHECK(page.phase == WIRE_PHASE_MOUNTS);
    CHECK(page.failure.step == WIRE_STEP_OPEN_TREE && page.failure.error == ENOENT);
    CHECK(page.failure.operation == 4 && page.failure.phase == WIRE_PHASE_MOUNTS);
}

TEST(proto_own_checks_are_einval)
{
    struct context c = fresh();
    fail(&c, WIRE_STEP_CHECK, 0);
    CHECK(page.failure.error == EINVAL);
    c = fresh();
    fail_status(&c, WIRE_STEP_NEWUIDMAP, 3);
    CHECK(page.failure.error == 0 && page.failure.value == 3);
}

TEST(proto_messages_carry_descriptors)
{
    int pair[2], got, kept[2];
    struct wire_message message;
    struct context c = fresh();
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
    CHECK(pipe(kept) == 0);
    CHECK(say(&c, pair[0], WIRE_MESSAGE_STARTED, 42, kept[1]) == 0);
    close(kept[1]);
    CHECK(message_receive(pair[1], &message, &got) == 1);
    CHECK(message.kind == WIRE_MESSAGE_STARTED && message.value == 42 && got >= 0);
    CHECK(fcntl(got, F_GETFD) == FD_CLOEXEC);
    CHECK(write(got, "x", 1) == 1);
    close(got);
    /* one that nobody expects is closed: a message that says so is still whole */
    CHECK(say(&c, pair[0], WIRE_MESSAGE_READY, 0, -1) == 0);
    CHECK(message_receive(pair[1], &message, NULL) == 1);
    close(pair[0]);
    CHECK(message_receive(pair[1], &message, &got) == 0);
    close(pair[1]);
    close(kept[0]);
}

TEST(proto_refuses_what_is_no_message)
{
    int pair[2], got;
    struct wire_message message = {.version = WIRE_VERSION, .kind = WIRE_MESSAGE_READY};
    struct wire_message out;
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
    CHECK(send(pair[0], &message, sizeof message - 1, 0) == sizeof message - 1);
    CHECK(message_receive(pair[1], &out, &got) == -1 && errno == EPROTO);
    char longer[sizeof message + 1] = {0};
    memcpy(longer, &message, sizeof message);
    CHECK(send(pair[0], longer, sizeof longer, 0) == sizeof longer);
    CHECK(message_receive(pair[1], &out, &got) == -1 && errno == EPROTO);
    message.version++;
    CHECK(message_send(pair[0], &message, -1) == 0);
    CHECK(message_receive(pair[1], &out, &got) == -1 && errno == EPROTO);
    message.version--;
    message.descriptors = 1; /* that does not come along */
    CHECK(message_send(pair[0], &message, -1) == 0);
    CHECK(message_receive(pair[1], &out, &got) == -1 && errno == EPROTO);
    message.descriptors = 0; /* and one that was not announced */
    CHECK(message_send(pair[0], &message, 0) == 0);
    CHECK(message_receive(pair[1], &out, &got) == -1 && errno == EPROTO && got == -1);
    close(pair[0]);
    close(pair[1]);
}

TEST(proto_dialogue)
{
    uint16_t state = WIRE_STATE_STARTING;
    CHECK(!legal(&state, WIRE_SENDER_EXECUTOR, WIRE_MESSAGE_READY, false));
    CHECK(legal(&state, WIRE_SENDER_EXECUTOR, WIRE_MESSAGE_STARTED, false));
    CHECK(!legal(&state, WIRE_SENDER_EXECUTOR, WIRE_MESSAGE_STARTED, false));
    CHECK(legal(&state, WIRE_SENDER_EXECUTOR, WIRE_MESSAGE_READY, false));
    CHECK(!legal(&state, WIRE_SENDER_LAUNCHER, WIRE_MESSAGE_GO, false));
    CHECK(!legal(&state, WIRE_SENDER_EXECUTOR, WIRE_MESSAGE_RUNNING, true));
    CHECK(legal(&state, WIRE_SENDER_LAUNCHER, WIRE_MESSAGE_GO, true));
    CHECK(!legal(&state, WIRE_SENDER_LAUNCHER, WIRE_MESSAGE_GO, true));
    CHECK(legal(&state, WIRE_SENDER_EXECUTOR, WIRE_MESSAGE_RUNNING, true));
    CHECK(legal(&state, WIRE_SENDER_EXECUTOR, WIRE_MESSAGE_EXITED, true));
    CHECK(state == WIRE_STATE_ENDED);
}

static bool open_at(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static void closing(void *argument)
{
    (void)argument;
    int keep[] = {40, -1, 21, 20, 3};
    for (int fd = 3; fd < 45; fd++)
        CHECK(dup2(2, fd) == fd);
    close_all_but(keep, 5, 0);
    for (int fd = 0; fd < 45; fd++)
        CHECK(open_at(fd) == (fd <= 3 || fd == 20 || fd == 21 || fd == 40));
}

TEST(descriptors_close_all_but)
{
    test_in_child(closing, NULL);
}

/* Two slots that stand at one another's numbers, and one that is given twice. */
static void swapping(void *argument)
{
    (void)argument;
    int end[2][2];
    char byte;
    struct context c = fresh();
    static const struct wire_descriptor wanted[] = {{0, 31}, {1, 30}, {0, 0}};
    struct plan plan = {.descriptors = wanted};
    plan.counts[WIRE_SECTION_DESCRIPTORS] = 3;
    c.plan = &plan;
    CHECK(pipe(end[0]) == 0 && pipe(end[1]) == 0);
    CHECK(write(end[0][1], "a", 1) == 1 && write(end[1][1], "b", 1) == 1);
    c.slots[0] = dup2(end[0][0], 30);
    c.slots[1] = dup2(end[1][0], 31);
    c.link = dup2(end[1][1], 3);
    CHECK(payload_descriptors(&c) == 0);
    CHECK(read(30, &byte, 1) == 1 && byte == 'b');
    CHECK(read(31, &byte, 1) == 1 && byte == 'a');
    CHECK(fcntl(30, F_GETFD) == 0 && fcntl(31, F_GETFD) == 0 && fcntl(0, F_GETFD) == 0);
    CHECK(c.link > 31 && fcntl(c.link, F_GETFD) == FD_CLOEXEC);
    for (int fd = 3; fd < 100; fd++)
        if (fd != 30 && fd != 31)
            CHECK(!open_at(fd) || fcntl(fd, F_GETFD) == FD_CLOEXEC);
}

TEST(descriptors_of_the_payload)
{
    test_in_child(swapping, NULL);
}
