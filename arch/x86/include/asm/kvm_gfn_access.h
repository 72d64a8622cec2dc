/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What a guest may do with single pages of its memory: the state that VMs and
 * vCPUs keep. See arch/x86/kvm/mmu/gfn_access.c.
 */
#ifndef _ASM_X86_KVM_GFN_ACCESS_H
#define _ASM_X86_KVM_GFN_ACCESS_H

#include <linux/types.h>
#include <linux/wait.h>
#include <linux/xarray.h>

struct kvm_vcpu;

#ifdef CONFIG_KVM_INTROSPECTION

/**
 * struct kvm_gfn_access_map - see arch/x86/kvm/mmu/gfn_access_map.c
 * @blocks: of pages, some of which are or were restricted
 * @nr: number of restricted pages. Changed with mmu_lock held for writing
 */
struct kvm_gfn_access_map {
	struct xarray blocks;
	unsigned long nr;
};

/**
 * struct kvm_gfn_access - part of struct kvm_arch
 * @map: which pages are restricted
 * @counted: the VM is counted in the static key
 * @open_for: the only vCPU that may be in guest mode: what it was allowed to do is
 *	      not restricted for it. Changed with mmu_lock held for writing
 * @closed: the other vCPUs wait here for the end of that
 */
struct kvm_gfn_access {
	struct kvm_gfn_access_map map;
	bool counted;
	struct kvm_vcpu *open_for;
	wait_queue_head_t closed;
};

/*
 * An instruction that touches eight pages, each translated by four page tables
 * that are restricted as well.
 */
#define KVM_GFN_PASS_PAGES	40

/**
 * struct kvm_gfn_access_vcpu - part of struct kvm_vcpu_arch
 * @pass_rip: the instruction that may access restricted pages, until it is done
 * @nr_passes: number of entries in @passes
 * @passes: gfn in page units of bytes, and KVM_GFN_ACCESS_* in the low bits
 * @open_runs: how often guest mode was entered while kvm_gfn_access.open_for is
 *	       this vCPU
 * @exempt: KVM accesses memory in a way that cannot be started over
 * @looking: KVM has looked at the map since the vCPU was last in guest mode, and
 *	     may be accessing memory on that ground. Read by others
 * @denied: the last access was denied; how, is in @gva, @gpa and @access
 * @gva: guest virtual address, INVALID_GPA if it is not known
 * @gpa: guest physical address
 * @access: the one of KVM_GFN_ACCESS_* that is missing
 *
 * All of it belongs to the vCPU's thread. When nothing is restricted any more, and no
 * vCPU can be using @passes, they are forgotten from outside.
 */
struct kvm_gfn_access_vcpu {
	unsigned long pass_rip;
	unsigned int nr_passes;
	u64 passes[KVM_GFN_PASS_PAGES];
	unsigned int open_runs;
	bool exempt;
	bool looking;
	bool denied;
	u64 gva;
	u64 gpa;
	u8 access;
};

#else

struct kvm_gfn_access { };
struct kvm_gfn_access_vcpu { };

#endif

#endif
