/* The last word where no launcher listens: one terse line, or the plan's reporter. */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>

#include "executor.h"
#include "syscalls.h"

/* A line put together without stdio; what is too long is cut off. */
struct line {
    char text[1024];
    size_t length;
};

static void add(struct line *line, const char *text)
{
    size_t length = text ? strlen(text) : 0;
    size_t room = sizeof line->text - 1 - line->length; /* one is kept for the newline */
    if (length > room)
        length = room;
    for (size_t i = 0; i < length; i++) {
        /* A path must not move the cursor of somebody's terminal. */
        unsigned char byte = (unsigned char)text[i];
        line->text[line->length++] = byte < 0x20 || byte == 0x7f ? '?' : (char)byte;
    }
}

static void add_number(struct line *line, int64_t number)
{
    char digits[24];
    size_t at = sizeof digits - 1;
    uint64_t rest = number < 0 ? (uint64_t)0 - (uint64_t)number : (uint64_t)number;
    digits[at] = '\0';
    do
        digits[--at] = (char)('0' + rest % 10);
    while ((rest /= 10) > 0);
    if (number < 0)
        digits[--at] = '-';
    add(line, digits + at);
}

static void finish(struct line *line)
{
    line->text[line->length++] = '\n';
    /* Nobody is left to be told that this failed. */
    if (write(2, line->text, line->length) < 0)
        return;
}

void complain(const char *what, const char *which)
{
    struct line line = {.length = 0};
    add(&line, "sublet-exec: ");
    add(&line, what);
    if (which) {
        add(&line, ": ");
        add(&line, which);
    }
    finish(&line);
}

/* The errors that set-up meets; strerror(3) would bring the C library's translations along. */
static const struct {
    int error;
    const char *text;
} error_texts[] = {
    {EPERM, "Operation not permitted"},
    {ENOENT, "No such file or directory"},
    {EIO, "Input/output error"},
    {ENXIO, "No such device or address"},
    {E2BIG, "Argument list too long"},
    {ENOEXEC, "Exec format error"},
    {EBADF, "Bad file descriptor"},
    {ECHILD, "No child processes"},
    {EAGAIN, "Resource temporarily unavailable"},
    {ENOMEM, "Cannot allocate memory"},
    {EACCES, "Permission denied"},
    {EBUSY, "Device or resource busy"},
    {EEXIST, "File exists"},
    {EXDEV, "Invalid cross-device link"},
    {ENODEV, "No such device"},
    {ENOTDIR, "Not a directory"},
    {EISDIR, "Is a directory"},
    {EINVAL, "Invalid argument"},
    {EMFILE, "Too many open files"},
    {ENOTTY, "Inappropriate ioctl for device"},
    {ETXTBSY, "Text file busy"},
    {EFBIG, "File too large"},
    {ENOSPC, "No space left on device"},
    {EROFS, "Read-only file system"},
    {EPIPE, "Broken pipe"},
    {ERANGE, "Numerical result out of range"},
    {ENAMETOOLONG, "File name too long"},
    {ENOSYS, "Function not implemented"},
    {ELOOP, "Too many levels of symbolic links"},
    {EOVERFLOW, "Value too large for defined data type"},
    {EUSERS, "Too many users"},
    {EOPNOTSUPP, "Operation not supported"},
    {ETIMEDOUT, "Connection timed out"},
    {EPROTO, "Protocol error"},
    {EBADMSG, "Bad message"},
};

static const char *error_text(int error)
{
    for (size_t i = 0; i < sizeof error_texts / sizeof *error_texts; i++)
        if (error_texts[i].error == error)
            return error_texts[i].text;
    return "Error";
}

/* What the step was done to, where the plan says it. */
static const char *subject(const struct context *c, const struct wire_message *message)
{
    const struct plan *p = c->plan;
    if (!p->settings)
        return NULL;
    if (message->operation < p->counts[WIRE_SECTION_OPERATIONS]) {
        const struct wire_operation *op = &p->operations[message->operation];
        bool source = op->source != WIRE_NONE &&
                      (message->step == WIRE_STEP_OPEN_TREE || message->step == WIRE_STEP_OPEN);
        return plan_string(p, source ? op->source : op->target);
    }
    switch (message->phase) {
    case WIRE_PHASE_EXEC:
        if (p->settings->command != WIRE_NONE)
            return plan_string(p, p->settings->command);
        return p->argv[0];
    case WIRE_PHASE_DIRECTORY:
        return plan_string(p, p->settings->directory);
    default:
        return NULL;
    }
}

void report_failure(const struct context *c, const struct wire_message *message)
{
    struct line line = {.length = 0};
    add(&line, "sublet-exec: ");
    add(&line, wire_phase_names[message->phase]);
    if (message->operation != WIRE_NONE) {
        add(&line, ": operation ");
        add_number(&line, message->operation);
        if (c->plan->settings && message->operation < c->plan->counts[WIRE_SECTION_OPERATIONS]) {
            add(&line, " (");
            add(&line, wire_operation_names[c->plan->operations[message->operation].kind]);
            add(&line, ")");
        }
    }
    if (message->step != WIRE_STEP_NONE) {
        const char *what = subject(c, message);
        add(&line, ": ");
        add(&line, wire_step_names[message->step]);
        if (what) {
            add(&line, " ");
            add(&line, what);
        }
    }
    if (message->error) {
        add(&line, ": ");
        add(&line, error_text(message->error));
        add(&line, " (");
        add_number(&line, message->error);
        add(&line, ")");
    } else if (message->ending == WIRE_ENDING_LOST) {
        add(&line, ": the process was killed by signal ");
        add_number(&line, message->value);
    } else {
        add(&line, ": exit status ");
        add_number(&line, message->value);
    }
    finish(&line);
}

/* Write a number's digits; return the text's start, which lies in `digits`. */
static char *decimal(char digits[12], int number)
{
    char *at = digits + 11;
    *at = '\0';
    do
        *--at = (char)('0' + number % 10);
    while ((number /= 10) > 0);
    return at;
}

int report_exec(struct context *c, const struct wire_message *message)
{
    static char record_option[] = "--record", plan_option[] = "--plan";
    char record_text[12], plan_text[12];
    int record = sys_memfd_create("sublet-record", 0);
    if (record < 0)
        return -1;
    if (pwrite(record, message, sizeof *message, 0) != (ssize_t)sizeof *message ||
        fcntl(record, F_SETFD, 0) < 0 || fcntl(c->plan_file, F_SETFD, 0) < 0)
        return -1;
    uint32_t count = c->plan->settings->reporter_count;
    char **argv = c->plan->reporter;
    argv[count] = record_option;
    argv[count + 1] = decimal(record_text, record);
    argv[count + 2] = plan_option;
    argv[count + 3] = decimal(plan_text, c->plan_file);
    argv[count + 4] = NULL;
    signal_mask(SIG_SETMASK, c->mask, NULL);
    execve(argv[0], argv, environ);
    int error = errno;
    complain("the reporter cannot be executed", argv[0]);
    errno = error;
    return -1;
}
