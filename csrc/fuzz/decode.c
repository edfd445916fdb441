/* Bytes that claim to be a plan. What the decoder lets pass is then read as the phases read it; the
 * sanitizers see every step outside the arena, which is as large as plan_arena() says and no
 * larger. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../executor.h"

static volatile size_t sink; /* keeps what is read from being optimised away */

static void read_string(const struct plan *p, uint32_t reference)
{
    const char *text = plan_string(p, reference);
    sink += text ? strlen(text) : 0;
}

static void read_list(char **list)
{
    for (; *list; list++)
        sink += strlen(*list);
}

static void read_bytes(const struct plan *p, uint32_t offset, uint32_t length)
{
    for (uint32_t i = 0; i < length; i++)
        sink += p->data[offset + i];
}

static void read_operation(const struct plan *p, const struct wire_operation *op)
{
    if (op->kind == 0 || op->kind >= WIRE_OPERATION_COUNT || op->target == WIRE_NONE)
        abort();
    read_string(p, op->target);
    read_string(p, op->source);
    read_string(p, op->text);
    read_string(p, op->work);
    for (uint32_t i = 0; i < op->lower_count; i++)
        read_string(p, p->words[op->lower_first + i]);
    for (uint32_t i = 0; i < op->options_count; i++)
        read_string(p, p->words[op->options_first + i]);
    read_bytes(p, op->content_offset, op->content_length);
    if (op->slot != WIRE_NONE)
        read_string(p, p->slots[op->slot]);
    if (op->map != WIRE_NONE)
        sink += p->extents[p->maps[op->map].uid_first].count;
}

static void read_settings(const struct plan *p)
{
    const struct wire_settings *s = p->settings;
    const uint32_t strings[] = {s->hostname,  s->domainname, s->directory, s->search_path,
                                s->newuidmap, s->newgidmap,  s->command};
    for (size_t i = 0; i < sizeof strings / sizeof *strings; i++)
        read_string(p, strings[i]);
    for (uint32_t i = 0; i < s->groups_count; i++)
        sink += p->groups[s->groups_first + i];
    read_bytes(p, s->seccomp_offset, s->seccomp_length);
    read_list(p->argv);
    read_list(p->environment);
    read_list(p->reporter);
    /* the room for the reporter's options */
    memset(p->reporter + s->reporter_count, 0, 5 * sizeof(char *));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct plan plan;
    uint8_t *arena = malloc(plan_arena(size));
    if (!arena)
        return 0;
    memcpy(arena, bytes, size);
    if (plan_decode(&plan, arena, size) == 0) {
        read_settings(&plan);
        for (uint32_t i = 0; i < plan.counts[WIRE_SECTION_OPERATIONS]; i++)
            read_operation(&plan, &plan.operations[i]);
        for (uint32_t i = 0; i < plan.counts[WIRE_SECTION_JOINS]; i++)
            read_string(&plan, plan.slots[plan.joins[i].slot]);
        for (uint32_t i = 0; i < plan.counts[WIRE_SECTION_DESCRIPTORS]; i++)
            read_string(&plan, plan.slots[plan.descriptors[i].slot]);
    }
    free(arena);
    return 0;
}
