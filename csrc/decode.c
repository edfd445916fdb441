/* A plan's bytes, taken apart. Nothing in them is believed before it is checked: the structure
 * here, from the tables made of the description; what the tables cannot say in check.c. */

#include <errno.h>
#include <string.h>

#include "executor.h"

struct table {
    const struct wire_field *fields; /* NULL: not a record */
    size_t count;
    uint32_t limit; /* of records; 0: what fits */
};

static const struct table tables[WIRE_SECTION_COUNT] = {
    [WIRE_SECTION_SETTINGS] = {wire_settings_fields, WIRE_SETTINGS_FIELDS, 1},
    [WIRE_SECTION_STRINGS] = {NULL, 0, 0},
    [WIRE_SECTION_DATA] = {NULL, 0, 0},
    [WIRE_SECTION_WORDS] = {NULL, 0, WIRE_MAX_WORDS},
    [WIRE_SECTION_GROUPS] = {NULL, 0, WIRE_MAX_GROUPS},
    [WIRE_SECTION_MAPS] = {wire_map_fields, WIRE_MAP_FIELDS, 0},
    [WIRE_SECTION_EXTENTS] = {wire_extent_fields, WIRE_EXTENT_FIELDS, WIRE_MAX_EXTENTS},
    [WIRE_SECTION_SLOTS] = {NULL, 0, WIRE_MAX_SLOTS},
    [WIRE_SECTION_JOINS] = {wire_join_fields, WIRE_JOIN_FIELDS, 0},
    [WIRE_SECTION_OPERATIONS] = {wire_operation_fields, WIRE_OPERATION_FIELDS, WIRE_MAX_OPERATIONS},
    [WIRE_SECTION_RLIMITS] = {wire_rlimit_fields, WIRE_RLIMIT_FIELDS, 0},
    [WIRE_SECTION_DESCRIPTORS] = {wire_descriptor_fields, WIRE_DESCRIPTOR_FIELDS, 0},
};

const char *plan_string(const struct plan *p, uint32_t reference)
{
    return reference == WIRE_NONE ? NULL : p->strings + reference;
}

static bool inside(uint64_t first, uint64_t count, uint64_t size)
{
    return first + count <= size; /* both came from 32 bits */
}

static uint64_t load(const uint8_t *at, size_t size)
{
    uint64_t value = 0;
    memcpy(&value, at, size); /* little-endian, as the machine is */
    return value;
}

/* The value of a field, or of the first half of a pair; *second is the other half. */
static uint64_t field_value(const struct wire_field *field, const uint8_t *record, uint32_t *second)
{
    *second = 0;
    if (field->type != WIRE_TYPE_RUN && field->type != WIRE_TYPE_DATA)
        return load(record + field->offset, field->size);
    *second = (uint32_t)load(record + field->offset + 4, 4);
    return load(record + field->offset, 4);
}

static bool field_valid(const struct plan *p, const struct wire_field *field, const uint8_t *record)
{
    uint32_t count;
    uint64_t value = field_value(field, record, &count);
    switch (field->type) {
    case WIRE_TYPE_STR:
        return value == WIRE_NONE || value < p->counts[WIRE_SECTION_STRINGS];
    case WIRE_TYPE_SLOT:
        return value == WIRE_NONE || value < p->counts[WIRE_SECTION_SLOTS];
    case WIRE_TYPE_MAP:
        return value == WIRE_NONE || value < p->counts[WIRE_SECTION_MAPS];
    case WIRE_TYPE_RUN:
        return inside(value, count, p->counts[field->limit]);
    case WIRE_TYPE_DATA:
        return inside(value, count, p->counts[WIRE_SECTION_DATA]);
    case WIRE_TYPE_ENUM:
        return value < field->limit;
    case WIRE_TYPE_FLAGS:
        return (value & ~field->limit) == 0;
    case WIRE_TYPE_NUMBER:
        return value == 0 || strcmp(field->name, "reserved") != 0;
    default:
        return true;
    }
}

static bool field_present(const struct wire_field *field, const uint8_t *record)
{
    uint32_t count;
    uint64_t value = field_value(field, record, &count);
    switch (field->type) {
    case WIRE_TYPE_ID:
    case WIRE_TYPE_STR:
    case WIRE_TYPE_SLOT:
    case WIRE_TYPE_MAP:
        return value != WIRE_NONE;
    case WIRE_TYPE_RUN:
    case WIRE_TYPE_DATA:
        return count != 0;
    default:
        return value != 0;
    }
}

static bool records_valid(const struct plan *p, const struct table *table, const uint8_t *records,
                          size_t count, size_t size)
{
    for (size_t i = 0; i < count; i++)
        for (size_t field = 0; field < table->count; field++)
            if (!field_valid(p, &table->fields[field], records + i * size))
                return false;
    return true;
}

/* An operation has the fields that its kind needs, and no other. */
static bool operation_valid(const struct plan *p, const struct wire_operation *op)
{
    if (op->kind >= WIRE_OPERATION_COUNT)
        return false; /* before the rules are looked up by it */
    const struct wire_rule *rule = &wire_rules[op->kind];
    if (rule->required == 0 || (op->flags & ~rule->flags) != 0)
        return false;
    for (size_t field = 0; field < WIRE_OPERATION_FIELDS; field++) {
        const struct wire_field *one = &wire_operation_fields[field];
        if (!field_valid(p, one, (const uint8_t *)op))
            return false;
        if (one->offset == offsetof(struct wire_operation, kind) ||
            one->offset == offsetof(struct wire_operation, flags))
            continue;
        bool present = field_present(one, (const uint8_t *)op);
        uint32_t bit = UINT32_C(1) << field;
        if (present ? !((rule->required | rule->allowed) & bit) : (rule->required & bit) != 0)
            return false;
    }
    return !rule->source_or_slot || (op->source == WIRE_NONE) != (op->slot == WIRE_NONE);
}

