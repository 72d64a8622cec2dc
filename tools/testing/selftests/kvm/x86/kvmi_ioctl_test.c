// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: the ioctls, their errors in the order they are tested, and
 * who may do what.
 */
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "kvm_test_harness.h"
#include "kvmi_util.h"
#include "test_util.h"

static const unsigned long hook_ioctls[] = {
	KVM_INTROSPECTION_HOOK,
	KVM_INTROSPECTION_ATTACH,
};

static void make_pair(int fds[2])
{
	TEST_ASSERT(!socketpair(AF_UNIX, SOCK_STREAM, 0, fds), "socketpair: %s",
		    strerror(errno));
}

FIXTURE(kvmi_ioctl) {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
};

FIXTURE_SETUP(kvmi_ioctl)
{
	self->vm = vm_create_with_one_vcpu(&self->vcpu, NULL);
}

FIXTURE_TEARDOWN(kvmi_ioctl)
{
	kvm_vm_free(self->vm);
}

/* The numbers are an interface. */
TEST(kvmi_abi)
{
	TEST_ASSERT_EQ((unsigned int)KVM_INTROSPECTION_HOOK, 0x4018aec8u);
	TEST_ASSERT_EQ((unsigned int)KVM_INTROSPECTION_UNHOOK, 0xaec9u);
	TEST_ASSERT_EQ((unsigned int)KVM_INTROSPECTION_COMMAND, 0x4008aecau);
	TEST_ASSERT_EQ((unsigned int)KVM_INTROSPECTION_EVENT, 0x4008aecbu);
	TEST_ASSERT_EQ((unsigned int)KVM_INTROSPECTION_PREUNHOOK, 0xaeccu);
	TEST_ASSERT_EQ((unsigned int)KVM_INTROSPECTION_ATTACH, 0x4018aef5u);
	TEST_ASSERT_EQ((unsigned int)KVM_INTROSPECTION_DEADLINE, 0x4008aef6u);
	TEST_ASSERT_EQ(KVM_CAP_INTROSPECTION, 900);

	TEST_ASSERT_EQ(sizeof(struct kvm_introspection_hook), 24);
	TEST_ASSERT_EQ(sizeof(struct kvm_introspection_feature), 8);
	TEST_ASSERT_EQ(sizeof(struct kvm_introspection_deadline), 8);
	TEST_ASSERT_EQ(sizeof(struct kvmi_msg_hdr), 8);
	TEST_ASSERT_EQ(sizeof(struct kvmi_error_code), 8);
	TEST_ASSERT_EQ(sizeof(struct kvmi_vcpu_hdr), 8);
	TEST_ASSERT_EQ(sizeof(struct kvmi_event_hdr), 8);
	TEST_ASSERT_EQ(sizeof(struct kvmi_vcpu_event), 544);
	TEST_ASSERT_EQ(sizeof(struct kvmi_vcpu_event_arch), 536);
	TEST_ASSERT_EQ(offsetof(struct kvmi_vcpu_event_arch, sregs), 152);
	TEST_ASSERT_EQ(offsetof(struct kvmi_vcpu_event_arch, msrs), 464);
	TEST_ASSERT_EQ(sizeof(struct kvmi_vcpu_event_reply), 8);
	TEST_ASSERT_EQ(sizeof(struct kvmi_get_version_reply), 16);
	TEST_ASSERT_EQ(sizeof(struct kvmi_vm_get_info_reply), 16);
	TEST_ASSERT_EQ(sizeof(struct kvmi_vm_read_physical), 16);
	TEST_ASSERT_EQ(sizeof(struct kvmi_vm_write_physical), 16);
	TEST_ASSERT_EQ(sizeof(struct kvmi_vcpu_get_registers_reply), 472);
	TEST_ASSERT_EQ(offsetof(struct kvmi_vcpu_get_registers_reply, msrs), 464);
	TEST_ASSERT_EQ(sizeof(struct kvmi_vcpu_get_cpuid_reply), 16);
	TEST_ASSERT_EQ(sizeof(struct kvmi_vcpu_control_cr), 8);
	TEST_ASSERT_EQ(sizeof(struct kvmi_vcpu_control_msr), 8);
	TEST_ASSERT_EQ(offsetof(struct kvmi_vcpu_control_msr, msr), 4);
	TEST_ASSERT_EQ(sizeof(struct kvmi_vcpu_control_singlestep), 8);
	TEST_ASSERT_EQ(sizeof(struct kvmi_vcpu_inject_exception), 16);
	TEST_ASSERT_EQ(offsetof(struct kvmi_vcpu_inject_exception, address), 8);
	TEST_ASSERT_EQ(sizeof(struct kvmi_vcpu_get_xcr), 8);
	TEST_ASSERT_EQ(sizeof(struct kvmi_vcpu_get_xcr_reply), 8);
	TEST_ASSERT_EQ(sizeof(struct kvmi_vcpu_get_xsave_reply), 4096);
	TEST_ASSERT_EQ(sizeof(struct kvmi_vcpu_set_xsave), 4096);
	TEST_ASSERT_EQ(sizeof(struct kvmi_vcpu_get_mtrr_type), 8);
	TEST_ASSERT_EQ(sizeof(struct kvmi_vcpu_get_mtrr_type_reply), 8);
	TEST_ASSERT_EQ(sizeof(struct kvmi_vcpu_translate_gva), 8);
	TEST_ASSERT_EQ(sizeof(struct kvmi_vcpu_translate_gva_reply), 8);
	TEST_ASSERT_EQ(sizeof(struct kvmi_vcpu_event_breakpoint), 16);
	TEST_ASSERT_EQ(sizeof(struct kvmi_vcpu_event_cr), 24);
	TEST_ASSERT_EQ(offsetof(struct kvmi_vcpu_event_cr, new_value), 16);
	TEST_ASSERT_EQ(sizeof(struct kvmi_vcpu_event_cr_reply), 8);
	TEST_ASSERT_EQ(sizeof(struct kvmi_vcpu_event_trap), 16);
	TEST_ASSERT_EQ(offsetof(struct kvmi_vcpu_event_trap, error_code), 4);
	TEST_ASSERT_EQ(sizeof(struct kvmi_vcpu_event_xsetbv), 24);
	TEST_ASSERT_EQ(offsetof(struct kvmi_vcpu_event_xsetbv, old_value), 8);
	TEST_ASSERT_EQ(sizeof(struct kvmi_vcpu_event_descriptor), 8);
	TEST_ASSERT_EQ(sizeof(struct kvmi_vcpu_event_msr), 24);
	TEST_ASSERT_EQ(offsetof(struct kvmi_vcpu_event_msr, old_value), 8);
	TEST_ASSERT_EQ(sizeof(struct kvmi_vcpu_event_msr_reply), 8);
	TEST_ASSERT_EQ(sizeof(struct kvmi_vcpu_event_singlestep), 8);
	TEST_ASSERT_EQ(KVMI_MSG_SIZE, 8184);
	TEST_ASSERT_EQ(KVMI_VCPU_TRANSLATE_GVA, 29);
	TEST_ASSERT_EQ(KVMI_VCPU_EVENT_SINGLESTEP, 19);
	TEST_ASSERT_EQ(KVM_HC_XEN_HVM_OP, 34);
	TEST_ASSERT_EQ(KVM_EAGAIN, 11);
}

