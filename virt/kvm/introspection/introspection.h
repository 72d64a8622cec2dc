/* SPDX-License-Identifier: GPL-2.0 */
/*
 * KVM introspection: the objects and who may touch them.
 *
 * A socket that was given to a VM is a struct kvm_introspection, with one
 * struct kvmi_vcpu for each vCPU. They live and end together; a VM that is
 * hooked again gets new ones.
 *
 * Locks, outermost first:
 *
 *	kvm->introspection_lock		the ioctls
 *	kvm->lock			publishing and withdrawing the objects
 *
 *	kvmi->rx.lock			reading the socket, carrying out commands
 *	kvm->srcu			vcpu->introspection
 *	kvmi->tx.lock			writing the socket
 *	kvmi_vcpu.lock			the job list, replies to events
 *	kvmi->lock			who waits (taken from the socket's wakeups)
 *
 * Nothing of this is held while a vCPU waits for the tool.
 */
#ifndef __KVMI_INTROSPECTION_H
#define __KVMI_INTROSPECTION_H

#include <linux/completion.h>
#include <linux/kvmi_host.h>
#include <linux/refcount.h>
#include <linux/spinlock.h>
#include <linux/wait.h>

#include "limits.h"

/* struct kvm_introspection.flags */
enum {
	KVMI_DEAD,		/* the socket is lost or given up: never undone */
	KVMI_RX_READY,		/* there may be something to read */
	KVMI_TX_WRITABLE,	/* there may be room to write */
	KVMI_TX_BACKLOG,	/* tx.backlog is not empty */
};

/**
 * struct kvmi_rx - the reading side of the socket
 * @lock: serializes the readers, which are the receiver and the vCPUs that
 *	  wait for a reply. Only ever taken by mutex_trylock(), but for the one
 *	  who waits for the last reader
 * @buf: bytes read so far, KVMI_MAX_MESSAGE
 * @start: where the next message begins in @buf
 * @end: where the bytes end in @buf
 */
struct kvmi_rx {
	struct mutex lock;	/* serializes the readers */
	u8 *buf;
	size_t start;
	size_t end;
};

/**
 * struct kvmi_tx - the writing side of the socket
 * @lock: serializes the writers. Never held while waiting for room
 * @backlog: what the socket had no room for; the receiver writes it later
 * @event_seq: sequence number of the last event
 */
struct kvmi_tx {
	struct mutex lock;	/* serializes the writers */
	struct list_head backlog;
	u32 event_seq;
};

/**
 * struct kvm_introspection - a VM and the socket to its introspection tool
 * @kvm: the VM. Holds no reference: kvmi_destroy_vm() ends the receiver first
 * @refs: one for kvm->introspection, one for each vCPU that is in our code
 *	  without holding kvm->srcu
 * @memcg: that of the VMM, which pays for what the receiver allocates
 * @attached: set up by KVM_INTROSPECTION_ATTACH: ends with the socket
 * @cleanup: the intercepts go when introspection ends; written with rx.lock
 * @uuid: name of the VM, for traces
 * @flags: KVMI_DEAD, ...
 * @receiver: reads the socket when no vCPU does
 * @released: the receiver has withdrawn everything and is gone
 * @sock: the socket; NULL once it was closed, which is done with both locks of
 *	  @rx and @tx held
 * @sock_wait: entry in the wait queue of @sock
 * @rx: reading side
 * @tx: writing side
 * @deadline: for replies to events, in jiffies; 0: none
 * @max_missed: the connection ends with so many missed deadlines; 0: never
 * @missed: deadlines that were missed since the last reply
 * @lock: protects @waiting; taken with interrupts off
 * @waiting: vCPUs that wait for a reply, longest first (kvmi_vcpu.waiting)
 * @vcpus: all struct kvmi_vcpu; protected by kvm->lock
 * @command_allowed: the tool may use these commands
 * @event_allowed: the tool may get these events
 * @event_enabled: VM events that the tool wants
 */
struct kvm_introspection {
	struct kvm *kvm;
	refcount_t refs;
	struct mem_cgroup *memcg;
	bool attached;
	bool cleanup;
	u8 uuid[16];
	unsigned long flags;

