// SPDX-License-Identifier: GPL-2.0
/*
 * KVM introspection: commands for a vCPU that are the same on every
 * architecture.
 *
 * They run in the vCPU's thread, with the vCPU loaded and kvm->srcu held.
 */
#include "commands.h"
#include "dispatch.h"
#include "event.h"

/* KVMI_VCPU_CONTROL_EVENTS */
int kvmi_vcpu_control_events(struct kvmi_call *call)
{
	const struct kvmi_vcpu_control_events *req = call->req;
	struct kvmi_vcpu *kvi = call->kvi;
	int r;

	if (req->padding1 || req->padding2 || req->enable > 1 ||
	    !kvmi_is_vcpu_event(req->event_id))
		return -KVM_EINVAL;
	if (!test_bit(req->event_id, call->kvmi->event_allowed))
		return -KVM_EPERM;

	if (!kvmi_needs_enabling(req->event_id))
		return 0;

	r = kvmi_arch_control_event(call->vcpu, req->event_id, req->enable);
	if (!r)
		assign_bit(req->event_id, kvi->event_enabled, req->enable);

	return r;
}

/* KVMI_VCPU_SET_REGISTERS */
int kvmi_vcpu_set_registers(struct kvmi_call *call)
{
	struct kvmi_vcpu *kvi = call->kvi;

	if (call->req_len < sizeof(kvi->verdict.regs))
		return -KVM_EINVAL;

	/* They become those of the guest together with the reply. */
	if (kvi->state == KVMI_EVENT_NONE)
		return -KVM_EOPNOTSUPP;

	memcpy(&kvi->verdict.regs, call->req, sizeof(kvi->verdict.regs));
	kvi->verdict.set_regs = true;

	return 0;
}