TEST_F(kvmi_ioctl, capability)
{
	TEST_ASSERT_EQ(kvm_check_cap(KVM_CAP_INTROSPECTION), KVMI_VERSION);
	TEST_ASSERT_EQ(vm_check_cap(self->vm, KVM_CAP_INTROSPECTION), KVMI_VERSION);
}

TEST_F(kvmi_ioctl, hook_errors)
{
	int fds[2], dgram[2], i;

	make_pair(fds);
	TEST_ASSERT(!socketpair(AF_UNIX, SOCK_DGRAM, 0, dgram), "socketpair");

	for (i = 0; i < ARRAY_SIZE(hook_ioctls); i++) {
		unsigned long cmd = hook_ioctls[i];

		/* Unreadable argument; padding; what is no stream socket. */
		TEST_ASSERT(ioctl(self->vm->fd, cmd, NULL) && errno == EFAULT,
			    "errno %d", errno);
		TEST_ASSERT_EQ(kvmi_hook_errno(self->vm, cmd, fds[0], 1), EINVAL);
		TEST_ASSERT_EQ(kvmi_hook_errno(self->vm, cmd, fds[0], 1u << 31), EINVAL);
		TEST_ASSERT_EQ(kvmi_hook_errno(self->vm, cmd, -1, 0), EINVAL);
		TEST_ASSERT_EQ(kvmi_hook_errno(self->vm, cmd, self->vm->fd, 0), EINVAL);
		TEST_ASSERT_EQ(kvmi_hook_errno(self->vm, cmd, dgram[0], 0), EINVAL);

		/* A failure leaves nothing behind. */
		TEST_ASSERT_EQ(kvmi_hook_errno(self->vm, cmd, fds[0], 0), 0);

		/* Padding is looked at before anything else, the fd last. */
		TEST_ASSERT_EQ(kvmi_hook_errno(self->vm, cmd, -1, 1), EINVAL);
		TEST_ASSERT_EQ(kvmi_hook_errno(self->vm, cmd, -1, 0), EEXIST);
		TEST_ASSERT_EQ(kvmi_hook_errno(self->vm, cmd, fds[0], 0), EEXIST);
		TEST_ASSERT_EQ(kvmi_hook_errno(self->vm, hook_ioctls[!i], fds[0], 0), EEXIST);

		kvmi_unhook(self->vm);
		close(fds[0]);
		close(fds[1]);
		make_pair(fds);
	}
}

