// SPDX-License-Identifier: GPL-2.0
/*
 * KVM introspection: access to single pages of guest memory.
 */
#include <linux/kvmi_host.h>
#include <linux/slab.h>
#include <linux/unaligned.h>

#include "mmu/gfn_access.h"
#include "regs.h"

#include "events.h"

static_assert(KVMI_PAGE_ACCESS_R == KVM_GFN_ACCESS_R);
static_assert(KVMI_PAGE_ACCESS_W == KVM_GFN_ACCESS_W);
static_assert(KVMI_PAGE_ACCESS_X == KVM_GFN_ACCESS_X);

static bool kvmi_is_legal_entry(const struct kvmi_page_access_entry *entry)
{
	/* The padding must be 0: it is looked at together with what is before it. */
	return get_unaligned_le64(&entry->access) == entry->access &&
	       kvm_gfn_access_is_legal(entry->access);
}

/* The memslot of a page, which is most likely that of the page before: @slot. */
static struct kvm_memory_slot *kvmi_visible_memslot(struct kvm *kvm, gfn_t gfn,
						    struct kvm_memory_slot *slot)
{
	if (slot && gfn - slot->base_gfn < slot->npages)
		return slot;

	slot = gfn_to_memslot(kvm, gfn);

	return kvm_is_visible_memslot(slot) ? slot : NULL;
}

/* KVMI_VM_SET_PAGE_ACCESS */
int kvmi_arch_vm_set_page_access(struct kvmi_call *call)
{
	const struct kvmi_vm_set_page_access *req = call->req;
	const struct kvmi_page_access_entry *entry;
	struct kvm *kvm = call->kvm;
	struct kvm_gfn_access_change *changes;
	struct kvm_memory_slot *slot = NULL;
	int i, nr = 0, r = 0;
	gfn_t gfn;

	if (req->count && call->req_len < struct_size(req, entries, req->count))
		return KVMI_CALL_CLOSE;

	if (req->padding1 || req->padding2)
		return -KVM_EINVAL;

	changes = kmalloc_objs(*changes, req->count, GFP_KERNEL_ACCOUNT);
	if (!changes)
		return -KVM_ENOMEM;

	scoped_guard(srcu, &kvm->srcu) {
		for (i = 0; i < req->count; i++) {
			entry = &req->entries[i];
			gfn = gpa_to_gfn(entry->gpa);
			slot = kvmi_visible_memslot(kvm, gfn, slot);
			if (!slot || !kvmi_is_legal_entry(entry)) {
				r = -KVM_EINVAL;
				continue;
			}
			changes[nr].gfn = gfn;
			changes[nr++].access = entry->access;
		}
	}

	if (nr && kvm_set_gfn_access(kvm, changes, nr) && !r)
		r = -KVM_ENOMEM;

	kfree(changes);
	return r;
}

/**
 * kvmi_arch_clear_page_access - lift all restrictions
 * @kvm: a VM whose introspection was withdrawn
 */
void kvmi_arch_clear_page_access(struct kvm *kvm)
{
	kvm_clear_gfn_access(kvm);
}

/**
 * kvmi_page_denied - the guest wants to access a page in a way that is restricted
 * @vcpu: the vCPU, with rip at the instruction; the caller holds kvm->srcu
 * @gva: guest virtual address, INVALID_GPA if it is not known
 * @gpa: guest physical address
 * @access: KVM_GFN_ACCESS_*
 *
 * Unlike other events this one is for the guests of L1 too.
 *
 * Return: like kvmi_raise_event(); KVMI_CONTINUE if nobody wants to know
 */
int kvmi_page_denied(struct kvm_vcpu *vcpu, u64 gva, gpa_t gpa, u8 access)
{
	struct kvmi_vcpu_event_pf payload = {
		.gva = gva,
		.gpa = gpa,
		.access = access,
	};
	struct kvmi_event ev = {
		.id = KVMI_VCPU_EVENT_PF,
		.payload = &payload,
		.payload_len = sizeof(payload),
	};

	if (!kvmi_is_in_use() || !kvmi_event_active(vcpu, ev.id))
		return KVMI_CONTINUE;

	return kvmi_raise_insn(vcpu, &ev);
}
