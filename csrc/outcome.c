/* How it ended: the last message, the exit status, and who is told. */

#include <errno.h>
#include <sys/wait.h>

#include "supervise.h"

static void exited_fields(const struct context *c, const struct supervisor *s,
                          struct wire_message *message)
{
    const struct shared *shared = c->shared;
    bool own = setting(c, WIRE_SETTING_INIT) && shared->has_ended && !s->timed_out;
    bool signalled = WIFSIGNALED(s->status);
    const struct timeval *user = &s->usage.ru_utime, *system = &s->usage.ru_stime;
    message->kind = WIRE_MESSAGE_EXITED;
    message->phase = WIRE_PHASE_SUPERVISE;
    message->wall_ns = monotonic() - c->started;
    if (own) {
        struct ended ended = shared->ended;
        message->ending =
            ended.ending == WIRE_ENDING_SIGNAL ? WIRE_ENDING_SIGNAL : WIRE_ENDING_EXIT;
        message->value = ended.value & (message->ending == WIRE_ENDING_SIGNAL ? 0x7f : 0xff);
        message->user_us = ended.user_us;
        message->system_us = ended.system_us;
        message->max_rss_kib = ended.max_rss_kib;
        return;
    }
    message->user_us = (uint64_t)user->tv_sec * 1000000 + (uint64_t)user->tv_usec;
    message->system_us = (uint64_t)system->tv_sec * 1000000 + (uint64_t)system->tv_usec;
    message->max_rss_kib = (uint64_t)s->usage.ru_maxrss;
    message->value = signalled ? WTERMSIG(s->status) : WEXITSTATUS(s->status);
    if (s->timed_out)
        message->ending = WIRE_ENDING_TIMEOUT;
    else if (setting(c, WIRE_SETTING_INIT))
        message->ending = WIRE_ENDING_LOST;
    else
        message->ending = signalled ? WIRE_ENDING_SIGNAL : WIRE_ENDING_EXIT;
}

static struct wire_message outcome(struct context *c, const struct supervisor *s)
{
    struct wire_message message = {
        .version = WIRE_VERSION, .kind = WIRE_MESSAGE_FAILED, .operation = WIRE_NONE};
    const struct failure failure = c->shared->failure;
    if (failure.noted) {
        message.phase = failure.phase < WIRE_PHASE_COUNT ? failure.phase : WIRE_PHASE_START;
        message.step = failure.step < WIRE_STEP_COUNT ? failure.step : WIRE_STEP_NONE;
        message.operation = failure.operation;
        message.error = failure.error;
        message.value = failure.value;
    } else if (s->interrupted && !running(c)) {
        exited_fields(c, s, &message);
        message.ending = WIRE_ENDING_SIGNAL;
        message.value = s->interrupted;
    } else if (!running(c) && !s->timed_out) {
        uint16_t phase = c->shared->phase;
        message.phase = phase < WIRE_PHASE_COUNT ? phase : WIRE_PHASE_START;
        message.ending = WIRE_ENDING_LOST;
        message.value = WIFSIGNALED(s->status) ? WTERMSIG(s->status) : 0;
        /* Or what init had started was. */
        if (c->shared->has_ended && c->shared->ended.ending == WIRE_ENDING_SIGNAL)
            message.value = c->shared->ended.value & 0x7f;
    } else {
        exited_fields(c, s, &message);
    }
    return message;
}

static int exit_status(const struct wire_message *message)
{
    if (message->kind == WIRE_MESSAGE_FAILED) {
        if (message->phase != WIRE_PHASE_EXEC)
            return EXIT_SETUP;
        bool missing = message->error == ENOENT || message->error == ENOTDIR;
        return missing ? EXIT_NOT_FOUND : EXIT_NO_EXEC;
    }
    switch (message->ending) {
    case WIRE_ENDING_TIMEOUT:
        return EXIT_TIMEOUT;
    case WIRE_ENDING_EXIT:
        return (int)message->value;
    default:
        return 128 + (int)message->value;
    }
}

int conclude(struct context *c, const struct supervisor *s)
{
    const struct wire_message message = outcome(c, s);
    int status = exit_status(&message);
    bool went_wrong = message.kind == WIRE_MESSAGE_FAILED || message.ending == WIRE_ENDING_TIMEOUT;
    relay_stop();
    if (c->channel >= 0) {
        message_send(c->channel, &message, -1);
        return status;
    }
    /* A plan that is wrong names no reporter to be trusted. */
    const struct wire_settings *settings = c->arena ? c->plan->settings : NULL;
    if (settings && settings->reporter_count > 0 &&
        (went_wrong || (settings->flags & WIRE_SETTING_REPORT_ALWAYS)))
        report_exec(c, &message);
    if (message.kind == WIRE_MESSAGE_FAILED)
        report_failure(c, &message);
    return status;
}
