/* SPDX-License-Identifier: GPL-2.0 */
/*
 * libkvmi: introspect a KVM VM, see Documentation/virt/kvm/kvmi.rst.
 *
 * A connection belongs to one thread. Functions return 0 (or a count) on
 * success and a negative errno, or what KVM says, on failure; kvmi_strerror()
 * then has a sentence for people. The errors that callers tell apart:
 *
 *	-ETIMEDOUT	no answer in time: the vCPU is not in KVM_RUN, the VMM has
 *			stopped it. A command stays queued and is carried out
 *			when the vCPU runs again; its late reply is dropped
 *	-EAGAIN		the vCPU was not started yet
 *	-ENOENT		no such guest page, CPUID leaf, ...
 *	-EPERM		the VMM does not allow it
 *	-EBUSY		too much of it is pending
 *	-KVM_ENOSYS	this kernel does not know the command
 *	-EINTR		interrupted, see kvmi_set_interrupt()
 *	-ECONNRESET	the connection ended; nothing works any more
 *	-EPROTO		KVM sent nonsense; nothing works any more
 */
#ifndef LIBKVMI_KVMI_H
#define LIBKVMI_KVMI_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include <linux/kvm.h>
#include <linux/kvm_para.h>
#include <linux/kvmi.h>

#define KVMI_GUEST_PAGE		4096
#define KVMI_UNMAPPED		(~0ULL)

struct kvmi_conn;

/* Why something failed, as far as a user can do something about it. */
enum kvmi_failure {
	KVMI_FAILURE_OTHER,
	KVMI_FAILURE_NO_VM,		/* there is none, or it has ended */
	KVMI_FAILURE_AMBIGUOUS,		/* there are several */
	KVMI_FAILURE_PERMISSION,	/* the caller may not debug the VMM */
	KVMI_FAILURE_OFF,		/* module parameter */
	KVMI_FAILURE_NO_SUPPORT,	/* kernel without introspection */
	KVMI_FAILURE_IN_USE,		/* by another tool */
	KVMI_FAILURE_PROTECTED,		/* this type of VM */
	KVMI_FAILURE_TIMEOUT,
	KVMI_FAILURE_INTERRUPTED,
};

/* connection.c */
struct kvmi_conn *kvmi_new(void);
void kvmi_free(struct kvmi_conn *conn);
int kvmi_adopt(struct kvmi_conn *conn, int sock);
void kvmi_close(struct kvmi_conn *conn);
void kvmi_set_timeout(struct kvmi_conn *conn, int ms);
void kvmi_set_interrupt(struct kvmi_conn *conn, int fd);

/* error.c */
const char *kvmi_strerror(const struct kvmi_conn *conn);
enum kvmi_failure kvmi_failure(const struct kvmi_conn *conn);

/* names.c */
const char *kvmi_message_name(unsigned int id);
const char *kvmi_event_name(unsigned int id);

/* x86.c: as the processors' manuals have them */
const char *kvmi_msr_name(__u32 msr);
bool kvmi_msr_index(const char *name, __u32 *msr);
const char *kvmi_cr_name(unsigned int cr);
const char *kvmi_descriptor_name(unsigned int descriptor);
const char *kvmi_exception_name(unsigned int nr);

/**
 * struct kvmi_vm - a VM on this host
 * @pid: process that owns it
 * @fd: of the VM, in that process
 * @several: the process has other VMs too
 * @vcpus: how many it has; -1: not known
 * @memory: bytes of guest memory, 0: not known
 * @vmm: name of the VMM's executable
 * @name: name of the VM, if the VMM was given one, else empty
 * @served: its VMM has come to the 'kvmi serve' that listens here; else empty,
 *	    and nothing of what follows is known. @pid may be 0 then, @fd is -1
 *	    if /proc does not tell of the VM
 * @id: what that one calls it
 * @user: process that uses the connection now, 0: none
 * @start_time: when the guest was started, in whatever unit its VMM counts
 * @uuid: as the VMM says
 */
