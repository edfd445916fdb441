/* Entry without a C library: stack, environment, stack protector, then main().
 *
 * A static C library asks the processor for all its features before main(), with CPUID instructions
 * that a virtual machine traps one by one: half a millisecond, several times what the executor
 * itself takes. What the executor needs of a library is little more than the system calls; calls.c
 * and text.c have it. The testing variants link the system's. */

#include <elf.h>
#include <stdint.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "raw.h"

#if defined(__has_attribute) && __has_attribute(no_stack_protector)
#define UNPROTECTED __attribute__((no_stack_protector))
#else
#define UNPROTECTED __attribute__((optimize("no-stack-protector")))
#endif

int main(int argc, char **argv);

char **environ;
static unsigned long *auxiliary;

/* The guard of -fstack-protector: on x86_64 at %fs:0x28, in what stands for a thread's block;
 * elsewhere a variable. */
#if defined(__x86_64__)
#define ARCH_SET_FS 0x1002
static uintptr_t thread_block[8];
#else
extern uintptr_t __stack_chk_guard;
uintptr_t __stack_chk_guard;
#endif

_Noreturn void __stack_chk_fail(void);
_Noreturn void __stack_chk_fail(void)
{
    static const char text[] = "sublet-exec: stack smashed\n";
    raw(SYS_write, 2, (long)text, sizeof text - 1, 0, 0, 0);
    raw(SYS_kill, raw(SYS_getpid, 0, 0, 0, 0, 0, 0), 6, 0, 0, 0, 0);
    for (;;)
        raw(SYS_exit_group, 125, 0, 0, 0, 0, 0);
}

unsigned long getauxval(unsigned long type)
{
    for (unsigned long *entry = auxiliary; entry[0] != AT_NULL; entry += 2)
        if (entry[0] == type)
            return entry[1];
    return 0;
}

UNPROTECTED static void set_guard(void)
{
    const uintptr_t *random = (const uintptr_t *)getauxval(AT_RANDOM);
    uintptr_t guard =
        random ? random[0] & ~(uintptr_t)0xff : 0x5afe00; /* a NUL byte stops strings */
#if defined(__x86_64__)
    thread_block[0] = (uintptr_t)thread_block;
    thread_block[5] = guard;
    raw(SYS_arch_prctl, ARCH_SET_FS, (long)thread_block, 0, 0, 0, 0);
#else
    __stack_chk_guard = guard;
#endif
}

/* What the kernel leaves on the stack: argc, argv, NULL, environment, NULL, auxiliary vector. */
__attribute__((used)) UNPROTECTED _Noreturn static void start(long *stack)
{
    char **argv = (char **)(stack + 1);
    environ = argv + stack[0] + 1;
    char **end = environ;
    while (*end)
        end++;
    auxiliary = (unsigned long *)(end + 1);
    set_guard();
    int status = main((int)stack[0], argv);
    for (;;)
        raw(SYS_exit_group, status, 0, 0, 0, 0, 0);
}

/* clone(function, stack, flags, argument): the child has a stack of its own, on which both wait for
 * it. */
#if defined(__x86_64__)
__asm__(".text\n"
        ".globl _start\n"
        ".type _start, @function\n"
        "_start:\n"
        "    xorl %ebp, %ebp\n"
        "    movq %rsp, %rdi\n"
        "    andq $-16, %rsp\n"
        "    call start\n"
        ".globl clone\n"
        ".type clone, @function\n"
        "clone:\n"
        "    andq $-16, %rsi\n"
        "    subq $16, %rsi\n"
        "    movq %rdi, 0(%rsi)\n"
        "    movq %rcx, 8(%rsi)\n"
        "    movl %edx, %edi\n"
        "    xorl %edx, %edx\n"
        "    xorl %r10d, %r10d\n"
        "    xorl %r8d, %r8d\n"
        "    movl $56, %eax\n" /* SYS_clone */
        "    syscall\n"
        "    testq %rax, %rax\n"
        "    jz 1f\n"
        "    movq %rax, %rdi\n"
        "    jmp result_of\n"
        "1:  xorl %ebp, %ebp\n"
        "    popq %rax\n"
        "    popq %rdi\n"
        "    call *%rax\n"
        "    movl %eax, %edi\n"
        "    movl $60, %eax\n" /* SYS_exit */
        "    syscall\n"
        "    hlt\n");
#elif defined(__aarch64__)
__asm__(".text\n"
        ".globl _start\n"
        ".type _start, %function\n"
        "_start:\n"
        "    mov x29, #0\n"
        "    mov x30, #0\n"
        "    mov x0, sp\n"
        "    bl start\n"
        ".globl clone\n"
        ".type clone, %function\n"
        "clone:\n"
        "    and x1, x1, #-16\n"
        "    stp x0, x3, [x1, #-16]!\n"
        "    mov w0, w2\n"
        "    mov x2, #0\n"
        "    mov x3, #0\n"
        "    mov x4, #0\n"
        "    mov x8, #220\n" /* SYS_clone */
        "    svc #0\n"
        "    cbz x0, 1f\n"
        "    b result_of\n"
        "1:  mov x29, #0\n"
        "    ldp x1, x0, [sp], #16\n"
        "    blr x1\n"
        "    mov x8, #93\n" /* SYS_exit */
        "    svc #0\n");
#else
#error "the executor's runtime knows x86_64 and aarch64"
#endif
