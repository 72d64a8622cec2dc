// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: KVMI_VCPU_TRANSLATE_GVA and KVMI_VCPU_GET_MTRR_TYPE.
 */
#include "kvm_test_harness.h"
#include "kvmi_util.h"
#include "test_util.h"

#define UNMAPPED		(~0ull)

#define SIZE_2M			BIT_ULL(21)
#define SIZE_1G			BIT_ULL(30)

/* As in the MTRRs. */
#define MTRR_UC			0
#define MTRR_WC			1
#define MTRR_WT			4
#define MTRR_WP			5
#define MTRR_WB			6
#define MTRR_ENABLE		BIT(11)
#define MTRR_FIXED_ENABLE	BIT(10)
#define MTRR_VALID		BIT(11)
#define MTRR_DEF_TYPE		0x2ff
#define MTRR_FIX_64K_00000	0x250
#define MTRR_FIX_16K_80000	0x258
#define MTRR_FIX_16K_A0000	0x259
#define MTRR_FIX_4K_C0000	0x268
#define MTRR_FIX_4K_F8000	0x26f
#define MTRR_PHYS_BASE(n)	(0x200 + 2 * (n))
#define MTRR_PHYS_MASK(n)	(0x201 + 2 * (n))

KVMI_TEST_SUITE(kvmi_translate, 2);

static u64 guest_set_cr3(u64 value, u64 unused)
{
	set_cr3(value);
	return 0;
}

static u64 guest_wrmsr(u64 msr, u64 value)
{
	return wrmsr_safe(msr, value);
}

static u64 translate(struct kvmi_tool *tool, u16 vcpu, u64 gva)
{
	u64 gpa = 0x1234;

	TEST_ASSERT_EQ(kvmi_translate(tool, vcpu, gva, &gpa), 0);
	return gpa;
}

TEST_F(kvmi_translate, mapped)
{
	gva_t gva = vm_alloc_page(self->vm);
	gpa_t gpa = addr_gva2gpa(self->vm, gva);
	struct kvmi_runner runner;
	gva_t code = (gva_t)guest_set_cr3;

	kvmi_start_agent(&runner, self->vcpu[0]);
	TEST_ASSERT_EQ(translate(self->tool, 0, gva), gpa);
	TEST_ASSERT_EQ(translate(self->tool, 0, gva + 1), gpa + 1);
	TEST_ASSERT_EQ(translate(self->tool, 0, gva + 4095), gpa + 4095);
	TEST_ASSERT_EQ(translate(self->tool, 0, code), addr_gva2gpa(self->vm, code));
	kvmi_expect_command_denied(self->tool, KVMI_VCPU_TRANSLATE_GVA);
	TEST_ASSERT_EQ(translate(self->tool, 0, gva), gpa);
	kvmi_stop(&runner);
}

TEST_F(kvmi_translate, unmapped)
{
	gva_t gva = vm_alloc_page(self->vm);
	gpa_t gpa = addr_gva2gpa(self->vm, gva);
	u64 *pte = vm_get_pte(self->vm, gva), old = *pte;
	struct kvmi_runner runner;

	kvmi_start_agent(&runner, self->vcpu[0]);

	/* Nothing there, at any level; or no address. */
	TEST_ASSERT_EQ(translate(self->tool, 0, 0x7000000000), UNMAPPED);
	TEST_ASSERT_EQ(translate(self->tool, 0, 77ull << 39), UNMAPPED);
	TEST_ASSERT_EQ(translate(self->tool, 0, ~0ull), UNMAPPED);
	TEST_ASSERT_EQ(translate(self->tool, 0, NONCANONICAL), UNMAPPED);

	/* The entry goes, and comes back. */
	*pte = 0;
	TEST_ASSERT_EQ(translate(self->tool, 0, gva), UNMAPPED);
	*pte = old & ~PTE_PRESENT_MASK(&self->vm->mmu);
	TEST_ASSERT_EQ(translate(self->tool, 0, gva), UNMAPPED);
	*pte = old;
	TEST_ASSERT_EQ(translate(self->tool, 0, gva), gpa);

	/* A reserved bit. */
	if (self->vm->pa_bits < 52) {
		*pte = old | BIT_ULL(51);
		TEST_ASSERT_EQ(translate(self->tool, 0, gva), UNMAPPED);
		*pte = old;
	}
	kvmi_stop(&runner);
}

