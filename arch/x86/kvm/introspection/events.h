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

#include "intercept.h"

#ifdef CONFIG_KVM_INTROSPECTION

bool kvmi_wants(struct kvm_vcpu *vcpu, u8 event);
int kvmi_raise_insn(struct kvm_vcpu *vcpu, struct kvmi_event *ev);
bool kvmi_raise_write(struct kvm_vcpu *vcpu, struct kvmi_event *ev, int *r);
int kvmi_end_emulation(struct kvm_vcpu *vcpu, int r);

bool kvmi_breakpoint(struct kvm_vcpu *vcpu, u8 insn_len, int *r);
bool __kvmi_hypercall(struct kvm_vcpu *vcpu, int *r);
bool __kvmi_cr_write(struct kvm_vcpu *vcpu, int cr, unsigned long *val, int *r);
bool __kvmi_descriptor(struct kvm_vcpu *vcpu, u8 descriptor, bool write, int *r);
bool __kvmi_msr_write(struct kvm_vcpu *vcpu, u32 msr, u64 *data, int *r);
bool __kvmi_xsetbv(struct kvm_vcpu *vcpu, u32 index, u64 val, int *r);
int kvmi_page_denied(struct kvm_vcpu *vcpu, u64 gva, gpa_t gpa, u8 access);
void kvmi_step_over(struct kvm_vcpu *vcpu, bool enable);
void __kvmi_instruction_done(struct kvm_vcpu *vcpu);
bool __kvmi_step_in_software(struct kvm_vcpu *vcpu, int *r);

static __always_inline bool kvmi_hypercall(struct kvm_vcpu *vcpu, int *r)
{
	return kvmi_is_in_use() && __kvmi_hypercall(vcpu, r);
}

static __always_inline bool kvmi_cr_write(struct kvm_vcpu *vcpu, int cr,
					  unsigned long *val, int *r)
{
	return kvmi_intercepts(vcpu, KVMI_INTERCEPT_CR_WRITE(cr)) &&
	       __kvmi_cr_write(vcpu, cr, val, r);
}

static __always_inline bool kvmi_descriptor(struct kvm_vcpu *vcpu, u8 descriptor,
					    bool write, int *r)
{
	return kvmi_intercepts(vcpu, KVMI_INTERCEPT_DESC) &&
	       __kvmi_descriptor(vcpu, descriptor, write, r);
}

static __always_inline bool kvmi_msr_write(struct kvm_vcpu *vcpu, u32 msr,
					   u64 *data, int *r)
{
	return kvmi_intercepts_msr(vcpu, msr) &&
	       __kvmi_msr_write(vcpu, msr, data, r);
}

static __always_inline bool kvmi_xsetbv(struct kvm_vcpu *vcpu, u32 index,
					u64 val, int *r)
{
	return kvmi_is_in_use() && __kvmi_xsetbv(vcpu, index, val, r);
}

/* To be called whenever an instruction of the guest is done. */
static __always_inline void kvmi_instruction_done(struct kvm_vcpu *vcpu)
{
	if (kvmi_intercepts(vcpu, KVMI_INTERCEPT_STEP))
		__kvmi_instruction_done(vcpu);
}

static __always_inline bool kvmi_step_in_software(struct kvm_vcpu *vcpu, int *r)
{
	return kvmi_intercepts(vcpu, KVMI_INTERCEPT_STEP) &&
	       __kvmi_step_in_software(vcpu, r);
}

#else

static inline int kvmi_end_emulation(struct kvm_vcpu *vcpu, int r)
{
	return 0;
}

static inline bool kvmi_breakpoint(struct kvm_vcpu *vcpu, u8 insn_len, int *r)
{
	return false;
}

static inline bool kvmi_hypercall(struct kvm_vcpu *vcpu, int *r)
{
	return false;
}

static inline bool kvmi_cr_write(struct kvm_vcpu *vcpu, int cr,
				 unsigned long *val, int *r)
{
	return false;
}

static inline bool kvmi_descriptor(struct kvm_vcpu *vcpu, u8 descriptor,
				   bool write, int *r)
{
	return false;
}

static inline bool kvmi_msr_write(struct kvm_vcpu *vcpu, u32 msr, u64 *data,
				  int *r)
{
	return false;
}

static inline bool kvmi_xsetbv(struct kvm_vcpu *vcpu, u32 index, u64 val, int *r)
{
	return false;
}

static inline void kvmi_instruction_done(struct kvm_vcpu *vcpu)
{
}

static inline bool kvmi_step_in_software(struct kvm_vcpu *vcpu, int *r)
{
	return false;
}

#endif

#endif
