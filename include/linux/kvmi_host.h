/* SPDX-License-Identifier: GPL-2.0 */
/*
 * KVM introspection: what the rest of KVM calls, and what the architecture
 * code and virt/kvm/introspection/ need of each other.
 */
#ifndef __LINUX_KVMI_HOST_H
#define __LINUX_KVMI_HOST_H

#include <linux/types.h>

struct kvm;
struct kvm_vcpu;

#ifdef CONFIG_KVM_INTROSPECTION

#include <linux/jump_label_ratelimit.h>
#include <linux/kvm_host.h>
#include <linux/kvmi.h>

/* Hooks in KVM's life cycle, ioctls and run loop. */

/* Counts the VMs with an introspection socket: while it is off, KVM's paths test nothing. */
extern struct static_key_false_deferred kvmi_in_use;

static __always_inline bool kvmi_is_in_use(void)
{
	return static_branch_unlikely(&kvmi_in_use.key);
}

int kvmi_version(void);
void kvmi_exit(void);
void kvmi_create_vm(struct kvm *kvm);
void kvmi_destroy_vm(struct kvm *kvm);
int kvmi_create_vcpu(struct kvm_vcpu *vcpu);
void kvmi_destroy_vcpu(struct kvm_vcpu *vcpu);
int kvmi_vm_ioctl(struct kvm *kvm, unsigned int ioctl, void __user *argp);
int kvmi_refuse_vm(struct kvm *kvm);

/* True for the VM ioctls that a process other than the VMM may use. */
static inline bool kvmi_is_foreign_ioctl(unsigned int ioctl)
{
	return ioctl == KVM_INTROSPECTION_ATTACH ||
	       ioctl == KVM_INTROSPECTION_DEADLINE;
}

int kvmi_handle_requests(struct kvm_vcpu *vcpu);

static __always_inline bool kvmi_check_request(struct kvm_vcpu *vcpu)
{
	return kvmi_is_in_use() &&
	       kvm_check_request(KVM_REQ_INTROSPECTION, vcpu);
}

/* Between virt/kvm/introspection/ and the architecture code. */

struct kvm_introspection;
struct kvmi_vcpu;

/**
 * struct kvmi_call - a command while it is carried out
 * @kvmi: the connection it came from
 * @kvm: the VM
 * @vcpu: the vCPU of a vCPU command, which runs in its thread; else NULL
 * @kvi: its introspection side; else NULL
 * @id: KVMI_*
 * @seq: to be echoed in the reply
 * @req: the request (after struct kvmi_vcpu_hdr); zero-extended to the size in
 *       the table of commands
 * @req_len: bytes of @req that the tool sent
 * @reply: data of a successful reply, set by the handler; kfree()d if it is
 *	   not @small
 * @reply_len: bytes at @reply
 * @small: room for the replies that are small, zeroed
 */
struct kvmi_call {
	struct kvm_introspection *kvmi;
	struct kvm *kvm;
	struct kvm_vcpu *vcpu;
	struct kvmi_vcpu *kvi;
	u16 id;
	u32 seq;
	const void *req;
	size_t req_len;
	void *reply;
	size_t reply_len;
	u64 small[2];
};

/*
 * A handler of a command returns 0 (and sets the reply data), a negative
 * KVM_E* code that the tool gets, or one of these:
 */
#define KVMI_CALL_CLOSE		1	/* the tool broke the framing: hang up */
#define KVMI_CALL_ON_VCPU	2	/* VM command: needs a vCPU, call me there */

/**
 * kvmi_reply_small - use kvmi_call.small for the reply data
 * @call: the command
 * @size: bytes, at most the size of kvmi_call.small
 *
 * Return: the zeroed buffer
 */
static inline void *kvmi_reply_small(struct kvmi_call *call, size_t size)
{
	call->reply = call->small;
	call->reply_len = size;
	return call->small;
}

/**
 * struct kvmi_event - what the caller of kvmi_raise_event() wants and gets
 * @id: KVMI_VCPU_EVENT_*
 * @payload: follows struct kvmi_vcpu_event in the message; no stray bytes
 * @payload_len: bytes at @payload
 * @reply: out: the reply data of the tool, zero-extended
 */
struct kvmi_event {
	u8 id;
	const void *payload;
	size_t payload_len;
	u64 reply;
};

