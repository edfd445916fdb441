/* Memory and strings, as string(3) has them. Compilers turn such loops back into calls of these
 * very functions; the empty instruction in each keeps them from it. */

#include <stddef.h>
#include <string.h>

#define PLAIN __asm__ volatile("" ::: "memory")

void *memcpy(void *restrict to, const void *restrict from, size_t count)
{
    unsigned char *out = to;
    const unsigned char *in = from;
    for (; count > 0; count--) {
        *out++ = *in++;
        PLAIN;
    }
    return to;
}

void *memmove(void *to, const void *from, size_t count)
{
    unsigned char *out = to;
    const unsigned char *in = from;
    if (out <= in)
        return memcpy(to, from, count);
    while (count-- > 0) {
        out[count] = in[count];
        PLAIN;
    }
    return to;
}

void *memset(void *to, int value, size_t count)
{
    unsigned char *out = to;
    for (; count > 0; count--) {
        *out++ = (unsigned char)value;
        PLAIN;
    }
    return to;
}

int memcmp(const void *one, const void *other, size_t count)
{
    const unsigned char *a = one;
    const unsigned char *b = other;
    for (; count > 0; count--, a++, b++)
        if (*a != *b)
            return *a - *b;
    return 0;
}

void *memchr(const void *in, int value, size_t count)
{
    const unsigned char *at = in;
    for (; count > 0; count--, at++)
        if (*at == (unsigned char)value)
            return (void *)(size_t)at;
    return NULL;
}

size_t strlen(const char *text)
{
    const char *end = text;
    while (*end) {
        end++;
        PLAIN;
    }
    return (size_t)(end - text);
}

int strcmp(const char *a, const char *b)
{
    for (; *a && *a == *b; a++, b++)
        PLAIN;
    return (unsigned char)*a - (unsigned char)*b;
}

int strncmp(const char *a, const char *b, size_t count)
{
    for (; count > 0; count--, a++, b++)
        if (*a != *b || *a == '\0')
            return (unsigned char)*a - (unsigned char)*b;
    return 0;
}

char *strchrnul(const char *text, int value)
{
    while (*text && *text != (char)value)
        text++;
    return (char *)(size_t)text;
}

char *strchr(const char *text, int value)
{
    char *found = strchrnul(text, value);
    return *found == (char)value ? found : NULL;
}

char *strrchr(const char *text, int value)
{
    const char *found = NULL;
    do {
        if (*text == (char)value)
            found = text;
    } while (*text++);
    return (char *)(size_t)found;
}

char *strcpy(char *restrict to, const char *restrict from)
{
    memcpy(to, from, strlen(from) + 1);
    return to;
}

char *strcat(char *restrict to, const char *restrict from)
{
    strcpy(to + strlen(to), from);
    return to;
}

size_t strcspn(const char *text, const char *stop)
{
    size_t length = 0;
    while (text[length] && !strchr(stop, text[length]))
        length++;
    return length;
}

size_t strspn(const char *text, const char *pass)
{
    size_t length = 0;
    while (text[length] && strchr(pass, text[length]))
        length++;
    return length;
}
