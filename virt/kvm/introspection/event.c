// SPDX-License-Identifier: GPL-2.0
/*
 * KVM introspection: events.
 *
 * A vCPU that raises an event waits in its own thread, inside KVM_RUN, until
 * the tool has replied. A signal takes it out of KVM_RUN with the event still
 * owed a reply; the next KVM_RUN waits on. What the event was about has not
 * happened then: the guest is about to execute the instruction again. If it
 * does, in the state that the tool was told, the reply is applied without
 * another event; if anything is different, the VMM has changed the vCPU and
 * the reply is dropped.
 */
#include <linux/entry-virt.h>
#include <linux/nospec.h>
#include <linux/sched/signal.h>

#include "deadline.h"
#include "event.h"
#include "socket.h"
#include "vcpu.h"

#include <trace/events/kvmi.h>

/**
 * struct kvmi_event_type - a vCPU event that KVM knows
 * @actions: KVMI_EVENT_ACTION_* that the tool may answer, as bits
 * @reply_len: bytes of reply data that are used
 * @enable: must be enabled by KVMI_VCPU_CONTROL_EVENTS
 * @boundary: raised between two instructions, not by one that is to be
 *	      completed after it
 */
struct kvmi_event_type {
	u8 actions;
	u8 reply_len;
	bool enable;
	bool boundary;
};

#define KVMI_ACTION(name)	BIT(KVMI_EVENT_ACTION_##name)

static const struct kvmi_event_type kvmi_events[KVMI_NUM_EVENTS] = {
	[KVMI_VCPU_EVENT_PAUSE] = {
		.actions = KVMI_ACTION(CONTINUE) | KVMI_ACTION(CRASH),
		.boundary = true,
	},
	[KVMI_VCPU_EVENT_HYPERCALL] = {
		.actions = KVMI_ACTION(CONTINUE) | KVMI_ACTION(CRASH),
		.enable = true,
	},
	[KVMI_VCPU_EVENT_BREAKPOINT] = {
		.actions = KVMI_ACTION(CONTINUE) | KVMI_ACTION(RETRY) |
			   KVMI_ACTION(CRASH),
		.enable = true,
	},
	[KVMI_VCPU_EVENT_CR] = {
		.actions = KVMI_ACTION(CONTINUE) | KVMI_ACTION(CRASH),
		.reply_len = sizeof(struct kvmi_vcpu_event_cr_reply),
		.enable = true,
	},
	[KVMI_VCPU_EVENT_TRAP] = {
		.actions = KVMI_ACTION(CONTINUE) | KVMI_ACTION(CRASH),
		.boundary = true,
	},
	[KVMI_VCPU_EVENT_XSETBV] = {
		.actions = KVMI_ACTION(CONTINUE) | KVMI_ACTION(CRASH),
		.enable = true,
	},
	[KVMI_VCPU_EVENT_DESCRIPTOR] = {
		.actions = KVMI_ACTION(CONTINUE) | KVMI_ACTION(RETRY) |
			   KVMI_ACTION(CRASH),
		.enable = true,
	},
	[KVMI_VCPU_EVENT_MSR] = {
		.actions = KVMI_ACTION(CONTINUE) | KVMI_ACTION(CRASH),
		.reply_len = sizeof(struct kvmi_vcpu_event_msr_reply),
		.enable = true,
	},
	[KVMI_VCPU_EVENT_PF] = {
		.actions = KVMI_ACTION(CONTINUE) | KVMI_ACTION(RETRY) |
			   KVMI_ACTION(CRASH),
		.enable = true,
	},
	[KVMI_VCPU_EVENT_SINGLESTEP] = {
		.actions = KVMI_ACTION(CONTINUE) | KVMI_ACTION(CRASH),
		.boundary = true,
	},
};

static const struct kvmi_event_type *kvmi_find_event(u16 id)
{
	const struct kvmi_event_type *type;

	if (id >= ARRAY_SIZE(kvmi_events))
		return NULL;

	type = &kvmi_events[array_index_nospec(id, ARRAY_SIZE(kvmi_events))];
	return type->actions ? type : NULL;
}

/* A VM event that this kernel can send. */
bool kvmi_is_vm_event(u16 id)
{
	return id == KVMI_VM_EVENT_UNHOOK;
}

/* A vCPU event that this kernel can send. */
bool kvmi_is_vcpu_event(u16 id)
{
	return kvmi_find_event(id);
}

