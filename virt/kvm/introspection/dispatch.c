// SPDX-License-Identifier: GPL-2.0
/*
 * KVM introspection: messages from the tool.
 *
 * The table of commands, what is checked before a handler runs, where it
 * runs, and the reply. Handlers of VM commands run in whichever task reads the
 * socket (rx.lock held): the receiver, which is a kernel thread, or a vCPU
 * that waits for a reply. Handlers of vCPU commands run in the vCPU's thread
 * with the vCPU loaded and kvm->srcu held.
 */
#include <linux/nospec.h>
#include <linux/slab.h>

#include "commands.h"
#include "dispatch.h"
#include "event.h"
#include "socket.h"
#include "vcpu.h"

#include <trace/events/kvmi.h>

/**
 * struct kvmi_command - a command that KVM knows
 * @run: its handler, see struct kvmi_call
 * @size: bytes of the request (without struct kvmi_vcpu_hdr) that the handler
 *	  reads without looking at kvmi_call.req_len
 * @always: cannot be disallowed
 */
struct kvmi_command {
	int (*run)(struct kvmi_call *call);
	u16 size;
	bool always;
};

/* Odd ids are vCPU commands. */
static const struct kvmi_command kvmi_commands[KVMI_NUM_MESSAGES] = {
	[KVMI_GET_VERSION] = {
		.run = kvmi_get_version,
		.always = true,
	},
	[KVMI_VM_CHECK_COMMAND] = {
		.run = kvmi_vm_check_command,
		.size = sizeof(struct kvmi_vm_check_command),
		.always = true,
	},
	[KVMI_VM_CHECK_EVENT] = {
		.run = kvmi_vm_check_event,
		.size = sizeof(struct kvmi_vm_check_event),
		.always = true,
	},
	[KVMI_VM_GET_INFO] = {
		.run = kvmi_vm_get_info,
	},
	[KVMI_VM_CONTROL_EVENTS] = {
		.run = kvmi_vm_control_events,
		.size = sizeof(struct kvmi_vm_control_events),
	},
	[KVMI_VM_READ_PHYSICAL] = {
		.run = kvmi_vm_read_physical,
		.size = sizeof(struct kvmi_vm_read_physical),
	},
	[KVMI_VM_WRITE_PHYSICAL] = {
		.run = kvmi_vm_write_physical,
		.size = sizeof(struct kvmi_vm_write_physical),
	},
	[KVMI_VM_PAUSE_VCPU] = {
		.run = kvmi_vm_pause_vcpu,
		.size = sizeof(struct kvmi_vm_pause_vcpu),
	},
	[KVMI_VM_CONTROL_CLEANUP] = {
		.run = kvmi_vm_control_cleanup,
		.size = sizeof(struct kvmi_vm_control_cleanup),
	},
	[KVMI_VM_GET_MAX_GFN] = {
		.run = kvmi_vm_get_max_gfn,
	},
	[KVMI_VM_SET_PAGE_ACCESS] = {
		.run = kvmi_arch_vm_set_page_access,
		.size = sizeof(struct kvmi_vm_set_page_access),
	},

	[KVMI_VCPU_GET_INFO] = {
		.run = kvmi_arch_vcpu_get_info,
	},
	[KVMI_VCPU_CONTROL_EVENTS] = {
		.run = kvmi_vcpu_control_events,
		.size = sizeof(struct kvmi_vcpu_control_events),
	},
	[KVMI_VCPU_GET_REGISTERS] = {
		.run = kvmi_arch_vcpu_get_registers,
		.size = sizeof(struct kvmi_vcpu_get_registers),
	},
	[KVMI_VCPU_SET_REGISTERS] = {
		.run = kvmi_vcpu_set_registers,
	},
	[KVMI_VCPU_GET_CPUID] = {
		.run = kvmi_arch_vcpu_get_cpuid,
		.size = sizeof(struct kvmi_vcpu_get_cpuid),
	},
	[KVMI_VCPU_CONTROL_CR] = {
		.run = kvmi_arch_vcpu_control_cr,
		.size = sizeof(struct kvmi_vcpu_control_cr),
	},
	[KVMI_VCPU_INJECT_EXCEPTION] = {
		.run = kvmi_arch_vcpu_inject_exception,
		.size = sizeof(struct kvmi_vcpu_inject_exception),
	},
	[KVMI_VCPU_GET_XCR] = {
		.run = kvmi_arch_vcpu_get_xcr,
		.size = sizeof(struct kvmi_vcpu_get_xcr),
	},
	[KVMI_VCPU_GET_XSAVE] = {
		.run = kvmi_arch_vcpu_get_xsave,
	},
	[KVMI_VCPU_SET_XSAVE] = {
		.run = kvmi_arch_vcpu_set_xsave,
	},
	[KVMI_VCPU_GET_MTRR_TYPE] = {
		.run = kvmi_arch_vcpu_get_mtrr_type,
		.size = sizeof(struct kvmi_vcpu_get_mtrr_type),
	},
	[KVMI_VCPU_CONTROL_MSR] = {
		.run = kvmi_arch_vcpu_control_msr,
		.size = sizeof(struct kvmi_vcpu_control_msr),
	},
	[KVMI_VCPU_CONTROL_SINGLESTEP] = {
		.run = kvmi_arch_vcpu_control_singlestep,
		.size = sizeof(struct kvmi_vcpu_control_singlestep),
	},
	[KVMI_VCPU_TRANSLATE_GVA] = {
		.run = kvmi_arch_vcpu_translate_gva,
		.size = sizeof(struct kvmi_vcpu_translate_gva),
	},
};

