/* SPDX-License-Identifier: GPL-2.0 */
/*
 * KVM introspection: where x86 raises events.
 *
 * Each of these returns true if the exit was dealt with; then *r is what the
 * exit handler is to return.
 */
#ifndef __KVM_X86_INTROSPECTION_EVENTS_H
#define __KVM_X86_INTROSPECTION_EVENTS_H

#include <linux/kvmi_host.h>

#ifdef CONFIG_KVM_INTROSPECTION

bool kvmi_breakpoint(struct kvm_vcpu *vcpu, u8 insn_len, int *r);
bool __kvmi_hypercall(struct kvm_vcpu *vcpu, int *r);

static __always_inline bool kvmi_hypercall(struct kvm_vcpu *vcpu, int *r)
{
	return kvmi_is_in_use() && __kvmi_hypercall(vcpu, r);
}

#else

static inline bool kvmi_breakpoint(struct kvm_vcpu *vcpu, u8 insn_len, int *r)
{
	return false;
}

static inline bool kvmi_hypercall(struct kvm_vcpu *vcpu, int *r)
{
	return false;
}

#endif

#endif