/* A vCPU event that is sent only after it was enabled. */
bool kvmi_needs_enabling(u16 id)
{
	const struct kvmi_event_type *type = kvmi_find_event(id);

	return type && type->enable;
}

/**
 * kvmi_send_unhook - tell the tool that the VMM is about to unhook
 * @kvmi: the connection
 *
 * Return: 0, or -ENOENT if the tool does not want to know or cannot be told
 * at once
 */
int kvmi_send_unhook(struct kvm_introspection *kvmi)
{
	struct {
		struct kvmi_msg_hdr hdr;
		struct kvmi_event_hdr event;
	} msg = {
		.hdr.id = KVMI_VM_EVENT,
		.hdr.size = sizeof(msg.event),
		.event.event = KVMI_VM_EVENT_UNHOOK,
	};
	struct kvec vec = { .iov_base = &msg, .iov_len = sizeof(msg) };

	if (!test_bit(KVMI_VM_EVENT_UNHOOK, kvmi->event_enabled) ||
	    !test_bit(KVMI_VM_EVENT_UNHOOK, kvmi->event_allowed))
		return -ENOENT;

	guard(mutex)(&kvmi->tx.lock);

	/* A tool that does not read would learn it too late. */
	if (test_bit(KVMI_TX_BACKLOG, &kvmi->flags))
		return -ENOENT;

	msg.hdr.seq = ++kvmi->tx.event_seq;
	if (kvmi_send_locked(kvmi, &vec, 1, sizeof(msg)))
		return -ENOENT;

	return 0;
}

static struct kvmi_vcpu *kvmi_of_vcpu(struct kvm_vcpu *vcpu)
{
	struct kvmi_vcpu *kvi;

	kvi = srcu_dereference(vcpu->introspection, &vcpu->kvm->srcu);

	return kvi && !kvmi_is_dead(kvi->kvmi) ? kvi : NULL;
}

/**
 * kvmi_event_allowed - does the VMM allow this event
 * @kvmi: the connection
 * @event: KVMI_VCPU_EVENT_*
 *
 * Return: true if it does
 */
bool kvmi_event_allowed(struct kvm_introspection *kvmi, u8 event)
{
	return test_bit(event, kvmi->event_allowed);
}

static bool kvmi_is_wanted(struct kvmi_vcpu *kvi, u8 event)
{
	return kvmi_event_allowed(kvi->kvmi, event) &&
	       (test_bit(event, kvi->event_enabled) ||
		!kvmi_needs_enabling(event));
}

/**
 * kvmi_event_active - does the tool want this event
 * @vcpu: the vCPU of the calling thread, which holds kvm->srcu
 * @event: KVMI_VCPU_EVENT_*
 *
 * Return: true if it is enabled, and allowed by the VMM
 */
bool kvmi_event_active(struct kvm_vcpu *vcpu, u8 event)
{
	struct kvmi_vcpu *kvi = kvmi_of_vcpu(vcpu);

	return kvi && kvmi_is_wanted(kvi, event);
}

/*
 * Apply what the tool said; returns like kvmi_raise_event(). The registers
 * come first, whatever the event has to change is done on top of them. @reply,
 * if the caller wants it, keeps the guest's own value if the tool gave none.
 */
static int kvmi_apply(struct kvm_vcpu *vcpu, const struct kvmi_verdict *verdict,
		      u64 *reply)
{
	struct kvm_run *run = vcpu->run;

	if (reply && !verdict->missed)
		*reply = verdict->reply;

	if (verdict->set_regs)
		kvmi_arch_set_registers(vcpu, &verdict->regs);

	switch (verdict->action) {
	case KVMI_EVENT_ACTION_RETRY:
		return KVMI_RETRY;
	case KVMI_EVENT_ACTION_CRASH:
		run->exit_reason = KVM_EXIT_SYSTEM_EVENT;
		run->system_event.type = KVM_SYSTEM_EVENT_CRASH;
		run->system_event.ndata = 0;
		return 0;
	default:
		return KVMI_CONTINUE;
	}
}

/*
 * Wait for the reply to the event in kvi->msg.
 *
 * What wakes the vCPU: the reply, a job, being chosen to read the socket, the
 * deadline and a change of it, the end of the connection (UNHOOK, either side
 * closing it, SIGKILL of the tool, a broken rule), and any signal, SIGKILL
 * included. A VMM that wants the vCPU back at once (immediate_exit, while I/O is
 * completed) does not wait at all.
 *
 * What is held: nothing but the vCPU itself (vcpu->mutex of KVM_RUN, as in a
 * halted vCPU): no kvm->srcu, so memslots can be changed, and no other lock.
 * A reference keeps kvi and its connection.
 *
 * Returns 1 when the event was dealt with (or nobody will), -EINTR when it is
 * still owed a reply. The death of the VM needs no care: it cannot come while
 * a vCPU is in KVM_RUN, but for KVM_BUG(), after which signals still work.
 */
