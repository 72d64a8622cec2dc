// SPDX-License-Identifier: GPL-2.0
/*
 * KVM introspection: vCPUs and the work that their threads do for the tool.
 *
 * KVM_REQ_INTROSPECTION tells a vCPU's thread to call kvmi_handle_requests()
 * before it enters the guest. KVM_REQ_UNBLOCK goes with it, so that a vCPU
 * that is halted, or waits for INIT, looks at it too.
 */
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "dispatch.h"
#include "event.h"
#include "vcpu.h"

/**
 * kvmi_alloc_vcpu - put a vCPU under introspection
 * @kvmi: the connection
 * @vcpu: the vCPU
 *
 * The caller holds kvm->lock and publishes the result in vcpu->introspection.
 *
 * Return: the object, NULL without memory
 */
struct kvmi_vcpu *kvmi_alloc_vcpu(struct kvm_introspection *kvmi,
				  struct kvm_vcpu *vcpu)
{
	struct kvmi_vcpu *kvi;

	lockdep_assert_held(&kvmi->kvm->lock);

	kvi = kzalloc_obj(*kvi, GFP_KERNEL_ACCOUNT);
	if (!kvi)
		return NULL;

	kvi->kvmi = kvmi;
	kvi->vcpu = vcpu;
	spin_lock_init(&kvi->lock);
	INIT_LIST_HEAD(&kvi->jobs);
	INIT_LIST_HEAD(&kvi->waiting);
	list_add_tail(&kvi->node, &kvmi->vcpus);

	return kvi;
}

/**
 * kvmi_drop_jobs - forget commands that nobody is going to carry out
 * @kvi: a vCPU whose thread does not look at it any more
 */
void kvmi_drop_jobs(struct kvmi_vcpu *kvi)
{
	struct kvmi_job *job, *tmp;

	list_for_each_entry_safe(job, tmp, &kvi->jobs, list) {
		list_del(&job->list);
		kfree(job);
	}
	kvi->nr_jobs = 0;
}

void kvmi_free_vcpu(struct kvmi_vcpu *kvi)
{
	kvmi_drop_jobs(kvi);
	list_del(&kvi->node);
	kfree(kvi);
}

/**
 * kvmi_find_vcpu - get a vCPU by its index
 * @kvmi: the connection, with rx.lock held: it is not withdrawn meanwhile
 * @index: from the tool
 *
 * Return: the vCPU, NULL if there is none
 */
struct kvmi_vcpu *kvmi_find_vcpu(struct kvm_introspection *kvmi, u16 index)
{
	struct kvm_vcpu *vcpu = kvm_get_vcpu(kvmi->kvm, index);

	if (!vcpu)
		return NULL;

	return rcu_dereference_protected(vcpu->introspection,
					 lockdep_is_held(&kvmi->rx.lock));
}

/* Wake the vCPU's thread if it waits for a reply. */
static bool kvmi_wake_waiting(struct kvmi_vcpu *kvi)
{
	struct kvm_introspection *kvmi = kvi->kvmi;
	unsigned long flags;
	bool waiting;

	spin_lock_irqsave(&kvmi->lock, flags);
	waiting = kvi->task;
	if (waiting)
		wake_up_process(kvi->task);
	spin_unlock_irqrestore(&kvmi->lock, flags);

	return waiting;
}

/**
 * kvmi_notify_vcpu - there is something for the vCPU's thread to look at
 * @kvi: the vCPU
 *
 * What it is about to find (a job, a pause, a reply) was stored before.
 */
void kvmi_notify_vcpu(struct kvmi_vcpu *kvi)
{
	struct kvm_vcpu *vcpu = kvi->vcpu;

	/*
	 * A thread that waits sees it there; it looks again after it has left
	 * kvm_introspection.waiting.
	 */
	if (kvmi_wake_waiting(kvi))
		return;

	kvm_make_request(KVM_REQ_INTROSPECTION, vcpu);
	kvm_make_request(KVM_REQ_UNBLOCK, vcpu);
	kvm_vcpu_kick(vcpu);
}

/**
 * kvmi_request_self - have kvmi_handle_requests() called again
 * @kvi: the vCPU of the calling thread, which holds kvm->srcu
 */
void kvmi_request_self(struct kvmi_vcpu *kvi)
{
	struct kvm_vcpu *vcpu = kvi->vcpu;

	/* Once withdrawn nobody would clear the request: see kvmi_release(). */
	if (rcu_access_pointer(vcpu->introspection) != kvi)
		return;

	kvm_make_request(KVM_REQ_INTROSPECTION, vcpu);
	kvm_make_request(KVM_REQ_UNBLOCK, vcpu);
}

/**
 * kvmi_request_work - there is work of the architecture for the vCPU
 * @vcpu: the vCPU of the calling thread, which holds kvm->srcu
 */
void kvmi_request_work(struct kvm_vcpu *vcpu)
{
	struct kvmi_vcpu *kvi;

	kvi = srcu_dereference(vcpu->introspection, &vcpu->kvm->srcu);
	if (kvi)
		kvmi_request_self(kvi);
}

/**
 * kvmi_add_job - queue a command for the vCPU's thread
 * @kvi: the vCPU
 * @job: the command; owned by @kvi if true is returned
 *
 * Return: false if there are too many
 */
bool kvmi_add_job(struct kvmi_vcpu *kvi, struct kvmi_job *job)
{
	bool added = false;

	spin_lock(&kvi->lock);
	if (kvi->nr_jobs < KVMI_MAX_JOBS) {
		list_add_tail(&job->list, &kvi->jobs);
		kvi->nr_jobs++;
		added = true;
	}
	spin_unlock(&kvi->lock);

	if (added)
		kvmi_notify_vcpu(kvi);

	return added;
}

