// SPDX-License-Identifier: GPL-2.0
/*
 * KVM introspection: life cycle.
 *
 * A connection begins with KVM_INTROSPECTION_HOOK or _ATTACH, and its end has
 * one path, whatever the reason: kvmi_disconnect() makes it dead, which ends
 * every wait; then its receiver withdraws it from the VM (kvmi_release()) and
 * exits. What is left is memory, and for HOOK the fact that the VM stays
 * hooked until the VMM says UNHOOK.
 *
 * The receiver is a kthread. A vhost_task, which KVM uses elsewhere, is a
 * thread of the process that creates it: for ATTACH this is the tool, but the
 * receiver has to outlive the tool (to clean up after it was killed) and to
 * end with the VM, not with either process. A kthread depends on neither. What
 * it would get from being a thread of the VMM is the memory of the guest: it
 * borrows that (memory.c), and only while it accesses it, so that neither the
 * VM nor the memory of its VMM is kept by the receiver.
 */
#include <linux/file.h>
#include <linux/kthread.h>
#include <linux/kvmi_host.h>
#include <linux/memcontrol.h>
#include <linux/module.h>
#include <linux/net.h>
#include <linux/sched/mm.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "deadline.h"
#include "dispatch.h"
#include "event.h"
#include "socket.h"
#include "vcpu.h"

#define CREATE_TRACE_POINTS
#include <trace/events/kvmi.h>

static bool __ro_after_init kvmi_enabled;
module_param_named(introspection, kvmi_enabled, bool, 0444);

DEFINE_STATIC_KEY_DEFERRED_FALSE(kvmi_in_use, HZ);
EXPORT_SYMBOL_FOR_KVM_INTERNAL(kvmi_in_use);

/**
 * kvmi_version - for KVM_CHECK_EXTENSION(KVM_CAP_INTROSPECTION)
 *
 * Return: KVMI_VERSION, or 0 if the module parameter is off
 */
int kvmi_version(void)
{
	return kvmi_enabled ? KVMI_VERSION : 0;
}

/* The module is about to go. */
void kvmi_exit(void)
{
	static_key_deferred_flush(&kvmi_in_use);
}

void kvmi_create_vm(struct kvm *kvm)
{
	mutex_init(&kvm->introspection_lock);
}

void kvmi_get(struct kvm_introspection *kvmi)
{
	refcount_inc(&kvmi->refs);
}

static void kvmi_free(struct kvm_introspection *kvmi)
{
	struct kvmi_vcpu *kvi, *tmp;

	list_for_each_entry_safe(kvi, tmp, &kvmi->vcpus, node)
		kvmi_free_vcpu(kvi);
	if (kvmi->receiver)
		put_task_struct(kvmi->receiver);
	mem_cgroup_put(kvmi->memcg);
	kvmi_socket_free(kvmi);
	kfree(kvmi);
}

void kvmi_put(struct kvm_introspection *kvmi)
{
	if (refcount_dec_and_test(&kvmi->refs))
		kvmi_free(kvmi);
}

/* There is something new for all vCPUs that wait for a reply. */
void kvmi_wake_waiting_vcpus(struct kvm_introspection *kvmi)
{
	struct kvmi_vcpu *kvi;

	spin_lock_irq(&kvmi->lock);
	list_for_each_entry(kvi, &kvmi->waiting, waiting)
		wake_up_process(kvi->task);
	spin_unlock_irq(&kvmi->lock);
}

/**
 * kvmi_disconnect - end a connection
 * @kvmi: the connection
 *
 * Everybody who waits goes on; the receiver does the rest. May be called more
 * than once, with any of our locks but kvm_introspection.lock held.
 */
void kvmi_disconnect(struct kvm_introspection *kvmi)
{
	if (test_and_set_bit(KVMI_DEAD, &kvmi->flags))
		return;

	kvmi_wake_waiting_vcpus(kvmi);
	wake_up_process(kvmi->receiver);
}

/*
 * The VMM of a VM whose tool is gone may never unhook: do not keep what the tool had
 * queued. Nobody begins to carry it out after the connection was withdrawn. If a vCPU's
 * thread is still at it, which its reference tells, the commands of all vCPUs stay, until
 * UNHOOK, the next tool or the end of the VM: they are limited, see limits.h.
 */
static void kvmi_drop_all_jobs(struct kvm_introspection *kvmi)
{
	struct kvmi_vcpu *kvi;

	guard(mutex)(&kvmi->kvm->lock);

	if (refcount_read(&kvmi->refs) > 1)
		return;

	/* Pairs with kvmi_put(): what that thread has left in the lists is seen. */
	smp_acquire__after_ctrl_dep();
	list_for_each_entry(kvi, &kvmi->vcpus, node)
		kvmi_drop_jobs(kvi);
}