/*
 * Returned by kvmi_raise_event(): the guest goes on (as if nobody watched, or
 * with the tool's values), or the instruction is started over. Neither is
 * what an exit handler of KVM returns.
 */
#define KVMI_CONTINUE	2
#define KVMI_RETRY	3

bool kvmi_event_allowed(struct kvm_introspection *kvmi, u8 event);
bool kvmi_event_active(struct kvm_vcpu *vcpu, u8 event);
int kvmi_raise_event(struct kvm_vcpu *vcpu, struct kvmi_event *ev);
void kvmi_request_work(struct kvm_vcpu *vcpu);

/* Provided by the architecture. */
bool kvmi_arch_vm_supported(struct kvm *kvm);
void kvmi_arch_features(struct kvmi_features *features);
bool kvmi_arch_vcpu_ready(struct kvm_vcpu *vcpu);
int kvmi_arch_control_event(struct kvm_vcpu *vcpu, u16 event, bool enable);
bool kvmi_arch_has_work(struct kvm_vcpu *vcpu);
bool kvmi_arch_next_event(struct kvm_vcpu *vcpu, struct kvmi_event *ev);
bool kvmi_arch_is_injecting(struct kvm_vcpu *vcpu);
void kvmi_arch_before_entry(struct kvm_vcpu *vcpu);
void kvmi_arch_before_wait(struct kvm_vcpu *vcpu);
void kvmi_arch_withdraw(struct kvm_vcpu *vcpu);
void kvmi_arch_clear_page_access(struct kvm *kvm);
void kvmi_arch_free_vcpu(struct kvm_vcpu *vcpu);
void kvmi_arch_drop_intercepts(struct kvm_vcpu *vcpu);
void kvmi_arch_recalc_intercepts(struct kvm *kvm);
void kvmi_arch_get_event_state(struct kvm_vcpu *vcpu,
			       struct kvmi_vcpu_event_arch *arch);
bool kvmi_arch_same_instruction(const struct kvmi_vcpu_event_arch *a,
				const struct kvmi_vcpu_event_arch *b);
void kvmi_arch_set_registers(struct kvm_vcpu *vcpu,
			     const struct kvm_regs *regs);

int kvmi_arch_vm_set_page_access(struct kvmi_call *call);
int kvmi_arch_vcpu_get_info(struct kvmi_call *call);
int kvmi_arch_vcpu_get_registers(struct kvmi_call *call);
int kvmi_arch_vcpu_get_cpuid(struct kvmi_call *call);
int kvmi_arch_vcpu_control_cr(struct kvmi_call *call);
int kvmi_arch_vcpu_inject_exception(struct kvmi_call *call);
int kvmi_arch_vcpu_get_xcr(struct kvmi_call *call);
int kvmi_arch_vcpu_get_xsave(struct kvmi_call *call);
int kvmi_arch_vcpu_set_xsave(struct kvmi_call *call);
int kvmi_arch_vcpu_get_mtrr_type(struct kvmi_call *call);
int kvmi_arch_vcpu_control_msr(struct kvmi_call *call);
int kvmi_arch_vcpu_control_singlestep(struct kvmi_call *call);
int kvmi_arch_vcpu_translate_gva(struct kvmi_call *call);

#else /* CONFIG_KVM_INTROSPECTION */

static inline bool kvmi_is_in_use(void) { return false; }
static inline int kvmi_version(void) { return 0; }
static inline void kvmi_exit(void) { }
static inline void kvmi_create_vm(struct kvm *kvm) { }
static inline void kvmi_destroy_vm(struct kvm *kvm) { }
static inline int kvmi_create_vcpu(struct kvm_vcpu *vcpu) { return 0; }
static inline void kvmi_destroy_vcpu(struct kvm_vcpu *vcpu) { }
static inline int kvmi_refuse_vm(struct kvm *kvm) { return 0; }
static inline bool kvmi_is_foreign_ioctl(unsigned int ioctl) { return false; }
static inline bool kvmi_check_request(struct kvm_vcpu *vcpu) { return false; }
static inline int kvmi_handle_requests(struct kvm_vcpu *vcpu) { return 1; }

#endif /* CONFIG_KVM_INTROSPECTION */

#endif /* __LINUX_KVMI_HOST_H */
