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

/* Bits of kvmi_vcpu_arch.intercepts: events that are enabled, ... */
#define KVMI_INTERCEPT_BP	BIT(0)
#define KVMI_INTERCEPT_CR	BIT(1)
#define KVMI_INTERCEPT_DESC	BIT(2)
#define KVMI_INTERCEPT_MSR	BIT(3)
/* ... and what else the tool has selected. */
#define KVMI_INTERCEPT_STEP	BIT(4)
#define KVMI_SELECT_CR(cr)	BIT(8 + (cr))

#define KVMI_INTERCEPT_CR_WRITE(cr)	(KVMI_INTERCEPT_CR | KVMI_SELECT_CR(cr))

static __always_inline bool kvmi_intercepts(struct kvm_vcpu *vcpu, u32 what)
{
	return kvmi_is_in_use() &&
	       (READ_ONCE(vcpu->arch.kvmi.intercepts) & what) == what;
}

/*
 * Are there intercepts of this vCPU that are computed only because of a tool? That
 * goes on when it is gone, and nobody is introspected any more: a vCPU that does
 * not run just then computes its intercepts later.
 */
static inline bool kvmi_shares_intercepts(struct kvm_vcpu *vcpu)
{
	return READ_ONCE(vcpu->arch.kvmi.shares);
}

void kvmi_set_intercept(struct kvm_vcpu *vcpu, u32 what, bool enable);
bool __kvmi_intercepts_msr(struct kvm_vcpu *vcpu, u32 msr);

static __always_inline bool kvmi_intercepts_msr(struct kvm_vcpu *vcpu, u32 msr)
{
	return kvmi_is_in_use() && __kvmi_intercepts_msr(vcpu, msr);
}

#else

#define KVMI_INTERCEPT_BP		0
#define KVMI_INTERCEPT_CR_WRITE(cr)	0
#define KVMI_INTERCEPT_DESC		0
#define KVMI_INTERCEPT_STEP		0

static inline bool kvmi_intercepts(struct kvm_vcpu *vcpu, u32 what)
{
	return false;
}

static inline bool kvmi_intercepts_msr(struct kvm_vcpu *vcpu, u32 msr)
{
	return false;
}

static inline bool kvmi_shares_intercepts(struct kvm_vcpu *vcpu)
{
	return false;
}

#endif

#endif
