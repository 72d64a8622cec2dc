// SPDX-License-Identifier: GPL-2.0
/*
 * KVM introspection: accesses to the descriptor table registers.
 */
#include <linux/kvmi_host.h>

#include "regs.h"
#include "x86.h"

#include "events.h"

/**
 * __kvmi_descriptor - the guest accesses a descriptor table register
 * @vcpu: the vCPU, with rip at the instruction; the caller holds kvm->srcu
 * @descriptor: KVMI_DESC_*
 * @write: it loads the register
 * @r: out: what the exit handler is to return
 *
 * Return: true if the instruction must not be emulated
 */
bool __kvmi_descriptor(struct kvm_vcpu *vcpu, u8 descriptor, bool write, int *r)
{
	struct kvmi_vcpu_event_descriptor payload = {
		.descriptor = descriptor,
		.write = write,
	};
	struct kvmi_event ev = {
		.id = KVMI_VCPU_EVENT_DESCRIPTOR,
		.payload = &payload,
		.payload_len = sizeof(payload),
	};

	if (!kvmi_wants(vcpu, ev.id))
		return false;

	*r = kvmi_raise_insn(vcpu, &ev);
	if (*r == KVMI_RETRY)
		*r = 1;

	return *r != KVMI_CONTINUE;
}
EXPORT_SYMBOL_FOR_KVM_INTERNAL(__kvmi_descriptor);
