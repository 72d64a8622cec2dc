/*
 * A KVM that has no virtual machines, for tests of what QEMU does with KVM
 * introspection: to be preloaded into QEMU with -machine none -accel kvm.
 *
 * It says what it was asked to do in the file $KVM_SHIM_LOG, a line each. What
 * is to fail is in the file $KVM_SHIM_FAIL: "HOOK=17" is EEXIST for HOOK.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/kvm.h>
#include "accel/kvm/introspection-abi.h"

#define COMMANDS 30
#define EVENTS 20

static int kvm_fd = -1;
static int vm_fd = -1;
static int tool = -1;

static int read_file(const char *variable, char *buf, size_t size)
{
    const char *name = getenv(variable);
    int fd, n = 0;

    fd = name ? syscall(SYS_openat, AT_FDCWD, name, O_RDONLY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        n = read(fd, buf, size - 1);
        close(fd);
    }
    buf[n > 0 ? n : 0] = 0;
    return n;
}

static void __attribute__((format(printf, 1, 2))) say(const char *format, ...)
{
    const char *name = getenv("KVM_SHIM_LOG");
    char line[256];
    va_list ap;
    int fd, n;

    va_start(ap, format);
    n = vsnprintf(line, sizeof(line), format, ap);
    va_end(ap);
    fd = name ? syscall(SYS_openat, AT_FDCWD, name,
                        O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600) : -1;
    if (fd < 0 || write(fd, line, n) != n) {
        abort();
    }
    close(fd);
}

/* The error that @name is to fail with. */
static int failure(const char *name)
{
    char fail[256];
    size_t length = strlen(name);

    read_file("KVM_SHIM_FAIL", fail, sizeof(fail));
    return !strncmp(fail, name, length) && fail[length] == '=' ?
           atoi(fail + length + 1) : 0;
}

static int fail_with(int error)
{
    errno = error;
    return -1;
}

/* As KVM does when the tool has closed its side. */
static void *wait_for_end(void *opaque)
{
    int fd = (long)opaque;
    struct pollfd pollfd = { .fd = fd, .events = POLLRDHUP };

    while (poll(&pollfd, 1, -1) < 0 && errno == EINTR) {
        /* again */
    }
    shutdown(fd, SHUT_RDWR);
    close(fd);
    return NULL;
}

static int hook(const struct kvm_introspection_hook *hook)
{
    int type = 0, error = failure("HOOK");
    socklen_t length = sizeof(type);
    pthread_t thread;
    char pending[64];
    int i, n;

    say("HOOK%s", error ? " fails\n" : "");
    if (error) {
        return fail_with(error);
    }
    if (hook->padding || tool >= 0) {
        say(" is wrong\n");
        return fail_with(tool >= 0 ? EEXIST : EINVAL);
    }
    if (getsockopt(hook->fd, SOL_SOCKET, SO_TYPE, &type, &length) < 0 ||
        type != SOCK_STREAM) {
        say(" is no socket\n");
        return fail_with(EINVAL);
    }
    tool = fcntl(hook->fd, F_DUPFD_CLOEXEC, 3);
    /* What KVM would read first. */
    n = recv(tool, pending, sizeof(pending), MSG_PEEK | MSG_DONTWAIT);
    for (i = 0; i < n; i++) {
        say("%s%02x", i ? "" : " ", pending[i] & 0xff);
    }
    say("\n");
    if (pthread_create(&thread, NULL, wait_for_end,
                       (void *)(long)fcntl(tool, F_DUPFD_CLOEXEC, 3))) {
        abort();
    }
    pthread_detach(thread);
    return 0;
}

static int feature(const char *name, int limit,
                   const struct kvm_introspection_feature *feature)
{
    int error = failure(name);

    if (feature->id < -1 || feature->id >= limit || feature->allow > 1) {
        return fail_with(EINVAL);
    }
    if (tool < 0) {
        return fail_with(EFAULT);
    }
    say("%s %u %d%s\n", name, feature->allow, feature->id,
        error ? " fails" : "");
    return error ? fail_with(error) : 0;
}

static int preunhook(void)
{
    static const unsigned char event[16] = { 0, 0, 8, 0, 1 };
    int error = tool < 0 ? EFAULT : failure("PREUNHOOK");

    say("PREUNHOOK%s\n", error ? " fails" : "");
    if (error) {
        return fail_with(error);
    }
    return send(tool, event, sizeof(event), MSG_NOSIGNAL) == sizeof(event)
           ? 0 : fail_with(ENOENT);
}

