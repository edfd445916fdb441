/* The decoder: a good plan is taken, and every single thing that can be wrong with it is refused.
 */

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../executor.h"
#include "test.h"

#define ROOM 8192

/* A plan that mounts a root and runs /bin/true; tests damage a copy of it. */
struct sample {
    _Alignas(8) uint8_t bytes[ROOM];
    uint32_t places[WIRE_SECTION_COUNT];
    uint32_t counts[WIRE_SECTION_COUNT];
    char strings[512];
    uint32_t string_bytes;
    struct wire_settings settings;
    uint32_t words[8];
    struct wire_map maps[2];
    struct wire_extent extents[4];
    uint32_t slots[2];
    struct wire_join joins[1];
    struct wire_operation operations[3];
    struct wire_rlimit rlimits[2];
    struct wire_descriptor descriptors[2];
    uint32_t size;
};

static uint32_t text(struct sample *s, const char *value)
{
    uint32_t place = s->string_bytes;
    strcpy(s->strings + place, value);
    s->string_bytes += (uint32_t)strlen(value) + 1;
    return place;
}

static struct wire_operation operation(uint16_t kind, uint32_t target, uint32_t source)
{
    return (struct wire_operation){.kind = kind,
                                   .target = target,
                                   .source = source,
                                   .slot = WIRE_NONE,
                                   .mode = WIRE_NONE,
                                   .uid = WIRE_NONE,
                                   .gid = WIRE_NONE,
                                   .map = WIRE_NONE,
                                   .text = WIRE_NONE,
                                   .work = WIRE_NONE};
}

static void fill(struct sample *s)
{
    memset(s, 0, sizeof *s);
    uint32_t root = text(s, "/");
    uint32_t proc = text(s, "/proc");
    s->words[0] = text(s, "/bin/true");
    s->words[1] = text(s, "A=b");
    s->words[2] = text(s, "/lower");
    s->slots[0] = text(s, "one");
    s->slots[1] = text(s, "two");
    s->settings = (struct wire_settings){
        .flags = WIRE_SETTING_PIVOT | WIRE_SETTING_INIT,
        .namespaces = WIRE_NAMESPACE_USER | WIRE_NAMESPACE_MOUNT | WIRE_NAMESPACE_PID,
        .writer = WIRE_WRITER_DIRECT,
        .setup_uid = WIRE_NONE,
        .setup_gid = WIRE_NONE,
        .uid = WIRE_NONE,
        .gid = WIRE_NONE,
        .umask = WIRE_NONE,
        .hostname = WIRE_NONE,
        .domainname = WIRE_NONE,
        .directory = WIRE_NONE,
        .search_path = WIRE_NONE,
        .argv_count = 1,
        .environment_first = 1,
        .environment_count = 1,
        .newuidmap = WIRE_NONE,
        .newgidmap = WIRE_NONE,
        .command = WIRE_NONE,
    };
    s->maps[0] = (struct wire_map){0, 2, 2, 1};
    s->maps[1] = (struct wire_map){0, 2, 2, 1};
    s->extents[0] = (struct wire_extent){0, 1000, 1, 0};
    s->extents[1] = (struct wire_extent){1, 100000, 65536, 0};
    s->extents[2] = (struct wire_extent){0, 1000, 1, 0};
    s->joins[0] = (struct wire_join){WIRE_NAMESPACE_NET, 0};
    s->operations[0] = operation(WIRE_OPERATION_BIND, root, root);
    s->operations[1] = operation(WIRE_OPERATION_PROC, proc, WIRE_NONE);
    s->operations[2] = operation(WIRE_OPERATION_OVERLAY, proc, WIRE_NONE);
    s->operations[2].lower_first = 2;
    s->operations[2].lower_count = 1;
    s->rlimits[0] = (struct wire_rlimit){7, 0, 10, 20};
    s->rlimits[1] = (struct wire_rlimit){8, 0, 10, UINT64_MAX};
    s->descriptors[0] = (struct wire_descriptor){0, 3};
    s->descriptors[1] = (struct wire_descriptor){1, 4};
    const uint32_t counts[WIRE_SECTION_COUNT] = {1, 0, 16, 3, 1, 2, 3, 2, 1, 3, 2, 2};
    memcpy(s->counts, counts, sizeof counts);
}

static void assemble(struct sample *s)
{
    static const uint32_t groups[1] = {5};
    static const uint8_t data[16] = {0};
    const void *parts[WIRE_SECTION_COUNT] = {
        &s->settings, s->strings, data,     s->words,      groups,     s->maps,
        s->extents,   s->slots,   s->joins, s->operations, s->rlimits, s->descriptors};
    struct wire_header header = {.version = WIRE_VERSION};
    uint32_t at = sizeof header;
    s->counts[WIRE_SECTION_STRINGS] = s->string_bytes;
    memcpy(header.magic, WIRE_MAGIC, sizeof header.magic);
    for (int i = 0; i < WIRE_SECTION_COUNT; i++) {
        uint32_t length = s->counts[i] * wire_section_sizes[i];
        header.sections[i] = (struct wire_section){at, s->counts[i]};
        s->places[i] = at;
        memcpy(s->bytes + at, parts[i], length);
        at += (length + 7) / 8 * 8;
    }
    header.size = s->size = at;
    memcpy(s->bytes, &header, sizeof header);
}