/* The largest kvmi_command.size, and struct kvmi_vcpu_hdr. */
#define KVMI_MAX_FIXED_REQUEST	24

static const struct kvmi_command *kvmi_find_command(u16 id)
{
	const struct kvmi_command *cmd;

	if (id >= ARRAY_SIZE(kvmi_commands))
		return NULL;

	cmd = &kvmi_commands[array_index_nospec(id, ARRAY_SIZE(kvmi_commands))];
	return cmd->run ? cmd : NULL;
}

/* A command that this kernel can carry out. */
bool kvmi_is_command(u16 id)
{
	return kvmi_find_command(id);
}

/* A command that the VMM cannot take from the tool. */
bool kvmi_is_always_allowed(u16 id)
{
	const struct kvmi_command *cmd = kvmi_find_command(id);

	return cmd && cmd->always;
}

/**
 * kvmi_allow_command - change what the tool may do
 * @kvmi: the connection
 * @id: a message id, or -1 for all of them
 * @allow: allow or not; those that are always allowed stay so
 */
void kvmi_allow_command(struct kvm_introspection *kvmi, s32 id, bool allow)
{
	u16 first = id < 0 ? 0 : id;
	u16 last = id < 0 ? KVMI_NUM_MESSAGES - 1 : id;
	u16 i;

	for (i = first; i <= last; i++)
		assign_bit(i, kvmi->command_allowed,
			   allow || kvmi_is_always_allowed(i));
}

static void kvmi_reply(struct kvmi_call *call, int err)
{
	struct {
		struct kvmi_msg_hdr hdr;
		struct kvmi_error_code ec;
	} head = {
		.hdr.id = call->id,
		.hdr.seq = call->seq,
		.ec.err = err,
	};
	size_t len = err ? 0 : call->reply_len;
	struct kvec vec[] = {
		{ .iov_base = &head, .iov_len = sizeof(head) },
		{ .iov_base = call->reply, .iov_len = len },
	};

	head.hdr.size = sizeof(head.ec) + len;

	trace_kvmi_reply(call->kvmi->kvm, call->id, call->seq, err);

	/* A failure ends the connection, there is nothing else to be done. */
	kvmi_send(call->kvmi, vec, len ? 2 : 1, sizeof(head) + len);
}

/*
 * A vCPU command. Whatever it changes is undone when introspection ends, by
 * the one who first withdraws vcpu->introspection and waits for kvm->srcu.
 */
static int kvmi_run_on_vcpu(struct kvmi_call *call,
			    int (*run)(struct kvmi_call *call))
{
	struct kvm_vcpu *vcpu = call->vcpu;
	int r = KVMI_CALL_CLOSE;

	kvm_vcpu_srcu_read_lock(vcpu);
	if (rcu_access_pointer(vcpu->introspection) == call->kvi)
		r = run(call);
	kvm_vcpu_srcu_read_unlock(vcpu);

	return r;
}

/*
 * Run a handler and send the reply, unless it returns KVMI_CALL_*: that is
 * for the caller.
 */
static int kvmi_run(struct kvmi_call *call, int (*run)(struct kvmi_call *call))
{
	int r;

	r = call->vcpu ? kvmi_run_on_vcpu(call, run) : run(call);

	if (r <= 0)
		kvmi_reply(call, r);

	if (call->reply != call->small)
		kfree(call->reply);

	return r;
}

/**
 * kvmi_run_job - carry out a command that was queued, and free it
 * @kvi: the vCPU of the calling thread
 * @job: taken from its list
 */
void kvmi_run_job(struct kvmi_vcpu *kvi, struct kvmi_job *job)
{
	job->call.vcpu = kvi->vcpu;
	job->call.kvi = kvi;
	if (kvmi_run(&job->call, job->run) == KVMI_CALL_CLOSE)
		kvmi_disconnect(kvi->kvmi);
	kfree(job);
}

