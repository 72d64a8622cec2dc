// SPDX-License-Identifier: GPL-2.0
/*
 * What a guest may do with single pages of its memory.
 *
 * A map of each VM says for a gfn which of reading, writing and executing are
 * allowed; what is not in it is not restricted. The map knows nothing of memslots
 * and SPTEs. It is looked at where SPTEs are made, where a fault is about to be
 * resolved, where the size of a mapping is decided, and where KVM accesses memory
 * in place of the guest.
 *
 * An access that is denied can be let through. The vCPU then has a pass for the
 * page, until the instruction is done. With it KVM emulates the instruction. If it
 * cannot (the emulator does not know the instruction, or the access is part of
 * the delivery of an event), the guest does it: the VM is open for this vCPU,
 * which is single-stepped, and no other vCPU is in guest mode until what was
 * mapped is unmapped again.
 *
 * Locks, outermost first: kvm->srcu, kvm->mmu_lock, the xarray's own. None of them
 * is held while the static key is changed, while somebody is asked, or while a vCPU
 * waits for another one to be done with its instruction.
 */
#include <linux/kvm_host.h>
#include <linux/srcu.h>

#include "introspection/events.h"
#include "mmu.h"
#include "mmu_internal.h"
#include "regs.h"
#include "spte.h"
#include "x86.h"

#include "gfn_access.h"

/* In kvm_gfn_access_vcpu.passes: page tables of the guest, used as such. */
#define KVM_GFN_PASS_WALK	BIT(3)

/*
 * How often guest mode is entered for an instruction before the other vCPUs have
 * their turn: once for each page that is to be mapped, and some interrupts.
 */
#define KVM_GFN_OPEN_RUNS	16

/* How many times 2 MiB are zapped at a time when all restrictions are lifted. */
#define KVM_GFN_LIFT_BLOCKS	32

DEFINE_STATIC_KEY_DEFERRED_FALSE(kvm_gfn_access_in_use, HZ);

/* A VM is created. */
void kvm_gfn_access_init(struct kvm *kvm)
{
	xa_init_flags(&kvm->arch.gfn_access.map, XA_FLAGS_ACCOUNT);
	init_waitqueue_head(&kvm->arch.gfn_access.closed);
}

/* The vendor module is about to go. */
void kvm_gfn_access_exit(void)
{
	static_key_deferred_flush(&kvm_gfn_access_in_use);
}

/**
 * kvm_gfn_access_is_legal - can the hardware do it
 * @access: KVM_GFN_ACCESS_* that are allowed
 *
 * Return: true if a page can be mapped like this, or need not be mapped
 */
bool kvm_gfn_access_is_legal(unsigned int access)
{
	switch (access) {
	case 0:
	case KVM_GFN_ACCESS_R:
	case KVM_GFN_ACCESS_R | KVM_GFN_ACCESS_W:
	case KVM_GFN_ACCESS_R | KVM_GFN_ACCESS_X:
	case KVM_GFN_ACCESS_ALL:
		return true;
	case KVM_GFN_ACCESS_X:
		return kvm_caps.has_exec_only;
	default:
		return false;
	}
}

/* What the map says. */
static unsigned int kvm_gfn_access(struct kvm *kvm, gfn_t gfn)
{
	void *entry = xa_load(&kvm->arch.gfn_access.map, gfn);

	return entry ? xa_to_value(entry) : KVM_GFN_ACCESS_ALL;
}

bool __kvm_gfn_range_is_restricted(struct kvm *kvm, gfn_t gfn, u64 nr)
{
	unsigned long index = gfn;

	return xa_find(&kvm->arch.gfn_access.map, &index, gfn + nr - 1, XA_PRESENT);
}

int __kvm_gfn_access_max_level(struct kvm *kvm, gfn_t gfn, int level)
{
	while (level > PG_LEVEL_4K &&
	       __kvm_gfn_range_is_restricted(kvm, gfn_round_for_level(gfn, level),
					     KVM_PAGES_PER_HPAGE(level)))
		level--;

	return level;
}

static bool kvm_gfn_access_is_open_for(struct kvm_vcpu *vcpu)
{
	return READ_ONCE(vcpu->kvm->arch.gfn_access.open_for) == vcpu;
}

