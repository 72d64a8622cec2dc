// SPDX-License-Identifier: GPL-2.0
/*
 * libkvmi: attach to a VM of another process.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "internal.h"

static const char parameter[] = "/sys/module/kvm/parameters/introspection";

/* The process may have exchanged its file descriptor for another one meanwhile. */
static bool is_vm(int fd)
{
	char path[32], link[32];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	n = readlink(path, link, sizeof(link) - 1);
	link[n < 0 ? 0 : n] = '\0';

	return strcmp(link, "anon_inode:kvm-vm") == 0;
}

static int explain_open(struct kvmi_conn *conn, const struct kvmi_vm *vm, int err)
{
	switch (err) {
	case ESRCH:
		return kvmi_fail(conn, err, KVMI_FAILURE_NO_VM, "no process %d", vm->pid);
	case EINVAL:
	case ENOENT:
		return kvmi_fail(conn, err, KVMI_FAILURE_NO_VM, "%d is a thread, not a process",
				 vm->pid);
	default:
		return kvmi_fail(conn, err, KVMI_FAILURE_OTHER, "pidfd_open: %s", strerror(err));
	}
}

static int explain_getfd(struct kvmi_conn *conn, const struct kvmi_vm *vm, int err)
{
	switch (err) {
	case EPERM:
		return kvmi_fail(conn, err, KVMI_FAILURE_PERMISSION,
				 "no permission to introspect process %d: it takes the right to ptrace it (CAP_SYS_PTRACE, or the same user where kernel.yama.ptrace_scope allows it)",
				 vm->pid);
	case ESRCH:
	case EBADF:
		return kvmi_fail(conn, err, KVMI_FAILURE_NO_VM, "the VM is gone");
	default:
		return kvmi_fail(conn, err, KVMI_FAILURE_OTHER, "pidfd_getfd: %s", strerror(err));
	}
}

/* A kernel without the ioctl gives EIO to everybody but the VMM. */
static int explain_attach(struct kvmi_conn *conn, const struct kvmi_vm *vm, int err)
{
	if (err == EIO && !access(parameter, F_OK))
		return kvmi_fail(conn, err, KVMI_FAILURE_NO_VM,
				 "the VM is dead: KVM has given it up");

	switch (err) {
	case EPERM:
		return kvmi_fail(conn, err, KVMI_FAILURE_OFF,
				 "introspection is switched off: load the kvm module with introspection=1, or boot with kvm.introspection=1");
	case EIO:
	case ENOTTY:
		return kvmi_fail(conn, err, KVMI_FAILURE_NO_SUPPORT,
				 "this kernel is built without KVM introspection (CONFIG_KVM_INTROSPECTION)");
	case EEXIST:
		return kvmi_fail(conn, err, KVMI_FAILURE_IN_USE,
				 "the VM of process %d is being introspected by another tool",
				 vm->pid);
	case EOPNOTSUPP:
		return kvmi_fail(conn, err, KVMI_FAILURE_PROTECTED,
				 "the VM of process %d is protected from the host: it cannot be introspected",
				 vm->pid);
	default:
		return kvmi_fail(conn, err, KVMI_FAILURE_OTHER,
				 "KVM_INTROSPECTION_ATTACH: %s", strerror(err));
	}
}

static int attach_fd(struct kvmi_conn *conn, const struct kvmi_vm *vm, int vm_fd)
{
	struct kvm_introspection_hook hook = { 0 };
	int pair[2], r = 0;

	/* For messages only: a random one of version 4. */
	if (getrandom(hook.uuid, sizeof(hook.uuid), 0) < 0)
		memcpy(hook.uuid, &vm->pid, sizeof(vm->pid));
	hook.uuid[6] = (hook.uuid[6] & 0x0f) | 0x40;
	hook.uuid[8] = (hook.uuid[8] & 0x3f) | 0x80;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return kvmi_fail(conn, errno, KVMI_FAILURE_OTHER, "socketpair: %s",
				 strerror(errno));

	hook.fd = pair[1];
	if (ioctl(vm_fd, KVM_INTROSPECTION_ATTACH, &hook))
		r = explain_attach(conn, vm, errno);
	close(pair[1]);
	if (r)
		close(pair[0]);
	else
		conn->sock = pair[0];

	return r;
}

/* The VM's file descriptor, to be closed at once: it keeps the VM alive; or a negative errno */
static int get_vm_fd(struct kvmi_conn *conn, const struct kvmi_vm *vm)
{
	int fd = syscall(SYS_pidfd_getfd, conn->pidfd, vm->fd, 0);

	if (fd < 0)
		return explain_getfd(conn, vm, errno);
	if (is_vm(fd))
		return fd;

	close(fd);
	return explain_getfd(conn, vm, EBADF);
}

/**
 * kvmi_attach - introspect a VM of another process
 * @conn: a connection that is not connected
 * @vm: the VM, from kvmi_find_vm() or kvmi_list_vms()
 *
 * A VM that is served is not attached to: its connection is borrowed.
 *
 * Return: 0 or a negative errno
 */
int kvmi_attach(struct kvmi_conn *conn, const struct kvmi_vm *vm)
{
	int vm_fd, r;

	conn->pid = vm->pid;
	if (vm->pid)
		conn->pidfd = syscall(SYS_pidfd_open, vm->pid, 0);
	if (*vm->served) {
		r = kvmi_use_served(conn, vm);
		if (r)
			kvmi_close(conn);
		return r;
	}
	if (conn->pidfd < 0)
		return explain_open(conn, vm, errno);

	vm_fd = get_vm_fd(conn, vm);
	r = vm_fd;
	if (vm_fd >= 0) {
		r = attach_fd(conn, vm, vm_fd);
		close(vm_fd);
	}

	if (r)
		kvmi_close(conn);
	return r;
}

/**
 * kvmi_set_deadline - limit how long the guest waits for a reply
 * @conn: a connection by kvmi_attach()
 * @vm: the VM that it was made with
 * @timeout_ms: for each event, 0: no limit
 * @max_missed: KVM hangs up when so many in a row were missed; 0: never
 *
 * Return: 0 or a negative errno
 */
int kvmi_set_deadline(struct kvmi_conn *conn, const struct kvmi_vm *vm, __u32 timeout_ms,
		      __u32 max_missed)
{
	struct kvm_introspection_deadline deadline = {
		.timeout_ms = timeout_ms,
		.max_missed = max_missed,
	};
	int vm_fd = get_vm_fd(conn, vm), r = 0;

	if (vm_fd < 0)
		return vm_fd;

	if (ioctl(vm_fd, KVM_INTROSPECTION_DEADLINE, &deadline))
		r = kvmi_fail(conn, errno, KVMI_FAILURE_OTHER,
			      "KVM_INTROSPECTION_DEADLINE: %s", strerror(errno));
	close(vm_fd);
	return r;
}
