// SPDX-License-Identifier: GPL-2.0
/*
 * KVM introspection: commands for the VM.
 *
 * They run in the task that reads the socket, with rx.lock held: the receiver
 * or a vCPU that waits for a reply.
 */
#include <linux/slab.h>
#include <linux/string.h>

#include "commands.h"
#include "dispatch.h"
#include "event.h"
#include "memory.h"
#include "vcpu.h"

/* KVMI_GET_VERSION */
int kvmi_get_version(struct kvmi_call *call)
{
	struct kvmi_get_version_reply *rpl;

	rpl = kvmi_reply_small(call, sizeof(*rpl));
	rpl->version = KVMI_VERSION;
	rpl->max_msg_size = KVMI_MSG_SIZE;
	kvmi_arch_features(&rpl->features);

	return 0;
}

/* KVMI_VM_CHECK_COMMAND */
int kvmi_vm_check_command(struct kvmi_call *call)
{
	const struct kvmi_vm_check_command *req = call->req;

	if (req->padding1 || req->padding2)
		return -KVM_EINVAL;
	if (!kvmi_is_command(req->id))
		return -KVM_ENOENT;
	if (!test_bit(req->id, call->kvmi->command_allowed))
		return -KVM_EPERM;

	return 0;
}

/* KVMI_VM_CHECK_EVENT */
int kvmi_vm_check_event(struct kvmi_call *call)
{
	const struct kvmi_vm_check_event *req = call->req;

	if (req->padding1 || req->padding2)
		return -KVM_EINVAL;
	if (!kvmi_is_vm_event(req->id) && !kvmi_is_vcpu_event(req->id))
		return -KVM_ENOENT;
	if (!test_bit(req->id, call->kvmi->event_allowed))
		return -KVM_EPERM;

	return 0;
}

/* KVMI_VM_GET_INFO */
int kvmi_vm_get_info(struct kvmi_call *call)
{
	struct kvmi_vm_get_info_reply *rpl;

	rpl = kvmi_reply_small(call, sizeof(*rpl));
	rpl->vcpu_count = atomic_read(&call->kvmi->kvm->online_vcpus);

	return 0;
}

/* KVMI_VM_CONTROL_EVENTS */
int kvmi_vm_control_events(struct kvmi_call *call)
{
	const struct kvmi_vm_control_events *req = call->req;

	if (req->padding1 || req->padding2 || req->enable > 1 ||
	    !kvmi_is_vm_event(req->event_id))
		return -KVM_EINVAL;
	if (!test_bit(req->event_id, call->kvmi->event_allowed))
		return -KVM_EPERM;

	assign_bit(req->event_id, call->kvmi->event_enabled, req->enable);
	return 0;
}

static bool kvmi_is_within_page(u64 gpa, u16 size)
{
	return size && size <= PAGE_SIZE && offset_in_page(gpa) + size <= PAGE_SIZE;
}

/* KVMI_VM_READ_PHYSICAL */
int kvmi_vm_read_physical(struct kvmi_call *call)
{
	const struct kvmi_vm_read_physical *req = call->req;
	void *data;
	int r;

	if (req->padding1 || req->padding2 ||
	    !kvmi_is_within_page(req->gpa, req->size))
		return -KVM_EINVAL;

	data = kmalloc(req->size, GFP_KERNEL_ACCOUNT);
	if (!data)
		return -KVM_ENOMEM;

	r = kvmi_read_guest(call->kvmi->kvm, req->gpa, data, req->size);
	if (r) {
		kfree(data);
		return r;
	}

	call->reply = data;
	call->reply_len = req->size;
	return 0;
}

/* KVMI_VM_WRITE_PHYSICAL */
int kvmi_vm_write_physical(struct kvmi_call *call)
{
	const struct kvmi_vm_write_physical *req = call->req;

	if (call->req_len < struct_size(req, data, req->size))
		return KVMI_CALL_CLOSE;

	if (req->padding1 || req->padding2 ||
	    !kvmi_is_within_page(req->gpa, req->size))
		return -KVM_EINVAL;

	return kvmi_write_guest(call->kvmi->kvm, req->gpa, req->data, req->size);
}

/* KVMI_VM_PAUSE_VCPU */
int kvmi_vm_pause_vcpu(struct kvmi_call *call)
{
	const struct kvmi_vm_pause_vcpu *req = call->req;
	struct kvmi_vcpu *kvi;

	if (req->padding1 || req->padding2 || req->wait > 1)
		return -KVM_EINVAL;

	kvi = kvmi_find_vcpu(call->kvmi, req->vcpu);
	if (!kvi)
		return -KVM_EINVAL;

	if (!test_bit(KVMI_VCPU_EVENT_PAUSE, call->kvmi->event_allowed))
		return -KVM_EPERM;

	return kvmi_pause(kvi, req->wait);
}

/* KVMI_VM_CONTROL_CLEANUP */
int kvmi_vm_control_cleanup(struct kvmi_call *call)
{
	const struct kvmi_vm_control_cleanup *req = call->req;

	if (memchr_inv(req->padding, 0, sizeof(req->padding)) || req->enable > 1)
		return -KVM_EINVAL;

	call->kvmi->cleanup = req->enable;
	return 0;
}

/* KVMI_VM_GET_MAX_GFN */
int kvmi_vm_get_max_gfn(struct kvmi_call *call)
{
	struct kvmi_vm_get_max_gfn_reply *rpl;

	rpl = kvmi_reply_small(call, sizeof(*rpl));
	rpl->gfn = kvmi_max_gfn(call->kvmi->kvm);

	return 0;
}
