// SPDX-License-Identifier: GPL-2.0
/*
 * KVM introspection: how long the guest waits for the tool.
 *
 * Without a deadline a tool that hangs stops the vCPUs that have an event for
 * it, until the VMM or the user ends one of the two. With one, which the VMM or
 * who attached sets, an event that is not answered in time is dealt with as if
 * the tool had said CONTINUE, and a tool that misses too many in a row is
 * disconnected.
 *
 * The tool does not know that it was late before it has sent its reply, which
 * is therefore ignored, where any other reply to nothing closes the connection.
 */
#include <linux/jiffies.h>
#include <linux/sched.h>

#include "deadline.h"

#include <trace/events/kvmi.h>

/**
 * kvmi_set_deadline - for the events that wait, and those to come
 * @kvmi: the connection
 * @deadline: as the VMM gave it
 *
 * Return: 0, or -EINVAL if events are to be counted that no deadline can end
 */
int kvmi_set_deadline(struct kvm_introspection *kvmi,
		      const struct kvm_introspection_deadline *deadline)
{
	if (deadline->max_missed && !deadline->timeout_ms)
		return -EINVAL;

	WRITE_ONCE(kvmi->max_missed, deadline->max_missed);
	WRITE_ONCE(kvmi->deadline, msecs_to_jiffies(deadline->timeout_ms));
	/* Those who sleep know the old one. */
	kvmi_wake_waiting_vcpus(kvmi);

	return 0;
}

/**
 * kvmi_time_left - how long to wait for the reply to an event
 * @kvi: the vCPU of the calling thread, whose event was sent
 *
 * Time goes on while the VMM does not run the vCPU.
 *
 * Return: jiffies, for schedule_timeout(): 0 if the deadline has passed,
 * MAX_SCHEDULE_TIMEOUT if there is none
 */
long kvmi_time_left(struct kvmi_vcpu *kvi)
{
	unsigned long deadline = READ_ONCE(kvi->kvmi->deadline);
	unsigned long waited;

	if (!deadline)
		return MAX_SCHEDULE_TIMEOUT;

	waited = jiffies - kvi->sent;
	return waited < deadline ? deadline - waited : 0;
}

/**
 * kvmi_miss_deadline - the tool has not replied in time
 * @kvi: the vCPU of the calling thread, with kvi->lock held: the event is being
 *	 ended
 */
void kvmi_miss_deadline(struct kvmi_vcpu *kvi)
{
	struct kvm_introspection *kvmi = kvi->kvmi;
	unsigned int max_missed = READ_ONCE(kvmi->max_missed);
	unsigned int missed;

	lockdep_assert_held(&kvi->lock);

	missed = atomic_inc_return(&kvmi->missed);
	kvi->late_replies++;
	kvi->late_seq = kvi->msg.hdr.seq;

	++kvi->vcpu->stat.introspection_missed;
	trace_kvmi_deadline(kvi->vcpu, kvi->msg.event.event, kvi->late_seq, missed);

	/* Of a tool that does not read, KVM would have to keep ever more events. */
	if ((max_missed && missed >= max_missed) ||
	    test_bit(KVMI_TX_BACKLOG, &kvmi->flags))
		kvmi_disconnect(kvmi);
}

/**
 * kvmi_is_late_reply - is this the reply to an event that has missed its deadline
 * @kvi: the vCPU of the event, with kvi->lock held
 * @seq: of the reply
 *
 * There can be one reply to each such event.
 *
 * Return: true if it is: ignore it
 */
bool kvmi_is_late_reply(struct kvmi_vcpu *kvi, u32 seq)
{
	lockdep_assert_held(&kvi->lock);

	if (!kvi->late_replies || (s32)(kvi->late_seq - seq) < 0)
		return false;

	kvi->late_replies--;
	return true;
}