/* The access that the instruction at rip was let have to a page. */
static unsigned int kvm_gfn_pass(struct kvm_vcpu *vcpu, gfn_t gfn)
{
	const struct kvm_gfn_access_vcpu *ga = &vcpu->arch.gfn_access;
	unsigned int i;

	if (ga->pass_rip != kvm_rip_read(vcpu))
		return 0;

	for (i = 0; i < ga->nr_passes; i++) {
		if (gpa_to_gfn(ga->passes[i]) == gfn)
			return offset_in_page(ga->passes[i]);
	}

	return 0;
}

/* The instruction that had passes is done, or must start anew. */
static void kvm_gfn_reset_passes(struct kvm_vcpu *vcpu)
{
	kvm_gfn_access_close(vcpu);
	vcpu->arch.gfn_access.nr_passes = 0;
}

static void kvm_gfn_add_pass(struct kvm_vcpu *vcpu, gfn_t gfn, unsigned int access)
{
	struct kvm_gfn_access_vcpu *ga = &vcpu->arch.gfn_access;
	unsigned int i;

	if (ga->pass_rip != kvm_rip_read(vcpu) ||
	    ga->nr_passes == ARRAY_SIZE(ga->passes))
		kvm_gfn_reset_passes(vcpu);
	ga->pass_rip = kvm_rip_read(vcpu);

	for (i = 0; i < ga->nr_passes; i++) {
		if (gpa_to_gfn(ga->passes[i]) == gfn) {
			ga->passes[i] |= access;
			return;
		}
	}

	ga->passes[ga->nr_passes++] = gfn_to_gpa(gfn) | access;
}

/*
 * What the vCPU may do with a page just now. That a page is open for one vCPU does
 * not change while mmu_lock is held, or as long as that vCPU is the caller.
 *
 * Of what it has no pass for, it may read if the hardware cannot do without.
 */
static unsigned int kvm_gfn_allowed(struct kvm_vcpu *vcpu, gfn_t gfn)
{
	unsigned int access = kvm_gfn_access(vcpu->kvm, gfn);
	unsigned int pass;

	if (access == KVM_GFN_ACCESS_ALL || !kvm_gfn_access_is_open_for(vcpu))
		return access;

	pass = kvm_gfn_pass(vcpu, gfn);
	if (pass & KVM_GFN_PASS_WALK)
		access |= KVM_GFN_ACCESS_R | KVM_GFN_ACCESS_W;
	access |= pass & KVM_GFN_ACCESS_ALL;

	return kvm_gfn_access_is_legal(access) ? access : access | KVM_GFN_ACCESS_R;
}

/* ACC_* of a mapping. Never 0: what allows nothing is not mapped. */
unsigned int __kvm_gfn_access_pte_mask(struct kvm_vcpu *vcpu, gfn_t gfn)
{
	unsigned int access = kvm_gfn_allowed(vcpu, gfn);
	unsigned int mask = ~0u;

	if (!(access & KVM_GFN_ACCESS_R))
		mask &= ~ACC_READ_MASK;
	if (!(access & KVM_GFN_ACCESS_W))
		mask &= ~ACC_WRITE_MASK;
	if (!(access & KVM_GFN_ACCESS_X)) {
		mask &= ~ACC_EXEC_MASK;
		if (shadow_xu_mask)
			mask &= ~ACC_USER_EXEC_MASK;
	}

	return mask;
}

/*
 * Called after the fault has taken its snapshot of mmu_invalidate_seq: if the map
 * changes after this, or somebody opens it, the fault is stale.
 */
int __kvm_gfn_access_check_fault(struct kvm_vcpu *vcpu,
				 struct kvm_page_fault *fault)
{
	struct kvm_vcpu *open_for = READ_ONCE(vcpu->kvm->arch.gfn_access.open_for);
	struct kvm_gfn_access_vcpu *ga = &vcpu->arch.gfn_access;
	unsigned int allowed = kvm_gfn_allowed(vcpu, fault->gfn);
	unsigned int wanted = fault->write ? KVM_GFN_ACCESS_W :
			      fault->exec ? KVM_GFN_ACCESS_X : KVM_GFN_ACCESS_R;

