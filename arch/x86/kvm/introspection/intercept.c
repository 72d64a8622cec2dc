// SPDX-License-Identifier: GPL-2.0
/*
 * KVM introspection: what the tool needs to be intercepted.
 */
#include "intercept.h"

/*
 * kvm_vcpu_arch.kvmi_intercepts is changed by the vCPU's thread while the
 * connection is published, and by the receiver after it was withdrawn.
 */
static void kvmi_set_intercept(struct kvm_vcpu *vcpu, u32 what, bool enable)
{
	u32 now = vcpu->arch.kvmi_intercepts;

	WRITE_ONCE(vcpu->arch.kvmi_intercepts,
		   enable ? now | what : now & ~what);
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
	if (event == KVMI_VCPU_EVENT_BREAKPOINT) {
		kvmi_set_intercept(vcpu, KVMI_INTERCEPT_BP, enable);
		kvm_x86_call(update_exception_bitmap)(vcpu);
	}

	return 0;
}

/**
 * kvmi_arch_drop_intercepts - the tool needs nothing any more
 * @vcpu: a vCPU whose introspection was withdrawn
 *
 * kvmi_arch_recalc_intercepts() follows.
 */
void kvmi_arch_drop_intercepts(struct kvm_vcpu *vcpu)
{
	WRITE_ONCE(vcpu->arch.kvmi_intercepts, 0);
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
	kvm_make_all_cpus_request(kvm, KVM_REQ_RECALC_INTERCEPTS | KVM_REQUEST_WAIT);
}
