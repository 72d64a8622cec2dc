// SPDX-License-Identifier: GPL-2.0
/*
 * KVM introspection: commands for an x86 vCPU.
 *
 * They run in the vCPU's thread, with the vCPU loaded and kvm->srcu held.
 */
#include <linux/kvmi_host.h>
#include <linux/slab.h>

#include "cpuid.h"
#include "msrs.h"
#include "regs.h"

#include "registers.h"

/* KVMI_VCPU_GET_INFO */
int kvmi_arch_vcpu_get_info(struct kvmi_call *call)
{
	struct kvmi_vcpu_get_info_reply *rpl;

	rpl = kvmi_reply_small(call, sizeof(*rpl));
	if (kvm_caps.has_tsc_control)
		rpl->tsc_speed = 1000ull * call->vcpu->arch.virtual_tsc_khz;

	return 0;
}

static int kvmi_read_msrs(struct kvm_vcpu *vcpu, const u32 *indexes,
			  struct kvm_msr_entry *entries, unsigned int nr)
{
	unsigned int i;

	for (i = 0; i < nr; i++) {
		entries[i].index = indexes[i];
		if (__kvm_emulate_msr_read(vcpu, indexes[i], &entries[i].data))
			return -KVM_EINVAL;
	}

	return 0;
}

/* KVMI_VCPU_GET_REGISTERS */
int kvmi_arch_vcpu_get_registers(struct kvmi_call *call)
{
	const struct kvmi_vcpu_get_registers *req = call->req;
	struct kvmi_vcpu_get_registers_reply *rpl;
	size_t len = struct_size(rpl, msrs.entries, req->nmsrs);
	int r;

	if (req->padding1 || req->padding2 ||
	    call->req_len < struct_size(req, msrs_idx, req->nmsrs) ||
	    sizeof(struct kvmi_error_code) + len > KVMI_MSG_SIZE)
		return -KVM_EINVAL;

	rpl = kzalloc(len, GFP_KERNEL_ACCOUNT);
	if (!rpl)
		return -KVM_ENOMEM;

	rpl->mode = kvmi_get_registers(call->vcpu, &rpl->regs, &rpl->sregs);
	rpl->msrs.nmsrs = req->nmsrs;
	r = kvmi_read_msrs(call->vcpu, req->msrs_idx, rpl->msrs.entries, req->nmsrs);
	if (r) {
		kfree(rpl);
		return r;
	}

	call->reply = rpl;
	call->reply_len = len;
	return 0;
}

/* KVMI_VCPU_GET_CPUID */
int kvmi_arch_vcpu_get_cpuid(struct kvmi_call *call)
{
	const struct kvmi_vcpu_get_cpuid *req = call->req;
	struct kvmi_vcpu_get_cpuid_reply *rpl;

	rpl = kvmi_reply_small(call, sizeof(*rpl));
	rpl->eax = req->function;
	rpl->ecx = req->index;
	if (!kvm_cpuid(call->vcpu, &rpl->eax, &rpl->ebx, &rpl->ecx, &rpl->edx, true))
		return -KVM_ENOENT;

	return 0;
}