TEST_F(kvmi_ioctl, not_hooked)
{
	/* Arguments first. */
	TEST_ASSERT(ioctl(self->vm->fd, KVM_INTROSPECTION_COMMAND, NULL) && errno == EFAULT,
		    "errno %d", errno);
	TEST_ASSERT_EQ(kvmi_feature_errno(self->vm, KVM_INTROSPECTION_COMMAND, -2, 1), EINVAL);
	TEST_ASSERT_EQ(kvmi_feature_errno(self->vm, KVM_INTROSPECTION_COMMAND, 30, 1), EINVAL);
	TEST_ASSERT_EQ(kvmi_feature_errno(self->vm, KVM_INTROSPECTION_COMMAND, 2, 2), EINVAL);
	TEST_ASSERT_EQ(kvmi_feature_errno(self->vm, KVM_INTROSPECTION_EVENT, -2, 1), EINVAL);
	TEST_ASSERT_EQ(kvmi_feature_errno(self->vm, KVM_INTROSPECTION_EVENT, 20, 1), EINVAL);
	TEST_ASSERT_EQ(kvmi_feature_errno(self->vm, KVM_INTROSPECTION_EVENT, 1, 2), EINVAL);

	TEST_ASSERT_EQ(kvmi_feature_errno(self->vm, KVM_INTROSPECTION_COMMAND, -1, 1), EFAULT);
	TEST_ASSERT_EQ(kvmi_feature_errno(self->vm, KVM_INTROSPECTION_COMMAND, 2, 0), EFAULT);
	TEST_ASSERT_EQ(kvmi_feature_errno(self->vm, KVM_INTROSPECTION_EVENT, -1, 1), EFAULT);
	TEST_ASSERT_EQ(kvmi_preunhook_errno(self->vm), EFAULT);
	TEST_ASSERT_EQ(kvmi_deadline_errno(self->vm, 0, 1), EFAULT);

	/* This is no error. */
	TEST_ASSERT_EQ(kvmi_unhook_errno(self->vm), 0);
	TEST_ASSERT_EQ(kvmi_unhook_errno(self->vm), 0);
}

static int check_command(struct kvmi_tool *tool, u16 id)
{
	struct kvmi_vm_check_command req = { .id = id };

	return kvmi_cmd(tool, KVMI_VM_CHECK_COMMAND, &req, sizeof(req), NULL, 0);
}

static int check_event(struct kvmi_tool *tool, u16 id)
{
	struct kvmi_vm_check_event req = { .id = id };

	return kvmi_cmd(tool, KVMI_VM_CHECK_EVENT, &req, sizeof(req), NULL, 0);
}

static const u16 always[] = {
	KVMI_GET_VERSION, KVMI_VM_CHECK_COMMAND, KVMI_VM_CHECK_EVENT,
};