/* Queue a command for a vCPU's thread; returns what the tool is to get. */
static int kvmi_defer(struct kvmi_call *call, const struct kvmi_command *cmd,
		      struct kvmi_vcpu *kvi)
{
	size_t size = max_t(size_t, call->req_len, cmd->size);
	struct kvmi_job *job;

	job = kzalloc(struct_size(job, req, DIV_ROUND_UP(size, sizeof(u64))),
		      GFP_KERNEL_ACCOUNT);
	if (!job)
		return -KVM_ENOMEM;

	job->call = *call;
	job->call.req = job->req;
	job->run = cmd->run;
	memcpy(job->req, call->req, call->req_len);

	if (!kvmi_add_job(kvi, job)) {
		kfree(job);
		return -KVM_EBUSY;
	}

	return 0;
}

/* The vCPU that a command is for; ERR_PTR of what the tool is to get. */
static struct kvmi_vcpu *kvmi_call_vcpu(struct kvmi_call *call, u16 index)
{
	struct kvmi_vcpu *kvi = kvmi_find_vcpu(call->kvmi, index);

	if (!kvi)
		return ERR_PTR(-KVM_EINVAL);

	if (!kvmi_arch_vcpu_ready(kvi->vcpu) &&
	    READ_ONCE(kvi->state) != KVMI_EVENT_SENT)
		return ERR_PTR(-KVM_EAGAIN);

	return kvi;
}

static int kvmi_do_vm_command(struct kvmi_call *call,
			      const struct kvmi_command *cmd)
{
	struct kvmi_vcpu *kvi;
	int r;

	r = kvmi_run(call, cmd->run);
	if (r != KVMI_CALL_ON_VCPU)
		return r == KVMI_CALL_CLOSE ? r : 0;

	kvi = kvmi_call_vcpu(call, 0);
	if (IS_ERR(kvi))
		return -KVM_EAGAIN;

	return kvmi_defer(call, cmd, kvi);
}

static int kvmi_do_vcpu_command(struct kvmi_call *call,
				const struct kvmi_command *cmd,
				const struct kvmi_vcpu_hdr *hdr,
				struct kvmi_vcpu *self)
{
	struct kvmi_vcpu *kvi;

	if (hdr->padding1 || hdr->padding2)
		return -KVM_EINVAL;

	kvi = kvmi_call_vcpu(call, hdr->vcpu);
	if (IS_ERR(kvi))
		return PTR_ERR(kvi);

	/* If this thread is the vCPU's: at once, but keep the order. */
	if (kvi != self || !kvmi_run_jobs(kvi))
		return kvmi_defer(call, cmd, kvi);

	call->vcpu = kvi->vcpu;
	call->kvi = kvi;
	return kvmi_run(call, cmd->run) == KVMI_CALL_CLOSE ? KVMI_CALL_CLOSE : 0;
}

/**
 * kvmi_dispatch - deal with a message from the tool
 * @kvmi: the connection, with rx.lock held
 * @self: the vCPU whose thread is calling, NULL for the receiver
 * @hdr: the message; its data follows
 *
 * Return: false if the tool broke the rules for which the connection is closed
 */
bool kvmi_dispatch(struct kvm_introspection *kvmi, struct kvmi_vcpu *self,
		   const struct kvmi_msg_hdr *hdr)
{
	const struct kvmi_command *cmd = kvmi_find_command(hdr->id);
	u64 extended[KVMI_MAX_FIXED_REQUEST / sizeof(u64)] = {};
	const void *data = hdr + 1;
	size_t skip = hdr->id & 1 ? sizeof(struct kvmi_vcpu_hdr) : 0;
	struct kvmi_call call = {
		.kvmi = kvmi,
		.kvm = kvmi->kvm,
		.id = hdr->id,
		.seq = hdr->seq,
	};
	int r;

	if (hdr->id == KVMI_VCPU_EVENT)
		return kvmi_take_event_reply(kvmi, data, hdr->size);

	trace_kvmi_command(kvmi->kvm, hdr->id, hdr->seq, hdr->size);
	++kvmi->kvm->stat.introspection_commands;

	if (cmd && hdr->size < skip + cmd->size) {
		if (WARN_ON_ONCE(skip + cmd->size > sizeof(extended)))
			return false;
		memcpy(extended, data, hdr->size);
		data = extended;
	}

	call.req = data + skip;
	call.req_len = hdr->size > skip ? hdr->size - skip : 0;

	if (!cmd)
		r = -KVM_ENOSYS;
	else if (!test_bit(hdr->id, kvmi->command_allowed))
		r = -KVM_EPERM;
	else if (skip)
		r = kvmi_do_vcpu_command(&call, cmd, data, self);
	else
		r = kvmi_do_vm_command(&call, cmd);

	if (r < 0)
		kvmi_reply(&call, r);

	return r != KVMI_CALL_CLOSE;
}