static int kvmi_wait(struct kvmi_vcpu *kvi)
{
	struct kvm_introspection *kvmi = kvi->kvmi;
	struct kvm_vcpu *vcpu = kvi->vcpu;
	bool done, received;
	long left;
	int r = 1;

	spin_lock_irq(&kvmi->lock);
	kvi->task = current;
	list_add_tail(&kvi->waiting, &kvmi->waiting);
	spin_unlock_irq(&kvmi->lock);

	for (;;) {
		set_current_state(TASK_INTERRUPTIBLE);

		done = READ_ONCE(kvi->state) != KVMI_EVENT_SENT ||
		       kvmi_is_dead(kvmi);

		/* Commands that came before the reply are carried out before. */
		if (done && list_empty(&kvi->jobs))
			break;

		/* However busy the tool keeps this thread, signals come first. */
		if (__xfer_to_guest_mode_work_pending()) {
			__set_current_state(TASK_RUNNING);
			r = kvm_xfer_to_guest_mode_handle_work(vcpu);
			if (r)
				break;
			r = 1;
			continue;
		}

		if (!vcpu->wants_to_run) {
			kvm_handle_signal_exit(vcpu);
			r = -EINTR;
			break;
		}

		left = kvmi_time_left(kvi);
		if ((done || left) && !list_empty(&kvi->jobs)) {
			__set_current_state(TASK_RUNNING);
			kvmi_run_next_job(kvi);
			continue;
		}

		/* A reply that came in time counts, although nobody has read it. */
		received = kvmi_try_receive(kvmi, kvi);
		if (!left && READ_ONCE(kvi->state) == KVMI_EVENT_SENT)
			break;
		if (!received)
			schedule_timeout(left);
	}
	__set_current_state(TASK_RUNNING);

	spin_lock_irq(&kvmi->lock);
	list_del_init(&kvi->waiting);
	kvi->task = NULL;
	spin_unlock_irq(&kvmi->lock);

	kvmi_hand_over(kvmi);

	if (r < 0)
		++vcpu->stat.introspection_interrupted;

	return r;
}

/*
 * The event is no longer outstanding: if the reply comes after this, it is one to
 * nothing. Returns true and the verdict if the tool gave one, or has missed the
 * deadline; false if the connection has ended.
 */
static bool kvmi_end_event(struct kvmi_vcpu *kvi, struct kvmi_verdict *verdict)
{
	bool decided = true;

	guard(spinlock)(&kvi->lock);

	if (kvi->state == KVMI_EVENT_REPLIED) {
		*verdict = kvi->verdict;
	} else if (kvmi_is_dead(kvi->kvmi)) {
		++kvi->vcpu->stat.introspection_lost;
		decided = false;
	} else {
		kvmi_miss_deadline(kvi);
		*verdict = (struct kvmi_verdict) {
			.action = KVMI_EVENT_ACTION_CONTINUE,
			.missed = true,
		};
	}
	WRITE_ONCE(kvi->state, KVMI_EVENT_NONE);

	return decided;
}

static void kvmi_fill_event(struct kvmi_vcpu *kvi, const struct kvmi_event *ev)
{
	struct kvmi_event_msg *msg = &kvi->msg;

	msg->hdr.id = KVMI_VCPU_EVENT;
	msg->hdr.size = sizeof(msg->event) + sizeof(msg->common) + ev->payload_len;
	msg->event.event = ev->id;
	msg->common.size = sizeof(msg->common);
	msg->common.vcpu = kvi->vcpu->vcpu_idx;
	kvmi_arch_get_event_state(kvi->vcpu, &msg->common.arch);
	if (ev->payload_len)
		memcpy(msg->payload, ev->payload, ev->payload_len);

	memset(&kvi->verdict, 0, sizeof(kvi->verdict));
}