/* It is a read by the kernel of the guest: what it may not do otherwise is no matter. */
TEST_F(kvmi_translate, access)
{
	gva_t gva = vm_alloc_page(self->vm);
	gpa_t gpa = addr_gva2gpa(self->vm, gva);
	struct kvm_mmu *mmu = &self->vm->mmu;
	u64 *pte = vm_get_pte(self->vm, gva), old = *pte;
	struct kvmi_runner runner;

	kvmi_start_agent(&runner, self->vcpu[0]);
	*pte = old & ~PTE_WRITABLE_MASK(mmu);
	TEST_ASSERT_EQ(translate(self->tool, 0, gva), gpa);
	*pte = old | PTE_NX_MASK(mmu);
	TEST_ASSERT_EQ(translate(self->tool, 0, gva), gpa);
	*pte = old | PTE_USER_MASK(mmu);
	TEST_ASSERT_EQ(translate(self->tool, 0, gva), gpa);
	kvmi_stop(&runner);
}

/* What is missing is zero. */
TEST_F(kvmi_translate, short_request)
{
	struct kvmi_vcpu_translate_gva req = { .gva = vm_alloc_page(self->vm) };
	struct kvmi_vcpu_translate_gva_reply rpl;
	struct kvmi_runner runner;
	u64 gva;
	int i;

	kvmi_start_agent(&runner, self->vcpu[0]);
	for (i = 0; i <= sizeof(req); i++) {
		gva = i < sizeof(req) ? req.gva & ((1ull << 8 * i) - 1) : req.gva;
		TEST_ASSERT_EQ(kvmi_vcpu_cmd(self->tool, KVMI_VCPU_TRANSLATE_GVA, 0, &req, i,
					     &rpl, sizeof(rpl)), 0);
		TEST_ASSERT_EQ(rpl.gpa, translate(self->tool, 0, gva));
	}
	kvmi_stop(&runner);
}

TEST_F(kvmi_translate, large_pages)
{
	struct kvmi_runner runner;
	gva_t gva;
	gpa_t far;

	/* The address is what the guest's page tables say, if memory is there or not. */
	gva = kvmi_map_far(self->vm, &far);
	__virt_pg_map(self->vm, &self->vm->mmu, gva + SIZE_1G, SIZE_1G, PG_LEVEL_2M);
	if (kvm_cpu_has(X86_FEATURE_GBPAGES))
		__virt_pg_map(self->vm, &self->vm->mmu, gva + 2 * SIZE_1G, 2 * SIZE_1G,
			      PG_LEVEL_1G);

	kvmi_start_agent(&runner, self->vcpu[0]);
	TEST_ASSERT_EQ(translate(self->tool, 0, gva), far);
	TEST_ASSERT_EQ(translate(self->tool, 0, gva + SIZE_1G + 0x12345), SIZE_1G + 0x12345);
	TEST_ASSERT_EQ(translate(self->tool, 0, gva + SIZE_1G + SIZE_2M), UNMAPPED);
	if (kvm_cpu_has(X86_FEATURE_GBPAGES))
		TEST_ASSERT_EQ(translate(self->tool, 0, gva + 2 * SIZE_1G + 0x12345678),
			       2 * SIZE_1G + 0x12345678);
	kvmi_stop(&runner);
}

/* The page tables are those of this vCPU, at this time. */
TEST_F(kvmi_translate, current_page_tables)
{
	struct kvmi_runner runner[2];
	struct kvmi_ev ev;
	gpa_t gpa, other;
	gva_t far;
	u64 root;
	int i;

	far = kvmi_map_far(self->vm, &gpa);
	other = kvmi_root_without(self->vm, far);
	root = self->vm->mmu.pgd;
	for (i = 0; i < 2; i++) {
		kvmi_start_agent(&runner[i], self->vcpu[i]);
		TEST_ASSERT_EQ(translate(self->tool, i, far), gpa);
	}

	kvmi_call(self->vcpu[1], guest_set_cr3, other, 0);
	TEST_ASSERT_EQ(translate(self->tool, 0, far), gpa);
	TEST_ASSERT_EQ(translate(self->tool, 1, far), UNMAPPED);
	TEST_ASSERT_EQ(translate(self->tool, 1, (u64)guest_set_cr3),
		       addr_gva2gpa(self->vm, (gva_t)guest_set_cr3));

	/* While it waits for the tool. */
	TEST_ASSERT_EQ(kvmi_pause(self->tool, 1, 1), 0);
	kvmi_expect_event(self->tool, 1, KVMI_VCPU_EVENT_PAUSE, &ev);
	TEST_ASSERT_EQ(translate(self->tool, 1, far), UNMAPPED);
	TEST_ASSERT_EQ(translate(self->tool, 0, far), gpa);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);

	kvmi_call(self->vcpu[1], guest_set_cr3, root, 0);
	kvmi_call(self->vcpu[0], guest_set_cr3, other, 0);
	TEST_ASSERT_EQ(translate(self->tool, 0, far), UNMAPPED);
	TEST_ASSERT_EQ(translate(self->tool, 1, far), gpa);
	for (i = 0; i < 2; i++)
		kvmi_stop(&runner[i]);
}