/* Decode from memory of just the size that decoding asks for. */
static bool decodes(const uint8_t *bytes, size_t size, struct plan *out)
{
    uint8_t *arena = malloc(plan_arena(size));
    struct plan plan;
    memcpy(arena, bytes, size);
    errno = 0;
    bool good = plan_decode(&plan, arena, size) == 0;
    CHECK(good || errno == EINVAL);
    if (out)
        *out = plan; /* the caller frees plan.base */
    else
        free(arena);
    return good;
}

static bool taken(struct sample *s)
{
    assemble(s);
    return decodes(s->bytes, s->size, NULL);
}

TEST(decode_takes_a_good_plan)
{
    struct sample s;
    struct plan plan;
    fill(&s);
    assemble(&s);
    CHECK(decodes(s.bytes, s.size, &plan));
    CHECK(strcmp(plan.argv[0], "/bin/true") == 0 && plan.argv[1] == NULL);
    CHECK(strcmp(plan.environment[0], "A=b") == 0 && plan.environment[1] == NULL);
    CHECK(plan.reporter[0] == NULL);
    CHECK(plan.counts[WIRE_SECTION_OPERATIONS] == 3);
    CHECK(strcmp(plan_string(&plan, plan.operations[1].target), "/proc") == 0);
    CHECK(plan_string(&plan, WIRE_NONE) == NULL);
    free((void *)(uintptr_t)plan.base);
}

TEST(decode_refuses_every_shortened_plan)
{
    struct sample s;
    fill(&s);
    assemble(&s);
    for (size_t size = 0; size < s.size; size++)
        CHECK(!decodes(s.bytes, size, NULL));
}

TEST(decode_refuses_a_damaged_header)
{
    struct sample s;
    fill(&s);
    assemble(&s);
    for (size_t i = 0; i < 16; i++) {
        s.bytes[i] ^= 1;
        CHECK(!decodes(s.bytes, s.size, NULL));
        s.bytes[i] ^= 1;
    }
    /* offsets that are odd, overlap the section before, or lead outside */
    for (int i = 0; i < WIRE_SECTION_COUNT; i++) {
        struct wire_section *section = &((struct wire_header *)s.bytes)->sections[i];
        const struct wire_section good = *section;
        const uint32_t bad[] = {good.offset + 1, 0, s.size, UINT32_MAX - 7};
        for (size_t j = 0; j < sizeof bad / sizeof *bad; j++) {
            section->offset = bad[j];
            /* an empty tail may begin at the end */
            CHECK(!decodes(s.bytes, s.size, NULL));
        }
        section->offset = good.offset;
        section->count = UINT32_MAX;
        CHECK(!decodes(s.bytes, s.size, NULL));
        *section = good;
    }
    CHECK(decodes(s.bytes, s.size, NULL));
}

TEST(decode_wants_terminated_strings)
{
    struct sample s;
    fill(&s);
    s.strings[s.string_bytes - 1] = 'x';
    CHECK(!taken(&s));
}

#define REFUSED(change)                                                                            \
    do {                                                                                           \
        struct sample s;                                                                           \
        fill(&s);                                                                                  \
        change;                                                                                    \
        CHECK(!taken(&s));                                                                         \
    } while (0)

#define TAKEN(change)                                                                              \
    do {                                                                                           \
        struct sample s;                                                                           \
        fill(&s);                                                                                  \
        change;                                                                                    \
        CHECK(taken(&s));                                                                          \
    } while (0)

TEST(decode_checks_references)
{
    REFUSED(s.words[0] = s.string_bytes);
    REFUSED(s.slots[0] = s.string_bytes);
    REFUSED(s.settings.hostname = 4096);
    REFUSED(s.settings.argv_first = 3);
    REFUSED((s.settings.argv_first = UINT32_MAX, s.settings.argv_count = 2));
    REFUSED(s.settings.seccomp_length = 24);
    REFUSED(s.operations[0].source = 100000);
    REFUSED(s.joins[0].slot = 2);
    REFUSED(s.maps[0].uid_count = 4);
    REFUSED(s.operations[0].map = 2);
    REFUSED(s.settings.flags |= 1U << 31);
    REFUSED(s.settings.writer = WIRE_WRITER_COUNT);
    REFUSED(s.settings.reserved = 1);
    REFUSED(s.extents[3 - 1].reserved = 1);
    TAKEN(s.settings.seccomp_length = 16);
    REFUSED(s.settings.seccomp_length = 12);
}

