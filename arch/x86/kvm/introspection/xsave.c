// SPDX-License-Identifier: GPL-2.0
/*
 * KVM introspection: the extended state of an x86 vCPU.
 *
 * Inside KVM_RUN the processor holds the FPU state of the guest, so it has to be
 * saved before it can be looked at.
 */
#include <linux/kvmi_host.h>
#include <linux/slab.h>
#include <asm/fpu/xcr.h>

#include "fpu.h"
#include "x86.h"

/* KVMI_VCPU_GET_XCR */
int kvmi_arch_vcpu_get_xcr(struct kvmi_call *call)
{
	const struct kvmi_vcpu_get_xcr *req = call->req;
	struct kvmi_vcpu_get_xcr_reply *rpl;

	if (memchr_inv(req->padding, 0, sizeof(req->padding)) ||
	    req->xcr != XCR_XFEATURE_ENABLED_MASK)
		return -KVM_EINVAL;

	rpl = kvmi_reply_small(call, sizeof(*rpl));
	rpl->value = call->vcpu->arch.xcr0;

	return 0;
}

/* KVMI_VCPU_GET_XSAVE */
int kvmi_arch_vcpu_get_xsave(struct kvmi_call *call)
{
	struct kvmi_vcpu_get_xsave_reply *rpl;
	int r;

	rpl = kzalloc_obj(*rpl, GFP_KERNEL_ACCOUNT);
	if (!rpl)
		return -KVM_ENOMEM;

	kvm_put_guest_fpu(call->vcpu);
	r = kvm_vcpu_ioctl_x86_get_xsave2(call->vcpu, (u8 *)rpl->xsave.region,
					  sizeof(rpl->xsave.region));
	kvm_load_guest_fpu(call->vcpu);
	if (r) {
		kfree(rpl);
		return -KVM_EINVAL;
	}

	call->reply = rpl;
	call->reply_len = sizeof(*rpl);
	return 0;
}

/* KVMI_VCPU_SET_XSAVE */
int kvmi_arch_vcpu_set_xsave(struct kvmi_call *call)
{
	const struct kvmi_vcpu_set_xsave *req = call->req;
	struct kvm_vcpu *vcpu = call->vcpu;
	struct kvm_xsave *xsave;
	int r;

	if (call->req_len < sizeof(*req))
		return -KVM_EINVAL;

	/* The guest may have more state than there is room for in the message. */
	xsave = kzalloc(max_t(size_t, sizeof(*req), vcpu->arch.guest_fpu.uabi_size),
			GFP_KERNEL_ACCOUNT);
	if (!xsave)
		return -KVM_ENOMEM;
	memcpy(xsave, req, sizeof(*req));

	kvm_put_guest_fpu(vcpu);
	r = kvm_vcpu_ioctl_x86_set_xsave(vcpu, xsave);
	kvm_load_guest_fpu(vcpu);
	kfree(xsave);

	return r ? -KVM_EINVAL : 0;
}