/* Without paging an address is what it is. */
TEST_F(kvmi_translate, no_paging)
{
	struct kvmi_runner runner;
	struct kvm_sregs sregs;
	struct kvmi_ev ev;

	vcpu_sregs_get(self->vcpu[0], &sregs);
	sregs.cr0 = X86_CR0_ET | X86_CR0_PE;
	sregs.cr4 = 0;
	sregs.efer = 0;
	sregs.cs.l = 0;
	sregs.cs.db = 1;
	vcpu_sregs_set(self->vcpu[0], &sregs);

	/* It never enters the guest. */
	kvmi_start_paused(self->tool, &runner, self->vcpu[0], &ev);
	TEST_ASSERT_EQ(translate(self->tool, 0, 0), 0);
	TEST_ASSERT_EQ(translate(self->tool, 0, 0x12345), 0x12345);
	kvmi_stop(&runner);
}

static u8 mtrr_type(struct kvmi_tool *tool, u16 vcpu, u64 gpa)
{
	u8 type = 0xff;

	TEST_ASSERT_EQ(kvmi_get_mtrr_type(tool, vcpu, gpa, &type), 0);
	return type;
}

static void set_range(struct kvm_vcpu *vcpu, int nr, u64 base, u64 size, u8 type)
{
	u64 mask = (1ull << vcpu->vm->pa_bits) - 1;

	vcpu_set_msr(vcpu, MTRR_PHYS_BASE(nr), base | type);
	vcpu_set_msr(vcpu, MTRR_PHYS_MASK(nr), (mask & ~(size - 1)) | MTRR_VALID);
}

/* The VMM sets them up, the vCPU runs, and the tool asks. */
TEST_F(kvmi_translate, mtrr)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;

	vcpu_set_msr(vcpu, MTRR_DEF_TYPE, MTRR_ENABLE | MTRR_FIXED_ENABLE | MTRR_WB);
	vcpu_set_msr(vcpu, MTRR_FIX_64K_00000, 0x0604050106040501);
	vcpu_set_msr(vcpu, MTRR_FIX_16K_80000, 0x0404040404040404);
	vcpu_set_msr(vcpu, MTRR_FIX_16K_A0000, 0);
	vcpu_set_msr(vcpu, MTRR_FIX_4K_C0000, 0x0000000000000605);
	vcpu_set_msr(vcpu, MTRR_FIX_4K_F8000, 0x0500000000000000);
	set_range(vcpu, 0, SIZE_1G, SIZE_1G, MTRR_UC);
	set_range(vcpu, 1, 2 * SIZE_1G, SIZE_2M, MTRR_WC);
	/* The stricter one wins where two overlap. */
	set_range(vcpu, 2, SIZE_1G + 8 * SIZE_2M, SIZE_2M, MTRR_WB);
	set_range(vcpu, 3, 3 * SIZE_1G, SIZE_2M, MTRR_WT);
	set_range(vcpu, 4, 3 * SIZE_1G, 4096, MTRR_WB);

	kvmi_start_agent(&runner, vcpu);
	TEST_ASSERT_EQ(mtrr_type(self->tool, 0, 0), MTRR_WC);
	TEST_ASSERT_EQ(mtrr_type(self->tool, 0, 0xffff), MTRR_WC);
	TEST_ASSERT_EQ(mtrr_type(self->tool, 0, 0x10000), MTRR_WP);
	TEST_ASSERT_EQ(mtrr_type(self->tool, 0, 0x2ffff), MTRR_WT);
	TEST_ASSERT_EQ(mtrr_type(self->tool, 0, 0x70000), MTRR_WB);
	TEST_ASSERT_EQ(mtrr_type(self->tool, 0, 0x80000), MTRR_WT);
	TEST_ASSERT_EQ(mtrr_type(self->tool, 0, 0x9ffff), MTRR_WT);
	TEST_ASSERT_EQ(mtrr_type(self->tool, 0, 0xa0000), MTRR_UC);
	TEST_ASSERT_EQ(mtrr_type(self->tool, 0, 0xc0000), MTRR_WP);
	TEST_ASSERT_EQ(mtrr_type(self->tool, 0, 0xc1fff), MTRR_WB);
	TEST_ASSERT_EQ(mtrr_type(self->tool, 0, 0xc2000), MTRR_UC);
	TEST_ASSERT_EQ(mtrr_type(self->tool, 0, 0xff000), MTRR_WP);
	TEST_ASSERT_EQ(mtrr_type(self->tool, 0, 0x100000), MTRR_WB);
	TEST_ASSERT_EQ(mtrr_type(self->tool, 0, SIZE_1G - 1), MTRR_WB);
	TEST_ASSERT_EQ(mtrr_type(self->tool, 0, SIZE_1G), MTRR_UC);
	TEST_ASSERT_EQ(mtrr_type(self->tool, 0, SIZE_1G + 8 * SIZE_2M), MTRR_UC);
	TEST_ASSERT_EQ(mtrr_type(self->tool, 0, 2 * SIZE_1G - 1), MTRR_UC);
	TEST_ASSERT_EQ(mtrr_type(self->tool, 0, 2 * SIZE_1G), MTRR_WC);
	TEST_ASSERT_EQ(mtrr_type(self->tool, 0, 2 * SIZE_1G + SIZE_2M), MTRR_WB);
	TEST_ASSERT_EQ(mtrr_type(self->tool, 0, 3 * SIZE_1G), MTRR_WT);
	TEST_ASSERT_EQ(mtrr_type(self->tool, 0, 3 * SIZE_1G + 4096), MTRR_WT);
	TEST_ASSERT_EQ(mtrr_type(self->tool, 0, 4 * SIZE_1G), MTRR_WB);
	kvmi_expect_command_denied(self->tool, KVMI_VCPU_GET_MTRR_TYPE);
	kvmi_stop(&runner);
}