static const u16 commands[] = {
	KVMI_VM_GET_INFO, KVMI_VM_CONTROL_EVENTS, KVMI_VM_READ_PHYSICAL,
	KVMI_VM_WRITE_PHYSICAL, KVMI_VM_PAUSE_VCPU, KVMI_VM_CONTROL_CLEANUP,
	KVMI_VM_GET_MAX_GFN, KVMI_VCPU_GET_INFO, KVMI_VCPU_CONTROL_EVENTS,
	KVMI_VCPU_GET_REGISTERS, KVMI_VCPU_SET_REGISTERS, KVMI_VCPU_GET_CPUID,
	KVMI_VCPU_CONTROL_CR, KVMI_VCPU_INJECT_EXCEPTION, KVMI_VCPU_GET_XCR,
	KVMI_VCPU_GET_XSAVE, KVMI_VCPU_SET_XSAVE, KVMI_VCPU_GET_MTRR_TYPE,
	KVMI_VCPU_CONTROL_MSR, KVMI_VCPU_CONTROL_SINGLESTEP,
	KVMI_VCPU_TRANSLATE_GVA,
};

static const u16 events[] = {
	KVMI_VM_EVENT_UNHOOK, KVMI_VCPU_EVENT_PAUSE, KVMI_VCPU_EVENT_HYPERCALL,
	KVMI_VCPU_EVENT_BREAKPOINT, KVMI_VCPU_EVENT_CR, KVMI_VCPU_EVENT_TRAP,
	KVMI_VCPU_EVENT_XSETBV, KVMI_VCPU_EVENT_DESCRIPTOR, KVMI_VCPU_EVENT_MSR,
	KVMI_VCPU_EVENT_SINGLESTEP,
};

/* HOOK allows next to nothing; COMMAND allows one by one, or all. */
TEST_F(kvmi_ioctl, command_permissions)
{
	struct kvmi_tool *tool = kvmi_hook_bare(self->vm);
	int i, j;

	for (i = 0; i < ARRAY_SIZE(always); i++)
		TEST_ASSERT_EQ(check_command(tool, always[i]), 0);

	for (i = 0; i < ARRAY_SIZE(commands); i++) {
		TEST_ASSERT_EQ(check_command(tool, commands[i]), -KVM_EPERM);
		/* Whatever else is wrong with it. */
		TEST_ASSERT_EQ(kvmi_cmd(tool, commands[i], "\xff\xff\xff\xff", 4, NULL, 0),
			       -KVM_EPERM);
	}

	for (i = 0; i < ARRAY_SIZE(commands); i++) {
		TEST_ASSERT_EQ(kvmi_feature_errno(self->vm, KVM_INTROSPECTION_COMMAND,
						  commands[i], 1), 0);
		for (j = 0; j < ARRAY_SIZE(commands); j++)
			TEST_ASSERT_EQ(check_command(tool, commands[j]),
				       i == j ? 0 : -KVM_EPERM);
		TEST_ASSERT_EQ(kvmi_feature_errno(self->vm, KVM_INTROSPECTION_COMMAND,
						  commands[i], 0), 0);
		TEST_ASSERT_EQ(check_command(tool, commands[i]), -KVM_EPERM);
	}

	/* All at once. "None" keeps the three, and none of them can be taken. */
	TEST_ASSERT_EQ(kvmi_feature_errno(self->vm, KVM_INTROSPECTION_COMMAND, -1, 1), 0);
	for (i = 0; i < ARRAY_SIZE(commands); i++)
		TEST_ASSERT_EQ(check_command(tool, commands[i]), 0);
	TEST_ASSERT_EQ(kvmi_feature_errno(self->vm, KVM_INTROSPECTION_COMMAND, -1, 0), 0);
	for (i = 0; i < ARRAY_SIZE(commands); i++)
		TEST_ASSERT_EQ(check_command(tool, commands[i]), -KVM_EPERM);
	for (i = 0; i < ARRAY_SIZE(always); i++) {
		TEST_ASSERT_EQ(kvmi_feature_errno(self->vm, KVM_INTROSPECTION_COMMAND,
						  always[i], 0), EPERM);
		TEST_ASSERT_EQ(check_command(tool, always[i]), 0);
		TEST_ASSERT_EQ(kvmi_feature_errno(self->vm, KVM_INTROSPECTION_COMMAND,
						  always[i], 1), 0);
	}

	kvmi_free(tool);
}

