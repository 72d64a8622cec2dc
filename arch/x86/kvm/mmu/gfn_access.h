/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What a guest may do with single pages of its memory. See gfn_access.c.
 */
#ifndef __KVM_X86_MMU_GFN_ACCESS_H
#define __KVM_X86_MMU_GFN_ACCESS_H

#include <linux/jump_label_ratelimit.h>
#include <linux/kvm_host.h>

#include "x86.h"

#define KVM_GFN_ACCESS_R	BIT(0)
#define KVM_GFN_ACCESS_W	BIT(1)
#define KVM_GFN_ACCESS_X	BIT(2)
#define KVM_GFN_ACCESS_ALL	(KVM_GFN_ACCESS_R | KVM_GFN_ACCESS_W | KVM_GFN_ACCESS_X)

struct kvm_page_fault;

/* In mmu.c: zap SPTEs, with mmu_lock held for writing. Returns: flush TLBs. */
bool kvm_mmu_zap_gfns(struct kvm *kvm, gfn_t start, gfn_t end, bool flush);

/**
 * struct kvm_gfn_access_change - an entry of kvm_set_gfn_access()
 * @gfn: the page
 * @access: KVM_GFN_ACCESS_*, legal
 */
struct kvm_gfn_access_change {
	gfn_t gfn;
	u8 access;
};

#ifdef CONFIG_KVM_INTROSPECTION

/* Counts the VMs with restricted pages: while it is off, KVM's paths test nothing. */
extern struct static_key_false_deferred kvm_gfn_access_in_use;

static __always_inline bool kvm_gfn_access_is_used(void)
{
	return static_branch_unlikely(&kvm_gfn_access_in_use.key);
}

static __always_inline bool kvm_gfn_access_active(struct kvm *kvm)
{
	return kvm_gfn_access_is_used() && READ_ONCE(kvm->arch.gfn_access.map.nr);
}

void kvm_gfn_access_init(struct kvm *kvm);
void kvm_gfn_access_exit(void);
int kvm_set_gfn_access(struct kvm *kvm,
		       const struct kvm_gfn_access_change *changes, int nr);
void kvm_clear_gfn_access(struct kvm *kvm);

unsigned int __kvm_gfn_access_pte_mask(struct kvm_vcpu *vcpu, gfn_t gfn);
bool __kvm_gfn_range_is_restricted(struct kvm *kvm, gfn_t gfn, u64 nr);
int __kvm_gfn_access_max_level(struct kvm *kvm, gfn_t gfn, int level);
int __kvm_gfn_access_check_fault(struct kvm_vcpu *vcpu,
				 struct kvm_page_fault *fault);
bool __kvm_gfn_access_allows(struct kvm_vcpu *vcpu, gpa_t gpa, unsigned int access);
bool __kvm_gfn_access_denies(struct kvm_vcpu *vcpu, gpa_t gpa, gva_t gva,
			     unsigned int access);
int kvm_gfn_access_fault(struct kvm_vcpu *vcpu, gpa_t cr2_or_gpa, u64 error_code);
int kvm_gfn_access_emulation(struct kvm_vcpu *vcpu);
void kvm_gfn_access_step_over(struct kvm_vcpu *vcpu);
void __kvm_gfn_access_insn_done(struct kvm_vcpu *vcpu);
int __kvm_gfn_access_enter(struct kvm_vcpu *vcpu);
void __kvm_gfn_access_close(struct kvm_vcpu *vcpu);

/**
 * kvm_gfn_access_is_legal - can the hardware do it
 * @access: KVM_GFN_ACCESS_* that are allowed
 *
 * Return: true if a page can be mapped like this, or need not be mapped
 */
static inline bool kvm_gfn_access_is_legal(u8 access)
{
	unsigned int legal = BIT(0) | BIT(KVM_GFN_ACCESS_R) |
			     BIT(KVM_GFN_ACCESS_R | KVM_GFN_ACCESS_W) |
			     BIT(KVM_GFN_ACCESS_R | KVM_GFN_ACCESS_X) |
			     BIT(KVM_GFN_ACCESS_ALL);

	if (kvm_caps.has_exec_only)
		legal |= BIT(KVM_GFN_ACCESS_X);

	return access <= KVM_GFN_ACCESS_ALL && legal & BIT(access);
}

/* The ACC_* bits that a mapping of @gfn may have; called with mmu_lock held. */
static __always_inline unsigned int kvm_gfn_access_pte_mask(struct kvm_vcpu *vcpu,
							    gfn_t gfn)
{
	return kvm_gfn_access_active(vcpu->kvm) ?
	       __kvm_gfn_access_pte_mask(vcpu, gfn) : ~0u;
}

static __always_inline bool kvm_gfn_range_is_restricted(struct kvm *kvm,
							gfn_t gfn, u64 nr)
{
	return kvm_gfn_access_active(kvm) &&
	       __kvm_gfn_range_is_restricted(kvm, gfn, nr);
}

/* The largest page that maps @gfn and no restricted one, up to @level. */
static __always_inline int kvm_gfn_access_max_level(struct kvm *kvm, gfn_t gfn,
						    int level)
{
	return kvm_gfn_access_active(kvm) ?
	       __kvm_gfn_access_max_level(kvm, gfn, level) : level;
}

