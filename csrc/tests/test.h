/* The C unit tests' few words. TEST(name) { ... } defines and registers a test; CHECK notes what is
 * not as expected and goes on; SKIP leaves a test that this machine cannot answer. */

#ifndef SUBLET_TEST_H
#define SUBLET_TEST_H

#include <stdbool.h>

void test_register(const char *name, void (*run)(void));
bool test_check(bool held, const char *what, const char *file, int line);
void test_skip(const char *why);

/* Run a test's part in a child process, where it may change namespaces. What CHECK notes there
 * counts. */
void test_in_child(void (*run)(void *), void *argument);

/* In such a child: a new mount namespace, and where privileges lack a user namespace that maps the
 * present IDs to 0. False, and skipped, where the machine does not allow it. */
bool test_private_mounts(void);

#define TEST(name)                                                                                 \
    static void name(void);                                                                        \
    __attribute__((constructor)) static void name##_register(void)                                 \
    {                                                                                              \
        test_register(#name, name);                                                                \
    }                                                                                              \
    static void name(void)

#define CHECK(condition) test_check((condition), #condition, __FILE__, __LINE__)

#define SKIP(why)                                                                                  \
    do {                                                                                           \
        test_skip(why);                                                                            \
        return;                                                                                    \
    } while (0)

#endif
