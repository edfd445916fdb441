/* The runtime's memory and string functions beside the C library's, on all short inputs. */

#include "test.h"

/* The library's own are reached through the compiler's builtins. */
#define memcpy own_memcpy
#define memmove own_memmove
#define memset own_memset
#define memcmp own_memcmp
#define memchr own_memchr
#define strlen own_strlen
#define strcmp own_strcmp
#define strncmp own_strncmp
#define strchrnul own_strchrnul
#define strchr own_strchr
#define strrchr own_strrchr
#define strcpy own_strcpy
#define strcat own_strcat
#define strcspn own_strcspn
#define strspn own_strspn
#include "../runtime/text.c"

#define LENGTH 4

static const char letters[] = {'\0', 'a', '/', (char)0xff};

/* The n-th text over the letters, in base 4. */
static void spell(char text[LENGTH], unsigned int n)
{
    for (int i = 0; i < LENGTH - 1; i++, n /= 4)
        text[i] = letters[n % 4];
    text[LENGTH - 1] = '\0';
}

static int sign(int number)
{
    return (number > 0) - (number < 0);
}

TEST(strings_are_the_librarys)
{
    char a[LENGTH];
    char b[LENGTH];
    for (unsigned int i = 0; i < 64; i++) {
        spell(a, i);
        CHECK(own_strlen(a) == __builtin_strlen(a));
        for (unsigned int l = 0; l < sizeof letters; l++) {
            CHECK(own_strchr(a, letters[l]) == __builtin_strchr(a, letters[l]));
            CHECK(own_strrchr(a, letters[l]) == __builtin_strrchr(a, letters[l]));
            CHECK(own_memchr(a, letters[l], LENGTH) == __builtin_memchr(a, letters[l], LENGTH));
        }
        for (unsigned int j = 0; j < 64; j++) {
            spell(b, j);
            CHECK(sign(own_strcmp(a, b)) == sign(__builtin_strcmp(a, b)));
            CHECK(sign(own_strncmp(a, b, 2)) == sign(__builtin_strncmp(a, b, 2)));
            CHECK(sign(own_memcmp(a, b, LENGTH)) == sign(__builtin_memcmp(a, b, LENGTH)));
            CHECK(own_strcspn(a, b) == __builtin_strcspn(a, b));
            CHECK(own_strspn(a, b) == __builtin_strspn(a, b));
            char joined[2 * LENGTH];
            own_strcpy(joined, a);
            CHECK(own_strcat(joined, b) == joined);
            CHECK(own_strlen(joined) == own_strlen(a) + own_strlen(b));
            CHECK(own_memcmp(joined + own_strlen(a), b, own_strlen(b) + 1) == 0);
        }
    }
}

TEST(memory_moves_over_itself)
{
    for (unsigned int from = 0; from < 4; from++) {
        for (unsigned int to = 0; to < 4; to++) {
            char own[8] = "abcdefg";
            char theirs[8] = "abcdefg";
            CHECK(own_memmove(own + to, own + from, 4) == own + to);
            __builtin_memmove(theirs + to, theirs + from, 4);
            CHECK(own_memcmp(own, theirs, sizeof own) == 0);
        }
    }
    char set[4] = {1, 1, 1, 1};
    own_memset(set + 1, 0x1ff, 2);
    CHECK(set[0] == 1 && set[1] == (char)0xff && set[2] == (char)0xff && set[3] == 1);
}
