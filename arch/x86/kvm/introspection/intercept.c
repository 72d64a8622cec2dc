// SPDX-License-Identifier: GPL-2.0
/*
 * KVM introspection: what the tool needs to be intercepted.
 */
#include <linux/bitmap.h>
#include <linux/kvmi_host.h>
#include <linux/slab.h>

#include "msrs.h"
#include "x86.h"

#include "intercept.h"

/* The MSRs that have a bit in the bitmaps of VMX and SVM. */
#define KVMI_NUM_MSRS		0x2000
#define KVMI_FIRST_HIGH_MSR	0xc0000000

/* The one in kvmi_vcpu_arch.msrs, or -1. */
static int kvmi_msr_bit(u32 msr)
{
	if (msr < KVMI_NUM_MSRS)
		return msr;
	if (msr - KVMI_FIRST_HIGH_MSR < KVMI_NUM_MSRS)
		return msr - KVMI_FIRST_HIGH_MSR + KVMI_NUM_MSRS;

	return -1;
}

/**
 * kvmi_set_intercept - the tool wants something to be intercepted, or no longer
 * @vcpu: the vCPU
 * @what: KVMI_INTERCEPT_*, KVMI_SELECT_*
 * @enable: wants it or not
 *
 * Who may call this: see struct kvmi_vcpu_arch.
 */
void kvmi_set_intercept(struct kvm_vcpu *vcpu, u32 what, bool enable)
{
	u32 now = vcpu->arch.kvmi.intercepts;

	if (enable)
		WRITE_ONCE(vcpu->arch.kvmi.shares, true);
	WRITE_ONCE(vcpu->arch.kvmi.intercepts,
		   enable ? now | what : now & ~what);
	kvm_make_request(KVM_REQ_RECALC_INTERCEPTS, vcpu);
}

/**
 * kvmi_arch_control_event - the tool enables or disables an event
 * @vcpu: the vCPU of the calling thread
 * @event: KVMI_VCPU_EVENT_*, of those that need enabling
 * @enable: whether it is enabled
 *
 * Return: 0, -KVM_EOPNOTSUPP if the hardware cannot
 */
int kvmi_arch_control_event(struct kvm_vcpu *vcpu, u16 event, bool enable)
{
	switch (event) {
	case KVMI_VCPU_EVENT_BREAKPOINT:
		kvmi_set_intercept(vcpu, KVMI_INTERCEPT_BP, enable);
		break;
	case KVMI_VCPU_EVENT_CR:
		kvmi_set_intercept(vcpu, KVMI_INTERCEPT_CR, enable);
		break;
	case KVMI_VCPU_EVENT_DESCRIPTOR:
		if (!kvm_caps.has_descriptor_intercept)
			return -KVM_EOPNOTSUPP;
		kvmi_set_intercept(vcpu, KVMI_INTERCEPT_DESC, enable);
		break;
	case KVMI_VCPU_EVENT_MSR:
		kvmi_set_intercept(vcpu, KVMI_INTERCEPT_MSR, enable);
		break;
	}

	return 0;
}

/* KVMI_VCPU_CONTROL_CR */
int kvmi_arch_vcpu_control_cr(struct kvmi_call *call)
{
	const struct kvmi_vcpu_control_cr *req = call->req;

	if (req->padding1 || req->padding2 || req->enable > 1 ||
	    (req->cr != 0 && req->cr != 3 && req->cr != 4))
		return -KVM_EINVAL;

	kvmi_set_intercept(call->vcpu, KVMI_SELECT_CR(req->cr), req->enable);
	return 0;
}

/* KVM does not intercept these one by one. */
static bool kvmi_is_x2apic_msr(u32 msr)
{
	return msr >= 0x800 && msr <= 0x8ff;
}

/* KVMI_VCPU_CONTROL_MSR */
int kvmi_arch_vcpu_control_msr(struct kvmi_call *call)
{
	const struct kvmi_vcpu_control_msr *req = call->req;
	struct kvmi_vcpu_arch *arch = &call->vcpu->arch.kvmi;
	int bit = kvmi_msr_bit(req->msr);

	if (req->padding1 || req->padding2 || req->enable > 1 || bit < 0 ||
	    kvmi_is_x2apic_msr(req->msr))
		return -KVM_EINVAL;
	if (req->enable &&
	    !kvm_msr_allowed(call->vcpu, req->msr, KVM_MSR_FILTER_WRITE))
		return -KVM_EPERM;

	if (!arch->msrs) {
		if (!req->enable)
			return 0;
		arch->msrs = bitmap_zalloc(2 * KVMI_NUM_MSRS, GFP_KERNEL_ACCOUNT);
		if (!arch->msrs)
			return -KVM_ENOMEM;
	}

	assign_bit(bit, arch->msrs, req->enable);
	kvm_make_request(KVM_REQ_RECALC_INTERCEPTS, call->vcpu);
	return 0;
}

/* The tool wants to see the guest's writes to this MSR. */
bool __kvmi_intercepts_msr(struct kvm_vcpu *vcpu, u32 msr)
{
	unsigned long *msrs = vcpu->arch.kvmi.msrs;
	int bit = kvmi_msr_bit(msr);

	return kvmi_intercepts(vcpu, KVMI_INTERCEPT_MSR) && msrs && bit >= 0 &&
	       test_bit(bit, msrs);
}
EXPORT_SYMBOL_FOR_KVM_INTERNAL(__kvmi_intercepts_msr);

/**
 * kvmi_arch_drop_intercepts - the tool needs nothing any more
 * @vcpu: a vCPU whose introspection was withdrawn
 *
 * kvmi_arch_recalc_intercepts() follows.
 */
void kvmi_arch_drop_intercepts(struct kvm_vcpu *vcpu)
{
	WRITE_ONCE(vcpu->arch.kvmi.intercepts, 0);
	if (vcpu->arch.kvmi.msrs)
		bitmap_zero(vcpu->arch.kvmi.msrs, 2 * KVMI_NUM_MSRS);
}

/**
 * kvmi_arch_recalc_intercepts - have all intercepts of a VM computed again
 * @kvm: the VM
 *
 * When this returns, no vCPU is in guest mode that was so before; each
 * computes its intercepts before it enters it again.
 */
void kvmi_arch_recalc_intercepts(struct kvm *kvm)
{
	kvm_update_blockirq_apicv_inhibit(kvm);
	kvm_make_all_cpus_request(kvm, KVM_REQ_RECALC_INTERCEPTS | KVM_REQUEST_WAIT);
}

/**
 * kvmi_arch_free_vcpu - free what the vCPU keeps for the tool
 * @vcpu: a vCPU that is destroyed
 */
void kvmi_arch_free_vcpu(struct kvm_vcpu *vcpu)
{
	bitmap_free(vcpu->arch.kvmi.msrs);
}
