/* Reads plans, each after its size (u32), and prints for each whether the executor's decoder takes it. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "executor.h"

int main(void)
{
    uint32_t size;
    while (fread(&size, sizeof size, 1, stdin) == 1) {
        size_t room = (plan_arena(size) + 7) / 8 * 8;
        uint8_t *arena = aligned_alloc(8, room);
        struct plan plan;
        if (!arena || fread(arena, 1, size, stdin) != size)
            return 1;
        puts(plan_decode(&plan, arena, size) == 0 ? "taken" : "refused");
        free(arena);
    }
    return 0;
}