	if (allowed & wanted) {
		/* What is mapped for another vCPU must not be replaced. */
		if (allowed != KVM_GFN_ACCESS_ALL && open_for && open_for != vcpu)
			return RET_PF_RETRY;
		return RET_PF_CONTINUE;
	}

	if (!fault->prefetch) {
		ga->gpa = gfn_to_gpa(fault->gfn) | offset_in_page(fault->addr);
		ga->access = wanted;
	}

	return RET_PF_DENIED;
}

bool __kvm_gfn_access_allows(struct kvm_vcpu *vcpu, gpa_t gpa, unsigned int access)
{
	gfn_t gfn = gpa_to_gfn(gpa);

	return (kvm_gfn_allowed(vcpu, gfn) | kvm_gfn_pass(vcpu, gfn)) & access;
}

bool __kvm_gfn_access_denies(struct kvm_vcpu *vcpu, gpa_t gpa, gva_t gva,
			     unsigned int access)
{
	struct kvm_gfn_access_vcpu *ga = &vcpu->arch.gfn_access;

	if (ga->exempt || __kvm_gfn_access_allows(vcpu, gpa, access))
		return false;

	ga->denied = true;
	ga->gva = gva;
	ga->gpa = gpa;
	ga->access = access;
	return true;
}

/*
 * May the instruction have the access that was denied? Returns RET_PF_RETRY to
 * start it over, RET_PF_EMULATE with a pass, or what an exit handler returns to
 * leave KVM_RUN.
 */
static int kvm_gfn_access_ask(struct kvm_vcpu *vcpu)
{
	struct kvm_gfn_access_vcpu *ga = &vcpu->arch.gfn_access;
	int r;

	r = kvmi_page_denied(vcpu, ga->gva, ga->gpa, ga->access);
	if (r <= 0)
		return r;

	if (r == KVMI_RETRY) {
		kvm_gfn_reset_passes(vcpu);
		return RET_PF_RETRY;
	}

	kvm_gfn_add_pass(vcpu, gpa_to_gfn(ga->gpa), ga->access);
	return RET_PF_EMULATE;
}

/**
 * kvm_gfn_access_step_over - have the guest execute the instruction itself
 * @vcpu: the vCPU of the calling thread, which holds kvm->srcu
 *
 * It can use the pages that it has passes for. Nothing is lost if that does not
 * work at once, or if they are not restricted any more: it is executed again.
 */
void kvm_gfn_access_step_over(struct kvm_vcpu *vcpu)
{
	struct kvm_gfn_access_vcpu *ga = &vcpu->arch.gfn_access;
	struct kvm *kvm = vcpu->kvm;
	unsigned int i;

	write_lock(&kvm->mmu_lock);

	if (!kvm->arch.gfn_access.open_for && ga->nr_passes &&
	    !xa_empty(&kvm->arch.gfn_access.map)) {
		/* Faults of other vCPUs that are being resolved start over. */
		kvm_mmu_invalidate_start(kvm);
		for (i = 0; i < ga->nr_passes; i++)
			kvm_mmu_invalidate_range_add(kvm, gpa_to_gfn(ga->passes[i]),
						     gpa_to_gfn(ga->passes[i]) + 1);
		kvm_mmu_invalidate_end(kvm);

		ga->open_runs = 0;
		WRITE_ONCE(kvm->arch.gfn_access.open_for, vcpu);
	} else if (kvm->arch.gfn_access.open_for != vcpu &&
		   xa_empty(&kvm->arch.gfn_access.map)) {
		/* Lifted meanwhile: the guest can do it as it is. */
		ga->nr_passes = 0;
	}

	write_unlock(&kvm->mmu_lock);

	if (!kvm_gfn_access_is_open_for(vcpu))
		return;

	/* When this returns, no other vCPU is in guest mode. */
	kvm_make_all_cpus_request(kvm, KVM_REQ_GFN_ACCESS);
	kvm_clear_request(KVM_REQ_GFN_ACCESS, vcpu);

	kvmi_step_over(vcpu, true);
}