TEST(decode_checks_operations)
{
    REFUSED(s.operations[0].kind = 0);
    REFUSED(s.operations[0].kind = WIRE_OPERATION_COUNT);
    REFUSED(s.operations[0].target = WIRE_NONE);
    REFUSED(s.operations[0].source = WIRE_NONE);
    REFUSED(s.operations[0].slot = 0);
    TAKEN((s.operations[0].source = WIRE_NONE, s.operations[0].slot = 0));
    REFUSED(s.operations[1].source = s.operations[0].source);
    REFUSED(s.operations[1].flags = WIRE_OPERATION_FLAG_RECURSIVE);
    REFUSED(s.operations[2].lower_count = 0);
    REFUSED(s.operations[2].work = s.operations[0].source);
    REFUSED(s.operations[2].size = 1);
    TAKEN((s.operations[2].size = 1, s.operations[2].flags = WIRE_OPERATION_FLAG_SCRATCH));
    REFUSED(s.operations[0].propagation = WIRE_PROPAGATION_SLAVE | WIRE_PROPAGATION_SHARED);
    REFUSED(s.operations[0].attributes_set = s.operations[0].attributes_clear = 1);
    REFUSED(s.operations[0].target = s.operations[1].target); /* no root is left */
}

TEST(decode_checks_targets)
{
    static const char *const bad[] = {"",        "proc", "//",   "/a/", "/a//b",
                                      "/a/../b", "/..",  "/./a", "/a/."};
    static const char *const good[] = {"/a", "/a/..b", "/...", "/a/b.c"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        REFUSED(s.operations[1].target = text(&s, bad[i]));
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        TAKEN(s.operations[1].target = text(&s, good[i]));
}

TEST(decode_checks_maps)
{
    REFUSED(s.extents[0].count = 0);
    REFUSED(s.extents[1].inside = 0);     /* overlaps inside */
    REFUSED(s.extents[1].outside = 1000); /* overlaps outside */
    REFUSED(s.extents[1].outside = UINT32_MAX - 65535);
    TAKEN(s.extents[1].outside = UINT32_MAX - 65536);
    REFUSED(s.maps[0].gid_count = 0);
    REFUSED(s.settings.writer = WIRE_WRITER_NONE);
    REFUSED(s.settings.writer = WIRE_WRITER_SELF);    /* two extents */
    REFUSED(s.settings.writer = WIRE_WRITER_HELPERS); /* no paths */
    TAKEN((s.settings.writer = WIRE_WRITER_HELPERS,
           s.settings.newuidmap = s.settings.newgidmap = s.words[0]));
    REFUSED(s.settings.namespaces &= ~WIRE_NAMESPACE_USER);
}

TEST(decode_checks_settings)
{
    REFUSED(s.settings.argv_count = 0);
    REFUSED(s.words[1] = s.words[0]);       /* not NAME=VALUE */
    REFUSED(s.words[0] = text(&s, "true")); /* no search_path */
    TAKEN((s.words[0] = text(&s, "true"), s.settings.search_path = text(&s, "/bin")));
    REFUSED(s.settings.directory = s.slots[0]);
    REFUSED(s.settings.umask = 01000);
    REFUSED(s.settings.namespaces &= ~WIRE_NAMESPACE_MOUNT);
    REFUSED(s.settings.namespaces &= ~WIRE_NAMESPACE_PID);
    REFUSED(s.settings.namespaces |= WIRE_NAMESPACE_NET); /* joined as well */
    REFUSED(s.settings.flags |= WIRE_SETTING_LOOPBACK);
    REFUSED(s.settings.flags |= WIRE_SETTING_REPORT_ALWAYS);
    REFUSED(s.settings.hostname = s.slots[0]); /* no uts namespace */
    REFUSED(s.settings.uid = 0);               /* without set_credentials */
    REFUSED(s.settings.flags |= WIRE_SETTING_NO_NEW_PRIVS);
    TAKEN(s.settings.flags |= WIRE_SETTING_NO_NEW_PRIVS | WIRE_SETTING_SET_CREDENTIALS);
    REFUSED((s.settings.flags |= WIRE_SETTING_SET_CREDENTIALS, s.settings.effective = 1));
    REFUSED(s.slots[1] = s.slots[0]);
    REFUSED(s.joins[0].namespace = 0);
    REFUSED(s.joins[0].namespace = WIRE_NAMESPACE_NET | WIRE_NAMESPACE_IPC);
    REFUSED(s.descriptors[1].number = 3);
    REFUSED(s.descriptors[1].number = 1024);
    REFUSED(s.descriptors[1].slot = WIRE_NONE);
    REFUSED(s.rlimits[0].soft = 21);
    REFUSED(s.rlimits[1].resource = 7);
    REFUSED(s.rlimits[1].resource = 16);
}

TEST(decode_names_the_wrong_operation)
{
    struct sample s;
    struct plan plan;
    fill(&s);
    s.operations[2].size = 1;
    assemble(&s);
    CHECK(!decodes(s.bytes, s.size, &plan));
    CHECK(plan.wrong == 2);
    free((void *)(uintptr_t)plan.base);
}
