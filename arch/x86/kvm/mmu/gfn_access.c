// SPDX-License-Identifier: GPL-2.0
/*
 * What a guest may do with single pages of its memory.
 *
 * A map of each VM (gfn_access_map.c) says for a gfn which of reading, writing and
 * executing are allowed. The map knows nothing of memslots and SPTEs. It is looked
 * at where SPTEs are made, where a fault is about to be resolved, where the size of
 * a mapping is decided, and where KVM accesses memory in place of the guest.
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
#include "gfn_access_map.h"

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
	kvm_gfn_map_init(&kvm->arch.gfn_access.map);
	init_waitqueue_head(&kvm->arch.gfn_access.closed);
}

/* The vendor module is about to go. */
void kvm_gfn_access_exit(void)
{
	static_key_deferred_flush(&kvm_gfn_access_in_use);
}

static unsigned int kvm_gfn_access(struct kvm *kvm, gfn_t gfn)
{
	return kvm_gfn_map_access(&kvm->arch.gfn_access.map, gfn);
}

bool __kvm_gfn_range_is_restricted(struct kvm *kvm, gfn_t gfn, u64 nr)
{
	return kvm_gfn_map_is_restricted(&kvm->arch.gfn_access.map, gfn, nr);
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

	WRITE_ONCE(vcpu->arch.gfn_access.looking, true);
	/* Pairs with kvm_gfn_access_wait_for_lookers(). */
	smp_mb();

	if (!READ_ONCE(vcpu->kvm->arch.gfn_access.map.nr))
		return true;

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
	    kvm->arch.gfn_access.map.nr) {
		/* Faults of other vCPUs that are being resolved start over. */
		kvm_mmu_invalidate_start(kvm);
		for (i = 0; i < ga->nr_passes; i++)
			kvm_mmu_invalidate_range_add(kvm, gpa_to_gfn(ga->passes[i]),
						     gpa_to_gfn(ga->passes[i]) + 1);
		kvm_mmu_invalidate_end(kvm);

		ga->open_runs = 0;
		WRITE_ONCE(kvm->arch.gfn_access.open_for, vcpu);
	} else if (kvm->arch.gfn_access.open_for != vcpu &&
		   !kvm->arch.gfn_access.map.nr) {
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
	struct kvm_vcpu *open_for;

	/* All accesses that rely on what was looked up have been made. */
	smp_store_release(&ga->looking, false);

	open_for = READ_ONCE(vcpu->kvm->arch.gfn_access.open_for);
	if (!open_for)
		return 1;
	if (open_for != vcpu)
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
 * Pages in a row, of one block, that have been changed and whose mappings are to be
 * zapped: together, that is cheaper.
 */
struct kvm_gfn_zap {
	struct kvm_gfn_block *block;
	gfn_t start, end;
	bool lifts, flush;
};

static void kvm_gfn_zap(struct kvm *kvm, struct kvm_gfn_zap *zap)
{
	if (zap->start == zap->end)
		return;

	/* What is left of a huge page can become one again. */
	if (zap->lifts && kvm_gfn_block_is_empty(zap->block)) {
		zap->start = gfn_round_for_level(zap->start, PG_LEVEL_2M);
		zap->end = zap->start + KVM_GFN_BLOCK_PAGES;
	}

	kvm_mmu_invalidate_range_add(kvm, zap->start, zap->end);
	zap->flush = kvm_mmu_zap_gfns(kvm, zap->start, zap->end, zap->flush);
	zap->end = zap->start;
}

static void kvm_gfn_zap_add(struct kvm *kvm, struct kvm_gfn_zap *zap,
			    struct kvm_gfn_block *block, gfn_t gfn)
{
	if (gfn != zap->end || block != zap->block) {
		kvm_gfn_zap(kvm, zap);
		zap->block = block;
		zap->start = gfn;
		zap->lifts = false;
	}
	zap->end = gfn + 1;
}

/*
 * Apply changes to the map, and zap what they concern. Returns 0, or -ENOMEM if a
 * page has no room in the map.
 */
static int kvm_change_gfn_access(struct kvm *kvm, struct kvm_gfn_zap *zap,
				 const struct kvm_gfn_access_change *changes, int nr,
				 bool *restricts)
{
	struct kvm_gfn_access_map *map = &kvm->arch.gfn_access.map;
	struct kvm_gfn_block *block = NULL;
	unsigned long index = ULONG_MAX, restricted = map->nr;
	unsigned int old, new, removed = 0;
	int i, r = 0;
	gfn_t gfn;

	for (i = 0; i < nr; i++) {
		gfn = changes[i].gfn;
		new = changes[i].access;

		if (kvm_gfn_block_index(gfn) != index) {
			index = kvm_gfn_block_index(gfn);
			block = kvm_gfn_map_block(map, gfn);
		}
		if (!block) {
			if (new != KVM_GFN_ACCESS_ALL)
				r = -ENOMEM;
			continue;
		}

		old = kvm_gfn_block_access(block, gfn);
		if (old == new)
			continue;

		kvm_gfn_block_change(block, gfn, old ^ new);
		kvm_gfn_zap_add(kvm, zap, block, gfn);
		removed |= old & ~new;
		if (old == KVM_GFN_ACCESS_ALL) {
			restricted++;
		} else if (new == KVM_GFN_ACCESS_ALL) {
			restricted--;
			zap->lifts = true;
		}
	}

	kvm_gfn_zap(kvm, zap);
	WRITE_ONCE(map->nr, restricted);
	*restricts = removed;

	return r;
}

/*
 * KVM looks at the map, and then accesses the page in place of the guest. Wait for
 * vCPUs that may have looked before the map was changed: those that do not have
 * to, a tool should not have to wait for.
 */
static void kvm_gfn_access_wait_for_lookers(struct kvm *kvm)
{
	struct kvm_vcpu *vcpu;
	unsigned long i;

	/* Pairs with __kvm_gfn_access_allows(): it sees the change, or is seen. */
	smp_mb();

	kvm_for_each_vcpu(i, vcpu, kvm) {
		/* Pairs with __kvm_gfn_access_enter(). */
		if (smp_load_acquire(&vcpu->arch.gfn_access.looking)) {
			synchronize_srcu_expedited(&kvm->srcu);
			return;
		}
	}
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
	unsigned long index = ULONG_MAX;
	bool restricts = false;
	struct kvm_gfn_zap zap = {};
	int i, r;

	for (i = 0; i < nr; i++) {
		if (changes[i].access == KVM_GFN_ACCESS_ALL ||
		    kvm_gfn_block_index(changes[i].gfn) == index)
			continue;
		if (!ga->counted) {
			static_branch_deferred_inc(&kvm_gfn_access_in_use);
			ga->counted = true;
			/* Until now nobody was seen that looked. */
			synchronize_srcu_expedited(&kvm->srcu);
		}
		/* What has no room in the map is found out when it is changed. */
		if (kvm_gfn_map_add_block(&ga->map, changes[i].gfn))
			break;
		index = kvm_gfn_block_index(changes[i].gfn);
	}

	scoped_guard(srcu, &kvm->srcu) {
		write_lock(&kvm->mmu_lock);

		kvm_mmu_invalidate_start(kvm);
		kvm_mmu_invalidate_range_add(kvm, changes[0].gfn, changes[0].gfn + 1);
		r = kvm_change_gfn_access(kvm, &zap, changes, nr, &restricts);
		if (zap.flush)
			kvm_flush_remote_tlbs(kvm);
		kvm_mmu_invalidate_end(kvm);

		write_unlock(&kvm->mmu_lock);
	}

	if (restricts)
		kvm_gfn_access_wait_for_lookers(kvm);

	return r;
}

/*
 * Lift the restrictions of some pages from *index on, and have what is left of huge
 * pages become those again. Returns false if there are no more.
 */
static bool kvm_lift_some_gfn_access(struct kvm *kvm, unsigned long *index)
{
	struct kvm_gfn_access_map *map = &kvm->arch.gfn_access.map;
	struct kvm_gfn_block *block;
	bool flush = false;
	int blocks = 0;
	gfn_t start;

	guard(srcu)(&kvm->srcu);
	guard(write_lock)(&kvm->mmu_lock);

	block = xa_find(&map->blocks, index, ULONG_MAX, XA_PRESENT);
	/* There was no memory for any: an invalidation must have a range. */
	if (!block)
		return false;

	kvm_mmu_invalidate_start(kvm);
	while (block && blocks++ < KVM_GFN_LIFT_BLOCKS) {
		start = (gfn_t)*index * KVM_GFN_BLOCK_PAGES;
		memset(block->denied, 0, sizeof(block->denied));
		kvm_mmu_invalidate_range_add(kvm, start, start + KVM_GFN_BLOCK_PAGES);
		flush = kvm_mmu_zap_gfns(kvm, start, start + KVM_GFN_BLOCK_PAGES, flush);
		block = xa_find_after(&map->blocks, index, ULONG_MAX, XA_PRESENT);
	}
	if (flush)
		kvm_flush_remote_tlbs(kvm);
	if (!block)
		WRITE_ONCE(map->nr, 0);
	kvm_mmu_invalidate_end(kvm);

	return block;
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
	unsigned long index = 0;

	if (!ga->counted)
		return;

	/* mmu_lock is not held for as long as there are restrictions. */
	while (kvm_lift_some_gfn_access(kvm, &index))
		cond_resched();

	write_lock(&kvm->mmu_lock);
	/* With an empty map nobody opens it again. */
	WRITE_ONCE(ga->open_for, NULL);
	write_unlock(&kvm->mmu_lock);
	wake_up_all(&ga->closed);
	kvm_gfn_map_free(&ga->map);

	ga->counted = false;
	static_branch_slow_dec_deferred(&kvm_gfn_access_in_use);
}