TEST_F(kvmi_ioctl, event_permissions)
{
	struct kvmi_tool *tool = kvmi_hook_bare(self->vm);
	int i, j;

	for (i = 0; i < ARRAY_SIZE(events); i++)
		TEST_ASSERT_EQ(check_event(tool, events[i]), -KVM_EPERM);

	for (i = 0; i < ARRAY_SIZE(events); i++) {
		TEST_ASSERT_EQ(kvmi_feature_errno(self->vm, KVM_INTROSPECTION_EVENT,
						  events[i], 1), 0);
		for (j = 0; j < ARRAY_SIZE(events); j++)
			TEST_ASSERT_EQ(check_event(tool, events[j]),
				       i == j ? 0 : -KVM_EPERM);
		TEST_ASSERT_EQ(kvmi_feature_errno(self->vm, KVM_INTROSPECTION_EVENT,
						  events[i], 0), 0);
	}

	TEST_ASSERT_EQ(kvmi_feature_errno(self->vm, KVM_INTROSPECTION_EVENT, -1, 1), 0);
	for (i = 0; i < ARRAY_SIZE(events); i++)
		TEST_ASSERT_EQ(check_event(tool, events[i]), 0);
	TEST_ASSERT_EQ(kvmi_feature_errno(self->vm, KVM_INTROSPECTION_EVENT, -1, 0), 0);
	for (i = 0; i < ARRAY_SIZE(events); i++)
		TEST_ASSERT_EQ(check_event(tool, events[i]), -KVM_EPERM);

	kvmi_free(tool);
}

/* A new connection starts with nothing, whatever the last one had. */
TEST_F(kvmi_ioctl, permissions_are_not_inherited)
{
	struct kvmi_tool *tool = kvmi_hook(self->vm);

	TEST_ASSERT_EQ(check_command(tool, KVMI_VM_GET_INFO), 0);
	kvmi_unhook(self->vm);
	kvmi_free(tool);

	tool = kvmi_hook_bare(self->vm);
	TEST_ASSERT_EQ(check_command(tool, KVMI_VM_GET_INFO), -KVM_EPERM);
	TEST_ASSERT_EQ(check_event(tool, KVMI_VCPU_EVENT_PAUSE), -KVM_EPERM);
	kvmi_free(tool);
}

/* Who attaches may do everything. The VMM can limit it nevertheless. */
TEST_F(kvmi_ioctl, attach_permissions)
{
	struct kvmi_tool *tool = kvmi_attach(self->vm);
	int i;

	for (i = 0; i < ARRAY_SIZE(commands); i++)
		TEST_ASSERT_EQ(check_command(tool, commands[i]), 0);
	for (i = 0; i < ARRAY_SIZE(events); i++)
		TEST_ASSERT_EQ(check_event(tool, events[i]), 0);

	TEST_ASSERT_EQ(kvmi_feature_errno(self->vm, KVM_INTROSPECTION_COMMAND,
					  KVMI_VM_GET_INFO, 0), 0);
	TEST_ASSERT_EQ(check_command(tool, KVMI_VM_GET_INFO), -KVM_EPERM);
	TEST_ASSERT_EQ(kvmi_feature_errno(self->vm, KVM_INTROSPECTION_EVENT, -1, 0), 0);
	TEST_ASSERT_EQ(kvmi_pause(tool, 0, 0), -KVM_EPERM);

	kvmi_unhook(self->vm);
	kvmi_expect_closed(tool);
	kvmi_free(tool);
}

/* The socket is KVM's from now on: the VMM may close its descriptor. */
TEST_F(kvmi_ioctl, fd_may_be_closed)
{
	struct kvmi_tool *tool = kvmi_hook(self->vm);

	kvmi_check_version(tool);
	kvmi_unhook(self->vm);
	kvmi_expect_closed(tool);
	kvmi_free(tool);
}