/*
 * Take everything back that the tool did to the VM. No kvm->srcu section that
 * begins after this, and no entry of the guest, sees the connection.
 */
static void kvmi_release(struct kvm_introspection *kvmi)
{
	struct kvm *kvm = kvmi->kvm;
	struct kvm_vcpu *vcpu;
	unsigned long i;

	kvmi_socket_close(kvmi);

	/* kvm->lock: a vCPU that is created now has no introspection. */
	mutex_lock(&kvm->lock);
	kvm_for_each_vcpu(i, vcpu, kvm)
		rcu_assign_pointer(vcpu->introspection, NULL);
	mutex_unlock(&kvm->lock);

	kvmi_arch_clear_page_access(kvm);

	synchronize_srcu_expedited(&kvm->srcu);
	kvmi_drop_all_jobs(kvmi);

	kvm_for_each_vcpu(i, vcpu, kvm) {
		kvm_clear_request(KVM_REQ_INTROSPECTION, vcpu);
		kvmi_arch_withdraw(vcpu);
		if (kvmi->cleanup)
			kvmi_arch_drop_intercepts(vcpu);
	}
	kvmi_arch_recalc_intercepts(kvm);

	trace_kvmi_unhook(kvm, kvmi->uuid);

	/* Intercepts that stay are still ours to compute. */
	if (!kvmi->cleanup && !kvm->introspection_kept)
		kvm->introspection_kept = true;
	else
		static_branch_slow_dec_deferred(&kvmi_in_use);
}

/*
 * The receiver sleeps until the socket has something for it (it is chosen to
 * read, or there is room for what was kept), or the connection is dead. It
 * holds nothing then. Signals do not reach it.
 */
static int kvmi_receiver(void *data)
{
	struct kvm_introspection *kvmi = data;

	set_active_memcg(kvmi->memcg);
	kvmi_socket_watch(kvmi);

	for (;;) {
		set_current_state(TASK_IDLE);

		if (kvmi_is_dead(kvmi))
			break;

		if (kvmi_must_flush(kvmi)) {
			__set_current_state(TASK_RUNNING);
			kvmi_flush(kvmi);
			continue;
		}

		if (!kvmi_try_receive(kvmi, NULL))
			schedule();
	}
	__set_current_state(TASK_RUNNING);

	/* It is put with kvmi, which may be gone soon. */
	set_active_memcg(NULL);
	kvmi_release(kvmi);

	/* After this kvmi, the VM and the module may be gone. */
	kthread_complete_and_exit(&kvmi->released, 0);
}

static struct kvm_introspection *kvmi_alloc(struct kvm *kvm,
					    const struct kvm_introspection_hook *hook,
					    bool attach)
{
	struct kvm_introspection *kvmi;

	kvmi = kzalloc_obj(*kvmi, GFP_KERNEL_ACCOUNT);
	if (!kvmi)
		return NULL;

	kvmi->kvm = kvm;
	kvmi->memcg = get_mem_cgroup_from_mm(kvm->mm);
	kvmi->attached = attach;
	kvmi->cleanup = true;
	memcpy(kvmi->uuid, hook->uuid, sizeof(kvmi->uuid));
	refcount_set(&kvmi->refs, 1);
	init_completion(&kvmi->released);
	spin_lock_init(&kvmi->lock);
	INIT_LIST_HEAD(&kvmi->waiting);
	INIT_LIST_HEAD(&kvmi->vcpus);

	/* Who attaches is trusted with everything: nobody else is there to decide. */
	kvmi_allow_command(kvmi, -1, attach);
	if (attach)
		bitmap_fill(kvmi->event_allowed, KVMI_NUM_EVENTS);

	return kvmi;
}

static int kvmi_start_receiver(struct kvm_introspection *kvmi)
{
	struct task_struct *task;

	task = kthread_create(kvmi_receiver, kvmi, "kvmi-%d",
			      kvmi->kvm->userspace_pid);
	if (IS_ERR(task))
		return -ENOMEM;

	kvmi->receiver = get_task_struct(task);
	return 0;
}

/* Make the VM's vCPUs, and those that are created from now on, see @kvmi. */
static int kvmi_publish(struct kvm_introspection *kvmi)
{
	struct kvm *kvm = kvmi->kvm;
	struct kvmi_vcpu *kvi, *tmp;
	struct kvm_vcpu *vcpu;
	unsigned long i;

	guard(mutex)(&kvm->lock);

	if (kvm->introspection_refused)
		return -EOPNOTSUPP;

	kvm_for_each_vcpu(i, vcpu, kvm) {
		if (!kvmi_alloc_vcpu(kvmi, vcpu))
			goto no_memory;
	}

	list_for_each_entry(kvi, &kvmi->vcpus, node)
		rcu_assign_pointer(kvi->vcpu->introspection, kvi);
	kvm->introspection = kvmi;

	return 0;

no_memory:
	list_for_each_entry_safe(kvi, tmp, &kvmi->vcpus, node)
		kvmi_free_vcpu(kvi);
	return -ENOMEM;
}