	struct task_struct *receiver;
	struct completion released;

	struct socket *sock;
	wait_queue_entry_t sock_wait;
	struct kvmi_rx rx;
	struct kvmi_tx tx;

	unsigned long deadline;
	unsigned int max_missed;
	atomic_t missed;

	spinlock_t lock;	/* protects the list of waiting vCPUs */
	struct list_head waiting;
	struct list_head vcpus;

	DECLARE_BITMAP(command_allowed, KVMI_NUM_MESSAGES);
	DECLARE_BITMAP(event_allowed, KVMI_NUM_EVENTS);
	DECLARE_BITMAP(event_enabled, KVMI_NUM_EVENTS);
};

/* A vCPU event as it goes over the wire. */
struct kvmi_event_msg {
	struct kvmi_msg_hdr hdr;
	struct kvmi_event_hdr event;
	struct kvmi_vcpu_event common;
	u8 payload[KVMI_MAX_PAYLOAD];
};

/* What the tool said to an event; or nothing in time, which is CONTINUE. */
struct kvmi_verdict {
	u8 action;
	bool missed;
	bool set_regs;
	u64 reply;
	struct kvm_regs regs;
};

enum kvmi_event_state {
	KVMI_EVENT_NONE,	/* no event, or it was dealt with */
	KVMI_EVENT_SENT,	/* the tool owes a reply */
	KVMI_EVENT_REPLIED,	/* the reply came, the vCPU has not seen it */
};

/**
 * struct kvmi_vcpu - a vCPU under introspection
 * @kvmi: the connection
 * @vcpu: the vCPU
 * @node: entry in kvm_introspection.vcpus
 * @waiting: entry in kvm_introspection.waiting, under its lock
 * @task: the vCPU's thread while it waits for a reply, under the same lock
 * @lock: protects @jobs and @nr_jobs; with @state SENT: @msg and @verdict
 * @jobs: commands to be carried out by the vCPU's thread, in order
 * @nr_jobs: length of @jobs
 * @pauses: KVMI_VM_PAUSE_VCPU commands whose event is to be sent
 * @event_enabled: vCPU events that the tool wants
 * @state: of the event in @msg. The vCPU's thread makes it SENT, and, under
 *	   @lock, NONE; the reader of the reply makes it REPLIED under @lock
 * @sent: when the event in @msg was sent, in jiffies
 * @msg: the last event that was sent
 * @verdict: the reply to it; written by the reader before REPLIED
 * @late_replies: replies that may still come to events that have missed their
 *		  deadline, under @lock
 * @late_seq: sequence number of the last one of these events, under @lock
 * @kept: KVM_RUN was left while waiting, and @kept_verdict on @kept_msg is for
 *	  the instruction that raised it, which is about to be executed again
 * @kept_msg: see @kept
 * @kept_verdict: see @kept
 *
 * Everything without a comment on locking belongs to the vCPU's thread.
 */
struct kvmi_vcpu {
	struct kvm_introspection *kvmi;
	struct kvm_vcpu *vcpu;
	struct list_head node;

	struct list_head waiting;
	struct task_struct *task;

	spinlock_t lock;	/* protects the jobs and the end of events */
	struct list_head jobs;
	unsigned int nr_jobs;
	atomic_t pauses;
	DECLARE_BITMAP(event_enabled, KVMI_NUM_EVENTS);

	enum kvmi_event_state state;
	unsigned long sent;
	struct kvmi_event_msg msg;
	struct kvmi_verdict verdict;
	unsigned int late_replies;
	u32 late_seq;

	bool kept;
	struct kvmi_event_msg kept_msg;
	struct kvmi_verdict kept_verdict;
};

static inline bool kvmi_is_dead(struct kvm_introspection *kvmi)
{
	return test_bit(KVMI_DEAD, &kvmi->flags);
}

/* hook.c */
void kvmi_get(struct kvm_introspection *kvmi);
void kvmi_put(struct kvm_introspection *kvmi);
void kvmi_wake_waiting_vcpus(struct kvm_introspection *kvmi);
void kvmi_disconnect(struct kvm_introspection *kvmi);

#endif