TEST_F(kvmi_ioctl, protected_vm)
{
	struct vm_shape shape = {
		.mode = VM_MODE_DEFAULT,
		.type = KVM_X86_SW_PROTECTED_VM,
	};
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	int fds[2], i;

	if (!(kvm_check_cap(KVM_CAP_VM_TYPES) & BIT(KVM_X86_SW_PROTECTED_VM)))
		SKIP(return, "This host has no protected VMs (CONFIG_KVM_SW_PROTECTED_VM)");

	vm = vm_create_shape_with_one_vcpu(shape, &vcpu, NULL);
	make_pair(fds);
	for (i = 0; i < ARRAY_SIZE(hook_ioctls); i++) {
		TEST_ASSERT_EQ(kvmi_hook_errno(vm, hook_ioctls[i], fds[0], 1), EINVAL);
		TEST_ASSERT_EQ(kvmi_hook_errno(vm, hook_ioctls[i], fds[0], 0), EOPNOTSUPP);
		TEST_ASSERT_EQ(kvmi_hook_errno(vm, hook_ioctls[i], -1, 0), EOPNOTSUPP);
	}
	TEST_ASSERT_EQ(kvmi_preunhook_errno(vm), EFAULT);
	kvm_vm_free(vm);
}

/* Run a function in a child that has another mm but the same descriptors. */
static int in_child(int (*fn)(void *arg), void *arg)
{
	int status;
	pid_t pid = fork();

	if (!pid)
		_exit(fn(arg));
	TEST_ASSERT(waitpid(pid, &status, 0) == pid, "waitpid");
	TEST_ASSERT(WIFEXITED(status), "Child died, status %x", status);

	return WEXITSTATUS(status);
}

static int child_vm_ioctls(void *arg)
{
	static const struct {
		unsigned long cmd;
		const char *name;
	} refused[] = {
		{ KVM_INTROSPECTION_HOOK, "HOOK" },
		{ KVM_INTROSPECTION_UNHOOK, "UNHOOK" },
		{ KVM_INTROSPECTION_COMMAND, "COMMAND" },
		{ KVM_INTROSPECTION_EVENT, "EVENT" },
		{ KVM_INTROSPECTION_PREUNHOOK, "PREUNHOOK" },
		{ KVM_CREATE_VCPU, "KVM_CREATE_VCPU" },
		{ KVM_CHECK_EXTENSION, "KVM_CHECK_EXTENSION" },
		{ KVM_SET_USER_MEMORY_REGION, "KVM_SET_USER_MEMORY_REGION" },
		{ KVM_GET_DIRTY_LOG, "KVM_GET_DIRTY_LOG" },
		{ KVM_CREATE_IRQCHIP, "KVM_CREATE_IRQCHIP" },
		{ KVM_GET_CLOCK, "KVM_GET_CLOCK" },
		{ KVM_ENABLE_CAP, "KVM_ENABLE_CAP" },
		{ KVM_GET_STATS_FD, "KVM_GET_STATS_FD" },
		{ KVM_CREATE_DEVICE, "KVM_CREATE_DEVICE" },
		{ KVM_IRQFD, "KVM_IRQFD" },
		{ 0xaef5, "an ioctl with the number of ATTACH" },
	};
	struct kvm_vcpu *vcpu = arg;
	u8 buf[4096] = {};
	int i;

	for (i = 0; i < ARRAY_SIZE(refused); i++) {
		if (ioctl(vcpu->vm->fd, refused[i].cmd, buf) != -1 || errno != EIO) {
			fprintf(stderr, "%s: errno %d\n", refused[i].name, errno);
			return 1;
		}
	}

	if (ioctl(vcpu->fd, KVM_GET_REGS, buf) != -1 || errno != EIO)
		return 2;

	return 0;
}

/* ATTACH and DEADLINE are the only ioctls for another process. */
TEST_F(kvmi_ioctl, other_process)
{
	struct kvmi_tool *tool;

	TEST_ASSERT_EQ(in_child(child_vm_ioctls, self->vcpu), 0);

	/* Being attached changes nothing about that. */
	tool = kvmi_attach(self->vm);
	TEST_ASSERT_EQ(in_child(child_vm_ioctls, self->vcpu), 0);
	kvmi_free(tool);
}