/*
 * End the introspection of a VM and wait until the receiver has withdrawn it.
 * That takes as long as the command that is being carried out.
 */
static void kvmi_unhook(struct kvm *kvm)
{
	struct kvm_introspection *kvmi = kvm->introspection;

	if (!kvmi)
		return;

	kvmi_disconnect(kvmi);
	wait_for_completion(&kvmi->released);

	mutex_lock(&kvm->lock);
	kvm->introspection = NULL;
	mutex_unlock(&kvm->lock);

	kvmi_put(kvmi);
}

/* The connection of a VM that is hooked, else NULL. */
static struct kvm_introspection *kvmi_hooked(struct kvm *kvm)
{
	struct kvm_introspection *kvmi = kvm->introspection;

	lockdep_assert_held(&kvm->introspection_lock);

	/*
	 * Nobody is there to unhook what was attached: do it now. Do not make
	 * the next tool wait for the receiver to notice that the last one died.
	 */
	if (kvmi && kvmi->attached &&
	    (kvmi_is_dead(kvmi) || kvmi_peer_is_gone(kvmi))) {
		kvmi_unhook(kvm);
		return NULL;
	}

	return kvmi;
}

static int kvmi_start(struct kvm *kvm, struct socket *sock,
		      const struct kvm_introspection_hook *hook, bool attach)
{
	struct kvm_introspection *kvmi;
	int r = -ENOMEM;

	kvmi = kvmi_alloc(kvm, hook, attach);
	if (!kvmi)
		goto put_socket;

	r = kvmi_socket_init(kvmi, sock);
	if (r)
		goto free;

	r = kvmi_start_receiver(kvmi);
	if (r)
		goto free;

	static_branch_deferred_inc(&kvmi_in_use);

	r = kvmi_publish(kvmi);
	if (r)
		goto stop;

	++kvm->stat.introspection_hooks;
	trace_kvmi_hook(kvm, kvmi->uuid, attach);

	wake_up_process(kvmi->receiver);
	return 0;

stop:
	static_branch_slow_dec_deferred(&kvmi_in_use);
	kthread_stop(kvmi->receiver);
free:
	if (kvmi->sock)
		sock = NULL;
	kvmi_put(kvmi);
put_socket:
	if (sock)
		sockfd_put(sock);
	return r;
}

static int kvmi_ioctl_hook(struct kvm *kvm, void __user *argp, bool attach)
{
	struct kvm_introspection_hook hook;
	struct socket *sock;

	if (copy_from_user(&hook, argp, sizeof(hook)))
		return -EFAULT;
	if (hook.padding)
		return -EINVAL;
	if (READ_ONCE(kvm->introspection_refused) || !kvmi_arch_vm_supported(kvm))
		return -EOPNOTSUPP;
	if (kvmi_hooked(kvm))
		return -EEXIST;

	sock = kvmi_socket_get(hook.fd);
	if (IS_ERR(sock))
		return PTR_ERR(sock);

	return kvmi_start(kvm, sock, &hook, attach);
}

static int kvmi_get_feature(void __user *argp, s32 limit,
			    struct kvm_introspection_feature *feature)
{
	if (copy_from_user(feature, argp, sizeof(*feature)))
		return -EFAULT;
	if (feature->id < -1 || feature->id >= limit || feature->allow > 1)
		return -EINVAL;

	return 0;
}

static int kvmi_ioctl_command(struct kvm *kvm, void __user *argp)
{
	struct kvm_introspection_feature feature;
	struct kvm_introspection *kvmi;
	int r;

	r = kvmi_get_feature(argp, KVMI_NUM_MESSAGES, &feature);
	if (r)
		return r;

	kvmi = kvmi_hooked(kvm);
	if (!kvmi)
		return -EFAULT;

	if (!feature.allow && feature.id >= 0 &&
	    kvmi_is_always_allowed(feature.id))
		return -EPERM;

	kvmi_allow_command(kvmi, feature.id, feature.allow);
	return 0;
}

static int kvmi_ioctl_event(struct kvm *kvm, void __user *argp)
{
	struct kvm_introspection_feature feature;
	struct kvm_introspection *kvmi;
	int r, i;

	r = kvmi_get_feature(argp, KVMI_NUM_EVENTS, &feature);
	if (r)
		return r;

	kvmi = kvmi_hooked(kvm);
	if (!kvmi)
		return -EFAULT;

	for (i = 0; i < KVMI_NUM_EVENTS; i++) {
		if (feature.id == -1 || feature.id == i)
			assign_bit(i, kvmi->event_allowed, feature.allow);
	}

	return 0;
}

