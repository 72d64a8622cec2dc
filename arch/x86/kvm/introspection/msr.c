// SPDX-License-Identifier: GPL-2.0
/*
 * KVM introspection: writes to MSRs.
 */
#include <linux/kvmi_host.h>

#include "msrs.h"
#include "x86.h"

#include "events.h"

/**
 * __kvmi_msr_write - the guest is about to write an MSR that the tool selected
 * @vcpu: the vCPU, with rip at the instruction; the caller holds kvm->srcu
 * @msr: its index
 * @data: what is written; may be changed by the tool
 * @r: out: what the exit handler is to return
 *
 * The tool is told of a write that the VMM does not deny and that changes the
 * MSR. Whether it is legal is known only when it is done.
 *
 * Return: true if the instruction must not be completed
 */
bool __kvmi_msr_write(struct kvm_vcpu *vcpu, u32 msr, u64 *data, int *r)
{
	struct kvmi_vcpu_event_msr payload = { .msr = msr, .new_value = *data };
	struct kvmi_event ev = {
		.id = KVMI_VCPU_EVENT_MSR,
		.payload = &payload,
		.payload_len = sizeof(payload),
		.reply = *data,
	};

	if (!kvmi_wants(vcpu, ev.id) ||
	    !kvm_msr_allowed(vcpu, msr, KVM_MSR_FILTER_WRITE) ||
	    __kvm_emulate_msr_read(vcpu, msr, &payload.old_value) ||
	    payload.old_value == *data)
		return false;

	if (kvmi_raise_write(vcpu, &ev, r))
		return true;

	*data = ev.reply;
	return false;
}