void __kvm_gfn_access_close(struct kvm_vcpu *vcpu)
{
	struct kvm_gfn_access_vcpu *ga = &vcpu->arch.gfn_access;
	struct kvm *kvm = vcpu->kvm;
	bool flush = false;
	unsigned int i;
	gfn_t gfn;

	guard(srcu)(&kvm->srcu);

	write_lock(&kvm->mmu_lock);

	if (kvm->arch.gfn_access.open_for == vcpu) {
		kvm_mmu_invalidate_start(kvm);
		for (i = 0; i < ga->nr_passes; i++) {
			gfn = gpa_to_gfn(ga->passes[i]);
			kvm_mmu_invalidate_range_add(kvm, gfn, gfn + 1);
			flush = kvm_mmu_zap_gfns(kvm, gfn, gfn + 1, flush);
		}
		if (flush)
			kvm_flush_remote_tlbs(kvm);
		WRITE_ONCE(kvm->arch.gfn_access.open_for, NULL);
		kvm_mmu_invalidate_end(kvm);
	}

	write_unlock(&kvm->mmu_lock);

	wake_up_all(&kvm->arch.gfn_access.closed);

	kvmi_step_over(vcpu, false);
}

/*
 * What ends the wait: that vCPU is done with its instruction, takes long, leaves
 * KVM_RUN or is about to wait for the tool; the end of introspection; any signal,
 * SIGKILL included. Nothing is held but the vCPU itself. The vCPU waits for comes
 * before it is destroyed.
 */
static int kvm_gfn_access_wait(struct kvm_vcpu *vcpu)
{
	struct kvm_gfn_access *ga = &vcpu->kvm->arch.gfn_access;
	int r;

	kvm_vcpu_srcu_read_unlock(vcpu);

	for (;;) {
		r = wait_event_interruptible(ga->closed, !READ_ONCE(ga->open_for));
		if (!r) {
			r = 1;
			break;
		}
		r = kvm_xfer_to_guest_mode_handle_work(vcpu);
		if (r)
			break;
	}

	kvm_vcpu_srcu_read_lock(vcpu);

	return r;
}

int __kvm_gfn_access_enter(struct kvm_vcpu *vcpu)
{
	struct kvm_gfn_access_vcpu *ga = &vcpu->arch.gfn_access;

	if (!kvm_gfn_access_is_open_for(vcpu))
		return kvm_gfn_access_wait(vcpu);

	if (++ga->open_runs > KVM_GFN_OPEN_RUNS) {
		/* L2 is not stepped: it may have done the instruction, or not. */
		if (is_guest_mode(vcpu))
			kvm_gfn_reset_passes(vcpu);
		else
			__kvm_gfn_access_close(vcpu);
	}

	return 1;
}

/* In a fast path, with interrupts off, the VM is not open: steps do not go there. */
void __kvm_gfn_access_insn_done(struct kvm_vcpu *vcpu)
{
	if (vcpu->arch.gfn_access.nr_passes)
		kvm_gfn_reset_passes(vcpu);
}

/* The hardware walker wants to set accessed and dirty bits, not the guest. */
static bool kvm_gfn_is_walk(struct kvm_vcpu *vcpu, u64 error_code)
{
	struct kvm_gfn_access_vcpu *ga = &vcpu->arch.gfn_access;
	gfn_t gfn = gpa_to_gfn(ga->gpa);

	if (!(error_code & PFERR_GUEST_PAGE_MASK) || ga->access != KVM_GFN_ACCESS_W)
		return false;

	/* It has to read them as well. */
	if ((kvm_gfn_access(vcpu->kvm, gfn) | kvm_gfn_pass(vcpu, gfn)) &
	    KVM_GFN_ACCESS_R)
		return true;

	ga->access = KVM_GFN_ACCESS_R;
	return false;
}

static u64 kvm_fault_gva(struct kvm_vcpu *vcpu, gpa_t cr2_or_gpa)
{
	if (!tdp_enabled)
		return cr2_or_gpa;

	return kvm_x86_ops.get_fault_gva ? kvm_x86_call(get_fault_gva)(vcpu) :
					   INVALID_GPA;
}

/**
 * kvm_gfn_access_fault - a fault was not resolved because of a restricted page
 * @vcpu: the vCPU of the calling thread, which holds kvm->srcu
 * @cr2_or_gpa: what the hardware said
 * @error_code: PFERR_*
 *
 * May sleep, for as long as somebody is asked. kvm->srcu is dropped meanwhile.
 *
 * Return: RET_PF_RETRY, RET_PF_EMULATE, or what an exit handler returns to leave
 * KVM_RUN
 */