/**
 * kvmi_run_next_job - carry out the first of the queued commands
 * @kvi: the vCPU of the calling thread, which does not hold kvm->srcu; it has
 *	 commands
 */
void kvmi_run_next_job(struct kvmi_vcpu *kvi)
{
	struct kvmi_job *job;

	spin_lock(&kvi->lock);
	job = list_first_entry(&kvi->jobs, struct kvmi_job, list);
	list_del(&job->list);
	kvi->nr_jobs--;
	spin_unlock(&kvi->lock);

	kvmi_run_job(kvi, job);
}

/**
 * kvmi_run_jobs - carry out queued commands
 * @kvi: the vCPU of the calling thread, which does not hold kvm->srcu
 *
 * Return: true if there are none any more, false if a signal is pending
 */
bool kvmi_run_jobs(struct kvmi_vcpu *kvi)
{
	while (!list_empty(&kvi->jobs)) {
		if (signal_pending(current))
			return false;

		kvmi_run_next_job(kvi);
		cond_resched();
	}

	return true;
}

/**
 * kvmi_pause - ask for a pause event
 * @kvi: the vCPU
 * @wait: return only after the vCPU has left guest mode. It enters it again
 *	  only after the event was dealt with
 *
 * Return: 0 or -KVM_EBUSY
 */
int kvmi_pause(struct kvmi_vcpu *kvi, bool wait)
{
	struct kvm *kvm = kvi->vcpu->kvm;

	if (atomic_fetch_add_unless(&kvi->pauses, 1, KVMI_MAX_PAUSES) == KVMI_MAX_PAUSES)
		return -KVM_EBUSY;

	kvmi_notify_vcpu(kvi);

	/*
	 * A kick only makes the vCPU leave guest mode soon. This waits, with
	 * an IPI, until it has; not for its thread to do anything.
	 */
	if (wait) {
		DECLARE_BITMAP(mask, KVM_MAX_VCPUS);

		bitmap_zero(mask, KVM_MAX_VCPUS);
		__set_bit(kvi->vcpu->vcpu_idx, mask);
		kvm_make_vcpus_request_mask(kvm, KVM_REQ_OUTSIDE_GUEST_MODE, mask);
	}

	return 0;
}

/**
 * kvmi_has_work - is there something for kvmi_handle_requests() to do
 * @kvi: the vCPU of the calling thread
 *
 * Return: true if a command, an event without reply, a pause or something of
 * the architecture is pending
 */
bool kvmi_has_work(struct kvmi_vcpu *kvi)
{
	return !list_empty(&kvi->jobs) || kvi->state != KVMI_EVENT_NONE ||
	       atomic_read(&kvi->pauses) ||
	       (!kvi->kept && kvmi_arch_has_work(kvi->vcpu));
}

static int kvmi_do_requests(struct kvmi_vcpu *kvi)
{
	int r;

	for (;;) {
		struct kvmi_event ev = { .id = KVMI_VCPU_EVENT_PAUSE };

		/* What has happened to the guest comes before what is to happen. */
		if (kvi->state == KVMI_EVENT_NONE &&
		    kvmi_arch_next_event(kvi->vcpu, &ev))
			r = kvmi_raise_at_boundary(kvi, &ev);
		/* The run loop sees the signal before it enters the guest. */
		else if (!kvmi_run_jobs(kvi))
			return 1;
		else if (kvi->state != KVMI_EVENT_NONE)
			r = kvmi_resume_event(kvi);
		else if ((kvi->kept || !kvmi_arch_is_injecting(kvi->vcpu)) &&
			 atomic_dec_if_positive(&kvi->pauses) >= 0)
			r = kvmi_raise_at_boundary(kvi, &ev);
		else
			break;

		if (r <= 0)
			return r;
	}

	/*
	 * The instruction that a verdict was kept for is executed first. Once
	 * introspection is withdrawn, nothing is begun that the next tool would
	 * be told of.
	 */
	kvm_vcpu_srcu_read_lock(kvi->vcpu);
	if (!kvi->kept && rcu_access_pointer(kvi->vcpu->introspection) == kvi)
		kvmi_arch_before_entry(kvi->vcpu);
	kvm_vcpu_srcu_read_unlock(kvi->vcpu);

	return 1;
}

/**
 * kvmi_handle_requests - do what the tool wants of this vCPU
 * @vcpu: the vCPU, loaded by the calling thread, which holds kvm->srcu
 *
 * Carries out queued commands, waits for the reply to an event that is still
 * owed one, and sends the pause events. kvm->srcu is dropped meanwhile. May
 * wait for the tool, see kvmi_wait().
 *
 * Return: 1 to go on, 0 to return to the VMM with vcpu->run set up, or -EINTR
 */
int kvmi_handle_requests(struct kvm_vcpu *vcpu)
{
	struct kvmi_vcpu *kvi;
	int r;

	kvi = srcu_dereference(vcpu->introspection, &vcpu->kvm->srcu);
	if (!kvi)
		return 1;

	kvmi_get(kvi->kvmi);
	kvm_vcpu_srcu_read_unlock(vcpu);

	r = kvmi_do_requests(kvi);

	kvm_vcpu_srcu_read_lock(vcpu);
	if (kvmi_has_work(kvi))
		kvmi_request_self(kvi);
	kvmi_put(kvi->kvmi);

	return r;
}