static int child_attach(void *arg)
{
	struct kvm_vm *vm = arg;
	struct kvmi_tool *tool = kvmi_attach(vm);
	struct kvmi_vm_get_info_reply info;
	u64 word = 0;

	kvmi_check_version(tool);
	if (kvmi_cmd(tool, KVMI_VM_GET_INFO, NULL, 0, &info, sizeof(info)) ||
	    info.vcpu_count != 1)
		return 1;

	/* Guest memory is that of the VMM, not of this process. */
	if (kvmi_read_physical(tool, 0, &word, sizeof(word)))
		return 2;
	if (word != 0x1122334455667788)
		return 3;
	word = 0x99aabbccddeeff00;
	if (kvmi_write_physical(tool, 0, &word, sizeof(word)))
		return 4;

	/* A second one has to wait. */
	if (kvmi_hook_errno(vm, KVM_INTROSPECTION_ATTACH, tool->fd, 0) != EEXIST)
		return 5;

	return 0;
}

TEST_F(kvmi_ioctl, attach_from_other_process)
{
	u64 *word = addr_gpa2hva(self->vm, 0);
	int round;

	for (round = 0; round < 3; round++) {
		*word = 0x1122334455667788;
		TEST_ASSERT_EQ(in_child(child_attach, self->vm), 0);
		TEST_ASSERT_EQ(*word, 0x99aabbccddeeff00);
	}
}

/* Get the VM from the parent, by its number there, as a tool does. */
static int steal_vm(pid_t pid, int fd)
{
	int pidfd = syscall(SYS_pidfd_open, pid, 0);

	return pidfd < 0 ? -1 : syscall(SYS_pidfd_getfd, pidfd, fd, 0);
}

static int child_pidfd(void *arg)
{
	struct kvm_vm *vm = arg;
	struct kvm_vm copy = {};
	int fds[2], fd = vm->fd;

	/* As in a process that never had it. */
	close(vm->fd);
	copy.fd = steal_vm(getppid(), fd);
	if (copy.fd < 0)
		return 1;

	make_pair(fds);
	if (kvmi_hook_errno(&copy, KVM_INTROSPECTION_ATTACH, fds[0], 0))
		return 2;
	close(copy.fd);
	close(fds[0]);
	kvmi_check_version(kvmi_adopt(NULL, fds[1]));

	return 0;
}

static int child_pidfd_unprivileged(void *arg)
{
	struct kvm_vm *vm = arg;

	if (syscall(SYS_setresgid, 1000, 1000, 1000) ||
	    syscall(SYS_setresuid, 1000, 1000, 1000))
		return 1;
	if (steal_vm(getppid(), vm->fd) != -1)
		return 2;

	return errno == EPERM ? 0 : 3;
}

/* The permission to attach is that to debug the VMM. */
TEST_F(kvmi_ioctl, attach_by_pidfd)
{
	TEST_ASSERT_EQ(in_child(child_pidfd, self->vm), 0);
	TEST_ASSERT_EQ(in_child(child_pidfd_unprivileged, self->vm), 0);
	TEST_ASSERT_EQ(in_child(child_pidfd, self->vm), 0);
}

/* Files that are no VM. */
TEST_F(kvmi_ioctl, not_a_vm)
{
	struct kvm_introspection_hook hook = {};
	int fds[2], efd = eventfd(0, 0);

	make_pair(fds);
	hook.fd = fds[0];
	TEST_ASSERT(ioctl(efd, KVM_INTROSPECTION_ATTACH, &hook) == -1 && errno == ENOTTY,
		    "eventfd: errno %d", errno);
	TEST_ASSERT(ioctl(self->vm->kvm_fd, KVM_INTROSPECTION_ATTACH, &hook) == -1,
		    "/dev/kvm took ATTACH");
	TEST_ASSERT(ioctl(self->vcpu->fd, KVM_INTROSPECTION_ATTACH, &hook) == -1,
		    "A vCPU took ATTACH");
	TEST_ASSERT(ioctl(self->vcpu->fd, KVM_INTROSPECTION_HOOK, &hook) == -1,
		    "A vCPU took HOOK");
}