/* The guest sets them up; each vCPU has its own. */
TEST_F(kvmi_translate, mtrr_of_guest)
{
	u64 no_fixed = MTRR_ENABLE | MTRR_WT;
	struct kvmi_runner runner[2];
	int i;

	for (i = 0; i < 2; i++) {
		kvmi_start_agent(&runner[i], self->vcpu[i]);
		TEST_ASSERT_EQ(kvmi_call(self->vcpu[i], guest_wrmsr, MTRR_DEF_TYPE,
					 MTRR_ENABLE | MTRR_WB), 0);
		TEST_ASSERT_EQ(mtrr_type(self->tool, i, SIZE_1G), MTRR_WB);
	}
	TEST_ASSERT_EQ(kvmi_call(self->vcpu[1], guest_wrmsr, MTRR_FIX_64K_00000,
				 0x0505050505050505), 0);

	/* Fixed ranges that are not enabled are as if they were not there. */
	TEST_ASSERT_EQ(mtrr_type(self->tool, 1, 0x1000), MTRR_WB);
	TEST_ASSERT_EQ(kvmi_call(self->vcpu[1], guest_wrmsr, MTRR_DEF_TYPE,
				 no_fixed | MTRR_FIXED_ENABLE), 0);
	TEST_ASSERT_EQ(mtrr_type(self->tool, 1, 0x1000), MTRR_WP);
	TEST_ASSERT_EQ(mtrr_type(self->tool, 1, SIZE_1G), MTRR_WT);
	TEST_ASSERT_EQ(mtrr_type(self->tool, 0, 0x1000), MTRR_WB);
	TEST_ASSERT_EQ(mtrr_type(self->tool, 0, SIZE_1G), MTRR_WB);

	/* All of them off: nothing is cached. */
	TEST_ASSERT_EQ(kvmi_call(self->vcpu[1], guest_wrmsr, MTRR_DEF_TYPE, MTRR_WB), 0);
	TEST_ASSERT_EQ(mtrr_type(self->tool, 1, 0x1000), MTRR_UC);
	TEST_ASSERT_EQ(mtrr_type(self->tool, 1, SIZE_1G), MTRR_UC);
	for (i = 0; i < 2; i++)
		kvmi_stop(&runner[i]);
}

/* What is missing is zero. */
TEST_F(kvmi_translate, mtrr_short_request)
{
	struct kvmi_vcpu_get_mtrr_type req = { .gpa = 0x12345678 };
	struct kvmi_vcpu_get_mtrr_type_reply rpl;
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	int i;

	vcpu_set_msr(vcpu, MTRR_DEF_TYPE, MTRR_ENABLE | MTRR_FIXED_ENABLE | MTRR_WB);
	vcpu_set_msr(vcpu, MTRR_FIX_64K_00000, 0x0404040404040404);
	kvmi_start_agent(&runner, vcpu);
	for (i = 0; i <= sizeof(req); i++) {
		memset(&rpl, 0xff, sizeof(rpl));
		TEST_ASSERT_EQ(kvmi_vcpu_cmd(self->tool, KVMI_VCPU_GET_MTRR_TYPE, 0, &req, i,
					     &rpl, sizeof(rpl)), 0);
		/* 0x5678 is in the first fixed range, 0x345678 is not. */
		TEST_ASSERT_EQ(rpl.type, i < 3 ? MTRR_WT : MTRR_WB);
	}
	kvmi_stop(&runner);
}

int main(int argc, char *argv[])
{
	KVMI_REQUIRE();

	return test_harness_run(argc, argv);
}
