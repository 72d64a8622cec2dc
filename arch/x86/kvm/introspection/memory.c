// SPDX-License-Identifier: GPL-2.0
/*
 * KVM introspection: how an x86 vCPU sees memory.
 */
#include <linux/kvmi_host.h>
#include <asm/mtrr.h>

#include "mmu.h"

#include "memory.h"

#define KVMI_MTRR_FIXED_END	SZ_1M
#define KVMI_MTRR_RANGE		GENMASK_ULL(63, PAGE_SHIFT)

/* The fixed ranges: 64 KiB, 16 KiB and 4 KiB each, a byte for each range. */
static u8 kvmi_fixed_mtrr_type(const struct kvm_mtrr *mtrr, u64 gpa)
{
	const u64 *regs;
	unsigned int i;

	if (gpa < 0x80000) {
		regs = &mtrr->fixed_64k;
		i = gpa / SZ_64K;
	} else if (gpa < 0xc0000) {
		regs = mtrr->fixed_16k;
		i = (gpa - 0x80000) / SZ_16K;
	} else {
		regs = mtrr->fixed_4k;
		i = (gpa - 0xc0000) / SZ_4K;
	}

	return regs[i / 8] >> (i % 8 * 8);
}

/* Where ranges overlap: UC before all others, WT before WB. */
static u8 kvmi_combine_mtrr_types(u8 a, u8 b)
{
	if (a == MTRR_TYPE_UNCACHABLE || b == MTRR_TYPE_UNCACHABLE)
		return MTRR_TYPE_UNCACHABLE;
	if (a == MTRR_TYPE_WRTHROUGH || b == MTRR_TYPE_WRTHROUGH)
		return MTRR_TYPE_WRTHROUGH;

	return a;
}

static u8 kvmi_mtrr_type(struct kvm_vcpu *vcpu, u64 gpa)
{
	const struct kvm_mtrr *mtrr = &vcpu->arch.mtrr_state;
	bool found = false;
	u8 type = mtrr->deftype;
	u64 base, mask;
	int i;

	if (!(mtrr->deftype & MTRR_DEF_TYPE_E))
		return MTRR_TYPE_UNCACHABLE;

	if (gpa < KVMI_MTRR_FIXED_END && mtrr->deftype & MTRR_DEF_TYPE_FE)
		return kvmi_fixed_mtrr_type(mtrr, gpa);

	for (i = 0; i < KVM_NR_VAR_MTRR; i++) {
		base = mtrr->var[2 * i];
		mask = mtrr->var[2 * i + 1];
		if (!(mask & MTRR_PHYSMASK_V) ||
		    (gpa ^ base) & mask & KVMI_MTRR_RANGE)
			continue;

		type = found ? kvmi_combine_mtrr_types(type, base) : (u8)base;
		found = true;
	}

	return type;
}

/* KVMI_VCPU_GET_MTRR_TYPE */
int kvmi_arch_vcpu_get_mtrr_type(struct kvmi_call *call)
{
	const struct kvmi_vcpu_get_mtrr_type *req = call->req;
	struct kvmi_vcpu_get_mtrr_type_reply *rpl;

	rpl = kvmi_reply_small(call, sizeof(*rpl));
	rpl->type = kvmi_mtrr_type(call->vcpu, req->gpa);

	return 0;
}

/**
 * kvmi_gva_to_gpa - translate as the page tables say, whoever may use them
 * @vcpu: the vCPU of the calling thread, which holds kvm->srcu
 * @gva: guest virtual address
 *
 * Return: the guest physical address, INVALID_GPA if there is none
 */
gpa_t kvmi_gva_to_gpa(struct kvm_vcpu *vcpu, gva_t gva)
{
	struct kvm_pagewalk *walk = &vcpu->arch.gva_walk;
	gpa_t gpa;

	gpa = kvm_mmu_gva_to_gpa_system(vcpu, gva, NULL);
	/* With SMAP, pages of user mode are for user mode only. */
	if (gpa == INVALID_GPA)
		gpa = walk->gva_to_gpa(vcpu, walk, gva, PFERR_USER_MASK, NULL);

	return gpa;
}

/* KVMI_VCPU_TRANSLATE_GVA */
int kvmi_arch_vcpu_translate_gva(struct kvmi_call *call)
{
	const struct kvmi_vcpu_translate_gva *req = call->req;
	struct kvmi_vcpu_translate_gva_reply *rpl;

	rpl = kvmi_reply_small(call, sizeof(*rpl));
	rpl->gpa = kvmi_gva_to_gpa(call->vcpu, req->gva);

	return 0;
}