/* An attached VM is unhooked when the tool goes: nobody would do it. */
TEST_F(kvmi_ioctl, attach_ends_with_socket)
{
	struct kvmi_tool *tool;
	int round, ms;

	for (round = 0; round < 20; round++) {
		tool = kvmi_attach(self->vm);
		kvmi_check_version(tool);
		kvmi_free(tool);

		/* The end of a socket is seen a moment later. */
		for (ms = KVMI_TIMEOUT_MS; ms; ms--) {
			if (kvmi_feature_errno(self->vm, KVM_INTROSPECTION_EVENT, -1, 1) == EFAULT)
				break;
			usleep(1000);
		}
		TEST_ASSERT(ms, "Still attached");
	}
}

/* A hooked VM stays so until the VMM unhooks it. */
TEST_F(kvmi_ioctl, hook_outlives_socket)
{
	struct kvmi_tool *tool = kvmi_hook(self->vm);
	int fds[2];

	make_pair(fds);
	kvmi_check_version(tool);
	kvmi_free(tool);
	usleep(KVMI_QUIET_MS * 1000);

	TEST_ASSERT_EQ(kvmi_hook_errno(self->vm, KVM_INTROSPECTION_HOOK, fds[0], 0), EEXIST);
	TEST_ASSERT_EQ(kvmi_hook_errno(self->vm, KVM_INTROSPECTION_ATTACH, fds[0], 0), EEXIST);
	TEST_ASSERT_EQ(kvmi_feature_errno(self->vm, KVM_INTROSPECTION_EVENT, -1, 1), 0);
	TEST_ASSERT_EQ(kvmi_preunhook_errno(self->vm), ENOENT);
	kvmi_unhook(self->vm);
	TEST_ASSERT_EQ(kvmi_hook_errno(self->vm, KVM_INTROSPECTION_HOOK, fds[0], 0), 0);
}

/* Other kinds of stream sockets. */
TEST_F(kvmi_ioctl, unconnected_socket)
{
	int sock = socket(AF_UNIX, SOCK_STREAM, 0);

	/* It is lost at once, which is no reason to refuse it. */
	TEST_ASSERT_EQ(kvmi_hook_errno(self->vm, KVM_INTROSPECTION_HOOK, sock, 0), 0);
	usleep(KVMI_QUIET_MS * 1000);
	kvmi_unhook(self->vm);
}

/* With the module parameter off nothing works, but everything else does. */
static void test_switched_off(void)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	int fds[2], i;

	make_pair(fds);
	vm = vm_create_with_one_vcpu(&vcpu, NULL);
	TEST_ASSERT_EQ(kvm_check_cap(KVM_CAP_INTROSPECTION), 0);
	TEST_ASSERT_EQ(vm_check_cap(vm, KVM_CAP_INTROSPECTION), 0);
	for (i = 0; i < ARRAY_SIZE(hook_ioctls); i++) {
		TEST_ASSERT_EQ(kvmi_hook_errno(vm, hook_ioctls[i], fds[0], 0), EPERM);
		TEST_ASSERT_EQ(kvmi_hook_errno(vm, hook_ioctls[i], fds[0], 1), EPERM);
	}
	TEST_ASSERT_EQ(kvmi_unhook_errno(vm), EPERM);
	TEST_ASSERT_EQ(kvmi_preunhook_errno(vm), EPERM);
	TEST_ASSERT_EQ(kvmi_deadline_errno(vm, 0, 1), EPERM);
	TEST_ASSERT_EQ(kvmi_feature_errno(vm, KVM_INTROSPECTION_COMMAND, -1, 1), EPERM);
	TEST_ASSERT_EQ(kvmi_feature_errno(vm, KVM_INTROSPECTION_EVENT, 99, 7), EPERM);
	kvm_vm_free(vm);
}

static bool is_switched_on(void)
{
	char value = 'N';
	int fd = open("/sys/module/kvm/parameters/introspection", O_RDONLY);

	TEST_REQUIRE(fd >= 0);
	TEST_ASSERT(read(fd, &value, 1) == 1, "read");
	close(fd);

	return value == 'Y';
}

int main(int argc, char *argv[])
{
	if (!is_switched_on()) {
		ksft_print_header();
		ksft_set_plan(1);
		test_switched_off();
		ksft_test_result_pass("kvmi_ioctl.switched_off\n");
		ksft_finished();
	}

	return test_harness_run(argc, argv);
}
