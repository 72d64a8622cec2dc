/* SPDX-License-Identifier: GPL-2.0 */
/*
 * KVM introspection: single-stepping with RFLAGS.TF.
 *
 * Vendor code calls these around each entry of the guest, and tells what only it
 * can know; how far a step is, and what the guest has to see of its flags, is
 * decided here.
 */
#ifndef __KVM_X86_INTROSPECTION_SINGLESTEP_H
#define __KVM_X86_INTROSPECTION_SINGLESTEP_H

#include <linux/kvmi_host.h>

#include "intercept.h"
#include "x86.h"

/* Exceptions that can come while the guest runs with TF, and would show it. */
#define KVMI_STEP_EXCEPTIONS						\
	(BIT(DE_VECTOR) | BIT(DB_VECTOR) | BIT(BP_VECTOR) | BIT(OF_VECTOR) | \
	 BIT(BR_VECTOR) | BIT(UD_VECTOR) | BIT(NM_VECTOR) | BIT(DF_VECTOR) | \
	 BIT(TS_VECTOR) | BIT(NP_VECTOR) | BIT(SS_VECTOR) | BIT(GP_VECTOR) | \
	 BIT(PF_VECTOR) | BIT(MF_VECTOR) | BIT(AC_VECTOR) | BIT(MC_VECTOR) | \
	 BIT(XM_VECTOR) | BIT(CP_VECTOR))

/* Is the vCPU single-stepped, and is TF what does it? */
static __always_inline bool kvmi_steps_with_tf(struct kvm_vcpu *vcpu)
{
	return kvmi_intercepts(vcpu, KVMI_INTERCEPT_STEP) &&
	       !kvm_caps.has_monitor_trap;
}

#ifdef CONFIG_KVM_INTROSPECTION

enum kvmi_step_state kvmi_begin_step(struct kvm_vcpu *vcpu, bool delivers,
				     u64 *rflags);
bool kvmi_end_step(struct kvm_vcpu *vcpu, bool trapped, bool delivered,
		   u64 *rflags);
bool kvmi_step_has_trapped(struct kvm_vcpu *vcpu);
void __kvmi_handle_step(struct kvm_vcpu *vcpu);

/*
 * Is kvmi_end_step() due? No vCPU runs with TF any more when the last connection
 * is gone.
 */
static __always_inline bool kvmi_is_in_step(struct kvm_vcpu *vcpu)
{
	return kvmi_is_in_use() && vcpu->arch.kvmi.step != KVMI_STEP_NONE;
}

/*
 * Of the causes of the #DB that ended a step, those that are the guest's own. @dr7:
 * the breakpoints that it ran with.
 */
static inline u64 kvmi_step_dr6(struct kvm_vcpu *vcpu, u64 dr6, u64 dr7)
{
	int i;

	/* Breakpoints on instructions are faults: this one is of the next, still to come. */
	for (i = 0; i < KVM_NR_DB_REGS; i++) {
		if (!(dr7 >> (DR_CONTROL_SHIFT + i * DR_CONTROL_SIZE) & 3))
			dr6 &= ~(u64)(DR_TRAP0 << i);
	}

	return vcpu->arch.kvmi.step_guest_tf ? dr6 | DR6_BS : dr6 & ~(u64)DR6_BS;
}

/* The exit may be the end of a step, whatever else it is. */
static __always_inline void kvmi_handle_step(struct kvm_vcpu *vcpu)
{
	if (kvmi_is_in_step(vcpu))
		__kvmi_handle_step(vcpu);
}

#else

static inline enum kvmi_step_state
kvmi_begin_step(struct kvm_vcpu *vcpu, bool delivers, u64 *rflags)
{
	return KVMI_STEP_NONE;
}

static inline bool kvmi_end_step(struct kvm_vcpu *vcpu, bool trapped,
				 bool delivered, u64 *rflags)
{
	return false;
}

static inline bool kvmi_step_has_trapped(struct kvm_vcpu *vcpu)
{
	return false;
}

static inline bool kvmi_is_in_step(struct kvm_vcpu *vcpu)
{
	return false;
}

static inline u64 kvmi_step_dr6(struct kvm_vcpu *vcpu, u64 dr6, u64 dr7)
{
	return dr6;
}

static inline void kvmi_handle_step(struct kvm_vcpu *vcpu)
{
}

#endif

#endif