static int kvmi_send_event(struct kvmi_vcpu *kvi)
{
	struct kvm_introspection *kvmi = kvi->kvmi;
	struct kvm_vcpu *vcpu = kvi->vcpu;
	struct kvmi_event_msg *msg = &kvi->msg;
	struct kvec vec = {
		.iov_base = msg,
		.iov_len = sizeof(msg->hdr) + msg->hdr.size,
	};
	int r;

	mutex_lock(&kvmi->tx.lock);

	msg->hdr.seq = kvmi->tx.event_seq + 1;
	kvi->sent = jiffies;
	/*
	 * The reply may come before kvmi_send_locked() returns: what it is
	 * compared with is stored before the state.
	 */
	smp_store_release(&kvi->state, KVMI_EVENT_SENT);

	r = kvmi_send_locked(kvmi, &vec, 1, vec.iov_len);
	if (!r)
		kvmi->tx.event_seq++;

	mutex_unlock(&kvmi->tx.lock);

	++vcpu->stat.introspection_events;
	trace_kvmi_event(vcpu, msg->event.event, msg->hdr.seq, r);

	return r;
}

/*
 * Send the event in kvi->msg, which the caller filled, and wait. Called
 * without kvm->srcu. Returns like kvmi_raise_event().
 */
static int kvmi_send_and_wait(struct kvmi_vcpu *kvi, u64 *reply)
{
	struct kvmi_verdict verdict;
	int r;

	kvmi_arch_before_wait(kvi->vcpu);

	if (!kvmi_send_event(kvi)) {
		r = kvmi_wait(kvi);
		if (r < 0)
			return r;
	}

	if (!kvmi_end_event(kvi, &verdict))
		return KVMI_CONTINUE;

	return kvmi_apply(kvi->vcpu, &verdict, reply);
}

/* The vCPU is as the tool saw it in an event. */
static bool kvmi_is_unchanged(struct kvmi_vcpu *kvi,
			      const struct kvmi_event_msg *msg)
{
	struct kvmi_vcpu_event_arch now = {};

	kvmi_arch_get_event_state(kvi->vcpu, &now);
	return kvmi_arch_same_instruction(&now, &msg->common.arch);
}

/* The verdict that was kept is for this event, raised by the same instruction. */
static bool kvmi_kept_matches(struct kvmi_vcpu *kvi, const struct kvmi_event *ev)
{
	const struct kvmi_event_msg *msg = &kvi->kept_msg;

	if (msg->event.event != ev->id ||
	    (ev->payload_len &&
	     memcmp(msg->payload, ev->payload, ev->payload_len)))
		return false;

	return kvmi_is_unchanged(kvi, msg);
}

/**
 * kvmi_raise_event - send an event and wait for the tool
 * @vcpu: the vCPU of the calling thread, which holds kvm->srcu and nothing else
 * @ev: the event; its reply is set if KVMI_CONTINUE is returned for a reply
 *
 * May sleep until the tool replies, see kvmi_wait(). kvm->srcu is dropped
 * meanwhile: whatever the caller knows of memslots is stale afterwards. The
 * caller has not changed any state of the guest yet, and changes none unless
 * KVMI_CONTINUE is returned.
 *
 * If the event cannot be sent, or the connection ends, that is KVMI_CONTINUE
 * with @ev untouched: set its reply to the guest's own value before.
 *
 * Return: KVMI_CONTINUE, KVMI_RETRY; or what an exit handler returns: 0 to
 * return to the VMM with vcpu->run set up, -EINTR for a signal
 */
int kvmi_raise_event(struct kvm_vcpu *vcpu, struct kvmi_event *ev)
{
	struct kvmi_vcpu *kvi = kvmi_of_vcpu(vcpu);
	int r;

	if (!kvi)
		return KVMI_CONTINUE;

	if (kvi->kept) {
		kvi->kept = false;
		if (kvmi_kept_matches(kvi, ev))
			return kvmi_apply(vcpu, &kvi->kept_verdict, &ev->reply);
	}

	/* kvmi_handle_requests() does not let a vCPU run that owes one. */
	if (WARN_ON_ONCE(kvi->state != KVMI_EVENT_NONE))
		return KVMI_CONTINUE;

	kvmi_fill_event(kvi, ev);

	kvmi_get(kvi->kvmi);
	kvm_vcpu_srcu_read_unlock(vcpu);

	r = kvmi_send_and_wait(kvi, &ev->reply);

	kvm_vcpu_srcu_read_lock(vcpu);
	if (kvmi_has_work(kvi))
		kvmi_request_self(kvi);
	kvmi_put(kvi->kvmi);

	return r;
}