int kvm_gfn_access_fault(struct kvm_vcpu *vcpu, gpa_t cr2_or_gpa, u64 error_code)
{
	struct kvm_gfn_access_vcpu *ga = &vcpu->arch.gfn_access;
	gfn_t gfn = gpa_to_gfn(ga->gpa);
	int r;

	if (kvm_gfn_is_walk(vcpu, error_code)) {
		kvm_gfn_add_pass(vcpu, gfn, KVM_GFN_PASS_WALK);
	} else if (!(kvm_gfn_pass(vcpu, gfn) & ga->access)) {
		ga->gva = kvm_fault_gva(vcpu, cr2_or_gpa);
		r = kvm_gfn_access_ask(vcpu);
		if (r != RET_PF_EMULATE)
			return r;
	}

	/* That the emulator cannot do it is known already. */
	if (kvm_gfn_access_is_open_for(vcpu))
		return RET_PF_RETRY;

	if (kvm_event_needs_reinjection(vcpu)) {
		kvm_gfn_access_step_over(vcpu);
		return RET_PF_RETRY;
	}

	return RET_PF_EMULATE;
}

/**
 * kvm_gfn_access_emulation - KVM gave up an instruction because of a restricted page
 * @vcpu: the vCPU of the calling thread, which holds kvm->srcu
 *
 * Nothing that the guest could see has happened to it yet. May sleep, see
 * kvm_gfn_access_fault().
 *
 * Return: 1 to have the instruction executed again, or what an exit handler
 * returns to leave KVM_RUN
 */
int kvm_gfn_access_emulation(struct kvm_vcpu *vcpu)
{
	int r;

	vcpu->arch.gfn_access.denied = false;
	r = kvm_gfn_access_ask(vcpu);

	return r > 0 ? 1 : r;
}

/*
 * Apply a change to the map. Returns true if the mappings of something are to be
 * zapped.
 */
static bool kvm_change_gfn_access(struct kvm *kvm,
				  const struct kvm_gfn_access_change *change,
				  gfn_t *start, gfn_t *end, int *r)
{
	struct xarray *map = &kvm->arch.gfn_access.map;
	int err;

	if (kvm_gfn_access(kvm, change->gfn) == change->access)
		return false;

	*start = change->gfn;
	*end = *start + 1;

	if (change->access != KVM_GFN_ACCESS_ALL) {
		err = xa_err(xa_store(map, change->gfn, xa_mk_value(change->access),
				      GFP_NOWAIT));
		if (err)
			*r = err;
		return !err;
	}

	xa_erase(map, change->gfn);

	/* What is left of a huge page can become one again. */
	if (!__kvm_gfn_range_is_restricted(kvm, gfn_round_for_level(*start, PG_LEVEL_2M),
					   KVM_PAGES_PER_HPAGE(PG_LEVEL_2M))) {
		*start = gfn_round_for_level(*start, PG_LEVEL_2M);
		*end = *start + KVM_PAGES_PER_HPAGE(PG_LEVEL_2M);
	}

	return true;
}

/**
 * kvm_set_gfn_access - restrict what the guest may do with pages, or no longer
 * @kvm: the VM; the caller serializes changes and does not hold kvm->srcu
 * @changes: what is to be changed, all of it legal, see kvm_gfn_access_is_legal()
 * @nr: number of @changes, more than 0
 *
 * When this returns, no vCPU accesses memory in a way that is not allowed any
 * more. May sleep.
 *
 * Return: 0, -ENOMEM if not all could be done
 */