static int unhook(void)
{
    say("UNHOOK%s\n", tool < 0 ? " of nothing" : "");
    if (tool >= 0) {
        shutdown(tool, SHUT_RDWR);
        close(tool);
        tool = -1;
    }
    return 0;
}

static int extension(long id)
{
    switch (id) {
    case KVM_CAP_INTROSPECTION:
        return failure("CAP") ? 0 : 1;
    case KVM_CAP_NR_MEMSLOTS:
        return 32;
    case KVM_CAP_NR_VCPUS:
    case KVM_CAP_MAX_VCPUS:
        return 4;
    case KVM_CAP_USER_MEMORY:
    case KVM_CAP_DESTROY_MEMORY_REGION_WORKS:
    case KVM_CAP_JOIN_MEMORY_REGIONS_WORKS:
    case KVM_CAP_INTERNAL_ERROR_DATA:
    case KVM_CAP_IOEVENTFD:
    case KVM_CAP_IOEVENTFD_ANY_LENGTH:
    case KVM_CAP_SET_TSS_ADDR:
    case KVM_CAP_SET_IDENTITY_MAP_ADDR:
    case KVM_CAP_EXT_CPUID:
    case KVM_CAP_MP_STATE:
    case KVM_CAP_SIGNAL_MSI:
    case KVM_CAP_IRQFD:
    case KVM_CAP_IRQCHIP:
    case KVM_CAP_IRQ_ROUTING:
    case KVM_CAP_IMMEDIATE_EXIT:
    case KVM_CAP_READONLY_MEM:
    case KVM_CAP_ADJUST_CLOCK:
    case KVM_CAP_VCPU_EVENTS:
    case KVM_CAP_DEBUGREGS:
    case KVM_CAP_XSAVE:
    case KVM_CAP_XCRS:
    case KVM_CAP_X86_ROBUST_SINGLESTEP:
    case KVM_CAP_MCE:
        return 1;
    default:
        return 0;
    }
}

static int kvm_ioctl(unsigned long request, void *arg)
{
    struct kvm_introspection_deadline *deadline = arg;

    switch (request) {
    case KVM_GET_API_VERSION:
        return KVM_API_VERSION;
    case KVM_CREATE_VM:
        vm_fd = syscall(SYS_memfd_create, "kvm-vm", MFD_CLOEXEC);
        return vm_fd;
    case KVM_CHECK_EXTENSION:
        return extension((long)arg);
    case KVM_GET_VCPU_MMAP_SIZE:
        return 4096;
    case KVM_INTROSPECTION_HOOK:
        return hook(arg);
    case KVM_INTROSPECTION_UNHOOK:
        return unhook();
    case KVM_INTROSPECTION_PREUNHOOK:
        return preunhook();
    case KVM_INTROSPECTION_COMMAND:
        return feature("COMMAND", COMMANDS, arg);
    case KVM_INTROSPECTION_EVENT:
        return feature("EVENT", EVENTS, arg);
    case KVM_INTROSPECTION_DEADLINE:
        if (failure("DEADLINE")) {
            return fail_with(failure("DEADLINE"));
        }
        say("DEADLINE %u %u\n", deadline->timeout_ms, deadline->max_missed);
        return tool < 0 ? fail_with(EFAULT) : 0;
    default:
        return 0;
    }
}

int ioctl(int fd, unsigned long request, ...)
{
    void *arg;
    va_list ap;

    va_start(ap, request);
    arg = va_arg(ap, void *);
    va_end(ap);
    if (fd >= 0 && (fd == kvm_fd || fd == vm_fd)) {
        return kvm_ioctl(request, arg);
    }
    return syscall(SYS_ioctl, fd, request, arg);
}

static int do_open(const char *path, int flags, mode_t mode)
{
    if (!strcmp(path, "/dev/kvm")) {
        kvm_fd = syscall(SYS_memfd_create, "kvm", MFD_CLOEXEC);
        return kvm_fd;
    }
    return syscall(SYS_openat, AT_FDCWD, path, flags | O_LARGEFILE, mode);
}

static mode_t mode_of(int flags, va_list ap)
{
    return flags & (O_CREAT | __O_TMPFILE) ? va_arg(ap, mode_t) : 0;
}

int open(const char *path, int flags, ...)
{
    va_list ap;
    mode_t mode;

    va_start(ap, flags);
    mode = mode_of(flags, ap);
    va_end(ap);
    return do_open(path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    va_list ap;
    mode_t mode;

    va_start(ap, flags);
    mode = mode_of(flags, ap);
    va_end(ap);
    return do_open(path, flags, mode);
}

/* What QEMU starts is not to have it. */
static void __attribute__((constructor)) only_here(void)
{
    unsetenv("LD_PRELOAD");
}