static bool operations_valid(struct plan *p)
{
    for (uint32_t i = 0; i < p->counts[WIRE_SECTION_OPERATIONS]; i++) {
        p->wrong = i;
        if (!operation_valid(p, &p->operations[i]))
            return false;
    }
    p->wrong = WIRE_NONE;
    return true;
}

static bool header_valid(struct plan *p, const uint8_t *places[WIRE_SECTION_COUNT])
{
    const struct wire_header *header = (const struct wire_header *)p->base;
    if (p->size < sizeof *header || memcmp(header->magic, WIRE_MAGIC, sizeof header->magic) != 0 ||
        header->version != WIRE_VERSION || header->size != p->size || p->size > WIRE_MAX_SIZE)
        return false;
    uint64_t end = sizeof *header;
    for (size_t i = 0; i < WIRE_SECTION_COUNT; i++) {
        const struct wire_section *section = &header->sections[i];
        uint64_t size = (uint64_t)section->count * wire_section_sizes[i];
        if (section->offset % 8 != 0 || section->offset < end ||
            !inside(section->offset, size, p->size))
            return false;
        if (tables[i].limit != 0 && section->count > tables[i].limit)
            return false;
        end = section->offset + size;
        p->counts[i] = section->count;
        places[i] = p->base + section->offset;
    }
    return p->counts[WIRE_SECTION_SETTINGS] == 1;
}

/* `words` and `slots` refer to strings; a string's end is the section's end at the latest. */
static bool references_valid(const struct plan *p)
{
    uint32_t size = p->counts[WIRE_SECTION_STRINGS];
    if (size > 0 && p->strings[size - 1] != '\0')
        return false;
    for (uint32_t i = 0; i < p->counts[WIRE_SECTION_WORDS]; i++)
        if (p->words[i] >= size)
            return false;
    for (uint32_t i = 0; i < p->counts[WIRE_SECTION_SLOTS]; i++)
        if (p->slots[i] >= size)
            return false;
    for (uint32_t i = 0; i < p->counts[WIRE_SECTION_GROUPS]; i++)
        if (p->groups[i] == WIRE_NONE)
            return false;
    return true;
}

static char **pointers(const struct plan *p, char ***place, uint32_t first, uint32_t count,
                       size_t room)
{
    char **list = *place;
    for (uint32_t i = 0; i < count; i++)
        list[i] = (char *)(uintptr_t)(p->strings + p->words[first + i]);
    list[count] = NULL;
    *place += count + 1 + room;
    return list;
}

size_t plan_arena(size_t size)
{
    /* Three lists of pointers, each no longer than all words (4 bytes each); their ends, and room
     * for the reporter's options; the alignment. */
    return size + 3 * (size / 4 + 1) * sizeof(char *) + 4 * sizeof(char *) + 8;
}

int plan_decode(struct plan *p, uint8_t *arena, size_t size)
{
    const uint8_t *places[WIRE_SECTION_COUNT];
    *p = (struct plan){.base = arena, .size = size, .wrong = WIRE_NONE};
    errno = EINVAL;
    if (!header_valid(p, places))
        return -1;
    p->strings = (const char *)places[WIRE_SECTION_STRINGS];
    p->data = places[WIRE_SECTION_DATA];
    p->words = (const uint32_t *)places[WIRE_SECTION_WORDS];
    p->groups = (const uint32_t *)places[WIRE_SECTION_GROUPS];
    p->maps = (const struct wire_map *)places[WIRE_SECTION_MAPS];
    p->extents = (const struct wire_extent *)places[WIRE_SECTION_EXTENTS];
    p->slots = (const uint32_t *)places[WIRE_SECTION_SLOTS];
    p->joins = (const struct wire_join *)places[WIRE_SECTION_JOINS];
    p->operations = (const struct wire_operation *)places[WIRE_SECTION_OPERATIONS];
    p->rlimits = (const struct wire_rlimit *)places[WIRE_SECTION_RLIMITS];
    p->descriptors = (const struct wire_descriptor *)places[WIRE_SECTION_DESCRIPTORS];
    if (!references_valid(p))
        return -1;
    for (size_t i = 0; i < WIRE_SECTION_COUNT; i++)
        if (tables[i].fields && i != WIRE_SECTION_OPERATIONS &&
            !records_valid(p, &tables[i], places[i], p->counts[i], wire_section_sizes[i]))
            return -1;
    if (!operations_valid(p))
        return -1;
    const struct wire_settings *s = (const struct wire_settings *)places[WIRE_SECTION_SETTINGS];
    char **place = (char **)(arena + (size + 7) / 8 * 8);
    p->argv = pointers(p, &place, s->argv_first, s->argv_count, 0);
    p->environment = pointers(p, &place, s->environment_first, s->environment_count, 0);
    p->reporter = pointers(p, &place, s->reporter_first, s->reporter_count, 4);
    p->settings = s;
    return plan_check(p);
}
