// SPDX-License-Identifier: GPL-2.0
/*
 * KVM introspection: writes to control registers.
 */
#include <linux/kvmi_host.h>

#include "mmu.h"
#include "regs.h"
#include "x86.h"

#include "events.h"
#include "intercept.h"

static unsigned long kvmi_read_cr(struct kvm_vcpu *vcpu, int cr)
{
	switch (cr) {
	case 0:
		return kvm_read_cr0(vcpu);
	case 3:
		return kvm_read_cr3(vcpu);
	default:
		return kvm_read_cr4(vcpu);
	}
}

/* CR0.TS is the guest's own: not every change of it can be seen. */
static unsigned long kvmi_ignored_bits(int cr)
{
	return cr == 0 ? X86_CR0_TS : 0;
}

/* Bits that are part of the instruction, not of the register. */
static unsigned long kvmi_cr3_flags(struct kvm_vcpu *vcpu, unsigned long cr3)
{
#ifdef CONFIG_X86_64
	if (kvm_is_cr4_bit_set(vcpu, X86_CR4_PCIDE))
		return cr3 & X86_CR3_PCID_NOFLUSH;
#endif
	return 0;
}

static bool kvmi_can_set_cr(struct kvm_vcpu *vcpu, int cr, unsigned long val)
{
	switch (cr) {
	case 0:
		return kvm_can_set_cr0(vcpu, val);
	case 3:
		return kvm_vcpu_is_legal_cr3(vcpu, val);
	default:
		return kvm_can_set_cr4(vcpu, val);
	}
}

/**
 * __kvmi_cr_write - the guest is about to write a control register
 * @vcpu: the vCPU, with rip at the instruction; the caller holds kvm->srcu
 * @cr: which one
 * @val: what is written; may be changed by the tool, and is to be checked then
 * @r: out: what the exit handler is to return
 *
 * The tool is told of a write that is legal and changes the register.
 *
 * Return: true if the instruction must not be completed
 */
bool __kvmi_cr_write(struct kvm_vcpu *vcpu, int cr, unsigned long *val, int *r)
{
	struct kvmi_vcpu_event_cr payload = { .cr = cr };
	struct kvmi_event ev = {
		.id = KVMI_VCPU_EVENT_CR,
		.payload = &payload,
		.payload_len = sizeof(payload),
	};
	unsigned long flags = 0, new = *val;

	if (!kvmi_wants(vcpu, ev.id))
		return false;

	if (cr == 0)
		new = kvm_normalize_cr0(new);
	else if (cr == 3)
		flags = kvmi_cr3_flags(vcpu, new);
	new &= ~flags;

	payload.old_value = kvmi_read_cr(vcpu, cr);
	payload.new_value = new;
	if (!((payload.old_value ^ new) & ~kvmi_ignored_bits(cr)) ||
	    !kvmi_can_set_cr(vcpu, cr, *val & ~flags))
		return false;

	ev.reply = new;
	if (kvmi_raise_write(vcpu, &ev, r))
		return true;

	/* The guest's own value keeps what comes with it. */
	if (ev.reply != new)
		*val = ev.reply;
	return false;
}
EXPORT_SYMBOL_FOR_KVM_INTERNAL(__kvmi_cr_write);