/* Returns RET_PF_CONTINUE, RET_PF_DENIED or RET_PF_RETRY. */
static __always_inline int kvm_gfn_access_check_fault(struct kvm_vcpu *vcpu,
						      struct kvm_page_fault *fault)
{
	return kvm_gfn_access_active(vcpu->kvm) ?
	       __kvm_gfn_access_check_fault(vcpu, fault) : 0;
}

/* May the guest do it? KVM only wants to know. */
static __always_inline bool kvm_gfn_access_allows(struct kvm_vcpu *vcpu, gpa_t gpa,
						  unsigned int access)
{
	return !kvm_gfn_access_is_used() || __kvm_gfn_access_allows(vcpu, gpa, access);
}

/*
 * KVM is about to access memory of the guest as the guest would. If this is
 * true, it must not, but give up the instruction: X86EMUL_INTERCEPTED.
 */
static __always_inline bool kvm_gfn_access_denies(struct kvm_vcpu *vcpu,
						  gpa_t gpa, gva_t gva,
						  unsigned int access)
{
	return kvm_gfn_access_is_used() &&
	       __kvm_gfn_access_denies(vcpu, gpa, gva, access);
}

/* The emulator begins with an instruction. */
static __always_inline void kvm_gfn_access_begin_emulation(struct kvm_vcpu *vcpu)
{
	if (kvm_gfn_access_is_used())
		vcpu->arch.gfn_access.denied = false;
}

/* The emulator gave up because of a page that was restricted when it looked. */
static __always_inline bool kvm_gfn_access_was_denied(struct kvm_vcpu *vcpu)
{
	return vcpu->arch.gfn_access.denied;
}

/*
 * Accesses are let through while KVM does what it could not start over. Not only
 * while restrictions are used: they may come and go meanwhile.
 */
static __always_inline void kvm_gfn_access_exempt(struct kvm_vcpu *vcpu, bool exempt)
{
	vcpu->arch.gfn_access.exempt = exempt;
}

/* To be called whenever an instruction is done that had accesses let through. */
static __always_inline void kvm_gfn_access_insn_done(struct kvm_vcpu *vcpu)
{
	if (kvm_gfn_access_is_used())
		__kvm_gfn_access_insn_done(vcpu);
}

/* The vCPU is about to enter guest mode. Returns like vcpu_enter_guest(). */
static __always_inline int kvm_gfn_access_enter(struct kvm_vcpu *vcpu)
{
	return kvm_gfn_access_is_used() ? __kvm_gfn_access_enter(vcpu) : 1;
}

/* The vCPU will not enter guest mode for a while. */
static __always_inline void kvm_gfn_access_close(struct kvm_vcpu *vcpu)
{
	if (kvm_gfn_access_is_used() &&
	    READ_ONCE(vcpu->kvm->arch.gfn_access.open_for) == vcpu)
		__kvm_gfn_access_close(vcpu);
}

/* No access is let through any more; what was restricted, is not. */
static inline void kvm_gfn_access_forget(struct kvm_vcpu *vcpu)
{
	vcpu->arch.gfn_access.nr_passes = 0;
	vcpu->arch.gfn_access.denied = false;
}

#else

static inline bool kvm_gfn_access_is_used(void) { return false; }
static inline bool kvm_gfn_access_active(struct kvm *kvm) { return false; }
static inline void kvm_gfn_access_init(struct kvm *kvm) { }
static inline void kvm_gfn_access_exit(void) { }

static inline unsigned int kvm_gfn_access_pte_mask(struct kvm_vcpu *vcpu, gfn_t gfn)
{
	return ~0u;
}

static inline bool kvm_gfn_range_is_restricted(struct kvm *kvm, gfn_t gfn, u64 nr)
{
	return false;
}

static inline int kvm_gfn_access_max_level(struct kvm *kvm, gfn_t gfn, int level)
{
	return level;
}

static inline int kvm_gfn_access_check_fault(struct kvm_vcpu *vcpu,
					     struct kvm_page_fault *fault)
{
	return 0;
}

static inline bool kvm_gfn_access_denies(struct kvm_vcpu *vcpu, gpa_t gpa,
					 gva_t gva, unsigned int access)
{
	return false;
}

static inline int kvm_gfn_access_fault(struct kvm_vcpu *vcpu, gpa_t cr2_or_gpa,
				       u64 error_code)
{
	return 1;
}

static inline int kvm_gfn_access_emulation(struct kvm_vcpu *vcpu)
{
	return 1;
}

static inline void kvm_gfn_access_begin_emulation(struct kvm_vcpu *vcpu) { }
static inline bool kvm_gfn_access_was_denied(struct kvm_vcpu *vcpu) { return false; }
static inline void kvm_gfn_access_exempt(struct kvm_vcpu *vcpu, bool exempt) { }
static inline void kvm_gfn_access_step_over(struct kvm_vcpu *vcpu) { }
static inline void kvm_gfn_access_insn_done(struct kvm_vcpu *vcpu) { }
static inline int kvm_gfn_access_enter(struct kvm_vcpu *vcpu) { return 1; }
static inline void kvm_gfn_access_close(struct kvm_vcpu *vcpu) { }

#endif

#endif