/**
 * kvmi_raise_at_boundary - send an event between two instructions and wait
 * @kvi: the vCPU of the calling thread, which does not hold kvm->srcu
 * @ev: the event
 *
 * Return: like kvmi_handle_requests()
 */
int kvmi_raise_at_boundary(struct kvmi_vcpu *kvi, const struct kvmi_event *ev)
{
	struct kvm_vcpu *vcpu = kvi->vcpu;
	int r;

	if (kvmi_is_dead(kvi->kvmi) || !kvmi_is_wanted(kvi, ev->id))
		return 1;

	kvm_vcpu_srcu_read_lock(vcpu);
	kvmi_fill_event(kvi, ev);
	kvm_vcpu_srcu_read_unlock(vcpu);

	r = kvmi_send_and_wait(kvi, NULL);

	return r > 0 ? 1 : r;
}

/**
 * kvmi_resume_event - wait on for a reply that KVM_RUN was left without
 * @kvi: the vCPU of the calling thread, which does not hold kvm->srcu; its
 *	 event is still owed a reply, or has got one meanwhile
 *
 * Return: like kvmi_handle_requests()
 */
int kvmi_resume_event(struct kvmi_vcpu *kvi)
{
	struct kvmi_verdict verdict;
	bool unchanged;
	int r;

	r = kvmi_wait(kvi);
	if (r < 0)
		return r;

	if (!kvmi_end_event(kvi, &verdict))
		return 1;

	kvm_vcpu_srcu_read_lock(kvi->vcpu);
	unchanged = kvmi_is_unchanged(kvi, &kvi->msg);
	kvm_vcpu_srcu_read_unlock(kvi->vcpu);
	if (!unchanged)
		return 1;

	/* Going on is for the instruction to do, when it is executed again. */
	if (verdict.action == KVMI_EVENT_ACTION_CONTINUE &&
	    !kvmi_events[kvi->msg.event.event].boundary) {
		kvi->kept = true;
		kvi->kept_msg = kvi->msg;
		kvi->kept_verdict = verdict;
		return 1;
	}

	r = kvmi_apply(kvi->vcpu, &verdict, NULL);

	return r > 0 ? 1 : r;
}

/**
 * kvmi_take_event_reply - the tool replies to an event
 * @kvmi: the connection, with rx.lock held
 * @data: what follows the header: struct kvmi_vcpu_hdr, struct
 *	  kvmi_vcpu_event_reply, reply data
 * @size: bytes at @data
 *
 * Return: false if this is no reply to an event that waits for one, or did
 * until its deadline
 */
bool kvmi_take_event_reply(struct kvm_introspection *kvmi, const void *data,
			   size_t size)
{
	const struct kvmi_vcpu_hdr *hdr = data;
	const struct kvmi_vcpu_event_reply *reply = data + sizeof(*hdr);
	const struct kvmi_msg_hdr *msg = data - sizeof(*msg);
	const struct kvmi_event_type *type;
	struct kvmi_vcpu *kvi;
	size_t len;

	if (size < sizeof(*hdr) + sizeof(*reply) ||
	    hdr->padding1 || hdr->padding2 ||
	    reply->padding1 || reply->padding2)
		return false;
	len = size - sizeof(*hdr) - sizeof(*reply);

	kvi = kvmi_find_vcpu(kvmi, hdr->vcpu);
	if (!kvi)
		return false;

	/* The vCPU does not end its event meanwhile. */
	scoped_guard(spinlock, &kvi->lock) {
		/* Pairs with kvmi_send_event(). */
		if (smp_load_acquire(&kvi->state) != KVMI_EVENT_SENT ||
		    msg->seq != kvi->msg.hdr.seq)
			return kvmi_is_late_reply(kvi, msg->seq);

		type = kvmi_find_event(kvi->msg.event.event);
		if (reply->event != kvi->msg.event.event || len > type->reply_len ||
		    reply->action >= BITS_PER_BYTE ||
		    !(type->actions & BIT(reply->action)))
			return false;

		kvi->verdict.action = reply->action;
		kvi->verdict.reply = 0;
		memcpy(&kvi->verdict.reply, reply + 1, len);
		WRITE_ONCE(kvi->state, KVMI_EVENT_REPLIED);
	}

	trace_kvmi_action(kvi->vcpu, reply->event, msg->seq, reply->action);

	if (atomic_read(&kvmi->missed))
		atomic_set(&kvmi->missed, 0);
	kvmi_notify_vcpu(kvi);

	return true;
}