static int kvmi_ioctl_deadline(struct kvm *kvm, void __user *argp)
{
	struct kvm_introspection_deadline deadline;
	struct kvm_introspection *kvmi;

	if (copy_from_user(&deadline, argp, sizeof(deadline)))
		return -EFAULT;

	kvmi = kvmi_hooked(kvm);
	if (!kvmi)
		return -EFAULT;

	/* What the VMM hooked is for the VMM to decide about. */
	if (kvm->mm != current->mm && !kvmi->attached)
		return -EPERM;

	return kvmi_set_deadline(kvmi, &deadline);
}

static int kvmi_ioctl_preunhook(struct kvm *kvm)
{
	struct kvm_introspection *kvmi = kvmi_hooked(kvm);

	return kvmi ? kvmi_send_unhook(kvmi) : -EFAULT;
}

/**
 * kvmi_vm_ioctl - the introspection ioctls of the VM fd
 * @kvm: the VM
 * @ioctl: KVM_INTROSPECTION_*
 * @argp: its argument
 *
 * Serialized by kvm->introspection_lock. None waits for the tool; HOOK, ATTACH
 * and UNHOOK may wait for the end of an earlier connection, see kvmi_unhook().
 *
 * Return: 0 or a negative errno, see Documentation/virt/kvm/api.rst
 */
int kvmi_vm_ioctl(struct kvm *kvm, unsigned int ioctl, void __user *argp)
{
	if (!kvmi_enabled)
		return -EPERM;

	guard(mutex)(&kvm->introspection_lock);

	switch (ioctl) {
	case KVM_INTROSPECTION_HOOK:
		return kvmi_ioctl_hook(kvm, argp, false);
	case KVM_INTROSPECTION_ATTACH:
		return kvmi_ioctl_hook(kvm, argp, true);
	case KVM_INTROSPECTION_UNHOOK:
		kvmi_unhook(kvm);
		return 0;
	case KVM_INTROSPECTION_COMMAND:
		return kvmi_ioctl_command(kvm, argp);
	case KVM_INTROSPECTION_EVENT:
		return kvmi_ioctl_event(kvm, argp);
	case KVM_INTROSPECTION_PREUNHOOK:
		return kvmi_ioctl_preunhook(kvm);
	case KVM_INTROSPECTION_DEADLINE:
		return kvmi_ioctl_deadline(kvm, argp);
	default:
		return -ENOTTY;
	}
}

/**
 * kvmi_refuse_vm - the VM is about to be protected from the host
 * @kvm: the VM; kvm->lock is held
 *
 * Return: 0 if it cannot be introspected from now on, -EBUSY if it is just now
 */
int kvmi_refuse_vm(struct kvm *kvm)
{
	struct kvm_introspection *kvmi = kvm->introspection;

	lockdep_assert_held(&kvm->lock);

	if (kvmi && !(kvmi->attached && completion_done(&kvmi->released)))
		return -EBUSY;

	WRITE_ONCE(kvm->introspection_refused, true);
	return 0;
}
EXPORT_SYMBOL_FOR_KVM_INTERNAL(kvmi_refuse_vm);

/* The last user of the VM is gone; its vCPUs still exist. */
void kvmi_destroy_vm(struct kvm *kvm)
{
	kvmi_unhook(kvm);

	if (kvm->introspection_kept)
		static_branch_slow_dec_deferred(&kvmi_in_use);

	mutex_destroy(&kvm->introspection_lock);
}

/**
 * kvmi_create_vcpu - a vCPU is created
 * @vcpu: the vCPU, not yet seen by anybody; kvm->lock is held
 *
 * Return: 0 or -ENOMEM
 */
int kvmi_create_vcpu(struct kvm_vcpu *vcpu)
{
	struct kvm_introspection *kvmi = vcpu->kvm->introspection;
	struct kvmi_vcpu *kvi;

	lockdep_assert_held(&vcpu->kvm->lock);

	if (!kvmi || kvmi_is_dead(kvmi))
		return 0;

	kvi = kvmi_alloc_vcpu(kvmi, vcpu);
	if (!kvi)
		return -ENOMEM;

	rcu_assign_pointer(vcpu->introspection, kvi);
	return 0;
}

/**
 * kvmi_destroy_vcpu - a vCPU is destroyed
 * @vcpu: the vCPU, seen by nobody
 *
 * With the VM, which is no longer introspected; or because its creation failed.
 */
void kvmi_destroy_vcpu(struct kvm_vcpu *vcpu)
{
	struct kvmi_vcpu *kvi = rcu_dereference_protected(vcpu->introspection, 1);

	kvmi_arch_free_vcpu(vcpu);

	if (!kvi)
		return;

	lockdep_assert_held(&vcpu->kvm->lock);
	kvmi_free_vcpu(kvi);
}