struct kvmi_vm {
	pid_t pid;
	int fd;
	bool several;
	int vcpus;
	__u64 memory;
	char vmm[64];
	char name[128];
	char served[108];
	__u32 id;
	pid_t user;
	__s64 start_time;
	__u8 uuid[16];
};

/**
 * struct kvmi_vms - the VMs on this host
 * @nr: how many
 * @unreadable: processes that the caller may not look into
 * @vm: the VMs, by process
 */
struct kvmi_vms {
	size_t nr;
	unsigned int unreadable;
	struct kvmi_vm *vm;
};

/* vms.c, attach.c */
int kvmi_list_vms(struct kvmi_vms *vms, const char *proc);
void kvmi_free_vms(struct kvmi_vms *vms);
int kvmi_find_vm(struct kvmi_conn *conn, const char *which, struct kvmi_vm *vm);
int kvmi_attach(struct kvmi_conn *conn, const struct kvmi_vm *vm);
int kvmi_set_deadline(struct kvmi_conn *conn, const struct kvmi_vm *vm, __u32 timeout_ms,
		      __u32 max_missed);

#define KVMI_UUID_TEXT	37

/* served.c */
const char *kvmi_uuid_text(const __u8 *uuid, char *text);

/* commands.c: a function for each command */
int kvmi_get_version(struct kvmi_conn *conn, struct kvmi_get_version_reply *rpl);
int kvmi_check_command(struct kvmi_conn *conn, __u16 id);
int kvmi_check_event(struct kvmi_conn *conn, __u16 id);
int kvmi_get_vcpu_count(struct kvmi_conn *conn, unsigned int *count);
int kvmi_control_vm_event(struct kvmi_conn *conn, __u16 event, bool enable);
int kvmi_read_physical(struct kvmi_conn *conn, __u64 gpa, void *data, size_t size);
int kvmi_write_physical(struct kvmi_conn *conn, __u64 gpa, const void *data, size_t size);
int kvmi_pause_vcpu(struct kvmi_conn *conn, __u16 vcpu, bool wait);
int kvmi_control_cleanup(struct kvmi_conn *conn, bool enable);
int kvmi_get_max_gfn(struct kvmi_conn *conn, __u64 *gfn);
int kvmi_set_page_access(struct kvmi_conn *conn, const struct kvmi_page_access_entry *entries,
			 size_t nr);

int kvmi_get_tsc_speed(struct kvmi_conn *conn, __u16 vcpu, __u64 *hz);
int kvmi_control_event(struct kvmi_conn *conn, __u16 vcpu, __u16 event, bool enable);
int kvmi_get_registers(struct kvmi_conn *conn, __u16 vcpu, struct kvmi_vcpu_event_arch *state,
		       struct kvm_msr_entry *msrs, unsigned int nmsrs);
int kvmi_set_registers(struct kvmi_conn *conn, __u16 vcpu, const struct kvm_regs *regs);
int kvmi_get_cpuid(struct kvmi_conn *conn, __u16 vcpu, __u32 function, __u32 index,
		   struct kvmi_vcpu_get_cpuid_reply *rpl);
int kvmi_control_cr(struct kvmi_conn *conn, __u16 vcpu, __u8 cr, bool enable);
int kvmi_control_msr(struct kvmi_conn *conn, __u16 vcpu, __u32 msr, bool enable);
int kvmi_control_singlestep(struct kvmi_conn *conn, __u16 vcpu, bool enable);
int kvmi_inject_exception(struct kvmi_conn *conn, __u16 vcpu, __u8 nr, __u32 error_code,
			  __u64 address);
