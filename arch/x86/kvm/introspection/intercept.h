/* SPDX-License-Identifier: GPL-2.0 */
/*
 * KVM introspection: what the tool needs to be intercepted.
 *
 * The rule for every intercept is: KVM's own need is computed, the need of the
 * tool is ORed in, and the whole is computed again when either changes. Here
 * are the tool's words; whoever computes an intercept asks for them.
 */
#ifndef __KVM_X86_INTROSPECTION_INTERCEPT_H
#define __KVM_X86_INTROSPECTION_INTERCEPT_H

#include <linux/kvmi_host.h>

#ifdef CONFIG_KVM_INTROSPECTION

/* Bits of kvm_vcpu_arch.kvmi_intercepts. */
#define KVMI_INTERCEPT_BP	BIT(0)

static __always_inline bool kvmi_intercepts(struct kvm_vcpu *vcpu, u32 what)
{
	return kvmi_is_in_use() &&
	       (READ_ONCE(vcpu->arch.kvmi_intercepts) & what);
}

#else

#define KVMI_INTERCEPT_BP	0

static inline bool kvmi_intercepts(struct kvm_vcpu *vcpu, u32 what)
{
	return false;
}

#endif

#endif
