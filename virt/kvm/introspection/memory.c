// SPDX-License-Identifier: GPL-2.0
/*
 * KVM introspection: guest memory.
 *
 * Guest memory is user memory of the VMM. A vCPU's thread has it at hand; the
 * receiver, a kernel thread, borrows it for each access. It does not hold it
 * longer, so that the memory of a VMM that exits is freed at once.
 */
#include <linux/kthread.h>
#include <linux/kvm_dirty_ring.h>
#include <linux/kvmi_host.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/uaccess.h>

#include "memory.h"

/* Returns false if the VMM is gone. */
static bool kvmi_borrow_mm(struct kvm *kvm)
{
	if (current->mm == kvm->mm)
		return true;

	if (WARN_ON_ONCE(!(current->flags & PF_KTHREAD)) ||
	    !mmget_not_zero(kvm->mm))
		return false;

	kthread_use_mm(kvm->mm);
	return true;
}

static void kvmi_return_mm(struct kvm *kvm)
{
	if (!(current->flags & PF_KTHREAD))
		return;

	kthread_unuse_mm(kvm->mm);
	mmput(kvm->mm);
}

/* Memory of the VMM's memslots, not of KVM's own. */
static struct kvm_memory_slot *kvmi_find_memslot(struct kvm *kvm, gfn_t gfn)
{
	struct kvm_memory_slot *slot = gfn_to_memslot(kvm, gfn);

	return kvm_is_visible_memslot(slot) ? slot : NULL;
}

static int kvmi_read_page(struct kvm *kvm, gpa_t gpa, void *data,
			  unsigned int size)
{
	struct kvm_memory_slot *slot;
	gfn_t gfn = gpa_to_gfn(gpa);
	unsigned long hva;

	guard(srcu)(&kvm->srcu);

	slot = kvmi_find_memslot(kvm, gfn);
	hva = gfn_to_hva_memslot_prot(slot, gfn, NULL);
	if (kvm_is_error_hva(hva) ||
	    copy_from_user(data, (void __user *)hva + offset_in_page(gpa), size))
		return -KVM_ENOENT;

	return 0;
}

/**
 * kvmi_read_guest - read guest memory
 * @kvm: the VM
 * @gpa: guest physical address
 * @data: where to put it
 * @size: bytes, all in one page
 *
 * May fault in the memory of the VMM, and wait for that.
 *
 * Return: 0, or -KVM_ENOENT if there is no such memory
 */
int kvmi_read_guest(struct kvm *kvm, gpa_t gpa, void *data, unsigned int size)
{
	int r;

	if (!kvmi_borrow_mm(kvm))
		return -KVM_ENOENT;

	r = kvmi_read_page(kvm, gpa, data, size);

	kvmi_return_mm(kvm);

	return r;
}

/* mark_page_dirty_in_slot() for whoever writes, as there may be no vCPU. */
static void kvmi_mark_dirty(struct kvm *kvm, struct kvm_vcpu *vcpu,
			    struct kvm_memory_slot *slot, gfn_t gfn)
{
	if (vcpu)
		mark_page_dirty_in_slot(kvm, slot, gfn);
	else if (kvm_slot_dirty_track_enabled(slot) && slot->dirty_bitmap)
		set_bit_le(gfn - slot->base_gfn, slot->dirty_bitmap);
}

static int kvmi_write_page(struct kvm *kvm, struct kvm_vcpu *vcpu, gpa_t gpa,
			   const void *data, unsigned int size)
{
	struct kvm_memory_slot *slot;
	gfn_t gfn = gpa_to_gfn(gpa);
	unsigned long hva;
	bool writable;

	guard(srcu)(&kvm->srcu);

	slot = kvmi_find_memslot(kvm, gfn);
	hva = gfn_to_hva_memslot_prot(slot, gfn, &writable);
	if (kvm_is_error_hva(hva) || !writable ||
	    copy_to_user((void __user *)hva + offset_in_page(gpa), data, size))
		return -KVM_ENOENT;

	kvmi_mark_dirty(kvm, vcpu, slot, gfn);
	return 0;
}

/**
 * kvmi_write_guest - write guest memory, dirty logging included
 * @kvm: the VM
 * @gpa: guest physical address
 * @data: what to write
 * @size: bytes, all in one page
 *
 * May fault in the memory of the VMM, and wait for that. Entries of a dirty
 * ring can be made only by a vCPU, and as long as there is room.
 *
 * Return: 0, -KVM_ENOENT if there is no such memory or it is read-only,
 * -KVM_EAGAIN if the dirty ring is full, KVMI_CALL_ON_VCPU
 */
int kvmi_write_guest(struct kvm *kvm, gpa_t gpa, const void *data,
		     unsigned int size)
{
	struct kvm_vcpu *vcpu = kvm_get_running_vcpu();
	int r;

	if (kvm->dirty_ring_size) {
		if (!vcpu)
			return KVMI_CALL_ON_VCPU;
		/* If it is full, the vCPU returns to the VMM with that very exit. */
		if (kvm_dirty_ring_check_request(vcpu))
			return -KVM_EAGAIN;
	}

	if (!kvmi_borrow_mm(kvm))
		return -KVM_ENOENT;

	r = kvmi_write_page(kvm, vcpu, gpa, data, size);

	kvmi_return_mm(kvm);

	return r;
}

/**
 * kvmi_max_gfn - the end of guest memory
 * @kvm: the VM
 *
 * Return: the first gfn past the highest writable memory of the VMM's memslots
 */
gfn_t kvmi_max_gfn(struct kvm *kvm)
{
	struct kvm_memory_slot *slot;
	gfn_t max = 0;
	int bkt;

	guard(srcu)(&kvm->srcu);

	kvm_for_each_memslot(slot, bkt, kvm_memslots(kvm)) {
		if (slot->id >= KVM_USER_MEM_SLOTS ||
		    slot->flags & (KVM_MEM_READONLY | KVM_MEMSLOT_INVALID))
			continue;
		max = max(max, slot->base_gfn + slot->npages);
	}

	return max;
}