int kvmi_get_xcr(struct kvmi_conn *conn, __u16 vcpu, __u8 xcr, __u64 *value);
int kvmi_get_xsave(struct kvmi_conn *conn, __u16 vcpu, struct kvm_xsave *xsave);
int kvmi_set_xsave(struct kvmi_conn *conn, __u16 vcpu, const struct kvm_xsave *xsave);
int kvmi_get_mtrr_type(struct kvmi_conn *conn, __u16 vcpu, __u64 gpa, __u8 *type);
int kvmi_translate_gva(struct kvmi_conn *conn, __u16 vcpu, __u64 gva, __u64 *gpa);

/* memory.c */
int kvmi_read_memory(struct kvmi_conn *conn, __u64 gpa, void *data, size_t size,
		     bool *present);
int kvmi_read_virtual(struct kvmi_conn *conn, __u16 vcpu, __u64 gva, void *data, size_t size);

/**
 * struct kvmi_mapping - a page, or the part of it that was asked for
 * @gva: guest virtual address
 * @gpa: guest physical address
 * @size: bytes
 * @write: the guest's kernel may write it, as far as the page tables say
 * @exec: it may be executed
 */
struct kvmi_mapping {
	__u64 gva;
	__u64 gpa;
	__u64 size;
	bool write;
	bool exec;
};

/* paging.c */
int kvmi_walk(struct kvmi_conn *conn, const struct kvm_sregs *sregs, __u64 from, __u64 last,
	      int (*visit)(void *arg, const struct kvmi_mapping *mapping), void *arg);

/**
 * struct kvmi_event - something that happened in the VM
 * @id: KVMI_VM_EVENT_* (even) or KVMI_VCPU_EVENT_* (odd); the rest is for the
 *	latter, which KVM waits to be answered by kvmi_reply_event()
 * @seq: its number
 * @vcpu: index of the vCPU
 * @arch: state of the vCPU
 * @payload_size: bytes in what follows
 * @breakpoint: payload of KVMI_VCPU_EVENT_BREAKPOINT
 * @cr: payload of KVMI_VCPU_EVENT_CR
 * @trap: payload of KVMI_VCPU_EVENT_TRAP
 * @xsetbv: payload of KVMI_VCPU_EVENT_XSETBV
 * @descriptor: payload of KVMI_VCPU_EVENT_DESCRIPTOR
 * @msr: payload of KVMI_VCPU_EVENT_MSR
 * @pf: payload of KVMI_VCPU_EVENT_PF
 * @singlestep: payload of KVMI_VCPU_EVENT_SINGLESTEP
 * @payload: payload of any other event
 *
 * What KVM did not send of the payload is zero.
 */
struct kvmi_event {
	__u16 id;
	__u32 seq;
	__u16 vcpu;
	struct kvmi_vcpu_event_arch arch;
	size_t payload_size;
	union {
		struct kvmi_vcpu_event_breakpoint breakpoint;
		struct kvmi_vcpu_event_cr cr;
		struct kvmi_vcpu_event_trap trap;
		struct kvmi_vcpu_event_xsetbv xsetbv;
		struct kvmi_vcpu_event_descriptor descriptor;
		struct kvmi_vcpu_event_msr msr;
		struct kvmi_vcpu_event_pf pf;
		struct kvmi_vcpu_event_singlestep singlestep;
		__u8 payload[64];
	};
};

/* events.c */
int kvmi_next_event(struct kvmi_conn *conn, struct kvmi_event *event, int timeout_ms);
int kvmi_reply_event(struct kvmi_conn *conn, const struct kvmi_event *event, __u8 action,
		     const void *data, size_t size);
int kvmi_continue_event(struct kvmi_conn *conn, const struct kvmi_event *event);
int kvmi_deny_event(struct kvmi_conn *conn, const struct kvmi_event *event);

/* pause.c */
int kvmi_pause(struct kvmi_conn *conn, int vcpu);
int kvmi_wait_paused(struct kvmi_conn *conn, int timeout_ms);
bool kvmi_is_paused(const struct kvmi_conn *conn, __u16 vcpu);
int kvmi_resume(struct kvmi_conn *conn);
void kvmi_leave_pauses(struct kvmi_conn *conn);

#endif