int kvm_set_gfn_access(struct kvm *kvm,
		       const struct kvm_gfn_access_change *changes, int nr)
{
	struct kvm_gfn_access *ga = &kvm->arch.gfn_access;
	gfn_t start, end, zap_start = 0, zap_end = 0;
	bool flush = false, restricts = false;
	int i, r = 0;

	for (i = 0; i < nr; i++) {
		if (changes[i].access == KVM_GFN_ACCESS_ALL)
			continue;
		if (!ga->counted) {
			static_branch_deferred_inc(&kvm_gfn_access_in_use);
			ga->counted = true;
		}
		/* What has no room in the map is found out when it is stored. */
		if (xa_reserve(&ga->map, changes[i].gfn, GFP_KERNEL_ACCOUNT))
			break;
	}

	scoped_guard(srcu, &kvm->srcu) {
		write_lock(&kvm->mmu_lock);

		kvm_mmu_invalidate_start(kvm);
		kvm_mmu_invalidate_range_add(kvm, changes[0].gfn, changes[0].gfn + 1);
		for (i = 0; i < nr; i++) {
			if (kvm_gfn_access(kvm, changes[i].gfn) & ~changes[i].access)
				restricts = true;
			if (!kvm_change_gfn_access(kvm, &changes[i], &start, &end, &r))
				continue;
			kvm_mmu_invalidate_range_add(kvm, start, end);
			/* Pages in a row are zapped together: that is cheaper. */
			if (start <= zap_end && end >= zap_start) {
				zap_start = min(zap_start, start);
				zap_end = max(zap_end, end);
			} else {
				if (zap_end)
					flush = kvm_mmu_zap_gfns(kvm, zap_start, zap_end,
								 flush);
				zap_start = start;
				zap_end = end;
			}
		}
		if (zap_end)
			flush = kvm_mmu_zap_gfns(kvm, zap_start, zap_end, flush);
		if (flush)
			kvm_flush_remote_tlbs(kvm);
		kvm_mmu_invalidate_end(kvm);

		write_unlock(&kvm->mmu_lock);
	}

	/* KVM looks at the map, and then accesses the page in place of the guest. */
	if (restricts)
		synchronize_srcu_expedited(&kvm->srcu);

	return r;
}

static void kvm_erase_gfn_access(struct xarray *map, gfn_t start, gfn_t end)
{
	XA_STATE(xas, map, start);
	void *entry;

	xas_lock(&xas);
	xas_for_each(&xas, entry, end - 1)
		xas_store(&xas, NULL);
	xas_unlock(&xas);
}

/*
 * Lift the restrictions of some pages, and have what is left of huge pages become
 * those again. Returns false if there are no more.
 */
static bool kvm_lift_some_gfn_access(struct kvm *kvm)
{
	struct xarray *map = &kvm->arch.gfn_access.map;
	unsigned long gfn = 0;
	bool flush = false;
	gfn_t start, end;
	int blocks = 0;

	guard(srcu)(&kvm->srcu);
	guard(write_lock)(&kvm->mmu_lock);

	if (!xa_find(map, &gfn, ULONG_MAX, XA_PRESENT))
		return false;

	kvm_mmu_invalidate_start(kvm);
	do {
		start = gfn_round_for_level(gfn, PG_LEVEL_2M);
		end = start + KVM_PAGES_PER_HPAGE(PG_LEVEL_2M);
		kvm_mmu_invalidate_range_add(kvm, start, end);
		flush = kvm_mmu_zap_gfns(kvm, start, end, flush);
		kvm_erase_gfn_access(map, start, end);
		gfn = end;
	} while (++blocks < KVM_GFN_LIFT_BLOCKS &&
		 xa_find(map, &gfn, ULONG_MAX, XA_PRESENT));
	if (flush)
		kvm_flush_remote_tlbs(kvm);
	kvm_mmu_invalidate_end(kvm);

	return true;
}

/**
 * kvm_clear_gfn_access - lift all restrictions of a VM
 * @kvm: the VM; the caller serializes changes
 *
 * When this returns, no vCPU runs under a restriction, or waits for another one.
 * May sleep.
 */
void kvm_clear_gfn_access(struct kvm *kvm)
{
	struct kvm_gfn_access *ga = &kvm->arch.gfn_access;

	if (!ga->counted)
		return;

	/* mmu_lock is not held for as long as there are restrictions. */
	while (kvm_lift_some_gfn_access(kvm))
		cond_resched();

	write_lock(&kvm->mmu_lock);
	/* Room that was reserved for what was not stored in the end. */
	xa_destroy(&ga->map);
	/* With an empty map nobody opens it again. */
	WRITE_ONCE(ga->open_for, NULL);
	write_unlock(&kvm->mmu_lock);
	wake_up_all(&ga->closed);

	ga->counted = false;
	static_branch_slow_dec_deferred(&kvm_gfn_access_in_use);
}
